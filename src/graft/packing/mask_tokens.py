"""Hidden words: which tokens of a packed row are to be filled in, and what is read in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from graft.core.stats.random_streams import stream
from graft.packing.batch import Batch
from graft.packing.wide import widest


@dataclass(frozen=True, eq=False)
class Words:
    """What is hidden of a row, drawn from (seed, row_B) alone.

    Of the row's E tokens that may be hidden - those that count and are no special token - round(rate * E) are, and at
    least one. Of each hidden token, alone: with chance `keep` it is read as it is, with chance `swap` as another word
    drawn evenly from the vocabulary, else as the mask token.
    """

    rate: float
    keep: float
    swap: float
    seed: int
    mask: int
    special: Sequence[int]
    vocabulary: int
    score_V: Tensor | None = None  # the tokens of the largest score are hidden, by lot among equals; None: by lot

    def __post_init__(self) -> None:
        plain_V = np.ones(self.vocabulary, bool)
        plain_V[[number for number in self.special if number < self.vocabulary]] = False
        object.__setattr__(self, "_plain_V", torch.from_numpy(plain_V))
        object.__setattr__(self, "_words", torch.from_numpy(np.flatnonzero(plain_V)))

    def hide(self, batch: Batch) -> Batch:
        """The batch as it is read; targets are the tokens that stood there, weights 1 for what was hidden, else 0."""
        device = batch.tokens_BT.device
        lot_BT, fate_BT, word_BT = self._draws(batch).unbind(1)
        eligible_BT = self._plain_V.to(device)[batch.tokens_BT] & (_own_weights(batch) > 0)  # type: ignore[attr-defined]
        order_BT = lot_BT
        if self.score_V is not None:
            score_BT = self.score_V.to(device)[batch.tokens_BT]
            by_lot_BT = lot_BT.argsort(1)
            by_score_BT = score_BT.gather(1, by_lot_BT).argsort(dim=1, descending=True, stable=True)
            order_BT = by_lot_BT.gather(1, by_score_BT).argsort(1).to(lot_BT.dtype)
        place_BT = order_BT.masked_fill(~eligible_BT, torch.inf).argsort(dim=1, stable=True).argsort(1)
        eligible_B1 = eligible_BT.sum(1, keepdim=True)
        hidden_B1 = (self.rate * eligible_B1).round().clamp(min=1).minimum(eligible_B1)
        hidden_BT = place_BT < hidden_B1
        words = self._words.to(device)  # type: ignore[attr-defined]
        other_BT = words[(word_BT * len(words)).long().clamp(max=len(words) - 1)]
        read_BT = torch.where(fate_BT < self.keep + self.swap, other_BT, self.mask)
        read_BT = torch.where(hidden_BT & (fate_BT >= self.keep), read_BT, batch.tokens_BT)
        return replace(batch, tokens_BT=read_BT, targets_BT=batch.tokens_BT, weights_BT=hidden_BT.float())

    def _draws(self, batch: Batch) -> Tensor:
        """Three numbers in 0 .. 1 for every place of every row, [B, 3, T]."""
        width = batch.tokens_BT.shape[1]
        draws = [stream(self.seed, "masked", row).random((3, width)) for row in batch.row_B.tolist()]
        return widest(np.stack(draws), batch.tokens_BT.device)


def _own_weights(batch: Batch) -> Tensor:
    """How much each token counts itself: as the target of the one before it; a piece's first as its own target."""
    before_BT = batch.weights_BT.roll(1, 1)
    return torch.where(batch.starts_BT, batch.weights_BT, before_BT)
