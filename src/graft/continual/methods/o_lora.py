"""A low-rank adapter per domain, held at a right angle to the earlier ones."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Turn, TurnPlan, check_factor
from graft.training.tunings import o_lora


@dataclass(frozen=True)
class OLora:
    """As `lora`, and each adapter is held orthogonal to what those of earlier turns listen to.

    Source: Wang et al. 2023 (arXiv 2310.14152); see the tuning for the penalty and for what is ours.
    """

    rank: int = 16
    alpha: float = 32.0
    penalty_weight: float = 0.5
    rate: float = 3.0

    def __post_init__(self) -> None:
        check_factor("rate", self.rate)
        assert self._tuning(())  # its errors are ours

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(tuning=self._tuning(turn.adapters), rate=self.rate)

    def _tuning(self, earlier: tuple[str, ...]) -> o_lora.OLora:
        return o_lora.OLora(rank=self.rank, alpha=self.alpha, penalty_weight=self.penalty_weight, earlier=earlier)
