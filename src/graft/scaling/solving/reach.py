"""How far from the data a question lies: no answer beyond them goes without its distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graft.scaling.solving.quantity import factor_words

SHARES = ("ratio", "injected")  # distances of shares are differences, those of all else factors
SLACK = 1e-9


@dataclass(frozen=True)
class Beyond:
    """One column in which a question lies beyond the data: by a factor, or for shares by a difference."""

    column: str
    value: float
    low: float
    high: float
    distance: float
    is_factor: bool

    def __str__(self) -> str:
        side = "above" if self.value > self.high else "below"
        if self.is_factor:
            return f"beyond the data, by a factor of {factor_words(self.distance)} in {self.column}"
        end = self.high if self.value > self.high else self.low
        return f"beyond the data, by {self.distance:.3g} in {self.column} ({side} {end:.4g})"

    def to_json(self) -> dict[str, Any]:
        kind = "factor" if self.is_factor else "difference"
        return {"column": self.column, "value": self.value, "low": self.low, "high": self.high, kind: self.distance}


@dataclass(frozen=True)
class Reach:
    """Least and greatest value of every column, and of every domain's share, in the data a law was fitted to.

    values: the distinct values of a column where there are at most `MOST` of them.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    MOST = 50

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray], weights_TK: np.ndarray | None, domains: tuple[str, ...]) -> Reach:
        ranges = {name: (float(values.min()), float(values.max())) for name, values in columns.items()}
        shares = (
            {}
            if weights_TK is None
            else {
                name: (float(share.min()), float(share.max()))
                for name, share in zip(domains, weights_TK.T, strict=True)
            }
        )
        distinct = {name: tuple(sorted(set(values.tolist()))) for name, values in columns.items()}
        return cls(ranges, shares, {name: few for name, few in distinct.items() if len(few) <= cls.MOST})

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Reach:
        ends = [{name: (one[0], one[1]) for name, one in saved[key].items()} for key in ("columns", "shares")]
        return cls(ends[0], ends[1], {name: tuple(few) for name, few in saved["values"].items()})

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": {name: list(ends) for name, ends in self.ranges.items()},
            "shares": {name: list(ends) for name, ends in self.shares.items()},
            "values": {name: list(few) for name, few in self.values.items()},
        }

    def only(self, name: str) -> float | None:
        """The value of a column that has one value only."""
        ends = self.ranges.get(name)
        return ends[0] if ends and ends[0] == ends[1] else None

    def beyond(
        self, columns: Mapping[str, np.ndarray], weights_TK: np.ndarray | None = None
    ) -> list[tuple[Beyond, ...]]:
        """For every row the columns in which it lies beyond the data; an empty tuple inside."""
        count = len(weights_TK) if weights_TK is not None else len(next(iter(columns.values())))
        rows: list[tuple[Beyond, ...]] = []
        for row in range(count):
            found = [_beyond(name, float(values[row]), *self.ranges[name], name not in SHARES)
                     for name, values in columns.items() if name in self.ranges]  # fmt: skip
            if weights_TK is not None:
                shares = zip(self.shares, weights_TK[row].tolist(), strict=True)
                found += [_beyond(name, share, *self.shares[name], False) for name, share in shares]
            rows.append(tuple(one for one in found if one))
        return rows


def _beyond(name: str, value: float, low: float, high: float, is_factor: bool) -> Beyond | None:
    slack = SLACK * max(abs(low), abs(high))
    if low - slack <= value <= high + slack:
        return None
    if is_factor and low > 0 and value > 0:
        return Beyond(name, value, low, high, value / high if value > high else low / value, True)
    return Beyond(name, value, low, high, value - high if value > high else low - value, False)
