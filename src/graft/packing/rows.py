"""The rows of one source: an endless sequence in which row n is a pure function of (seed, n)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.stats.random_streams import stream
from graft.core.tokens.token_shards import TokenSource
from graft.packing.document_positions import Places

FITTED = 4096  # documents (or pairs) that are laid into rows together


@dataclass(frozen=True)
class Piece:
    """A stretch of one document inside a row: pairs first..last (exclusive) of document `document`."""

    source: str
    document: int
    first: int
    last: int


@dataclass(frozen=True)
class RowOrder:
    """Documents laid end to end and cut into rows: all rows are full, and a document may go on in another row.

    pairs: (input, target) pairs of an epoch. filling: share of the places that no pair takes. left_out: how many
    documents no row holds, for being too long.
    """

    tokens: TokenSource
    window: int
    seed: int
    split: str = "train"
    filling: float = field(default=0.0, init=False, compare=False)
    left_out: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        # Remembered per object, for as long as the object lives: an epoch's order costs one pass over its documents.
        object.__setattr__(self, "_order", lru_cache(maxsize=3)(self._draw_order))
        object.__setattr__(self, "_rows", lru_cache(maxsize=2)(self._draw_rows))
        object.__setattr__(self, "documents", self.tokens.documents(self.split))
        object.__setattr__(self, "pairs", int(self.tokens.pairs_D[self.documents].sum()))
        if self.pairs == 0:
            raise nothing_to_train_on(self.tokens)

    documents: np.ndarray = field(init=False, repr=False, compare=False)
    pairs: int = field(init=False, compare=False)

    def _draw_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(documents in this epoch's order, where each one's pairs end)."""
        order = stream(self.seed, "documents", self.tokens.name, epoch).permutation(self.documents)
        return order, np.cumsum(self.tokens.pairs_D[order])

    def _first_row(self, epoch: int) -> int:
        return -(-epoch * self.pairs // self.window)

    def _draw_rows(self, epoch: int) -> np.ndarray:
        count = self._first_row(epoch + 1) - self._first_row(epoch)
        return stream(self.seed, "rows", self.tokens.name, epoch).permutation(count)

    def row(self, number: int) -> list[Piece]:
        """The pieces of the `number`-th row that is taken from this source; their lengths sum to the window."""
        epoch = number * self.window // self.pairs
        first = self._first_row(epoch)
        begin = (first + int(self._rows(epoch)[number - first])) * self.window  # type: ignore[attr-defined]
        return list(self._cut(begin, begin + self.window))

    def places(self, documents: np.ndarray, rows: int) -> Places:
        """Where in the first `rows` rows these documents lie: the inverse of `row`, without going through rows.

        Costs one order per pass that was begun, whatever the number of documents asked for.
        """
        asked_D = np.zeros(len(self.tokens.pairs_D), bool)
        asked_D[documents] = True
        last = (rows - 1) * self.window // self.pairs if rows else -1
        laid = self._first_row(last + 1)  # rows that may be among those that were taken
        parts: list[Places] = []
        for epoch in range(-(-laid * self.window // self.pairs)):
            order, ends = self._order(epoch)  # type: ignore[attr-defined]
            slot = np.flatnonzero(asked_D[order] & (self.tokens.pairs_D[order] > 0))
            end_D = epoch * self.pairs + ends[slot]
            begin_D = end_D - self.tokens.pairs_D[order[slot]]
            first_D = begin_D // self.window
            count_D = (end_D - 1) // self.window + 1 - first_D
            n = np.repeat(np.arange(len(slot)), count_D)  # a stretch for each row that a document lies in
            row_N = first_D[n] + np.arange(len(n)) - np.repeat(np.cumsum(count_D) - count_D, count_D)
            low_N = np.maximum(begin_D[n], row_N * self.window)
            high_N = np.minimum(end_D[n], (row_N + 1) * self.window)
            found = Places(
                row_N, low_N - row_N * self.window, order[slot][n], low_N - begin_D[n], high_N - begin_D[n],
                np.full(len(n), epoch),
            ).take(row_N < laid)  # fmt: skip
            parts.append(found._replace(row_N=self._taken(found.row_N)))
        return Places.joined(parts, rows)

    def _taken(self, laid_N: np.ndarray) -> np.ndarray:
        """The numbers under which rows are taken, by their places among the rows as they are laid."""
        numbers_N = np.empty_like(laid_N)
        epoch_N = laid_N * self.window // self.pairs
        for epoch in np.unique(epoch_N).tolist():
            first, drawn = self._first_row(epoch), self._rows(epoch)  # type: ignore[attr-defined]
            place = np.empty_like(drawn)
            place[drawn] = np.arange(len(drawn))
            inside = epoch_N == epoch
            numbers_N[inside] = first + place[laid_N[inside] - first]
        return numbers_N

    def num_read(self, rows: int) -> int:
        """Pairs in the first `rows` rows."""
        return rows * self.window

    def _cut(self, begin: int, end: int):
        while begin < end:
            epoch, offset = divmod(begin, self.pairs)
            order, ends = self._order(epoch)  # type: ignore[attr-defined]
            slot = int(np.searchsorted(ends, offset, side="right"))
            document = int(order[slot])
            inside = offset - (int(ends[slot - 1]) if slot else 0)
            length = min(int(self.tokens.pairs_D[document]) - inside, end - begin)
            yield Piece(self.tokens.name, document, inside, inside + length)
            begin += length


class _Laid(NamedTuple):
    """The rows of an epoch in the order in which they are taken.

    N pieces, R rows; the pieces of row r are starts_R[r] to starts_R[r + 1].
    """

    document_N: np.ndarray
    first_N: np.ndarray
    last_N: np.ndarray
    starts_R: np.ndarray
    read_R: np.ndarray  # pairs in all rows up to each one, itself included


@dataclass(frozen=True)
class Packed:
    """Whole documents in rows, or whole preference pairs (`paired`): chosen, rejected, chosen, rejected ...

    What is left of a row is filled up with places of weight 0. The documents of an epoch, in an order of its own, are
    laid into rows FITTED at a time, each where it leaves the least room, the longest first (best fit decreasing:
    Johnson et al. 1974, at most 22 % more rows than the fewest possible, and far less with many short documents).
    A document longer than the window is cut into full rows, and its rest is laid like a document: nothing is lost.
    A pair longer than the window is left out, since it means nothing in parts. Attributes as in `Stream`; the filling
    is that of the first epoch.

    How many rows an epoch has depends on its order, so a first look into epoch e lays all epochs up to it, at about
    two seconds for a million documents.
    """

    tokens: TokenSource
    window: int
    seed: int
    paired: bool = False
    split: str = "train"
    filling: float = field(init=False, compare=False)
    left_out: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_epoch", lru_cache(maxsize=2)(self._lay))
        object.__setattr__(self, "_firsts", [0])  # the first row of every epoch that was laid so far
        object.__setattr__(self, "_laying", Lock())
        units = self.tokens.pairs(self.split) if self.paired else self.tokens.documents(self.split)
        size_U = self.tokens.pairs_D[units] + (self.tokens.pairs_D[units + 1] if self.paired else 0)
        fits_U = (size_U > 0) & ((size_U <= self.window) | (not self.paired))
        if not fits_U.any():
            raise self._nothing_fits(size_U)
        object.__setattr__(self, "units", units[fits_U])
        object.__setattr__(self, "pairs", int(size_U[fits_U].sum()))
        object.__setattr__(self, "left_out", int((~fits_U & (size_U > 0)).sum()))
        object.__setattr__(self, "filling", 1 - self.pairs / (self._first_row(1) * self.window))

    units: np.ndarray = field(init=False, repr=False, compare=False)  # documents; of pairs the chosen ones
    pairs: int = field(init=False, compare=False)

    def row(self, number: int) -> list[Piece]:
        """The pieces of the `number`-th row that is taken from this source, at most a window of pairs together."""
        epoch = self._epoch_of(number)
        laid: _Laid = self._epoch(epoch)  # type: ignore[attr-defined]
        place = number - self._first_row(epoch)
        return [
            Piece(self.tokens.name, int(laid.document_N[n]), int(laid.first_N[n]), int(laid.last_N[n]))
            for n in range(laid.starts_R[place], laid.starts_R[place + 1])
        ]

    def places(self, documents: np.ndarray, rows: int) -> Places:
        """Where in the first `rows` rows these documents lie: the inverse of `row`. Rejected answers are documents."""
        asked_D = np.zeros(len(self.tokens.pairs_D), bool)
        asked_D[documents] = True
        parts: list[Places] = []
        for epoch in range(self._epoch_of(rows - 1) + 1 if rows else 0):
            laid: _Laid = self._epoch(epoch)  # type: ignore[attr-defined]
            before_N = np.cumsum(laid.last_N - laid.first_N) - (laid.last_N - laid.first_N)
            n = np.flatnonzero(asked_D[laid.document_N])
            place_N = np.searchsorted(laid.starts_R, n, side="right") - 1
            at_N = before_N[n] - before_N[laid.starts_R[place_N]]
            columns = (laid.document_N[n], laid.first_N[n], laid.last_N[n], np.full(len(n), epoch))
            parts.append(Places(self._first_row(epoch) + place_N, at_N, *columns))
        return Places.joined(parts, rows)

    def num_read(self, rows: int) -> int:
        """Pairs in the first `rows` rows."""
        epoch = self._epoch_of(rows)
        place = rows - self._first_row(epoch)
        return epoch * self.pairs + (int(self._epoch(epoch).read_R[place - 1]) if place else 0)  # type: ignore[attr-defined]

    @cached_property
    def _known(self) -> list[int]:
        return self._firsts  # type: ignore[attr-defined]

    def _epoch_of(self, number: int) -> int:
        with self._laying:  # type: ignore[attr-defined]
            while self._known[-1] <= number:
                self._known.append(self._known[-1] + len(self._epoch(len(self._known) - 1).read_R))  # type: ignore[attr-defined]
        return bisect_right(self._known, number) - 1

    def _first_row(self, epoch: int) -> int:
        while len(self._known) <= epoch:
            self._epoch_of(self._known[-1])
        return self._known[epoch]

    def _lay(self, epoch: int) -> _Laid:
        order = stream(self.seed, "documents", self.tokens.name, epoch).permutation(self.units)
        rows: list[list[tuple[int, int, int]]] = []
        for begin in range(0, len(order), FITTED):
            items = [item for unit in order[begin : begin + FITTED].tolist() for item in self._items(unit)]
            sizes = [sum(last - first for _, first, last in item) for item in items]
            rows += [[piece for i in row for piece in items[i]] for row in best_fit(sizes, self.window)]
        taken = stream(self.seed, "rows", self.tokens.name, epoch).permutation(len(rows))
        rows = [rows[i] for i in taken]
        document_N, first_N, last_N = np.array([piece for row in rows for piece in row], np.int64).T
        starts_R = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        read_N = np.concatenate([[0], np.cumsum(last_N - first_N)])
        return _Laid(document_N, first_N, last_N, starts_R, read_N[starts_R[1:]])

    def _items(self, unit: int) -> list[list[tuple[int, int, int]]]:
        """What of a unit has to stand in one row: pieces as (document, first, last)."""
        size = int(self.tokens.pairs_D[unit])
        if self.paired:
            return [[(unit, 0, size), (unit + 1, 0, int(self.tokens.pairs_D[unit + 1]))]]
        return [[(unit, first, min(first + self.window, size))] for first in range(0, size, self.window)]

    def _nothing_fits(self, size_U: np.ndarray) -> UsageError:
        if not self.paired:
            return nothing_to_train_on(self.tokens)
        if not len(size_U):
            return UsageError(
                f'source "{self.tokens.name}" has no preference pair to train on',
                do="set tokenize.pairs to true and give rows with chosen and rejected, or leave the source out "
                "(replay 0)",
            )
        return UsageError(
            f'no pair of source "{self.tokens.name}" fits in a row: the window is {self.window}, and the shortest of '
            f"{len(size_U):,} takes {size_U.min()} tokens, chosen and rejected together",
            do=f"set the window to {size_U.min()} or more",
        )


def nothing_to_train_on(tokens: TokenSource) -> UsageError:
    """The error for a source without a single target."""
    return UsageError(f'source "{tokens.name}" has no token to train on', do="give it more text, or leave it out")


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of places in `sizes`, none above the capacity: the largest first, each where it leaves the least room."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, row), sorted
    for place in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        slot = bisect_left(room, (sizes[place], -1))
        left, row = room.pop(slot) if slot < len(room) else (capacity, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(place)
        if left > sizes[place]:
            insort(room, (left - sizes[place], row))
    return rows
