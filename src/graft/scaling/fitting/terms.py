"""The terms that scaling laws are sums of, with their slopes, start values and what a table cannot tell of them.

Constants are in nats per token, parameters and tokens, as they stand in the formulas of the papers. Start values of a
term's factor are given as shares of the mean loss that the term has in the middle of the table (geometric mean of sizes
and tokens, mean ratio), because the factor itself ranges over ten powers of ten with its exponent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.trials import Trials

Parts = tuple[np.ndarray, list[np.ndarray]]
SHARES = (0.003, 0.03, 0.3)
EXPONENTS = (0.1, 0.4, 1.2)
UNSEEN_POWERS = {"size": {"A": 0.0, "alpha": 1.0}, "tokens": {"B": 0.0, "beta": 1.0}}  # of A/N^alpha + B/D^beta


@dataclass(frozen=True)
class Term:
    """Part of a sum. evaluate: (its constants, P of S x 1, trials) -> (value_ST, slopes); begin: the factor's unit.

    begin: (constants, views of P x S, trials) -> what a share of the loss has to be multiplied by to give the first
    constant; it may turn the others into their own units in place.
    """

    constants: tuple[Constant, ...]
    evaluate: Callable[[list[np.ndarray], Trials], Parts]
    begin: Callable[[list[np.ndarray], Trials], np.ndarray | float]


def summed(*terms: Term) -> Form:
    """The form whose loss is the sum of the terms."""
    ends = np.cumsum([0, *(len(term.constants) for term in terms)])
    spans = [slice(first, end) for first, end in itertools.pairwise(ends)]

    def evaluate(theta_SP: np.ndarray, trials: Trials) -> Parts:
        values, slopes = [], []
        for term, span in zip(terms, spans, strict=True):
            value_ST, own = term.evaluate(list(theta_SP.T[span, :, None]), trials)
            values.append(value_ST)
            slopes += own
        loss_ST = np.zeros((len(theta_SP), len(trials)))
        for value_ST in values:
            loss_ST += value_ST
        return loss_ST, slopes

    def begin(share_SP: np.ndarray, trials: Trials) -> np.ndarray:
        theta_SP = np.array(share_SP)
        for term, span in zip(terms, spans, strict=True):
            unit = term.begin(list(theta_SP.T[span]), trials)
            theta_SP[:, span.start] *= unit * trials.loss_T.mean()
        return theta_SP

    return Form(tuple(one for term in terms for one in term.constants), evaluate, begin=begin)


def level(name: str = "E") -> Term:
    """E: what no model, no text and no mixture takes away."""
    return Term(
        (Constant(name, 0.0, 50.0, (0.2, 0.5, 0.8), log=False),),
        lambda own, trials: (own[0], [np.ones_like(own[0])]),
        lambda own, trials: 1.0,
    )


def power(column: str, factor: str, exponent: str) -> Term:
    """factor / column^exponent, for a column above 0."""

    def evaluate(own: list[np.ndarray], trials: Trials) -> Parts:
        log_T = np.log(trials.column(column))
        each_ST = np.exp(-own[1] * log_T)
        value_ST = own[0] * each_ST
        return value_ST, [each_ST, -value_ST * log_T]

    def begin(own: list[np.ndarray], trials: Trials) -> np.ndarray:
        return np.exp(own[1] * np.log(trials.column(column)).mean())

    return Term((_factor(factor), Constant(exponent, 0.01, 4.0, EXPONENTS)), evaluate, begin)


def tokens_by_ratio() -> Term:
    """B r^eta / D^beta: 0 where r is 0."""

    def evaluate(own: list[np.ndarray], trials: Trials) -> Parts:
        B, beta, eta = own
        ratio_T, log_D = trials.column("ratio"), np.log(trials.column("tokens"))
        log_r = np.log(np.where(ratio_T > 0, ratio_T, 1.0))
        each_ST = np.exp(eta * log_r - beta * log_D) * (ratio_T > 0)
        value_ST = B * each_ST
        return value_ST, [each_ST, -value_ST * log_D, value_ST * log_r]

    def begin(own: list[np.ndarray], trials: Trials) -> np.ndarray:
        _, beta, eta = own
        ratio = max(float(trials.column("ratio").mean()), 1e-3)
        return np.exp(beta * np.log(trials.column("tokens")).mean() - eta * np.log(ratio))

    constants = (_factor("B"), Constant("beta", 0.01, 4.0, EXPONENTS), Constant("eta", 0.01, 6.0, (0.1, 0.5, 1.5)))
    return Term(constants, evaluate, begin)


def ratio_shifted() -> Term:
    """C / (r + eps)^gamma: the mixture, defined at r = 0 too."""

    def evaluate(own: list[np.ndarray], trials: Trials) -> Parts:
        C, gamma, eps = own
        shifted_ST = trials.column("ratio") + eps
        log_ST = np.log(shifted_ST)
        each_ST = np.exp(-gamma * log_ST)
        value_ST = C * each_ST
        return value_ST, [each_ST, -value_ST * log_ST, -gamma * value_ST / shifted_ST]

    def begin(own: list[np.ndarray], trials: Trials) -> np.ndarray:
        _, gamma, eps = own
        return (trials.column("ratio").mean() + eps) ** gamma

    constants = (_factor("C"), Constant("gamma", 0.01, 6.0, (0.1, 0.5, 1.5)), Constant("eps", 1e-5, 3.0, (0.01, 0.2)))
    return Term(constants, evaluate, begin)


def _factor(name: str) -> Constant:
    return Constant(name, 1e-12, 1e40, SHARES)


def check_free(free: tuple[str, ...], names: tuple[str, ...], own: tuple[str, ...]) -> None:
    """For a law that may take constants from elsewhere: `free` are fitted, of `names`, and `own` always are.

    Errors: UsageError for another name, and where one of its own is not free.
    """
    for name in free:
        if name not in names:
            raise UsageError(f'free names "{name}"', allowed=", ".join(names), do=nearest(name, names))
    if not set(own) <= set(free):
        raise UsageError(f"free is {list(free)}", allowed=f"{' and '.join(own)} among them: no grid can lend that")


def check_columns(trials: Trials, above_zero: tuple[str, ...], shares: tuple[str, ...] = ()) -> None:
    """Errors: UsageError for a value that the formula has no loss for, with its row."""
    for name in above_zero:
        _check_rows(name, trials.column(name), trials.column(name) > 0, "above 0")
    for name in shares:
        within_T = (trials.column(name) >= 0) & (trials.column(name) <= 1)
        _check_rows(name, trials.column(name), within_T, "a share, 0 to 1")


def _check_rows(name: str, column_T: np.ndarray, fine_T: np.ndarray, allowed: str) -> None:
    if not fine_T.all():
        row = int(np.flatnonzero(~fine_T)[0])
        raise UsageError(f'column "{name}" is {column_T[row]:g} in row {row + 1}', allowed=allowed)


def tellable(form: Form, trials: Trials, unseen: Mapping[str, Mapping[str, float]]) -> tuple[Form, tuple[str, ...]]:
    """(the form without what the table cannot tell, warnings that say so).

    unseen: by column, the constants to hold, and at what, where the column has one value only; names that the form has
    not are passed over.
    """
    held: dict[str, float] = {}
    words: list[str] = []
    for column, constants in unseen.items():
        column_T = trials.column(column)
        if np.ptp(column_T) <= 1e-9 * np.abs(column_T).max():
            mine = {name: value for name, value in constants.items() if name in form.names}
            held = mine | held
            words.append(
                f"every {column} is {column_T[0]:g}: {', '.join(mine)} cannot be told from the rest and are left out;"
                f" the other constants hold for this {column}, and nothing is known of another"
            )
    return form.hold(**held), tuple(words)
