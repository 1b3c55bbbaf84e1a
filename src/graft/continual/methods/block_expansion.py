"""New blocks for each domain; the old ones stay."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Turn, TurnPlan, check_factor
from graft.training.tunings import block_expansion


@dataclass(frozen=True)
class BlockExpansion:
    """Each domain trains blocks of its own, put between those that are there, which stay to the bit.

    So the model grows with every turn, and what came before is kept as far as the new blocks let it through. Source:
    Wu et al. 2024 (arXiv 2401.02415), who expand once; once per domain is the natural reading for a stream.
    """

    blocks: int = 1  # per turn
    rate: float = 1.0  # times the recipe's learning rate

    def __post_init__(self) -> None:
        check_factor("rate", self.rate)
        assert self._tuning  # its errors are ours

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(tuning=self._tuning, rate=self.rate)

    @property
    def _tuning(self) -> block_expansion.BlockExpansion:
        return block_expansion.BlockExpansion(blocks=self.blocks)
