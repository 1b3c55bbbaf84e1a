"""A low-rank adapter per domain, merged before the next."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Turn, TurnPlan, check_factor
from graft.training.tunings import lora


@dataclass(frozen=True)
class Lora:
    """Each domain trains a low-rank adapter, which is merged into the weights before the next turn.

    rate: times the recipe's learning rate; adapters bear more (see the tuning).
    """

    rank: int = 16
    alpha: float = 32.0
    rate: float = 3.0

    def __post_init__(self) -> None:
        check_factor("rate", self.rate)
        assert self._tuning  # its errors are ours

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(tuning=self._tuning, rate=self.rate)

    @property
    def _tuning(self) -> lora.Lora:
        return lora.Lora(rank=self.rank, alpha=self.alpha)
