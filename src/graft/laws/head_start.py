"""How a base learns a domain: as if it had read some of it before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from graft.core.errors import UsageError, nearest
from graft.fitting.fit import Fitting, fit_form
from graft.fitting.fitted import Fitted
from graft.fitting.form import Constant, Form
from graft.fitting.terms import check_columns
from graft.fitting.trials import Trials

NAMES = ("d", "beta", "k", "s", "u")


@dataclass(frozen=True)
class HeadStart:
    """Domain loss against tokens and the share of domain text, from the base's own loss on.

    L = L0 (1 + r^(s + u ln x) (x / d)^k)^-beta, in nats per token: L0 the loss of the base ("base_loss"), r the share
    of domain text ("ratio"), x tokens over "horizon", the length of the runs in question (`unit` where no column says).
    d is what the base's start is worth, in the same unit: before d tokens little moves, after them the loss falls as a
    power of the tokens. At no tokens, and at no domain text, the loss is the base's, which the D-CPT law cannot say:
    its powers of the tokens have no value there, so it needs trials where the start no longer matters.
    That pre-training is worth a number of tokens of the new text is the finding of Hernandez et al. 2021 (arXiv
    2102.01293); this formula, with an exponent of the ratio that grows with the tokens, is not published: it is this
    project's, found on its own grid of runs (docs/results.md).

    free: the constants that are fitted; the others stay as they are given here. Their values are those of that grid at
    its 400,000 tokens: for short pilots fit d and beta, and take the rest from there.
    """

    free: tuple[str, ...] = NAMES
    k: float = 1.3
    s: float = 1.3
    u: float = 0.19
    unit: float = 400_000.0  # tokens that x is 1 at
    fitting: Fitting = Fitting()

    reads: ClassVar[tuple[str, ...]] = ("tokens", "ratio", "base_loss")
    may_read: ClassVar[tuple[str, ...]] = ("horizon",)

    def __post_init__(self) -> None:
        for name in self.free:
            if name not in NAMES:
                raise UsageError(f'free names "{name}"', allowed=", ".join(NAMES), do=nearest(name, NAMES))
        if not {"d", "beta"} <= set(self.free):
            raise UsageError(f"free is {list(self.free)}", allowed="d and beta among them: no grid can lend them")

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("d", 1e-6, 1e3, (0.003, 0.01, 0.03, 0.1)),
                Constant("beta", 1e-3, 5.0, (0.05, 0.1, 0.3)),
                Constant("k", 0.1, 5.0, (0.7, 1.3)),
                Constant("s", 0.01, 5.0, (0.5, 1.0, 2.0)),
                Constant("u", -1.0, 1.0, (0.0, 0.2), log=False),
            ),
            partial(_evaluate, self.unit),
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for a base loss or tokens of 0 or less, and for ratios that are no shares."""
        check_columns(trials, ("tokens", "base_loss"), ("ratio",))
        held = {name: getattr(self, name) for name in NAMES if name not in self.free}
        warnings: list[str] = []
        if not np.ptp(trials.column("ratio")):
            held |= {name: getattr(self, name) for name in ("s", "u")}
            warnings.append(f"every ratio is {trials.column('ratio')[0]:g}: s and u are taken as given, not fitted")
        return fit_form(self.form.hold(**held), trials, self.fitting, tuple(warnings))


def _evaluate(unit: float, theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    d, beta, k, s, u = theta_SP.T[:, :, None]
    ratio_T = trials.column("ratio")
    log_x = np.log(trials.column("tokens") / trials.columns.get("horizon", unit))
    log_r = np.log(np.where(ratio_T > 0, ratio_T, 1.0))
    log_d = np.log(d)
    grown = np.exp((s + u * log_x) * log_r + k * (log_x - log_d)) * (ratio_T > 0)
    loss = trials.column("base_loss") * np.exp(-beta * np.log1p(grown))
    fall = -beta * loss * grown / (1 + grown)  # d loss / d ln grown
    slopes = [-fall * k / d, -loss * np.log1p(grown), fall * (log_x - log_d), fall * log_r, fall * log_x * log_r]
    return loss, slopes
