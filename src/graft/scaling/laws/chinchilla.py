"""Chinchilla's law."""

from __future__ import annotations

from dataclasses import dataclass

from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Form
from graft.scaling.fitting.terms import UNSEEN_POWERS, check_columns, level, power, summed, tellable
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class Chinchilla:
    """Loss from model size and training tokens: Chinchilla's law.

    L(N, D) = E + A / N^alpha + B / D^beta, nats per token; N parameters, D tokens. Source: Hoffmann et al. 2022 (arXiv
    2203.15556), eq. 2 and appendix D.3: Huber loss of log residuals at delta 1e-3 from a grid of starts. There D is the
    end of a whole schedule; checkpoints of one run may stand for other D only while the rate is constant.
    """

    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens"))

    @property
    def form(self) -> Form:
        return summed(level(), power("size", "A", "alpha"), power("tokens", "B", "beta"))

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for fewer rows than constants, sizes or tokens that are not above 0."""
        check_columns(trials, self.needs().columns)
        form, words = tellable(self.form, trials, UNSEEN_POWERS)
        return fit_form(form, trials, self.fitting, words)
