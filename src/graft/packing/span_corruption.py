"""Span corruption: which tokens of a piece are hidden, and what is then read and written. T5's, arXiv 1910.10683."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from graft.core.models.base_model import BoundaryTokens
from graft.core.stats.random_streams import stream
from graft.packing.batch import Batch


class Corrupted(NamedTuple):
    """A piece of text in two halves; place_U: which token of the piece a written one is, -1 where it is none."""

    reads_L: np.ndarray
    writes_U: np.ndarray
    place_U: np.ndarray


@dataclass(frozen=True)
class Noise:
    """Which tokens are hidden: round(rate * length) of them in round(hidden / mean_span) spans, both at least 1.

    Hidden and seen stretches take turns, a seen one first; how the tokens fall into them is drawn evenly from all
    ways there are, as in T5's released code (random_spans_noise_mask). So the last token is always hidden, and a
    piece so short that it gets one span has its end hidden. A piece of one token hides nothing.
    """

    rate: float = 0.15
    mean_span: float = 3.0

    def draw(self, length: int, most_spans: int, generator: np.random.Generator) -> np.ndarray:
        """noise_L, bool. most_spans: as many as there are sentinels; where that is too few, spans are longer."""
        if length < 2:
            return np.zeros(length, bool)
        hidden = min(max(round(length * self.rate), 1), length - 1)
        spans = min(max(round(hidden / self.mean_span), 1), most_spans, length - hidden)
        lengths = np.empty(2 * spans, np.int64)
        lengths[0::2] = _segments(length - hidden, spans, generator)
        lengths[1::2] = _segments(hidden, spans, generator)
        return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def _segments(total: int, parts: int, generator: np.random.Generator) -> np.ndarray:
    """`parts` lengths of 1 or more that sum to `total`, every way equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(tokens_L: np.ndarray, noise_L: np.ndarray, sentinels: Sequence[int], end: int | None) -> Corrupted:
    """Reads: the text with each hidden span as its sentinel. Writes: each sentinel with its span.

    Both close with the end mark; where the tokenizer has none, what is written closes with the next sentinel, if one
    is left. Needs as many sentinels as there are spans.
    """
    opens_L = noise_L & ~np.concatenate([[False], noise_L[:-1]])
    number_L = np.cumsum(opens_L) - 1
    sentinel_L = np.asarray(sentinels)[np.maximum(number_L, 0)]
    reads = np.where(noise_L, sentinel_L, tokens_L)[~noise_L | opens_L]
    hidden = np.flatnonzero(noise_L)
    spans = np.flatnonzero(opens_L)
    before = np.searchsorted(hidden, spans)  # where each sentinel stands among what was hidden
    writes = np.insert(tokens_L[hidden], before, sentinel_L[spans])
    place = np.insert(hidden, before, -1)
    close = [end] if end is not None else list(sentinels[len(spans) : len(spans) + 1])
    if end is not None:
        reads = np.append(reads, end)
    return Corrupted(reads, np.append(writes, close).astype(np.int64), np.append(place, [-1] * len(close)))


@dataclass(frozen=True, eq=False)
class Halves:
    """P corrupted pieces, filled up on the right to L tokens to read and U to write.

    reads_PL, writes_PU int64; seen_PL bool: no filler; counts_PU float32: 1 for what is written, 0 for fillers;
    target_PU int64: the written token's place among the B * T targets of a batch, -1 where it is none of them;
    row_P int64: the row of the batch that the piece stood in.
    """

    reads_PL: Tensor
    seen_PL: Tensor
    writes_PU: Tensor
    counts_PU: Tensor
    target_PU: Tensor
    row_P: Tensor

    def to(self, device: torch.device | str) -> Halves:
        return Halves(*(value.to(device) for value in vars(self).values()))


def stack(pieces: Sequence[Corrupted], rows: Sequence[int]) -> Halves:
    """Pieces side by side; target_PU holds their place_U. rows: of each."""
    shape_PL, shape_PU = ((len(pieces), max((len(piece[half]) for piece in pieces), default=0)) for half in (0, 1))
    reads_PL, seen_PL = np.zeros(shape_PL, np.int64), np.zeros(shape_PL, bool)
    writes_PU, target_PU = np.zeros(shape_PU, np.int64), np.full(shape_PU, -1)
    counts_PU = np.zeros(shape_PU, np.float32)
    for p, (reads, writes, place) in enumerate(pieces):
        reads_PL[p, : len(reads)], seen_PL[p, : len(reads)] = reads, True
        writes_PU[p, : len(writes)], target_PU[p, : len(writes)] = writes, place
        counts_PU[p, : len(writes)] = 1
    arrays = (reads_PL, seen_PL, writes_PU, counts_PU, target_PU, np.asarray(rows, np.int64))
    return Halves(*map(torch.from_numpy, arrays))


def halves_of(batch: Batch, noise: Noise, seed: int, sentinels: Sequence[int], marks: BoundaryTokens) -> Halves:
    """Every piece of a batch that counts, corrupted by a draw from (seed, row, which piece of the row it is)."""
    window = batch.tokens_BT.shape[1]
    weights_N, numbers = batch.weights_BT.flatten().cpu().numpy(), batch.row_B.tolist()
    pieces: list[Corrupted] = []
    rows: list[int] = []
    piece = row = -1
    for first, tokens_L in pieces_of(batch, last=False):
        piece = piece + 1 if row == first // window else 0
        row = first // window
        if not weights_N[first : first + len(tokens_L)].any():
            continue
        text_L = tokens_L[text_of(tokens_L, marks)]
        noise_L = noise.draw(len(text_L), len(sentinels), stream(seed, "denoise", numbers[row], piece))
        if noise_L.any():
            pieces.append(corrupt(text_L, noise_L, sentinels, marks.end))
            rows.append(row)
    return stack(pieces, rows).to(batch.tokens_BT.device)


def pieces_of(batch: Batch, *, last: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(place among the B * T tokens, tokens) of every piece; last: with the target of its last token behind it."""
    tokens_N, targets_N = (each.flatten().cpu().numpy() for each in (batch.tokens_BT, batch.targets_BT))
    starts = batch.starts_BT.flatten().nonzero().squeeze(1).tolist()
    for first, stop in zip(starts, [*starts[1:], len(tokens_N)], strict=True):
        piece = tokens_N[first:stop]
        yield first, np.append(piece, targets_N[stop - 1]) if last else piece


def text_of(tokens_L: np.ndarray, marks: BoundaryTokens) -> slice:
    """Where the text of a piece is, without the marks that stand around a document."""
    marked = np.isin(tokens_L, [mark for mark in (marks.start, marks.end) if mark is not None])
    first = int(marked[:1].any())
    return slice(first, max(first, len(tokens_L) - int(marked[-1:].any())))
