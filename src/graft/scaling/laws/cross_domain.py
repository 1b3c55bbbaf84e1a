"""The Cross-Domain D-CPT law."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from graft.core.config.settings import check_choices
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.signs import UNSEEN, sign_warnings, steepest
from graft.scaling.fitting.terms import (
    Term,
    check_columns,
    level,
    power,
    ratio_shifted,
    summed,
    tellable,
    tokens_by_ratio,
)
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

EARLY = {
    "given": (),
    "k1": ("first_loss",),
    "k2": ("early_fall",),
    "k3": ("first_loss", "early_fall"),
    "k4": ("first_loss", "early_fall", "second_difference"),
}
ONE_DOMAIN = "F, mu and the weights in K cannot be told from E and are left out; nothing is known of other domains"


@dataclass(frozen=True)
class CrossDomain:
    """One law for many domains, each known by how fast its loss falls in the first steps: the Cross-Domain D-CPT law.

    L(N, D, r, K) = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma + F / K^mu, with the units of `d_cpt` and
    the learnability K of the domain: k1 1 / first_loss; k2 early_fall; k3 1 / first_loss + w2 early_fall (the paper's
    choice); k4 that + w3 second_difference; given: the column "learnability". first_loss is the domain's first
    validation loss in nats, early_fall its fall (> 0) over the first steps and second_difference how the fall changes,
    each in any unit that is one for all rows. Source: arXiv 2406.01375; the forms of k1, k2 and k4 are not verified.
    The weight of K's first part (w1; in k2 w2) is 1 here: scaling all weights by s is the same law with F s^mu.
    A table of one domain leaves F, mu and the weights out. The sign in r is treated as in `d_cpt`.
    """

    learnability: Literal["given", "k1", "k2", "k3", "k4"] = "k3"
    signs: Literal["enforce", "report"] = "enforce"  # of dL/dr at r = 1
    fitting: Fitting = Fitting()

    def __post_init__(self) -> None:
        check_choices(self)

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "ratio", *(EARLY[self.learnability] or ("learnability",))))

    @property
    def form(self) -> Form:
        learn = power("learnability", "F", "mu") if self.learnability == "given" else _learnable(self.learnability)
        whole = summed(level(), power("size", "A", "alpha"), tokens_by_ratio(), ratio_shifted(), learn)
        return replace(whole, excess=steepest(whole.names)) if self.signs == "enforce" else whole

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for missing columns, fewer rows than constants, and values the formula has no loss for."""
        early = EARLY[self.learnability] or ("learnability",)
        check_columns(trials, ("size", "tokens", *(name for name in early if name != "second_difference")), ("ratio",))
        form, words = tellable(self.form, trials, UNSEEN)
        if all(np.ptp(trials.column(name)) <= 1e-9 * np.abs(trials.column(name)).max() for name in early):
            form = form.hold(**{name: float(name != "F") for name in form.names if name in ("F", "mu", "w2", "w3")})
            words = (*words, f"every row has the same {', '.join(early)}: {ONE_DOMAIN}")
        return sign_warnings(fit_form(form, trials, self.fitting, words), trials)


def _learnable(kind: str) -> Term:
    """F / K^mu, K = the first early column of the kind + w2 the second + w3 the third; a first loss counts inverted."""
    weights = [Constant("w2", 1e-9, 1e9, (0.1, 1.0, 10.0)), Constant("w3", -1e9, 1e9, (-0.1, 0.1), log=False)]
    weights = weights[: len(EARLY[kind]) - 1]

    def parts(trials: Trials) -> list[np.ndarray]:
        return [1 / trials.column(name) if name == "first_loss" else trials.column(name) for name in EARLY[kind]]

    def evaluate(own: list[np.ndarray], trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
        F, mu, *shares = own
        first, *more = parts(trials)
        learn_ST = np.full((len(F), 1), 1.0) * first
        for share, part in zip(shares, more, strict=True):
            learn_ST = learn_ST + share * part
        log_ST = np.log(learn_ST)  # NaN where a weight below 0 makes K so: no loss there, and the fit goes elsewhere
        each_ST = np.exp(-mu * log_ST)
        value_ST = F * each_ST
        by_learn_ST = -mu * value_ST / learn_ST
        return value_ST, [each_ST, -value_ST * log_ST, *(by_learn_ST * part for part in more)]

    def begin(own: list[np.ndarray], trials: Trials) -> np.ndarray:
        """Also turns the weights' start values, in shares of the first part of K, into weights."""
        first, *more = parts(trials)
        learn_S = np.full(len(own[0]), first.mean())
        for share, part in zip(own[2:], more, strict=True):
            scale = max(float(np.abs(part).mean()), 1e-300)
            share *= first.mean() / scale
            learn_S = learn_S + share * part.mean()
        return np.maximum(learn_S, 1e-3 * first.mean()) ** own[1]

    exponent = Constant("mu", 0.01, 8.0, (0.3, 1.0, 3.0))
    return Term((Constant("F", 1e-12, 1e40, (0.01, 0.1, 0.3)), exponent, *weights), evaluate, begin)
