"""A constant rate after a warm-up."""

from __future__ import annotations

from dataclasses import dataclass

from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """The peak rate all along, after a linear warm-up over the first `warmup` share of the steps."""

    warmup: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup is {self.warmup}", allowed="a share of the steps, 0 or more and below 1")

    def __call__(self, step: int, steps: int) -> float:
        warm = round(self.warmup * steps)
        return min(1.0, (step + 1) / warm) if warm else 1.0
