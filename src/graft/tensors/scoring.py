"""Scoring: the nats of every token of chosen documents, packed, without gradients."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from graft.core.evidence import Evidence
from graft.core.shards import TokenSource
from graft.core.tally import Tally
from graft.tensors.batch import Batch
from graft.tensors.model import Model
from graft.tensors.nats import score
from graft.tensors.sampler import Piece, pack

BLOCK = 4096  # pieces packed together


def choose_documents(source: TokenSource, split: str, max_tokens: int) -> np.ndarray:
    """Documents of a split in source order, as many as fit into `max_tokens` targets (at least one; 0: all of them).

    When not all fit, every k-th is taken, so that the choice spreads over the source.
    """
    documents = source.documents(split)
    pairs = source.pairs_D[documents]
    documents, pairs = documents[pairs > 0], pairs[pairs > 0]
    if max_tokens and pairs.sum() > max_tokens:
        stride = int(np.ceil(pairs.sum() / max_tokens))
        documents, pairs = documents[::stride], pairs[::stride]
        documents = documents[: max(1, int(np.searchsorted(np.cumsum(pairs), max_tokens, side="right")))]
    return documents


def score_documents(
    model: Model, source: TokenSource, documents: np.ndarray, *, window: int, rows: int
) -> Iterator[tuple[Piece, np.ndarray]]:
    """(piece, its nats in float32) for every piece of the documents, in no particular order.

    A document longer than the window is cut from its own beginning into windows that do not overlap, each predicted
    from nothing but the token before it: the rolling log-likelihood of the usual evaluation harness with a context
    of one. How pieces share rows does not change a number.
    """
    pieces = [
        Piece(source.name, int(d), first, min(first + window, int(source.pairs_D[d])))
        for d in documents
        for first in range(0, int(source.pairs_D[d]), window)
    ]
    for block in range(0, len(pieces), BLOCK):
        packed = fit(pieces[block : block + BLOCK], window)
        for first in range(0, len(packed), rows):
            yield from _score_rows(model, source, packed[first : first + rows], window)


@torch.no_grad()
def _score_rows(
    model: Model, source: TokenSource, rows: list[list[Piece]], window: int
) -> Iterator[tuple[Piece, np.ndarray]]:
    longest = max(sum(piece.last - piece.first for piece in row) for row in rows)
    width = min(window, -(-longest // 64) * 64)  # short documents alone need no full window
    stretches = [[source.tokens(p.document, p.first, p.last + 1) for p in row] for row in rows]
    batch = pack(stretches, [0] * len(rows), width).to(model.device)
    nats_BT = score(model.hidden(batch), model.head, batch.targets_BT).cpu().numpy()
    for b, row in enumerate(rows):
        at = 0
        for piece in row:
            end = at + piece.last - piece.first
            yield piece, nats_BT[b, at:end]
            at = end


def fit(pieces: Sequence[Piece], window: int) -> list[list[Piece]]:
    """Rows of whole pieces, best fit by falling length: each piece goes where it leaves the least room."""
    rows: list[list[Piece]] = []
    room: list[tuple[int, int]] = []  # (room left, row), sorted
    for piece in sorted(pieces, key=lambda p: (p.first - p.last, p.document, p.first)):
        size = piece.last - piece.first
        slot = bisect_left(room, (size, -1))
        left, row = room.pop(slot) if slot < len(room) else (window, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(piece)
        insort(room, (left - size, row))
    return rows


def pack_documents(source: TokenSource, documents: np.ndarray, window: int) -> Batch:
    """The beginnings of some documents in rows, for a look at the model."""
    pieces = [Piece(source.name, int(d), 0, min(window, int(source.pairs_D[d]))) for d in documents]
    rows = [[source.tokens(p.document, p.first, p.last + 1) for p in row] for row in fit(pieces, window)]
    return pack(rows, [0] * len(rows), window)


def mean_nats(model: Model, source: TokenSource, documents: np.ndarray, *, window: int, rows: int) -> Tally[float]:
    """Total nats and number of targets over whole documents."""
    total, count = 0.0, 0
    for _, nats in score_documents(model, source, documents, window=window, rows=rows):
        total, count = total + float(nats.sum(dtype=np.float64)), count + len(nats)
    return Tally(total, float(count))


def gather(source: TokenSource, documents: np.ndarray, scored: Iterator[tuple[Piece, np.ndarray]]) -> Evidence:
    """Scored pieces as evidence, in the order of `documents` (without the vocabulary's texts)."""
    pairs = source.pairs_D[documents]
    bounds = np.concatenate([[0], np.cumsum(pairs)])
    begin = dict(zip(documents.tolist(), bounds[:-1].tolist(), strict=True))
    nats_N = np.full(int(bounds[-1]), np.nan, np.float32)
    for piece, nats in scored:
        at = begin[piece.document]
        nats_N[at + piece.first : at + piece.last] = nats
    assert not np.isnan(nats_N).any() or not len(nats_N), "a target was not scored, or its loss is not a number"
    targets = [np.asarray(source.tokens(int(d), 1)) for d in documents]
    return Evidence(
        source=source.name,
        position_D=source.position_D[documents],
        num_bytes_D=source.num_bytes_D[documents],
        bounds_E=bounds,
        targets_N=np.concatenate([np.zeros(0, np.uint32), *targets]),
        nats_N=nats_N,
    )
