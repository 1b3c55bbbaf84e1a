"""The D-CPT law's candidate L1."""

from __future__ import annotations

from dataclasses import dataclass

from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Form
from graft.scaling.fitting.signs import UNSEEN
from graft.scaling.fitting.terms import check_columns, level, power, ratio_shifted, summed, tellable
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class DCptL1:
    """The D-CPT law's simplest candidate: tokens and the share of the text do not act on each other (L1).

    L(N, D, r) = E + A / N^alpha + B / D^beta + C / (r + eps)^gamma, nats per token; units as in `d_cpt`. Eight
    constants, and dL/dr < 0 holds everywhere. Source: arXiv 2406.01375, table 1, where it fits a little worse than L3;
    that this is the formula of that row is not verified. No formula was found of L2, L4 and L5, so they are not here.
    """

    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "ratio"))

    @property
    def form(self) -> Form:
        return summed(level(), power("size", "A", "alpha"), power("tokens", "B", "beta"), ratio_shifted())

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for fewer rows than constants, sizes or tokens not above 0, ratios beyond 0..1."""
        check_columns(trials, ("size", "tokens"), ("ratio",))
        form, words = tellable(self.form, trials, UNSEEN | {"tokens": {"B": 0.0, "beta": 1.0}})
        return fit_form(form, trials, self.fitting, words)
