"""Scoring: the nats of every token of chosen documents, packed, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from graft.core.records.evidence import Evidence
from graft.core.stats.evaluation_size import most_of_one
from graft.core.stats.even_sample import golden_order
from graft.core.stats.tally import Tally
from graft.core.tokens.token_shards import TokenSource
from graft.models.forward.model import Model
from graft.models.runtime.numeric_faults import NotFinite, is_memory
from graft.packing.batch import Batch
from graft.packing.rows import Piece, best_fit
from graft.packing.sampler import pack

ROW_TOKENS = 8192  # tokens scored at once
BLOCK = 4096  # pieces packed together


class ScoredPiece(NamedTuple):
    """A piece with what a model made of its n targets."""

    piece: Piece
    nats_n: np.ndarray  # float32; NaN where a target was not asked for
    best_n: np.ndarray  # bool: no token was likelier


@dataclass(frozen=True, eq=False)
class Choice:
    """Which documents are scored, in source order, and how many targets of each, counted from its beginning."""

    documents_D: np.ndarray
    pairs_D: np.ndarray
    cut_D: np.ndarray  # where that is not the whole document

    def __len__(self) -> int:
        return len(self.documents_D)

    @property
    def num_pairs(self) -> int:
        return int(self.pairs_D.sum())


def choose_documents(source: TokenSource, split: str, max_tokens: int) -> Choice:
    """Documents of a split that together have at most `max_tokens` targets (0: all of them, whole).

    Where not all fit whole, none counts for more than `most_of_one` of the limit: of a longer one its beginning is
    scored. So a single long document cannot stand for a split, and no choice is of one document where there are two.
    If they still do not all fit, they are taken in steps of the golden ratio through the source until it is full:
    however many that are, they spread evenly over it.
    """
    documents_D = source.documents(split)
    documents_D = documents_D[(source.pairs_D[documents_D] > 0) & (source.counted_D[documents_D] > 0)]
    whole_D = pairs_D = source.pairs_D[documents_D]
    if max_tokens and pairs_D.sum() > max_tokens:
        pairs_D = np.minimum(pairs_D, most_of_one(max_tokens))
        order = golden_order(len(pairs_D))
        fitting = int(np.searchsorted(np.cumsum(pairs_D[order]), max_tokens, side="right"))
        chosen = np.sort(order[: max(fitting, min(2, len(order)))])
        documents_D, whole_D, pairs_D = documents_D[chosen], whole_D[chosen], pairs_D[chosen]
    return Choice(documents_D, pairs_D, pairs_D < whole_D)


def score_documents(
    model: Model, source: TokenSource, choice: Choice, *, window: int, rows: int, sample: bool = False
) -> Iterator[ScoredPiece]:
    """Every piece of the chosen documents, in no particular order.

    A target that was not asked for is NaN: what does not count in training (all but the answers of a dialogue), marks
    where the model is no decoder, and all but a fixed seventh where a `sample` is enough (see
    graft.models.forward.encoder).

    A document longer than the window is cut from its own beginning into windows that do not overlap, each predicted
    from nothing but the token before it: the rolling log-likelihood of the usual evaluation harness with a context
    of one. How pieces share rows does not change a number. Where memory does not hold `rows` rows, half of them are
    tried. Errors: NotFinite naming the documents whose loss is not a number.
    """
    longest = max(1, window - model.reading.ahead)
    pieces = [
        Piece(source.name, int(d), first, min(first + longest, int(pairs)))
        for d, pairs in zip(choice.documents_D, choice.pairs_D, strict=True)
        for first in range(0, int(pairs), longest)
    ]
    for block in range(0, len(pieces), BLOCK):
        packed = fit(pieces[block : block + BLOCK], window)
        first = 0
        while first < len(packed):
            try:
                scored = list(_score_rows(model, source, packed[first : first + rows], window, sample))
            except (RuntimeError, MemoryError) as error:
                if not is_memory(error) or rows == 1:
                    raise
                rows //= 2
                continue
            yield from scored
            first += rows


@torch.no_grad()
def _score_rows(
    model: Model, source: TokenSource, rows: list[list[Piece]], window: int, sample: bool
) -> Iterator[ScoredPiece]:
    longest = max(sum(piece.last - piece.first for piece in row) for row in rows)
    width = min(window, -(-longest // 64) * 64)  # short documents alone need no full window
    stretches = [[source.tokens(p.document, p.first, p.last + 1) for p in row] for row in rows]
    batch = pack(stretches, [0] * len(rows), width).to(model.device)
    nats_BT, asked_BT, best_BT = (each.cpu().numpy() for each in model.scores(batch, sample=sample))
    _check_finite(source, rows, nats_BT)
    nats_BT = np.where(asked_BT, nats_BT, np.nan)
    for b, row in enumerate(rows):
        at = 0
        for piece in row:
            end = at + piece.last - piece.first
            counts = source.weights(piece.document, piece.first + 1, piece.last + 1) != 0
            yield ScoredPiece(piece, np.where(counts, nats_BT[b, at:end], np.nan), best_BT[b, at:end])
            at = end


def _check_finite(source: TokenSource, rows: list[list[Piece]], nats_BT: np.ndarray) -> None:
    """Errors: NotFinite when the loss of a target is not a number; what fills a row up does not matter."""
    broken: set[tuple[str, int]] = set()
    for nats_T, row in zip(nats_BT, rows, strict=True):
        at = 0
        for piece in row:
            end = at + piece.last - piece.first
            if not np.isfinite(nats_T[at:end]).all():
                broken.add((source.name, int(source.position_D[piece.document])))
            at = end
    if broken:
        raise NotFinite(
            "the model's loss on this text is not a number",
            broken,
            do="look at these places in the text; if nothing is wrong there, the model is: if it was just trained, "
            "train with a lower train.learning_rate or with precision fp32, else fetch its files again",
        )


def fit(pieces: Sequence[Piece], window: int) -> list[list[Piece]]:
    """Rows of whole pieces, the longest first, each where it leaves the least room."""
    placed = sorted(pieces, key=lambda piece: (piece.document, piece.first))
    return [[placed[i] for i in row] for row in best_fit([piece.last - piece.first for piece in placed], window)]


def pack_documents(source: TokenSource, documents: np.ndarray, window: int) -> Batch:
    """The beginnings of some documents in rows, for a look at the model."""
    pieces = [Piece(source.name, int(d), 0, min(window, int(source.pairs_D[d]))) for d in documents]
    rows = [[source.tokens(p.document, p.first, p.last + 1) for p in row] for row in fit(pieces, window)]
    return pack(rows, [0] * len(rows), window)


def mean_nats(
    model: Model,
    source: TokenSource,
    choice: Choice,
    *,
    window: int,
    rows: int,
    heard: Callable[[int], None] = lambda count: None,
) -> Tally[float]:
    """Total nats and number of targets over the chosen documents; a sample of them where asking for all is dear.

    heard: called for every piece with the number of its targets.
    """
    nats_D = nats_by_document(model, source, choice, window=window, rows=rows, sample=True, heard=heard)
    return Tally(float(nats_D.total.sum()), float(nats_D.count.sum()))


def nats_by_document(
    model: Model,
    source: TokenSource,
    choice: Choice,
    *,
    window: int,
    rows: int,
    sample: bool = False,
    heard: Callable[[int], None] = lambda count: None,
) -> Tally[np.ndarray]:
    """Total nats and number of targets of each chosen document, in the order of the choice.

    heard: called for every piece with the number of its targets.
    """
    place = {int(document): d for d, document in enumerate(choice.documents_D)}
    total_D, count_D = np.zeros(len(choice)), np.zeros(len(choice))
    for piece, nats, _ in score_documents(model, source, choice, window=window, rows=rows, sample=sample):
        total_D[place[piece.document]] += np.nansum(nats, dtype=np.float64)
        count_D[place[piece.document]] += (~np.isnan(nats)).sum()
        heard(len(nats))
    return Tally(total_D, count_D)


def gather(source: TokenSource, choice: Choice, num_bytes_D: np.ndarray, scored: Iterable[ScoredPiece]) -> Evidence:
    """Scored pieces as evidence, in the order of the choice (without the vocabulary's texts).

    Targets that were not asked for are left out. num_bytes_D: UTF-8 bytes of what is scored of each document.
    """
    documents, pairs = choice.documents_D, choice.pairs_D
    bounds = np.concatenate([[0], np.cumsum(pairs)])
    begin = dict(zip(documents.tolist(), bounds[:-1].tolist(), strict=True))
    nats_N = np.full(int(bounds[-1]), -np.inf, np.float32)
    best_N = np.zeros(len(nats_N), bool)
    for piece, nats, best in scored:
        at = begin[piece.document]
        nats_N[at + piece.first : at + piece.last] = nats
        best_N[at + piece.first : at + piece.last] = best
    assert not np.isneginf(nats_N).any(), "a target was not scored"
    targets = [np.asarray(source.tokens(int(d), 1, int(n) + 1)) for d, n in zip(documents, pairs, strict=True)]
    asked_N = ~np.isnan(nats_N)
    return Evidence(
        source=source.name,
        position_D=source.position_D[documents],
        num_bytes_D=num_bytes_D,
        bounds_E=np.concatenate([[0], np.cumsum(asked_N)])[bounds],
        targets_N=np.concatenate([np.zeros(0, np.uint32), *targets])[asked_N],
        nats_N=nats_N[asked_N],
        best_N=best_N[asked_N],
    )
