"""Warm up, cool down to a rate that can be kept for ever, and anneal at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class Infinite:
    """Linear warm-up, a cooldown to `constant`, that rate for as long as one likes, an exponential anneal.

    The cooldown is half a cosine. In the anneal the factor is constant * (floor / constant) ** (share of it done).
    Source: Ibrahim et al. 2024 (arXiv 2403.08763), whose point is that the next text can be taken up at the constant
    rate, without warming up again: train with `anneal` 0, keep checkpoints, and branch off a decay where one is
    wanted. The paper also tries an inverse square root for the cooldown, which is left out. The shares and levels
    below are not published ones.
    """

    warmup: float = 0.05  # share of the steps
    cooldown: float = 0.25  # share of the steps
    constant: float = 0.6  # share of the peak that is kept
    anneal: float = 0.1  # share of the steps; 0: none, the constant rate lasts to the end
    floor: float = 0.05  # share of the peak towards which the anneal goes

    def __post_init__(self) -> None:
        shares = (self.warmup, self.cooldown, self.anneal)
        if min(shares) < 0 or sum(shares) > 1:
            raise UsageError(
                f"warmup is {self.warmup}, cooldown {self.cooldown} and anneal {self.anneal}",
                allowed="shares of the steps that sum to at most 1",
            )
        if not 0 < self.floor <= self.constant <= 1:
            raise UsageError(
                f"constant is {self.constant} and floor {self.floor}",
                allowed="shares of the peak rate, above 0 and at most 1, the floor not above the constant",
            )

    def __call__(self, step: int, steps: int) -> float:
        warm, cool, anneal = (round(share * steps) for share in (self.warmup, self.cooldown, self.anneal))
        if step < warm:
            return (step + 1) / warm
        cooled = min(1.0, (step - warm) / cool) if cool else 1.0
        if cooled < 1:
            return self.constant + (1 - self.constant) * (1 + math.cos(math.pi * cooled)) / 2
        done = max(0, min(step, steps - 1) - (steps - anneal) + 1)
        return self.constant * (self.floor / self.constant) ** (done / (anneal + 1) if anneal else 0.0)
