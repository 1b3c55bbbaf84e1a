"""The D-CPT law in its chosen form, L3."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from graft.core.config.settings import check_choices
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Form
from graft.scaling.fitting.signs import UNSEEN, sign_warnings, steepest
from graft.scaling.fitting.terms import check_columns, level, power, ratio_shifted, summed, tellable, tokens_by_ratio
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class DCpt:
    """Loss after continued pre-training from model size, tokens and the share of the text: the D-CPT law, form L3.

    L(N, D, r) = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma, nats per token; N parameters, D tokens of
    continued pre-training, r the share of them that is the text on which L is measured (fit general loss against 1
    minus the domain's share). Source: arXiv 2406.01375 (L3), which fits the Huber loss by L-BFGS from a grid of starts;
    here the same loss by Gauss-Newton steps. That its delta is 1e-3 on log L is not verified; starts and bounds are
    not published.
    More of the text must not raise its loss: dL/dr < 0 at r = 1 and the least D of the table, which for eta >= 1 is the
    worst place. For eta < 1 the sign is wrong below some small r whatever the constants, and a warning names it.
    Columns with one value leave constants out (`Fitted.form.held`): one size A and alpha (they are in E), one count of
    tokens beta (it is in B), one ratio eta, C, gamma and eps (they are in B and E); the warnings say so.
    """

    signs: Literal["enforce", "report"] = "enforce"  # of dL/dr at r = 1
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "ratio"))

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def form(self) -> Form:
        whole = summed(level(), power("size", "A", "alpha"), tokens_by_ratio(), ratio_shifted())
        return replace(whole, excess=steepest(whole.names)) if self.signs == "enforce" else whole

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for fewer rows than constants, sizes or tokens not above 0, ratios beyond 0..1."""
        check_columns(trials, ("size", "tokens"), ("ratio",))
        form, words = tellable(self.form, trials, UNSEEN)
        fitted = fit_form(form, trials, self.fitting, words)
        return sign_warnings(fitted, trials)
