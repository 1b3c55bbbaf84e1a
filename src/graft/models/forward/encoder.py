"""Encoders: models that see both sides of a word and fill in those that were hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.core.config.errors import UsageError
from graft.core.models.architectures import Kind
from graft.core.models.base_model import Base
from graft.core.stats.random_streams import stream
from graft.core.tokens.special_tokens import mask_id, special_ids
from graft.models.forward.model import Model, TargetScores
from graft.models.forward.pieces import Width, by_length, fills_rows, put_back, widths_of
from graft.models.losses.token_losses import score_and_best
from graft.packing.batch import Batch

TURNS = 7  # passes in which every word is hidden once: one in seven at a time is near the 15 % of training


@dataclass(frozen=True)
class Encoder:
    """Each token sees all of its piece and nothing else: pieces run as rows of their own, filled up behind a mask.

    `hidden` is what enters the last linear layer: of BERT's head, the part before it (a linear layer, an activation
    and a norm) has run. Positions are the model's own, from 0 in each piece.

    Scores: each word of a piece is hidden once, in one of TURNS passes, one in TURNS at a time, and read as the mask
    token; its nats are -log p of the word in that place. Marks and special tokens are not asked for. Which words go
    together is drawn by the length of the piece alone, so a text scores the same in any company. A sample is the
    first pass.
    """

    base: Base  # for its tokenizer: what hides a word, and what is never hidden
    kind: Kind = "encoder"
    ahead: int = 1

    @property
    def measure(self) -> str:
        return f"nats of words hidden in turn, one in {TURNS} at a time, with all others of the piece in sight"

    def hidden(self, model: Model, batch: Batch) -> Tensor:
        tokens_N = batch.tokens_BT.flatten()
        widths = list(widths_of(batch, model.longest))
        return put_back(batch, widths, [self._run(model, tokens_N[one.place_SW], one.real_SW) for one in widths])

    @torch.no_grad()
    def scores(self, model: Model, batch: Batch, sample: bool) -> TargetScores:
        """TURNS passes over pieces that are one token longer than their pairs: their last target is read too."""
        nats_N = torch.zeros(batch.targets_BT.numel(), device=batch.targets_BT.device)
        asked_N, best_N = (torch.zeros_like(nats_N, dtype=torch.bool) for _ in range(2))
        for width in widths_of(batch, model.longest):
            pieces = longer(batch, width)
            special_SU = torch.isin(pieces.tokens_SU, self._special.to(pieces.tokens_SU.device))
            asked_SU = pieces.counts_SU & ~special_SU
            read_SU = pieces.read_SU & ~(special_SU & pieces.last_SU)  # as in training: an end mark is never read
            turn_SU = _turns(pieces.length_S.tolist(), asked_SU.shape[1]).to(asked_SU.device)
            for turn in range(1 if sample else TURNS):
                hide_SU = asked_SU & (turn_SU == turn)
                if not hide_SU.any():
                    continue
                hidden_SUD = self._run(model, pieces.tokens_SU.masked_fill(hide_SU, self._mask), read_SU)
                target = pieces.target_SU[hide_SU]
                words_K = pieces.tokens_SU[hide_SU]
                nats_N[target], best_N[target] = score_and_best(hidden_SUD[hide_SU], model.head, words_K)
                asked_N[target] = True
        return TargetScores(*(found_N.view(batch.targets_BT.shape) for found_N in (nats_N, asked_N, best_N)))

    def logits(self, model: Model, tokens_PT: Tensor) -> Tensor:
        return model.hf(input_ids=tokens_PT).logits

    def _run(self, model: Model, tokens_SW: Tensor, real_SW: Tensor) -> Tensor:
        """Errors: UsageError where a piece is longer than what the model reads."""
        longest = model.longest
        if longest is not None and tokens_SW.shape[1] > longest:
            raise UsageError(
                f"{tokens_SW.shape[1]} tokens in a row, and {model.hf.config.model_type} reads {longest}",
                do=f"set train.sequence_length and evaluate.window to {longest} or less",
            )

        def run(tokens_SW: Tensor, real_SW: Tensor) -> Tensor:
            return before_head(model.hf, input_ids=tokens_SW, attention_mask=real_SW.long())

        with model.autocast():
            return (run if fills_rows(model, tokens_SW.shape[1]) else partial(by_length, run))(tokens_SW, real_SW)

    @cached_property
    def _mask(self) -> int:
        return mask_id(self.base)

    @cached_property
    def _special(self) -> Tensor:
        return torch.tensor(special_ids(self.base), dtype=torch.long)


def before_head(hf: PreTrainedModel, **inputs: Any) -> Tensor:
    """What enters the last linear layer, whatever a family does between its body and that.

    For the length of the call the layer of this one model ends the forward pass: what a family does behind it, such as
    adding a row of zeros, would be done to hidden states.
    """
    layer: Any = hf.get_output_embeddings()

    def reached(hidden: Tensor) -> Tensor:
        raise _Reached(hidden)

    layer.forward = reached  # an attribute of this instance, in front of its class's method
    try:
        return hf(**inputs).logits  # of a family that has no such layer
    except _Reached as found:
        return found.hidden
    finally:
        del layer.forward


class _Reached(Exception):
    """The last layer of a model, with what enters it."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


@dataclass(frozen=True, eq=False)
class Longer:
    """S pieces with their last target behind them, filled up to one width U."""

    tokens_SU: Tensor
    read_SU: Tensor  # bool: no filler
    last_SU: Tensor  # bool: the last token of its piece
    counts_SU: Tensor  # bool: the target of a pair that has a weight; never the first column
    target_SU: Tensor  # the same token's place among the batch's B * T targets; of no meaning in the first column
    length_S: Tensor  # tokens of each


def longer(batch: Batch, width: Width) -> Longer:
    """The pieces of one width as they stood in the document: tokens, then the target of the last of them.

    Pieces in which nothing counts (what fills a row up) are left out.
    """
    counts_S = (batch.weights_BT.flatten()[width.place_SW] > 0).any(1)
    place_SW, real_SW = width.place_SW[counts_S], width.real_SW[counts_S]
    longest = int(real_SW.sum(1).max()) if len(real_SW) else 0
    place_SW, real_SW = place_SW[:, :longest], real_SW[:, :longest]
    read_SU = torch.nn.functional.pad(real_SW, (1, 0), value=True)
    target_SU = torch.cat([width.place_SW[counts_S, :1], place_SW], 1)  # the token at j + 1 is the target of pair j
    tokens_SU = batch.targets_BT.flatten()[target_SU]
    tokens_SU[:, 0] = batch.tokens_BT.flatten()[target_SU[:, 0]]
    counts_SU = read_SU & (batch.weights_BT.flatten()[target_SU] > 0)
    counts_SU[:, 0] = False
    last_SU = read_SU & ~torch.nn.functional.pad(read_SU[:, 1:], (0, 1), value=False)
    return Longer(tokens_SU, read_SU, last_SU, counts_SU, target_SU, read_SU.sum(1))


def _turns(lengths_S: list[int], width: int) -> Tensor:
    """turn_SU: in which pass a place is hidden."""
    turn_SU = np.zeros((len(lengths_S), width), np.int64)
    for s, length in enumerate(lengths_S):
        turn_SU[s, :length] = _turns_of(length)
    return torch.from_numpy(turn_SU)


@lru_cache(maxsize=4096)
def _turns_of(length: int) -> np.ndarray:
    return stream(0, "turns", length).permutation(length) % TURNS
