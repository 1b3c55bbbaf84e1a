"""Forgetting when some pre-training text is mixed into the fine-tuning text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.terms import check_columns
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class ForgettingInjected:
    """Loss on the pre-training text after fine-tuning on other text with a share p of pre-training text mixed in.

    L = L0 + A D^beta / ((1 + B p) N)^alpha, in nats per token: D fine-tuning tokens, N parameters, p in 0..1.
    Source: Bethune et al. 2025 (arXiv 2502.06042). L0 is the loss of the base before fine-tuning, which differs from
    base to base: give it as the column "base_loss" and it is not fitted; without that column L0 is one constant for all
    rows. Starts and bounds are not published.
    """

    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "injected"), optional=("base_loss",))

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("L0", 1e-3, 20.0, (0.5, 1.5, 3.0)),
                Constant("A", 1e-9, 1e9, (1e-3, 1.0, 1e3)),
                Constant("beta", 0.01, 3.0, (0.1, 0.3, 0.7)),
                Constant("B", 1e-3, 1e7, (10.0, 300.0, 1e4)),
                Constant("alpha", 0.01, 3.0, (0.1, 0.3, 0.7)),
            ),
            _evaluate,
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for sizes or tokens of 0 or less, and for injected that is no share."""
        check_columns(trials, ("size", "tokens"), ("injected",))
        warnings: list[str] = []
        injected = trials.column("injected")
        held: dict[str, float] = {}
        if "base_loss" in trials.columns:
            held["L0"] = 0.0
        elif np.ptp(trials.column("size")):
            warnings.append(
                "L0 is one constant for bases of several sizes, whose losses before fine-tuning differ: give base_loss"
            )
        if not np.ptp(injected):
            held["B"] = 0.0
            warnings.append(f"injected is {injected[0]:g} in every row: B cannot be told from A and is left out")
        if not np.ptp(trials.column("size")) and "B" in held:
            held["alpha"] = 0.0
            warnings.append("size is the same in every row: alpha cannot be told from A and is left out")
        return fit_form(self.form.hold(**held), trials, self.fitting, tuple(warnings))


def _evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    L0, A, beta, B, alpha = theta_SP.T[:, :, None]
    log_tokens, injected = np.log(trials.column("tokens")), trials.column("injected")
    shielded = 1 + B * injected
    log_size = np.log(shielded) + np.log(trials.column("size"))
    power = np.exp(beta * log_tokens - alpha * log_size)
    drift = A * power
    loss = L0 + trials.columns.get("base_loss", 0.0) + drift
    return loss, [np.ones_like(L0), power, drift * log_tokens, -alpha * drift * injected / shielded, -drift * log_size]
