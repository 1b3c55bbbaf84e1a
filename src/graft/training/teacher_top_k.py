"""A teacher's shortlists on disk: its likeliest words for every training token, written once, read by place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from graft.core.store.atomic_files import write_whole
from graft.core.tokens.token_shards import TokenSource
from graft.models.forward.model import Model
from graft.models.losses.divergence import Divergence, Shortlist
from graft.models.losses.head import Reader
from graft.models.scoring.scoring import fit
from graft.packing.batch import Batch
from graft.packing.rows import Piece
from graft.packing.sampler import pack

BLOCK = 1024  # pieces packed together, and what a kill can cost


@dataclass(frozen=True)
class Kept:
    """The shortlists of one source: K words for each pair of its training documents, in source order.

    Two flat files: NAME.ids.bin [pairs, K] in the tokens' type, NAME.nats.bin [pairs, K] in float16.
    """

    folder: Path
    source: TokenSource
    words: int

    @cached_property
    def documents(self) -> np.ndarray:
        return self.source.documents("train")

    @cached_property
    def begin(self) -> dict[int, int]:
        """Where each document's pairs begin."""
        pairs_D = self.source.pairs_D[self.documents]
        return dict(zip(self.documents.tolist(), (np.cumsum(pairs_D) - pairs_D).tolist(), strict=True))

    def maps(self, mode: str) -> tuple[np.ndarray, np.ndarray]:
        """(ids, nats); mode "w+" makes them anew, "r+" goes on writing, "r" reads."""
        shape = (int(self.source.pairs_D[self.documents].sum()), self.words)
        ids, nats = (self.folder / f"{self.source.name}.{part}.bin" for part in ("ids", "nats"))
        return (
            np.memmap(ids, dtype=np.uint32, mode=mode, shape=shape),  # type: ignore[call-overload]
            np.memmap(nats, dtype=np.float16, mode=mode, shape=shape),  # type: ignore[call-overload]
        )

    @cached_property
    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        return self.maps("r")

    def of(self, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        """(ids, nats) [pairs of the piece, K]."""
        first = self.begin[piece.document] + piece.first
        return tuple(part[first : first + piece.last - piece.first] for part in self._read)  # type: ignore[return-value]


@torch.no_grad()
def write_shortlists(model: Model, kept: Kept, *, temperature: float, window: int, rows: int) -> Iterator[int]:
    """Writes the shortlists of a source block by block, yielding how many pairs each block had.

    Documents are read as in scoring: cut from their beginning into windows that do not overlap. So a token may have
    been read with more or less before it than it will have in a training row. A second call goes on where a killed one
    stopped.
    """
    pieces = [
        Piece(kept.source.name, int(d), first, min(first + window, int(kept.source.pairs_D[d])))
        for d in kept.documents
        for first in range(0, int(kept.source.pairs_D[d]), window)
    ]
    mark = kept.folder / f"{kept.source.name}.done.json"
    done = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else 0
    ids, nats = kept.maps("r+" if done else "w+")
    for block in range(0, len(pieces), BLOCK):
        of_block = pieces[block : block + BLOCK]
        if block >= done:
            packed = fit(of_block, window)
            for first in range(0, len(packed), rows):
                _write_rows(model, kept, packed[first : first + rows], (ids, nats), temperature, window)
            for part in (ids, nats):
                part.flush()  # type: ignore[attr-defined]
            write_whole(mark, json.dumps(block + BLOCK))
        yield sum(piece.last - piece.first for piece in of_block)


def _write_rows(
    model: Model,
    kept: Kept,
    rows: Sequence[Sequence[Piece]],
    maps: tuple[np.ndarray, np.ndarray],
    temperature: float,
    window: int,
) -> None:
    stretches = [[kept.source.tokens(p.document, p.first, p.last + 1) for p in row] for row in rows]
    batch = pack(stretches, [0] * len(rows), window).to(model.device)
    hidden_ND = model.hidden(batch).flatten(0, -2)
    places_N = (batch.weights_BT.flatten() != 0).nonzero().squeeze(1)
    spot_N = np.concatenate([kept.begin[p.document] + np.arange(p.first, p.last) for row in rows for p in row])
    reader = Reader(model.head, len(places_N), hidden_ND.device)
    for part in reader.parts:
        logits_NV = reader.logits(hidden_ND[places_N[part]]).div_(temperature)
        best = torch.log_softmax(logits_NV, -1).topk(kept.words, -1)
        maps[0][spot_N[part]] = best.indices.cpu().numpy()
        maps[1][spot_N[part]] = -best.values.float().cpu().numpy()


@dataclass(frozen=True)
class Shortlists:
    """The shortlists of every source that is trained on, found by the rows of a batch.

    pieces_of: the pieces of a row of the run by its number; names: what Batch.source_B is an index into.
    """

    kept: Mapping[str, Kept]
    pieces_of: Callable[[int], Sequence[Piece]]
    vocabulary: int

    def of(self, batch: Batch, divergence: Divergence) -> Shortlist:
        """What is kept for the tokens of a batch; of what fills a row up, nothing that means anything."""
        words = next(iter(self.kept.values())).words
        ids_BTK = np.zeros((*batch.tokens_BT.shape, words), np.int64) + np.arange(words)
        nats_BTK = np.full(ids_BTK.shape, np.log(2 * words), np.float32)
        for b, number in enumerate(batch.row_B.tolist()):
            at = 0
            for piece in self.pieces_of(number):
                end = at + piece.last - piece.first
                ids_BTK[b, at:end], nats_BTK[b, at:end] = self.kept[piece.source].of(piece)
                at = end
        device = batch.tokens_BT.device
        ids_BTK, nats_BTK = torch.from_numpy(ids_BTK).to(device), torch.from_numpy(nats_BTK).to(device)
        return Shortlist(ids_BTK, nats_BTK, self.vocabulary, divergence)
