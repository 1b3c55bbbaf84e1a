"""A law with its constants found: predictions, intervals, and the way to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from graft.scaling.fitting.form import Form, form_of
from graft.scaling.fitting.metrics import all_metrics
from graft.scaling.fitting.trials import Trials


class Estimate(NamedTuple):
    """A constant and its interval, in its natural scale; without draws the interval is NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A form with its constants found.

    draws_SP: the constants found on resampled trials (bootstrap), S may be 0. spread: by how much deviations of the
    draws are widened for few runs or few rows per constant (1: not at all).
    """

    form: Form
    values_P: np.ndarray
    draws_SP: np.ndarray
    warnings: tuple[str, ...] = ()
    confidence: float = 0.95
    spread: float = 1.0
    domains: tuple[str, ...] = ()
    objective: float = float("nan")  # mean Huber loss at the optimum
    facts: Mapping[str, float] = field(default_factory=dict)  # what a law adds, such as where a sign is wrong

    def predict(self, trials: Trials) -> np.ndarray:
        """The loss of every row (T)."""
        return self.form.evaluate(self.values_P[None], trials)[0][0]

    def draw(self, trials: Trials) -> np.ndarray:
        """The loss of every row by every bootstrap draw (S x T), deviations widened by `spread`."""
        value_T = self.predict(trials)
        if not len(self.draws_SP):
            return np.zeros((0, len(trials)))
        drawn_ST = self.form.evaluate(self.draws_SP, trials)[0]
        fine_ST = (drawn_ST > 0) & (value_T > 0)
        widened_ST = value_T * np.exp(self.spread * np.log(np.where(fine_ST, drawn_ST / value_T, 1.0)))
        return np.where(fine_ST, widened_ST, value_T + self.spread * (drawn_ST - value_T))

    def interval(self, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the curve at every row, at `confidence`; NaN without draws. A new run's noise is not in them."""
        if not len(self.draws_SP):
            return np.full(len(trials), np.nan), np.full(len(trials), np.nan)
        low_T, high_T = np.quantile(self.draw(trials), self._tails, axis=0)
        return low_T, high_T

    @property
    def _tails(self) -> tuple[float, float]:
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2

    @property
    def constants(self) -> dict[str, Estimate]:
        """Every fitted constant with its interval; held ones are in `form.held`."""
        found: dict[str, Estimate] = {}
        for p, constant in enumerate(self.form.constants):
            value = float(self.values_P[p])
            low = high = float("nan")
            if len(self.draws_SP):
                middle = constant.inward(value)
                inner_S = middle + self.spread * (constant.inward(self.draws_SP[:, p]) - middle)
                ends = np.quantile(inner_S, self._tails)
                low, high = np.clip(np.exp(ends) if constant.log else ends, constant.low, constant.high)
            found[constant.name] = Estimate(value, float(low), float(high))
        return found

    def metrics(self, trials: Trials) -> dict[str, float]:
        """n, r2, huber (mean, on logarithms), mre and spearman of the predictions of these rows."""
        return all_metrics(self.predict(trials), trials.loss_T)

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same object."""
        return {
            "constants": {name: _plain(one) for name, one in self.constants.items()},
            "held": dict(self.form.held),
            "draws": self.draws_SP.tolist(),
            "warnings": list(self.warnings),
            "confidence": self.confidence,
            "spread": self.spread,
            "domains": list(self.domains),
            "objective": self.objective,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, law: Any, saved: Mapping[str, Any]) -> Fitted:
        """The same object, from what `to_json` gave and the law (with its settings) that was fitted."""
        form = form_of(law, tuple(saved["domains"])).hold(**saved["held"])
        if set(saved["constants"]) != set(form.names):
            raise ValueError(f"its constants are {', '.join(saved['constants'])}, and not {', '.join(form.names)}")
        return cls(
            form,
            np.array([saved["constants"][name]["value"] for name in form.names]),
            draws_of(saved["draws"], len(form.names)),
            tuple(saved["warnings"]),
            saved["confidence"],
            saved["spread"],
            tuple(saved["domains"]),
            saved["objective"],
            saved["facts"],
        )


def draws_of(saved: Any, count: int) -> np.ndarray:
    """Draws of `count` constants each, S x P. Raises: ValueError where one has more or fewer."""
    if not isinstance(saved, list) or any(not isinstance(one, list) or len(one) != count for one in saved):
        raise ValueError(f"its draws are not lists of {count} numbers each")
    return np.array(saved, np.float64).reshape(-1, count)


def _plain(found: Estimate) -> dict[str, float | None]:
    """Without draws the bounds are nothing: JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in found._asdict().items()}
