"""The exponential mixing law: the loss of a domain from the shares of all domains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs


@dataclass(frozen=True)
class ExponentialMixing:
    """Loss on one validation text from the shares r of the training domains.

    L = c + sum_i exp(sum_j t_ij r_j), in nats per token, over `implicit` hidden domains i of the validation text.
    Source: Ye et al. 2024 (arXiv 2403.16952), L = sum_i s_i (c_i + k_i exp(sum_j t_ij r_j)). With one domain it is
    their law for a known domain, c + k exp(sum_j t_j r_j). Shares add up to 1, so log(s_i k_i) cannot be told from a
    number added to every t_ij: here it is in them. The sum of s_i c_i is the one constant c. Hidden domains have no
    order: which is first is chance. Starts and bounds are not published.
    """

    implicit: int = 1  # hidden domains the validation text is made of; 1: the text is one known domain
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("weights",))

    def __post_init__(self) -> None:
        if self.implicit < 1:
            raise UsageError(f"implicit is {self.implicit}", allowed="at least 1 domain")

    @property
    def form(self) -> Callable[[tuple[str, ...]], Form]:
        return partial(_form, implicit=self.implicit)

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for a table without weights, and for shares that do not add up to 1."""
        weights_TK = trials.weights()
        off = np.abs(weights_TK.sum(1) - 1) > 0.02
        if off.any():
            row = int(np.flatnonzero(off)[0])
            raise UsageError(f"the shares in row {row + 1} add up to {weights_TK[row].sum():g}", allowed="1")
        held = {
            name: 0.0
            for domain, share_T in zip(trials.domains, weights_TK.T, strict=True)
            if not share_T.any()
            for name in _names(domain, self.implicit)
        }
        said = tuple(
            f'no row has any text of "{domain}": its constants are left out'
            for domain in trials.domains
            if _names(domain, self.implicit)[0] in held
        )
        return fit_form(self.form(trials.domains).hold(**held), trials, self.fitting, said)


def _names(domain: str, implicit: int) -> list[str]:
    """t of one training domain in every hidden domain."""
    return [f"t_{domain}"] if implicit == 1 else [f"t{i + 1}_{domain}" for i in range(implicit)]


def _form(domains: tuple[str, ...], implicit: int) -> Form:
    named = [_names(domain, implicit) for domain in domains]
    slopes = (
        Constant(names[i], -60.0, 10.0, (-2.0, -0.5, 0.5, 1.5), log=False) for i in range(implicit) for names in named
    )
    return Form((Constant("c", 1e-4, 20.0, (0.5, 1.5, 3.0)), *slopes), partial(_evaluate, implicit=implicit))


def _evaluate(theta_SP: np.ndarray, trials: Trials, implicit: int) -> tuple[np.ndarray, list[np.ndarray]]:
    weights_TK = trials.weights()
    c = theta_SP[:, :1]
    loss_ST = np.repeat(c, len(trials), 1)
    slopes = [np.ones_like(c)]
    for t_SK in np.split(theta_SP[:, 1:], implicit, axis=1):
        part_ST = np.exp(t_SK @ weights_TK.T)
        loss_ST += part_ST
        slopes += [part_ST * share_T for share_T in weights_TK.T]
    return loss_ST, slopes
