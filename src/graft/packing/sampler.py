"""The sampler: batch k is a pure function of (seed, mixture, k), so resuming is a number.

The documents of a source, in an order drawn anew for each epoch, are laid into rows of T pairs (graft.packing.rows):
  stream   end to end; a document longer than what is left of a row continues in another one, so that no token is ever
           lost and all rows are full
  whole    whole documents, as many as fit; what is left of a row is filled up with weight 0
  pairs    whole preference pairs: chosen, rejected, chosen, rejected ..., filled up likewise
The rows of an epoch are then taken in an order of their own, or neighbours in time would come from the same long
document. Shares of the mixture are shares of tokens: a source whose rows are filled up gets as many rows more. Which
source a row comes from follows a golden-ratio sequence, which keeps every prefix of the run within a few rows of the
mixture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.stats.even_sample import GOLDEN
from graft.core.stats.random_streams import stream
from graft.core.tokens.token_shards import TokenSource
from graft.packing.document_positions import Places
from graft.packing.rows import Packed, Piece, RowOrder

if TYPE_CHECKING:  # where rows lie is asked without torch
    from graft.packing.batch import Batch

CHUNK = 1 << 16  # rows whose sources are worked out together
PACKINGS = ("stream", "whole", "pairs")

Rows = RowOrder | Packed


class Sampler:
    """Batches of `rows` rows of `window` pairs from several sources in given shares of tokens."""

    def __init__(
        self,
        sources: Mapping[str, TokenSource],
        mixture: Mapping[str, float],
        *,
        window: int,
        rows: int,
        seed: int,
        packing: str = "stream",
    ) -> None:
        """mixture: share of the tokens per source, positive, summing to 1 (a share of 0 leaves the source out).

        Errors: UsageError for a mixture that is none, and for a source of which no row can be made.
        """
        _check_mixture(sources, mixture)
        self.names = [name for name in sources if mixture.get(name, 0) > 0]
        self.streams = {name: rows_in(sources[name], window, seed, packing) for name in self.names}
        self.window, self.rows = window, rows
        shares = np.array([mixture[name] / (1 - self.streams[name].filling) for name in self.names])
        self._edges = np.cumsum(shares / shares.sum() if packing != "stream" else shares)
        self._start = float(stream(seed, "mixture").random())
        self._lock = Lock()
        self._before: list[np.ndarray] = [np.zeros(len(self.names), np.int64)]  # rows per source before each chunk

    @property
    def filling(self) -> dict[str, float]:
        """Share of the places in rows of each source that no token takes, in the first epoch."""
        return {name: rows.filling for name, rows in self.streams.items()}

    @property
    def left_out(self) -> dict[str, int]:
        """How many preference pairs of each source are in no row, for being longer than one."""
        return {name: rows.left_out for name, rows in self.streams.items()}

    def _chunk(self, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """For the rows of a chunk: (their source, how many rows of that source came before)."""
        with self._lock:  # batches may be made by several threads, and counts build up in order
            return self._counted_chunk(chunk)

    @lru_cache(maxsize=4)  # noqa: B019 - a sampler lives as long as its run
    def _counted_chunk(self, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        while len(self._before) <= chunk:  # counts build up chunk by chunk, once
            done = len(self._before) - 1
            counts = np.bincount(self._counted_chunk(done)[0], minlength=len(self.names))
            self._before.append(self._before[done] + counts)
        place = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=np.float64)
        share = (self._start + place * GOLDEN) % 1.0
        source = np.minimum(np.searchsorted(self._edges, share, side="right"), len(self.names) - 1)
        number = np.empty(CHUNK, np.int64)
        for i in range(len(self.names)):
            number[source == i] = np.arange(np.count_nonzero(source == i)) + self._before[chunk][i]
        return source, number

    def _row_source(self, row: int) -> tuple[int, int]:
        """(source index, number within that source) of a row of the run."""
        chunk, place = divmod(row, CHUNK)
        source, number = self._chunk(chunk)
        return int(source[place]), int(number[place])

    def pieces(self, k: int, rank: int = 0, ranks: int = 1) -> list[list[Piece]]:
        """What batch k is made of: for each of this rank's rows, its pieces in order."""
        return [self.row(number) for number in range(k * self.rows + rank, (k + 1) * self.rows, ranks)]

    def row(self, number: int) -> list[Piece]:
        """The pieces of a row of the run by its number, as Batch.row_B has it."""
        source, place = self._row_source(number)
        return self.streams[self.names[source]].row(place)

    def batch(self, k: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Batch k (this rank's rows of it). A target's weight is that of the token it is."""
        rows = self.pieces(k, rank, ranks)
        return batch_of(
            rows,
            self.streams,
            [self.names.index(row[0].source) for row in rows],
            self.window,
            range(k * self.rows + rank, (k + 1) * self.rows, ranks),
        )

    def documents(self, k: int) -> list[dict[str, Any]]:
        """The documents of batch k, for lineage: source, position, and the stretch of pairs that was read."""
        return [
            {
                "row": i,
                "source": piece.source,
                "position": int(self.streams[piece.source].tokens.position_D[piece.document]),
                "first": piece.first,
                "last": piece.last,
            }
            for i, row in enumerate(self.pieces(k))
            for piece in row
        ]

    def places(self, source: str, documents: np.ndarray, batches: int) -> Places:
        """Where in the first `batches` batches these documents of a source lie: the inverse of `pieces`.

        row_N: of the run, so that its batch is row_N // rows. Nothing for a source that the mixture leaves out.
        """
        if source not in self.streams:
            return Places.joined([], 0)
        found = self.streams[source].places(documents, self._rows_by_source(batches)[source])
        return found._replace(row_N=self._run_rows(self.names.index(source), found.row_N))

    def _run_rows(self, source: int, numbers_N: np.ndarray) -> np.ndarray:
        """The rows of the run that are the rows of a source with these numbers, which ascend."""
        rows_N = np.empty_like(numbers_N)
        chunk = done = 0
        while done < len(numbers_N):
            of_source = np.flatnonzero(self._chunk(chunk)[0] == source)
            first = int(self._before[chunk][source])
            until = int(np.searchsorted(numbers_N, first + len(of_source)))
            rows_N[done:until] = chunk * CHUNK + of_source[numbers_N[done:until] - first]
            chunk, done = chunk + 1, until
        return rows_N

    def tokens_by_source(self, batches: int) -> dict[str, int]:
        """Exact tokens read per source in the first `batches` batches; what fills rows up is none."""
        return {name: self.streams[name].num_read(count) for name, count in self._rows_by_source(batches).items()}

    def counted_by_source(self, batches: int) -> dict[str, int]:
        """How many of these count, as targets of a weight above 0. Goes through all rows of a source with weights."""
        counted = self.tokens_by_source(batches)
        for name, count in self._rows_by_source(batches).items():
            tokens = self.streams[name].tokens
            if tokens.weighted:
                pieces = (piece for number in range(count) for piece in self.streams[name].row(number))
                counted[name] = sum(_num_counted(tokens, piece) for piece in pieces)
        return counted

    def _rows_by_source(self, batches: int) -> dict[str, int]:
        last = batches * self.rows
        counts = np.zeros(len(self.names), np.int64)
        for chunk in range(-(-last // CHUNK)):
            source, _ = self._chunk(chunk)
            counts += np.bincount(source[: max(0, last - chunk * CHUNK)], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


def _num_counted(tokens: TokenSource, piece: Piece) -> int:
    if piece.first == 0 and piece.last == tokens.pairs_D[piece.document]:
        return int(tokens.counted_D[piece.document])
    return int(np.count_nonzero(tokens.weights(piece.document, piece.first + 1, piece.last + 1)))


def rows_in(tokens: TokenSource, window: int, seed: int, packing: str = "stream") -> Rows:
    """The rows of a source. Errors: UsageError for an unknown packing, and where no row can be made."""
    if packing not in PACKINGS:
        raise UsageError(f'packing is "{packing}"', allowed=", ".join(PACKINGS))
    return RowOrder(tokens, window, seed) if packing == "stream" else Packed(tokens, window, seed, packing == "pairs")


_remembered = lru_cache(maxsize=8)(rows_in)


def rows_of(
    tokens: TokenSource, numbers: Sequence[int], *, source: int, window: int, seed: int, packing: str = "stream"
) -> Batch:
    """Rows of one source by their numbers, a pure function of (seed, numbers); `source` is what source_B says."""
    rows = _remembered(tokens, window, seed, packing)
    numbers = [int(number) for number in numbers]
    return batch_of(
        [rows.row(number) for number in numbers], {tokens.name: rows}, [source] * len(numbers), window, numbers
    )


def batch_of(
    rows: Sequence[Sequence[Piece]],
    by_name: Mapping[str, Rows],
    sources: list[int],
    window: int,
    numbers: Sequence[int],
) -> Batch:
    """Rows of pieces as a batch, tokens and weights read from the shards."""
    stretches: list[list[np.ndarray]] = []
    weights: list[list[np.ndarray | None]] = []
    for row in rows:
        held = [(by_name[piece.source].tokens, piece) for piece in row]
        stretches.append([tokens.tokens(piece.document, piece.first, piece.last + 1) for tokens, piece in held])
        weights.append(
            [
                tokens.weights(piece.document, piece.first + 1, piece.last + 1) if tokens.weighted else None
                for tokens, piece in held
            ]
        )
    return pack(stretches, sources, window, numbers, weights)


def pack(
    rows: Sequence[Sequence[np.ndarray]],
    sources: list[int],
    window: int,
    numbers: Sequence[int] = (),
    weights: Sequence[Sequence[np.ndarray | None]] | None = None,
) -> Batch:
    """Rows of stored-token stretches as a batch; a row that is not full ends in a piece of weight 0.

    Each stretch of m + 1 tokens gives m (input, target) pairs with positions 0 .. m - 1. weights: of the m targets of
    each stretch; None: 1.
    """
    import torch

    from graft.packing.batch import Batch

    shape = (len(rows), window)
    tokens_BT, targets_BT = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    weights_BT, position_BT = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    for b, row in enumerate(rows):
        at = 0
        for i, stretch in enumerate(row):
            end = at + len(stretch) - 1
            tokens_BT[b, at:end] = stretch[:-1]
            targets_BT[b, at:end] = stretch[1:]
            position_BT[b, at:end] = np.arange(end - at)
            given = weights[b][i] if weights else None
            weights_BT[b, at:end] = 1 if given is None else given
            at = end
        position_BT[b, at:] = np.arange(window - at)
    arrays = (
        tokens_BT,
        targets_BT,
        weights_BT,
        position_BT,
        np.asarray(sources, np.int64),
        np.asarray(numbers, np.int64),
    )
    return Batch(*map(torch.from_numpy, arrays))


def _check_mixture(sources: Mapping[str, TokenSource], mixture: Mapping[str, float]) -> None:
    total = sum(mixture.values())
    if abs(total - 1) > 1e-9 or min(mixture.values()) < 0:
        hint = "shares, not percentages" if total > 2 else "shares that sum to 1"
        raise UsageError(f"the mixture {dict(mixture)} sums to {total:g}", allowed=hint)
    for name in mixture:
        if name not in sources:
            raise UsageError(f'the mixture names a source "{name}" that is not there', allowed=", ".join(sources))
