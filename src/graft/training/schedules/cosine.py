"""Half a cosine from the peak to the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class Cosine:
    """After a linear warm-up, floor + (1 - floor) * (1 + cos(pi * share of the rest that is done)) / 2.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts. It fits one length of run only: another
    length is another schedule (see `warm_stable_decay` for one that can be cut).
    """

    warmup: float = 0.05  # share of the steps
    floor: float = 0.1  # share of the peak that is left at the end

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup is {self.warmup}", allowed="a share of the steps, 0 or more and below 1")
        if not 0 <= self.floor <= 1:
            raise UsageError(f"floor is {self.floor}", allowed="a share of the peak rate, 0 to 1")

    def __call__(self, step: int, steps: int) -> float:
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / warm
        done = min(step, steps - 1) - warm
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done / max(1, steps - warm))) / 2
