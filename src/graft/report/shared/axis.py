"""Places on the axes that stand in tables, which are read without JavaScript."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


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

    @classmethod
    def of_changes(cls, rows: Iterable[Any]) -> Ruler:
        """0, and the change of every row with its interval."""
        return cls.over([0.0, *(end for row in rows for end in (row["change"], *(row["interval"] or ())))], least=0.01)

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def between(self, low: float, high: float) -> list[float]:
        """[left, width] of a stretch."""
        return [self.at(low), round(self.at(high) - self.at(low), 3)]

    def bar(self, value: float) -> dict[str, Any]:
        """From 0 to `value`."""
        left, width = self.between(*sorted((0.0, value)))
        return {"left": left, "width": width, "zero": self.at(0)}

    def marks(self) -> list[float]:
        """Two to five round values."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span))
        step = next(power * part for part in (5.0, 2.0, 1.0, 0.5, 0.2) if span / (power * part) >= 2)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def ticks(self) -> list[dict[str, float | str]]:
        """Round values, each with its place and as it is written."""
        marks = self.marks()
        digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
        return [{"at": self.at(mark), "word": f"{mark:.{digits}f}"} for mark in marks]
