"""The data-constrained law: repeated tokens and parameters beyond what they can use are worth less and less."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.metrics import r2
from graft.scaling.fitting.terms import check_columns
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

_PUBLISHED = {"R_D": 15.387756, "R_N": 5.309743}  # of the paper's fit to 182 runs on C4
_NEVER = 1e12  # a decay constant so large that nothing decays


@dataclass(frozen=True)
class DataConstrained:
    """Loss when tokens are repeated: Chinchilla's law of an effective size and an effective number of tokens.

    L = E + A / N'^alpha + B / D'^beta, in nats per token, with U unique tokens among the D trained on and
    D' = U + U R_D (1 - exp(-(D/U - 1) / R_D))      N' = U_N + U_N R_N (1 - exp(-(N/U_N - 1) / R_N))
    U_N = min(N, (U G)^(beta/alpha) G), the size that U tokens can use; G = (alpha A / (beta B))^(1 / (alpha + beta)).
    Source: Muennighoff et al. 2023 (arXiv 2305.16264). As published, E, A, B, alpha and beta are those of a Chinchilla
    fit to C4 and only R_D and R_N are fitted; for another corpus or tokenizer set `chinchilla` to false, and all seven
    are. On the paper's 182 runs R_D and R_N are weakly identified, which the intervals show and a warning says: the
    Huber losses at the published 15.4, 5.3 (R2 0.7722) and at 95.4, 1.71 (0.7910) are 0.13 % apart. `facts` hold R2 of
    the published constants ("r2_published") and of no decay at all ("r2_without_decay") on the same rows, when E to
    beta are the given ones.
    """

    chinchilla: bool = True  # hold E, A, B, alpha, beta at the values below
    E: float = float(np.exp(0.6254804))
    A: float = float(np.exp(6.255414))
    B: float = float(np.exp(7.3049974))
    alpha: float = 0.3526596
    beta: float = 0.3526596
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("size", "tokens", "unique"))

    def __post_init__(self) -> None:
        if min(self.E, self.A, self.B, self.alpha, self.beta) <= 0:
            raise UsageError(f"E, A, B, alpha, beta are {tuple(self._held.values())}", allowed="all above 0")

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("E", 1e-3, 20.0, (0.5, 1.0, 2.0)),
                Constant("A", 1e-2, 1e8, (10.0, 500.0, 1e4)),
                Constant("alpha", 0.01, 3.0, (0.2, 0.35, 0.6)),
                Constant("B", 1e-2, 1e10, (10.0, 1000.0, 1e5)),
                Constant("beta", 0.01, 3.0, (0.2, 0.35, 0.6)),
                Constant("R_D", 0.1, 1e4, (1.0, 5.0, 15.0, 50.0, 150.0)),
                Constant("R_N", 0.1, 1e4, (1.0, 5.0, 15.0, 50.0, 150.0)),
            ),
            _evaluate,
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for sizes or tokens of 0 or less, and for more unique tokens than tokens."""
        check_columns(trials, self.needs().columns)
        unique_T, tokens_T = trials.column("unique"), trials.column("tokens")
        if (unique_T > tokens_T).any():
            row = int(np.flatnonzero(unique_T > tokens_T)[0])
            raise UsageError(
                f"row {row + 1} has {unique_T[row]:g} unique tokens among {tokens_T[row]:g}",
                allowed="at most as many unique tokens as tokens",
            )
        warnings = ()
        if (unique_T == tokens_T).all():
            warnings = ("no run repeats its tokens: R_D says nothing of these rows and cannot be found",)
        if not self.chinchilla:
            return fit_form(self.form, trials, self.fitting, warnings)
        fitted = fit_form(self.form.hold(**self._held), trials, self.fitting, warnings)
        facts = {
            "r2_published": self._r2(trials, **_PUBLISHED),
            "r2_without_decay": self._r2(trials, R_D=_NEVER, R_N=_NEVER),
        }
        return replace(fitted, facts={**fitted.facts, **facts})

    @property
    def _held(self) -> dict[str, float]:
        return {"E": self.E, "A": self.A, "alpha": self.alpha, "B": self.B, "beta": self.beta}

    def _r2(self, trials: Trials, **decay: float) -> float:
        every = {**self._held, **decay}
        theta_P = np.array([every[name] for name in self.form.names])
        return r2(_evaluate(theta_P[None], trials)[0][0], trials.loss_T)


def _evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    E, A, alpha, B, beta, R_D, R_N = theta_SP.T[:, :, None]
    log_unique = np.log(trials.column("unique"))
    repeats = np.maximum(trials.column("tokens") / trials.column("unique") - 1, 0.0)
    log_size = np.log(trials.column("size"))

    total = alpha + beta
    log_balance = np.log(alpha * A / (beta * B)) / total  # log G
    log_usable = beta / alpha * (log_unique + log_balance) + log_balance
    fits = log_size <= log_usable  # all parameters are of use: U_N is N itself
    log_used = np.where(fits, log_size, log_usable)
    excess = np.maximum(np.exp(log_size - log_used) - 1, 0.0)

    left_D, left_N = np.exp(-repeats / R_D), np.exp(-excess / R_N)
    gain_D, gain_N = 1 + R_D * (1 - left_D), 1 + R_N * (1 - left_N)
    by_size = np.exp(-alpha * (log_used + np.log(gain_N)))
    by_tokens = np.exp(-beta * (log_unique + np.log(gain_D)))
    loss = E + A * by_size + B * by_tokens

    # d log N' / d log U_N, which is 0 where U_N = N; and d log U_N / d each constant it hangs on.
    pull = np.where(fits, 0.0, 1 - left_N * (1 + excess) / gain_N)
    through = -alpha * A * by_size * pull
    per_balance = beta / alpha + 1
    balance_alpha = (1 / alpha - log_balance) / total
    balance_beta = (-1 / beta - log_balance) / total
    used_alpha = -beta / alpha**2 * (log_unique + log_balance) + per_balance * balance_alpha
    used_beta = (log_unique + log_balance) / alpha + per_balance * balance_beta
    slopes = [
        np.ones_like(E),
        by_size + through * per_balance / (total * A),
        -A * by_size * (log_used + np.log(gain_N)) + through * used_alpha,
        by_tokens - through * per_balance / (total * B),
        -B * by_tokens * (log_unique + np.log(gain_D)) + through * used_beta,
        -beta * B * by_tokens * (1 - left_D - left_D * repeats / R_D) / gain_D,
        -alpha * A * by_size * (1 - left_N - left_N * excess / R_N) / gain_N,
    ]
    return loss, slopes
