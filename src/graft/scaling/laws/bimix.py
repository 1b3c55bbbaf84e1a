"""BiMix: the loss of one domain from its share of the text and the amount of training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.terms import check_columns, tellable
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

_UNSEEN = {"tokens": {"B": 0.0, "beta": 1.0}, "ratio": {"alpha": 0.0}}


@dataclass(frozen=True)
class Bimix:
    """Loss of a domain as a product of two power laws, of its share and of the training it is part of.

    L = (B / s^beta + C) / r^alpha, in nats per token: r the domain's share in 0..1, s the amount of training, here
    tokens. Source: Ge et al. 2024 (arXiv 2405.14908), L = A / r^alpha (B / s^beta + C). Only A B and A C can be found
    from losses, so A is 1 here. The law has no value at r = 0. The formula is as others quote
    it, not checked against the paper; starts and bounds are not published.
    """

    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("tokens", "ratio"))

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("alpha", 1e-4, 5.0, (0.01, 0.05, 0.2)),
                Constant("B", 1e-4, 1e10, (1.0, 100.0, 1e4, 1e6)),
                Constant("beta", 0.01, 3.0, (0.1, 0.3, 0.6)),
                Constant("C", 1e-3, 20.0, (0.5, 1.5, 3.0)),
            ),
            _evaluate,
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for tokens of 0 or less, for ratios that are no shares, and for a ratio of 0."""
        check_columns(trials, ("tokens",), ("ratio",))
        ratio = trials.column("ratio")
        if (ratio <= 0).any():
            row = int(np.flatnonzero(ratio <= 0)[0])
            raise UsageError(
                f"ratio is {ratio[row]:g} in row {row + 1}",
                allowed="above 0: this law has no value for a domain that is not trained on",
                do="leave the row out, or choose a law that is defined there, such as d_cpt",
            )
        form, words = tellable(self.form, trials, _UNSEEN)
        return fit_form(form, trials, self.fitting, words)


def _evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    alpha, B, beta, C = theta_SP.T[:, :, None]
    log_tokens = np.log(trials.column("tokens"))
    log_ratio = np.log(np.maximum(trials.column("ratio"), 1e-300))
    by_tokens = np.exp(-beta * log_tokens)
    by_ratio = np.exp(-alpha * log_ratio)
    loss = (B * by_tokens + C) * by_ratio
    slopes = [-loss * log_ratio, by_tokens * by_ratio, -B * by_tokens * by_ratio * log_tokens, by_ratio]
    return loss, slopes
