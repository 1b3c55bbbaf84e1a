"""What the fitter needs to know of a formula: its constants with bounds and starts, its value and its slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.scaling.fitting.trials import Trials

Evaluate = Callable[[np.ndarray, Trials], tuple[np.ndarray, list[np.ndarray]]]
Begin = Callable[[np.ndarray, Trials], np.ndarray]
Excess = Callable[[np.ndarray, Trials], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Constant:
    """One constant of a form: bounds and start values in its natural scale."""

    name: str
    low: float
    high: float
    starts: tuple[float, ...]
    log: bool = True  # fitted as its logarithm (needs low > 0); False: as it is

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            least = "above 0 " if self.log else ""
            raise UsageError(f"{self.name} lies in [{self.low}, {self.high}]", allowed=f"a low {least}below the high")
        if not self.starts or any(not self.low <= start <= self.high for start in self.starts):
            raise UsageError(f"{self.name} starts at {self.starts}", allowed=f"{self.low} to {self.high}")

    def inward(self, value: Any) -> Any:
        """Natural scale -> the scale it is fitted in."""
        return np.log(value) if self.log else value


@dataclass(frozen=True)
class Form:
    """A formula of P constants, batched over S rows of them.

    evaluate: (theta_SP in natural scale, trials) -> loss_ST and a list of P slopes, d loss / d constant, each S x T (or
    broadcastable to it: S x 1, 1 x T).
    excess, optional: a condition on the constants: (theta_SP, trials) -> (excess_S, its slopes_SP in natural scale); it
    holds where excess <= 0, and the fit obeys it.
    begin, optional: turns rows of the start grid (S x P) into constants, knowing the trials; without it the grid holds
    the constants themselves.
    held: constants that are not fitted, by their values; `constants` are the ones that are.
    apart: a row can be evaluated without the others (False where rows are, say, one schedule): search may use a few.
    """

    constants: tuple[Constant, ...]
    evaluate: Evaluate
    excess: Excess | None = None
    held: Mapping[str, float] = field(default_factory=dict)
    apart: bool = True
    begin: Begin | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(constant.name for constant in self.constants)

    def holds(self, theta_SP: np.ndarray, trials: Trials) -> np.ndarray:
        """Where the condition on the constants is met (bool_S)."""
        return np.ones(len(theta_SP), bool) if self.excess is None else self.excess(theta_SP, trials)[0] <= 0

    def hold(self, **values: float) -> Form:
        """The same formula with some constants fixed; the values need not respect bounds (0 takes a term out).

        Errors: UsageError for a name that is no constant of the form.
        """
        for name in values:
            if name not in self.names:
                raise UsageError(
                    f'the form has no constant "{name}"', allowed=", ".join(self.names), do=nearest(name, self.names)
                )
        if not values:
            return self
        kept = np.array([name not in values for name in self.names])
        whole_P = np.array([values.get(name, math.nan) for name in self.names])

        def widen(theta_SP: np.ndarray) -> np.ndarray:
            wide_SP = np.tile(whole_P, (len(theta_SP), 1))
            wide_SP[:, kept] = theta_SP
            return wide_SP

        def evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
            loss_ST, slopes = self.evaluate(widen(theta_SP), trials)
            return loss_ST, [slope for slope, keep in zip(slopes, kept, strict=True) if keep]

        excess = self.excess

        def narrow(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
            assert excess is not None
            excess_S, slopes_SP = excess(widen(theta_SP), trials)
            return excess_S, slopes_SP[:, kept]

        begin = self.begin

        def begin_wide(start_SP: np.ndarray, trials: Trials) -> np.ndarray:
            assert begin is not None
            return begin(widen(start_SP), trials)[:, kept]

        constants = tuple(one for one, keep in zip(self.constants, kept, strict=True) if keep)
        return Form(
            constants,
            evaluate,
            None if excess is None else narrow,
            {**self.held, **values},
            self.apart,
            None if begin is None else begin_wide,
        )


def form_of(law: Any, domains: tuple[str, ...] = ()) -> Form:
    """The form a law exposes as its property `form`: a Form, or a function of the domains where they decide it."""
    return law.form if isinstance(law.form, Form) else law.form(domains)
