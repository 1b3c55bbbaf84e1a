"""The rows of tokens that were added train, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class NewRows:
    """Embedding and head rows of added tokens alone: the rest of the model stays as it is, to the bit.

    For a model whose vocabulary was just extended: its new rows begin as guesses, and while they are wrong their
    gradients would disturb all that the model knows. Trained first, alone, they need few tokens and forget nothing;
    text without new tokens changes only by the share of probability that these get.
    The published recipes (e.g. Chinese-LLaMA, Cui et al. 2023, arXiv 2304.08177, stage 1) train whole embedding
    matrices; this trains the rows from `first` on, with the head's biases where it has them.
    """

    first: int | None = None  # id of the first new token; None: as the model's config.json says

    def __post_init__(self) -> None:
        if self.first is not None and self.first < 0:
            raise UsageError(f"first is {self.first}", allowed="an id, or nothing for what the model's config says")

    def apply(self, model: Model) -> Model:
        from graft.models.edit.embedding_rows import open_rows

        open_rows(model, self.first)
        return model

    def fold(self, model: Model) -> Model:
        from graft.models.edit.embedding_rows import close_rows

        close_rows(model)
        return model
