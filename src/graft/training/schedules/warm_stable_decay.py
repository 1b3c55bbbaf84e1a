"""Warm up, stay, and decay at the end."""

from __future__ import annotations

from dataclasses import dataclass

from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class WarmStableDecay:
    """Linear warm-up, then the peak rate, then a linear decay to `floor` over the last `decay` share of the steps.

    Source: the warm-up-stable-decay schedule of MiniCPM (Hu et al. 2024, arXiv 2404.06395); its decay was
    exponential, the linear form is the one most used since.
    """

    warmup: float = 0.05  # share of the steps
    decay: float = 0.2  # share of the steps
    floor: float = 0.1  # share of the peak towards which the decay goes

    def __post_init__(self) -> None:
        if min(self.warmup, self.decay) < 0 or self.warmup + self.decay > 1:
            raise UsageError(
                f"warmup is {self.warmup} and decay is {self.decay}",
                allowed="shares of the steps that sum to at most 1",
            )
        if not 0 <= self.floor <= 1:
            raise UsageError(f"floor is {self.floor}", allowed="a share of the peak rate, 0 to 1")

    def __call__(self, step: int, steps: int) -> float:
        warm, decay = round(self.warmup * steps), round(self.decay * steps)
        if step < warm:
            return (step + 1) / warm
        done = min(step, steps - 1) - (steps - decay)
        return 1.0 if done < 0 or not decay else 1 - (1 - self.floor) * (done + 1) / (decay + 1)
