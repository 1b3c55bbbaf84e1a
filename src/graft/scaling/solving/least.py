"""Usages 2 and 3 of the D-CPT law: the best mixture for scarce domain text, the best size for a compute budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from graft.core.config.errors import UsageError
from graft.scaling.solving.law_file import LawFile
from graft.scaling.solving.trade_off import require_ratio

STEPS = 2000
FLOPS_PER_WEIGHT_AND_TOKEN = 6  # C = 6 N D, as in the papers
SMALLEST_SIZE = 1e3
AGREE = 1e-3  # of log size, between the closed form and the search


@dataclass(frozen=True, eq=False)
class Least:
    """The place with the least predicted loss along a line of choices.

    chosen: value, low, high of every quantity that was chosen; the bounds are those of the bootstrap draws' own
    answers, NaN without draws. at_end: the least loss is at an end of the line, named in words, so there is no inner
    answer. closed_form: the published formula's size, which the search has confirmed; None where the law has none.
    """

    usage: str
    chosen: Mapping[str, Mapping[str, float]]
    loss: Mapping[str, Any]
    at: Mapping[str, float]
    at_end: str = ""
    closed_form: float | None = None

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"usage": self.usage, "answer": "at an end" if self.at_end else "inside", **self.chosen}
        told |= {"loss": dict(self.loss), "at": dict(self.at), "at_end": self.at_end}
        return told | ({"closed_form": self.closed_form} if self.usage == "flops" else {})


def least_for_domain_tokens(law: LawFile, domain_tokens: float, at: Mapping[str, float]) -> Least:
    """The domain's share with the least domain loss, when D = domain_tokens / share tokens are trained on in all.

    Every domain token is read once; the fewer they are of the whole, the longer the run. Errors: UsageError.
    """
    require_ratio(law)
    if "tokens" not in law.reads:
        raise UsageError(f"{law.form} reads no tokens", allowed="a law that reads tokens and ratio, such as d_cpt")
    if not (math.isfinite(domain_tokens) and domain_tokens > 0):
        raise UsageError(f"--domain-tokens is {domain_tokens:g}", allowed="a number above 0, such as 5B")
    fixed = {name: value for name, value in at.items() if name not in ("ratio", "tokens")}

    def columns(log_share: np.ndarray) -> dict[str, Any]:
        share = np.exp(log_share)
        return law.at_share(share, {**fixed, "tokens": domain_tokens / share})

    grid_T = np.linspace(math.log(1e-3), 0.0, STEPS + 1)
    log_share, drawn_S = _least(law, columns, grid_T)
    ends = np.quantile(np.exp(drawn_S), law.tails) if len(drawn_S) else np.full(2, np.nan)
    share = math.exp(log_share)
    chosen = {
        "ratio": {"value": share, "low": float(ends[0]), "high": float(ends[1])},
        "tokens": {"value": domain_tokens / share, "low": domain_tokens / ends[1], "high": domain_tokens / ends[0]},
    }
    told = law.predict(columns(np.array([log_share]))).row(0)
    end = {0: "1/1000 of domain text, as far as it looks: more general text lowers the law's loss all the way",
           STEPS: "domain text alone: general text only takes room"}.get(_step(grid_T, log_share), "")  # fmt: skip
    return Least("domain_tokens", chosen, told, {"domain_tokens": domain_tokens, **_told(law, fixed)}, end)


def least_for_flops(law: LawFile, flops: float, at: Mapping[str, float]) -> Least:
    """Size and tokens with the least loss when 6 * size * tokens = flops, at the given ratio. Errors: UsageError.

    The closed form holds for laws whose terms of size and tokens are A / N^alpha and B r^eta / D^beta.
    """
    for noun in ("size", "tokens"):
        if noun not in law.reads:
            raise UsageError(f"{law.form} reads no {noun}", allowed="a law that reads size and tokens, such as d_cpt")
    if law.reach.only("size") is not None:
        raise UsageError(
            f"the law was fitted to runs of one size, {law.reach.only('size'):.4g}, so it cannot choose one",
            allowed="a law fitted to two sizes or more",
        )
    if not (math.isfinite(flops) and flops > 0):
        raise UsageError(f"--flops is {flops:g}", allowed="a number above 0, such as 1e20")
    fixed = {name: value for name, value in at.items() if name not in ("size", "tokens")}
    weight_tokens = flops / FLOPS_PER_WEIGHT_AND_TOKEN

    def columns(log_size: np.ndarray) -> dict[str, Any]:
        size = np.exp(log_size)
        return {**fixed, "size": size, "tokens": weight_tokens / size}

    largest = max(weight_tokens, 10 * SMALLEST_SIZE)
    grid_T = np.linspace(math.log(SMALLEST_SIZE), math.log(largest), STEPS + 1)
    log_size, drawn_S = _least(law, columns, grid_T)
    closed = _closed_size(law, weight_tokens, fixed)
    if closed is not None and abs(math.log(closed) - log_size) > AGREE:
        closed = None  # constants of the same names in another formula, or the least loss is at an end
    if closed is not None:
        log_size = math.log(closed)  # the same place, without the rounding of a search
    ends = np.quantile(np.exp(drawn_S), law.tails) if len(drawn_S) else np.full(2, np.nan)
    size = math.exp(log_size)
    chosen = {
        "size": {"value": size, "low": float(ends[0]), "high": float(ends[1])},
        "tokens": {"value": weight_tokens / size, "low": weight_tokens / ends[1], "high": weight_tokens / ends[0]},
    }
    end = {0: "the smallest size it looks at", STEPS: "the largest size it looks at"}.get(_step(grid_T, log_size), "")
    told = law.predict(columns(np.array([log_size]))).row(0)
    return Least("flops", chosen, told, {"flops": flops, **_told(law, fixed)}, end, closed)


def _least(
    law: LawFile, columns: Callable[[np.ndarray], dict[str, Any]], grid_T: np.ndarray
) -> tuple[float, np.ndarray]:
    """The place of the least loss on a line, and that of every draw on the grid."""

    def loss(place: Any) -> np.ndarray:
        return law.fitted.predict(law.places(columns(np.atleast_1d(place))))

    best = int(np.argmin(loss(grid_T)))
    place = float(grid_T[best])
    if 0 < best < len(grid_T) - 1:
        bounds = (float(grid_T[best - 1]), float(grid_T[best + 1]))
        found = minimize_scalar(
            lambda one: float(loss(one)[0]), bounds=bounds, method="bounded", options={"xatol": 1e-10}
        )
        place = float(found.x)
    drawn_ST = law.draw(columns(grid_T))
    return place, grid_T[np.argmin(drawn_ST, 1)] if len(drawn_ST) else np.zeros(0)


def _step(grid_T: np.ndarray, place: float) -> int:
    """The step of the grid that a place is, -1 between steps."""
    found = np.flatnonzero(np.isclose(grid_T, place, rtol=0, atol=1e-12))
    return int(found[0]) if len(found) and found[0] in (0, len(grid_T) - 1) else -1


def _closed_size(law: LawFile, weight_tokens: float, fixed: Mapping[str, float]) -> float | None:
    """N = G (C/6)^(beta/(alpha+beta)), G = (alpha A / (beta B r^eta))^(1/(alpha+beta)); None for other laws."""
    known = constants_of(law)
    if not {"A", "alpha", "B", "beta"} <= set(known):
        return None
    size_term, size_power, token_term, token_power = (known[name] for name in ("A", "alpha", "B", "beta"))
    if "eta" in known:
        ratio = law.places({**fixed, "size": 1.0, "tokens": 1.0}).column("ratio")[0]
        token_term *= float(ratio) ** known["eta"]
    if min(size_term, size_power, token_term, token_power) <= 0:
        return None
    powers = size_power + token_power
    balance = (size_power * size_term / (token_power * token_term)) ** (1 / powers)
    return float(balance * weight_tokens ** (token_power / powers))


def constants_of(law: LawFile) -> dict[str, float]:
    """Constants by name, those that were held included."""
    held = getattr(getattr(law.fitted, "form", None), "held", {})
    return {name: one.value for name, one in law.fitted.constants.items()} | dict(held)


def _told(law: LawFile, fixed: Mapping[str, float]) -> dict[str, float]:
    """The place, with what the data hold constant."""
    filled = {name: law.reach.only(name) for name in law.reads if name not in ("ratio", "tokens") and name not in fixed}
    return {**{name: value for name, value in filled.items() if value is not None}, **fixed}
