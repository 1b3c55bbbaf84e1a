"""Encoder-decoders: models that read with one half and write with the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from graft.core.config.errors import UsageError
from graft.core.models.architectures import Kind
from graft.core.models.base_model import Base
from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally
from graft.core.tokens.special_tokens import sentinel_ids, special_ids
from graft.models.forward.encoder import TURNS, before_head
from graft.models.forward.model import Model, TargetScores
from graft.models.losses.token_losses import score_and_best, weighted_sums
from graft.packing.batch import Batch
from graft.packing.span_corruption import Corrupted, Halves, corrupt, pieces_of, stack, text_of

MEAN_SPAN = 3  # tokens of a hidden span in scoring
PIECES = 16  # corrupted pieces run at once in scoring


@dataclass(frozen=True)
class EncoderDecoder:
    """The encoder reads a piece with spans hidden, the decoder writes the spans.

    There are no hidden states of a packed row; `written` has those of the decoder.
    Scores: every word of a piece is hidden once, in one of TURNS passes; its text is cut into spans of 1 to 5 words
    (3 on average) by a draw from its length alone, and every TURNS-th span is hidden together. Nats are -log p of the
    word given the piece around the hidden spans, the spans before, and its own beginning. Sentinels and marks are
    not asked for, nor spans of a pass for which no sentinel is left. A sample is the first pass.
    """

    base: Base  # for its tokenizer: sentinels and marks
    kind: Kind = "encoder-decoder"
    ahead: int = 1

    @property
    def measure(self) -> str:
        return f"nats of words in spans of {MEAN_SPAN} on average, one span in {TURNS} hidden at a time"

    def hidden(self, model: Model, batch: Batch) -> Tensor:
        """Errors: UsageError, always."""
        raise UsageError(
            f"{model.hf.config.model_type}: a model that reads with one half and writes with the other has no hidden "
            "states of a row of text",
            do="train it with objective denoise",
        )

    def written(self, model: Model, halves: Halves) -> Tensor:
        """hidden_PUD of the decoder where it is about to write writes_PU: what the head projects."""
        start = getattr(model.hf.config, "decoder_start_token_id", None)
        shifted_PU = halves.writes_PU.roll(1, 1)
        shifted_PU[:, :1] = model.hf.config.pad_token_id if start is None else start

        def run(reads_PL: Tensor, seen_PL: Tensor, shifted_PU: Tensor) -> Tensor:
            return before_head(
                model.hf,
                input_ids=reads_PL,
                attention_mask=seen_PL.long(),
                decoder_input_ids=shifted_PU,
                use_cache=False,
            )

        with model.autocast():
            if model.fills:
                return run(halves.reads_PL, halves.seen_PL, shifted_PU)
            made = [  # one text at a time, without a filler
                run(reads_L[None, seen_L], seen_L[None, seen_L], shifted_U[None, : max(1, int(counts_U.sum()))])[0]
                for reads_L, seen_L, shifted_U, counts_U in zip(
                    halves.reads_PL, halves.seen_PL, shifted_PU, halves.counts_PU > 0, strict=True
                )
            ]
            full = halves.writes_PU.shape[1]
            return torch.stack([torch.nn.functional.pad(one_UD, (0, 0, 0, full - len(one_UD))) for one_UD in made])

    @torch.no_grad()
    def scores(self, model: Model, batch: Batch, sample: bool) -> TargetScores:
        """TURNS passes over pieces that are one token longer than their pairs."""
        shape = batch.targets_BT.shape
        nats_N = torch.zeros(batch.targets_BT.numel(), device=batch.targets_BT.device)
        asked_N, best_N = (torch.zeros_like(nats_N, dtype=torch.bool) for _ in range(2))
        made = sorted(self._turns(batch, sample), key=lambda piece: len(piece.reads_L))
        for first in range(0, len(made), PIECES):
            few = made[first : first + PIECES]
            halves = stack(few, [0] * len(few)).to(nats_N.device)
            word_PU = halves.target_PU >= 0
            hidden_KD = self.written(model, halves)[word_PU]
            place_K = halves.target_PU[word_PU]
            nats_N[place_K], best_N[place_K] = score_and_best(hidden_KD, model.head, halves.writes_PU[word_PU])
            asked_N[place_K] = True
        return TargetScores(nats_N.view(shape), asked_N.view(shape), best_N.view(shape))

    def logits(self, model: Model, tokens_PT: Tensor) -> Tensor:
        """Of writing the texts that were read."""
        return model.hf(input_ids=tokens_PT, decoder_input_ids=tokens_PT, use_cache=False).logits

    def _turns(self, batch: Batch, sample: bool) -> Iterator[Corrupted]:
        """Every piece, once for each pass that hides something of it; place_U counts the batch's targets."""
        weights_N = batch.weights_BT.flatten().cpu().numpy()
        for first, tokens_L in pieces_of(batch, last=True):
            target_L = np.arange(first - 1, first - 1 + len(tokens_L))  # the token at j + 1 is the target of pair j
            asked_L = ~np.isin(tokens_L, self.special) & (target_L >= first)
            asked_L &= weights_N[np.maximum(target_L, first)] > 0
            if not asked_L.any():
                continue
            text = text_of(tokens_L, self.base.marks)
            tokens_L, asked_L, target_L = tokens_L[text], asked_L[text], target_L[text]
            turn_L = _turns_of(len(tokens_L))
            for turn in range(1 if sample else TURNS):
                noise_L = asked_L & (turn_L == turn)
                opens_L = noise_L & ~np.concatenate([[False], noise_L[:-1]])
                noise_L &= opens_L.cumsum() <= len(self.sentinels)
                if noise_L.any():
                    reads, writes, place = corrupt(tokens_L, noise_L, self.sentinels, self.base.marks.end)
                    yield Corrupted(reads, writes, np.where(place < 0, -1, target_L[place]))

    @cached_property
    def sentinels(self) -> list[int]:
        return sentinel_ids(self.base)

    @cached_property
    def special(self) -> list[int]:
        return special_ids(self.base)


def written_sums(model: Model, halves: Halves, num_rows: int) -> Tally[Tensor]:
    """Nats and number of what is written, by the row that it stood in; with gradients.

    Where there is nothing to write the model runs all the same: ranks that work together do so equally often.
    """
    assert isinstance(model.reading, EncoderDecoder)
    if not len(halves.row_P):
        nothing = stack([Corrupted(np.zeros(1), np.zeros(1), np.full(1, -1))], [0])
        halves = replace(nothing, counts_PU=torch.zeros(1, 1)).to(model.device)
    hidden_PUD = model.reading.written(model, halves)
    sums = weighted_sums(hidden_PUD, model.head, halves.writes_PU, halves.counts_PU)
    by_piece = sums.total_B, halves.counts_PU.sum(1)
    total_B, count_B = (each.new_zeros(num_rows).index_add(0, halves.row_P, each) for each in by_piece)
    return Tally(total_B, count_B)


def _turns_of(length: int) -> np.ndarray:
    """In which pass each place of a piece is hidden: span after span, drawn by the length alone."""
    draw = stream(0, "spans", length)
    spans = draw.integers(1, 2 * MEAN_SPAN, size=length)  # 1 to 5, more than enough of them
    return np.repeat((np.arange(length) + int(draw.integers(TURNS))) % TURNS, spans)[:length]
