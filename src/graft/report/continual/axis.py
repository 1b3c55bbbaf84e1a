"""Places on an axis of levels, which need not hold 0."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ruler:
    """From `low` to `high`; places are in percent of its length."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float], *, room: float = 0.06, least: float = 1e-3) -> Ruler:
        """All of the values, with a share of their range left free at both ends; at least `least` long."""
        values = list(values)
        low, high = min(values), max(values)
        margin = max(room * (high - low), (least - (high - low)) / 2, 0.0)
        return cls(low - margin, high + margin)

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def between(self, low: float, high: float) -> list[float]:
        """[left, width] of a stretch."""
        return [self.at(low), round(self.at(high) - self.at(low), 3)]

    def ticks(self) -> list[dict[str, float | str]]:
        """Two to five round values, each with its place and as it is written."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span))
        step = next(power * part for part in (5.0, 2.0, 1.0, 0.5, 0.2) if span / (power * part) >= 2)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [{"at": self.at(n * step), "word": f"{n * step:.{digits}f}"} for n in numbers]
