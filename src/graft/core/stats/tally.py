"""Divide once: sums travel as a total and a count, and the one division stands at the very end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Number = TypeVar("Number")  # float, numpy array or torch tensor: anything with + and /


@dataclass(frozen=True)
class Tally(Generic[Number]):
    """A total and the count it is to be divided by; tallies add, means do not.

    Objectives return one entry per row (total_B, count_B), so that a batch can be cut into
    micro-batches, spread over ranks and reported per source without a mean of means.
    """

    total: Number
    count: Number

    def __add__(self, other: Tally[Number]) -> Tally[Number]:
        return Tally(self.total + other.total, self.count + other.count)  # type: ignore[operator]

    @property
    def mean(self) -> Number:
        """total / count; NaN where nothing was counted (plain floats only)."""
        if isinstance(self.count, int | float) and self.count == 0:
            return float("nan")  # type: ignore[return-value]
        return self.total / self.count  # type: ignore[operator]
