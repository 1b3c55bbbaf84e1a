"""The additive joint law: size, tokens and the shares of every domain, each a term of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.terms import UNSEEN_POWERS, check_columns, tellable
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class AdditiveJoint:
    """Loss from model size, tokens and the shares h of the domains in the training text.

    L = E + 1 / sum_j C_j h_j^gamma_j + A / N^alpha + B / D^beta, in nats per token.
    Source: Shukor et al. 2025 (arXiv 2507.09404), the additive of their two laws, as others quote it: the formula was
    not checked against the paper. Where all rows have one size, or one number of tokens, that term cannot be told from
    E: it is left out, and a warning says so. Starts and bounds are not published.
    """

    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "weights"))

    @property
    def form(self) -> Callable[[tuple[str, ...]], Form]:
        return _form

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for a table without weights, and for sizes or tokens of 0 or less."""
        check_columns(trials, ("size", "tokens"))
        trials.weights()
        held: dict[str, float] = {}
        warnings: list[str] = []
        for domain, share_T in zip(trials.domains, trials.weights().T, strict=True):
            if not share_T.any():
                held |= {f"C_{domain}": 0.0, f"gamma_{domain}": 1.0}
                warnings.append(f'no row has any text of "{domain}": its constants are left out')
        form, words = tellable(_form(trials.domains).hold(**held), trials, UNSEEN_POWERS)
        return fit_form(form, trials, self.fitting, (*words, *warnings))


def _form(domains: tuple[str, ...]) -> Form:
    shared = (
        Constant("E", 1e-3, 20.0, (0.3, 1.0, 2.0)),
        Constant("A", 1e-3, 1e8, (1.0, 100.0, 1e4)),
        Constant("alpha", 0.01, 3.0, (0.2, 0.5)),
        Constant("B", 1e-3, 1e10, (1.0, 100.0, 1e4)),
        Constant("beta", 0.01, 3.0, (0.2, 0.5)),
    )
    scales = tuple(Constant(f"C_{domain}", 1e-5, 1e5, (0.1, 1.0, 10.0)) for domain in domains)
    powers = tuple(Constant(f"gamma_{domain}", 0.01, 10.0, (0.2, 0.7)) for domain in domains)
    return Form((*shared, *scales, *powers), _evaluate)


def _evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    E, A, alpha, B, beta = theta_SP.T[:5, :, None]
    log_size, log_tokens = np.log(trials.column("size")), np.log(trials.column("tokens"))
    domains = len(trials.domains)
    scale_SK, power_SK = theta_SP[:, 5 : 5 + domains], theta_SP[:, 5 + domains :]
    by_size, by_tokens = np.exp(-alpha * log_size), np.exp(-beta * log_tokens)
    log_share_TK = np.log(np.maximum(trials.weights(), 1e-300))  # h^gamma is 0 at h = 0, and so are its slopes
    shares = [np.exp(power_SK[:, k, None] * log_share_TK[:, k]) for k in range(domains)]
    help_ST = sum((scale_SK[:, k, None] * shares[k] for k in range(domains)), np.full_like(by_size, 1e-12))
    loss = E + 1 / help_ST + A * by_size + B * by_tokens
    fall_ST = -1 / np.square(help_ST)
    slopes = [np.ones_like(E), by_size, -A * by_size * log_size, by_tokens, -B * by_tokens * log_tokens]
    slopes += [fall_ST * share for share in shares]
    slopes += [fall_ST * scale_SK[:, k, None] * shares[k] * log_share_TK[:, k] for k in range(domains)]
    return loss, slopes
