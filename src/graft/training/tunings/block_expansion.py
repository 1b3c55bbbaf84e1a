"""New blocks between the old ones, which stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError
from graft.training.tunings.contract import Needs

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class BlockExpansion:
    """New blocks learn the new text, and the old ones stay to the bit.

    A copy of a block is inserted behind it, evenly spread over the depth, with the last matrix of its attention and of
    its MLP at zero, so the deeper model begins with the base's own logits; only the copies train. The saved model is a
    plain one of its type with more layers. Source: Wu et al. 2024 (arXiv 2401.02415, LLaMA Pro: 8 copies for 32
    blocks). What it costs stays: every later token passes through the new blocks too.
    """

    blocks: int = 2  # how many are inserted, at most as many as there are

    def needs(self) -> Needs:
        return Needs(reshapes=True)

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise UsageError(f"blocks is {self.blocks}", allowed="1 or more")

    def apply(self, model: Model) -> Model:
        """Errors: UsageError for a model with fewer blocks, or of a type that copies would change."""
        from graft.models.forward.blocks import insert_silent

        model.hf.requires_grad_(False)
        for block in insert_silent(model, self.blocks):
            block.requires_grad_(True)
        return model

    def fold(self, model: Model) -> Model:
        return model
