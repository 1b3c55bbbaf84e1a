"""Usage 1 of the D-CPT law: the least domain loss with general loss within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq

from graft.core.config.errors import UsageError
from graft.scaling.solving.law_file import LawFile

STEPS = 2000  # of the grid of ratios that a root is first looked for on


@dataclass(frozen=True, eq=False)
class TradeOff:
    """The mixture with the least domain loss whose general loss is at most (1 + budget) * base_loss.

    kind: "binding", the budget decides; "slack", even the domain's text alone keeps it; "inner", the domain's law is
    least at a share well inside the budget, and the interval is not told; "infeasible", not even general text alone
    keeps it, and then the numbers are those at a ratio of 0. ratio: the domain's share of the tokens.
    low, high: of the bootstrap draws' own answers, NaN without draws: at `low` the budget is kept in all draws but the
    lower tail of the confidence. domain, general: value, low, high and beyond, at the ratio.
    """

    kind: Literal["binding", "slack", "inner", "infeasible"]
    ratio: float
    low: float
    high: float
    budget: float
    base_loss: float
    domain: Mapping[str, Any]
    general: Mapping[str, Any]
    at: Mapping[str, float]

    @property
    def limit(self) -> float:
        return (1 + self.budget) * self.base_loss

    @property
    def change(self) -> float:
        """(general loss - base's) / base's, predicted."""
        return self.general["value"] / self.base_loss - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "usage": "forget",
            "answer": self.kind,
            "ratio": {"value": self.ratio, "low": self.low, "high": self.high},
            "general_ratio": 1 - self.ratio,
            "budget": self.budget,
            "base_loss": self.base_loss,
            "limit": self.limit,
            "change": self.change,
            "domain_loss": dict(self.domain),
            "general_loss": dict(self.general),
            "at": dict(self.at),
        }


def trade_off(
    domain: LawFile, general: LawFile, budget: float, at: Mapping[str, float], base_loss: float | None = None
) -> TradeOff:
    """The answer at the given size and tokens. The general law is asked at the general text's share, 1 - ratio.

    base_loss: of the base on general text; as in the general law's table when not given. Errors: UsageError.
    """
    require_ratio(domain)
    require_ratio(general)
    if not -1 < budget < 10:
        raise UsageError(f"the budget is {budget:g}", allowed="what general loss may rise by, such as 3% or 0.03")
    shared = {**_constant(domain), **_constant(general), **at}
    shared.pop("base_loss", None)  # each law reads its own text's
    own = {name: value for name, value in (*_constant(domain).items(), *at.items()) if name == "base_loss"}
    base_loss = base_loss_of(general, shared, base_loss)
    here, there = _of(domain, {**shared, **own}), _of(general, {**shared, "base_loss": base_loss})
    share_T = np.linspace(0, 1, STEPS + 1)
    limit = (1 + budget) * base_loss

    kind, ratio = _last_within(general, there, share_T, limit)
    drawn_S = _drawn_roots(general, general.at_share(1 - share_T, there), share_T, limit)
    low, high = np.quantile(drawn_S, general.tails) if len(drawn_S) else (np.nan, np.nan)
    domain_T = domain.fitted.predict(domain.places(domain.at_share(share_T, here)))
    best = int(np.argmin(np.where(share_T <= ratio, domain_T, np.inf)))
    at_ratio = float(domain.fitted.predict(domain.places(domain.at_share(ratio, here)))[0])
    found: Literal["binding", "slack", "inner", "infeasible"] = kind
    if kind != "infeasible" and domain_T[best] < at_ratio * (1 - 1e-9):  # a domain law that does not fall all the way
        found, ratio, low, high = "inner", float(share_T[best]), np.nan, np.nan
    at_domain, at_general = domain.at_share(ratio, here), general.at_share(1 - ratio, there)
    return TradeOff(
        found, ratio, float(low), float(high), budget, base_loss,
        domain.predict(at_domain).row(0), general.predict(at_general).row(0), _told(here, there),
    )  # fmt: skip


def largest_share(
    general: LawFile, budget: float, at: Mapping[str, float], base_loss: float | None = None
) -> tuple[float, np.ndarray]:
    """The domain's largest share within the budget, and the same by every bootstrap draw of the general law (S)."""
    require_ratio(general)
    share_T = np.linspace(0, 1, STEPS + 1)
    at = {**_constant(general), **at}
    base_loss = base_loss_of(general, at, base_loss)
    at, limit = {**at, "base_loss": base_loss}, (1 + budget) * base_loss
    there = _of(general, at)
    drawn_S = _drawn_roots(general, general.at_share(1 - share_T, there), share_T, limit)
    return _last_within(general, there, share_T, limit)[1], drawn_S


def base_loss_of(general: LawFile, at: Mapping[str, float], said: float | None) -> float:
    """The base's loss on general text: what is said, else as the law's table has it.

    Errors: UsageError where it is not known.
    """
    if said is not None:
        if not said > 0:
            raise UsageError(f"--base-loss is {said:g}", allowed="a loss in nats, above 0")
        return said
    only = general.reach.only("base_loss")
    if only is not None:
        return only
    known = general.base_loss
    size = at.get("size", 0.0)
    for one, loss in known.items():
        if one == 0 or abs(one / size - 1 if size else 1) < 1e-6:
            return loss
    there = ", ".join(f"{size:.4g}" for size in known)
    raise UsageError(
        f"the base's loss on general text is not known for size {size:.4g}",
        allowed=f"--base-loss L{f', or a size of {there}' if there else ''}",
        do="measure the base, and give --base-loss, or a column base_loss in the table the general law is fitted to",
    )


def require_ratio(law: LawFile) -> None:
    """Errors: UsageError for a law that knows no ratio."""
    if "ratio" not in law.reads:
        raise UsageError(
            f"{law.form} reads no ratio, so it cannot say which one", allowed="a law that reads ratio, such as d_cpt"
        )


def _constant(law: LawFile) -> dict[str, float]:
    """What the law's data hold constant; where one law's do, the other is asked at the same."""
    found = {name: law.reach.only(name) for name in law.reads if name != "ratio"}
    return {name: value for name, value in found.items() if value is not None}


def _told(here: Mapping[str, float], there: Mapping[str, float]) -> dict[str, float]:
    """The place of both laws; the domain's base loss, where its law reads one, under a name of its own."""
    own = {"domain_base_loss": here["base_loss"]} if "base_loss" in here else {}
    return {name: value for name, value in {**there, **here}.items() if name != "base_loss"} | own


def _of(law: LawFile, at: Mapping[str, float]) -> dict[str, float]:
    """What of the place this law reads, completed by what its data hold constant."""
    given = {name: value for name, value in at.items() if name in law.reads and name != "ratio"}
    whole = law.complete({**given, "ratio": 0.5})
    return {name: float(values[0]) for name, values in whole.items() if name != "ratio"}


def _last_within(
    general: LawFile, there: Mapping[str, float], share_T: np.ndarray, limit: float
) -> tuple[Literal["binding", "slack", "infeasible"], float]:
    """The domain's largest share up to which general loss stays within the limit: a root of a monotone function."""

    def loss(share: Any) -> np.ndarray:
        return general.fitted.predict(general.places(general.at_share(1 - np.atleast_1d(share), there)))

    loss_T = loss(share_T)
    over = np.flatnonzero(loss_T > limit)
    if not len(over):
        return "slack", 1.0
    if over[0] == 0:
        return "infeasible", 0.0
    left, right = share_T[over[0] - 1], share_T[over[0]]
    if loss_T[over[0] - 1] == limit:
        return "binding", float(left)
    root: Any = brentq(lambda share: float(loss(share)[0]) - limit, left, right, xtol=1e-12)
    return "binding", float(root)


def _drawn_roots(general: LawFile, columns: Mapping[str, Any], share_T: np.ndarray, limit: float) -> np.ndarray:
    """The same by every draw, linear between the steps of the grid; 0 where infeasible, 1 where slack."""
    loss_ST = general.draw(columns)
    roots = np.ones(len(loss_ST))
    for number, loss_T in enumerate(loss_ST):
        over = np.flatnonzero(loss_T > limit)
        if len(over) and over[0] == 0:
            roots[number] = 0.0
        elif len(over):
            t = over[0]
            part = (limit - loss_T[t - 1]) / (loss_T[t] - loss_T[t - 1])
            roots[number] = share_T[t - 1] + part * (share_T[t] - share_T[t - 1])
    return roots
