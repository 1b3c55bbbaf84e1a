"""retrace: from documents to the steps that read them, and from a step to the documents that it read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.stats.outliers import Spikes, standing_out
from graft.core.stats.tally import Tally
from graft.core.tokens.token_shards import REJECTED, TokenSource
from graft.lineage.training_runs import RunSegment
from graft.packing.document_positions import Places
from graft.packing.rows import Piece

AROUND = 10  # steps on either side of one, which say what is usual
BLOCK = 32  # tokens among which repetition is counted
LONG_ENOUGH = 16  # tokens of a piece, below which its words are too few to be called unusual


@dataclass(frozen=True)
class Exposure:
    """How often and where in a run documents of one source were read. available: tokens of these documents."""

    available: int
    counted: int
    places: Places

    @property
    def read(self) -> int:
        """Tokens read, over all passes."""
        return int((self.places.last_N - self.places.first_N).sum())


def expose(leg: RunSegment, source: str, positions: Sequence[int]) -> Exposure | None:
    """None where the run's tokens have none of these documents: a chat template refused them, or they were dropped."""
    tokens = leg.sources.get(source)
    if tokens is None:
        return None
    documents = np.flatnonzero(np.isin(tokens.position_D, np.asarray(positions, np.int64)))
    if not len(documents):
        return None
    places = leg.places(source, documents)
    return Exposure(int(tokens.pairs_D[documents].sum()), int(tokens.counted_D[documents].sum()), places)


def stretches(leg: RunSegment, source: str, places: Places) -> list[dict[str, Any]]:
    """Each stretch with its step. Steps, rows of a step, places in a row and tokens count from 1, ends included.

    A token is a target to predict; the last one of a document is its end mark, where the tokenizer has one.
    """
    tokens = leg.sources[source]
    told: list[dict[str, Any]] = []
    for row, at, document, first, last, lap in zip(*(column.tolist() for column in places), strict=True):
        step, place = row // leg.rows + 1, row % leg.rows + 1
        told.append(
            {
                "document": f"{source}:{int(tokens.position_D[document])}",
                "step": step,
                "row": place,
                "at": at + 1,
                "from": first + 1,
                "to": last,
                "of": int(tokens.pairs_D[document]),
                "pass": lap + 1,
                "rejected": bool(tokens.role_D[document] == REJECTED),
                "done": step / leg.steps,
                **noted(leg, step, source),
            }
        )
    return told


def noted(leg: RunSegment, step: int, source: str) -> dict[str, Any]:
    """What the run noted of a step: mean loss of a source in nats per counted token, learning rate, gradient norm."""
    entry = leg.curve.get(step, {})
    loss = entry.get("loss", {}).get(source)
    return {
        "loss": Tally(*loss).mean if loss and loss[1] else None,
        "rate": entry.get("rate"),
        "norm": entry.get("norm"),
    }


def passes(places: Places, available: int) -> list[dict[str, Any]]:
    """By pass over the source: tokens of these documents that were read in it, and as a share of all of them."""
    told: list[dict[str, Any]] = []
    for lap in np.unique(places.pass_N).tolist():
        inside = places.pass_N == lap
        read = int((places.last_N - places.first_N)[inside].sum())
        told.append({"pass": lap + 1, "tokens": read, "share": read / available if available else 0.0})
    return told


def read_in(leg: RunSegment, step: int) -> list[list[Piece]]:
    """The pieces of every row of a step, which count from 1."""
    return leg.sampler.pieces(step - 1)


def spikes(leg: RunSegment, rule: Spikes) -> list[dict[str, Any]]:
    """The steps whose loss stands out: {step, source, loss, usual, rate, norm}, in the order of steps."""
    return sorted(
        (
            {"source": source, "usual": usual, **point}
            for source, points in losses(leg).items()
            for at, usual in rule([point["loss"] for point in points])
            for point in [points[at]]
        ),
        key=lambda one: (one["step"], one["source"]),
    )


def losses(leg: RunSegment) -> dict[str, list[dict[str, Any]]]:
    """By source, {step, loss, rate, norm} of every step that read it."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in leg.run.facts["tokens"]}
    for step in sorted(leg.curve):
        for source, (_, count) in leg.curve[step].get("loss", {}).items():
            if count:
                found.setdefault(source, []).append({"step": step, **noted(leg, step, source)})
    return found


def oddities(leg: RunSegment, step: int) -> dict[tuple[int, int], dict[str, float]]:
    """Pieces of a step that look unlike those of the steps around it: {(row, piece), both from 0: what and how much}.

    No model is asked, and the loss of single documents was not kept: what is measured is the text. rare: bits per token
    under the frequencies of the tokens read around it (add-one), in median distances above their median. repeated: the
    same of the share of tokens that stood among the last few before.
    """
    near = [k for k in range(max(1, step - AROUND), min(leg.steps, step + AROUND) + 1) if k != step]
    around: dict[str, list[np.ndarray]] = {name: [] for name in leg.sources}
    for k in near:
        for row in read_in(leg, k):
            for piece in row:
                around[piece.source].append(targets_of(leg.sources[piece.source], piece))
    usual = {name: _Usual.of(pieces) for name, pieces in around.items() if pieces}
    found: dict[tuple[int, int], dict[str, float]] = {}
    for r, row in enumerate(read_in(leg, step)):
        for p, piece in enumerate(row):
            targets = targets_of(leg.sources[piece.source], piece)
            if piece.source in usual and len(targets) >= LONG_ENOUGH:
                odd = usual[piece.source].odd(targets)
                found |= {(r, p): odd} if odd else {}
    return found


def targets_of(tokens: TokenSource, piece: Piece) -> np.ndarray:
    """The tokens that a piece is to predict."""
    return tokens.tokens(piece.document, piece.first + 1, piece.last + 1)


@dataclass(frozen=True)
class _Usual:
    """What pieces around a step are like. bits_M, repeated_M: of M pieces that are long enough."""

    ids: np.ndarray
    bits_of: np.ndarray  # of each of these ids; the last entry: of any other
    bits_M: np.ndarray
    repeated_M: np.ndarray

    @classmethod
    def of(cls, pieces: Sequence[np.ndarray]) -> _Usual:
        ids, counts = np.unique(np.concatenate(pieces), return_counts=True)
        bits_of = -np.log2(np.append(counts + 1, 1) / (counts.sum() + len(ids) + 1))
        long = [piece for piece in pieces if len(piece) >= LONG_ENOUGH]
        bits = np.array([_bits(piece, ids, bits_of) for piece in long])
        return cls(ids, bits_of, bits, np.array([_repeated(piece) for piece in long]))

    def odd(self, targets: np.ndarray) -> dict[str, float]:
        rare = float(standing_out(np.array([_bits(targets, self.ids, self.bits_of)]), self.bits_M)[0])
        repeated = float(standing_out(np.array([_repeated(targets)]), self.repeated_M)[0])
        measured: Mapping[str, float] = {"rare": rare, "repeated": repeated}
        return {name: value for name, value in measured.items() if value > 0}


def _bits(targets: np.ndarray, ids: np.ndarray, bits_of: np.ndarray) -> float:
    place = np.minimum(np.searchsorted(ids, targets), len(ids) - 1)
    return float(bits_of[np.where(ids[place] == targets, place, len(ids))].mean())


def _repeated(targets: np.ndarray) -> float:
    """Mean over stretches of one length: in a longer text more tokens stood before by themselves."""
    blocks = [targets[first : first + BLOCK] for first in range(0, len(targets) - LONG_ENOUGH + 1, BLOCK)]
    return float(np.mean([1 - len(np.unique(block)) / len(block) for block in blocks]))
