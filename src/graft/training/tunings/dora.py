"""Low-rank adapters for the direction of each weight, and a length of its own for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.training.tunings.contract import Needs
from graft.training.tunings.lora import Lora

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class Dora:
    """LoRA that learns directions, with the length of every output's weights learned apart.

    W' = m * (W + scale * B A) / |W + scale * B A| row by row, m starting at |W|, scale = alpha / rank (rank-stabilised:
    alpha / sqrt(rank)). The length in the denominator carries no gradient. Source: Liu et al. 2024 (arXiv
    2402.09353, eq. 5 and section 4.3); computed by peft. Slower than LoRA: every step makes each whole weight once.
    Under bf16 those lengths are of a product in 16 bits, while the merge computes in float32.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0  # of what goes into A
    targets: tuple[str, ...] = ()  # layers by name or pattern; none: every linear layer but the head
    also: tuple[str, ...] = ()  # weights by name or pattern that train in full beside the adapters
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        Lora(self.rank, self.alpha, self.dropout)  # its errors are ours

    def needs(self) -> Needs:
        return Needs(dropout=self.dropout)

    def apply(self, model: Model) -> Model:
        from graft.models.edit.peft_adapters import add_lora

        return add_lora(
            model,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets,
            also=self.also,
            rank_stabilised=self.rank_stabilised,
            dora=True,
        )

    def fold(self, model: Model) -> Model:
        from graft.models.edit.peft_adapters import fold

        return fold(model)
