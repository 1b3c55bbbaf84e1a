"""Low-rank adapters beside the frozen weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError
from graft.training.tunings.contract import Needs

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: every chosen layer learns a product of two thin matrices, and its weight stays.

    y = W x + scale * B A dropout(x), A of rank x inputs drawn at random (He's uniform bounds), B of outputs x rank
    zero, so training starts at the base's own output; scale = alpha / rank, rank-stabilised alpha / sqrt(rank).
    After training scale * B A is added to W. Source: Hu et al. 2021 (arXiv 2106.09685), Kalajdzievski 2023 (arXiv
    2312.03732) for `rank_stabilised`; computed by peft. Experts that a model keeps as one stack of matrices are no
    linear layers and get no adapter, which a note says. A layer whose weight is tied to another's takes none either.
    Adapters bear a higher rate than training all weights does: on the embedded base and its code three times the
    automatic rate was the best of 1, 3, 10 and 20 times, and 20 times diverged.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0  # of what goes into A
    targets: tuple[str, ...] = ()  # layers by name or pattern; none: every linear layer but the head
    also: tuple[str, ...] = ()  # weights by name or pattern that train in full beside the adapters
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise UsageError(f"rank is {self.rank} and alpha {self.alpha:g}", allowed="1 or more, and more than 0")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}", allowed="a share, 0 or more and below 1")

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
            dora=False,
        )

    def fold(self, model: Model) -> Model:
        from graft.models.edit.peft_adapters import fold

        return fold(model)
