"""Texts that begin alike, laid into rows so that what they share is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LINEAR_TO_ATTENTION = 6  # a block's matrix products cost 24 D^2 per token, its attention 4 D per pair of tokens
LONGEST_ROW = 2048  # tokens; attention is over a whole row, whatever of it is masked
ROUNDED_TO = 8  # widths of batches


@dataclass(eq=False)
class Row:
    """One row: a trie of token ids, its tokens in the order in which they were met.

    depth: of each token how many stand before it on its way. paths: of each text, by its number, the places of its
    tokens in the row; shared: how many of them are those of the text before it.
    """

    tokens: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    paths: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)
    last: int = -1  # the text that came last

    def add(self, number: int, ids: NDArray[np.int64], common: int) -> None:
        """A text whose first `common` tokens are those of the text before it in this row."""
        begun, new = len(self.tokens), len(ids) - common
        before = self.paths[self.last][:common] if common else np.zeros(0, np.int64)
        self.paths[number] = np.concatenate([before, np.arange(begun, begun + new)])
        self.shared[number] = common
        self.tokens += ids[common:].tolist()
        self.depth += range(common, len(ids))
        self.last = number

    def sees(self, width: int) -> NDArray[np.bool_]:
        """True where token t sees token s, [width, width]: s stands before t on its way, or is t; a filler itself."""
        sees_TT = np.eye(width, dtype=bool)
        for number, path in self.paths.items():
            common = self.shared[number]
            sees_TT[np.ix_(path[common:], path)] = np.tri(len(path) - common, len(path), common, dtype=bool)
        return sees_TT


def lay(texts: Sequence[NDArray[np.int64]], width: int) -> list[Row]:
    """All texts in rows, the longest row first. width: of the model's hidden states, by which sharing is weighed.

    Texts are taken in the order of their ids, so that each begins with as much of the one before it as of any. It
    joins that one's row where the tokens saved cost more than attention over a longer row: with n tokens of its own
    way, `common` of them shared, in a row of r tokens, where 6 D common > (r + n - common)^2 - r^2 - n^2.
    """
    keys = [ids.astype(">u4").tobytes() for ids in texts]
    rows: list[Row] = []
    for number in sorted(range(len(texts)), key=keys.__getitem__):
        ids = texts[number]
        row = rows[-1] if rows else None
        common = _common(texts[row.last], ids) if row else 0
        if row is None or not _pays(len(row.tokens), len(ids), common, width):
            rows.append(row := Row())
            common = 0
        row.add(number, ids, common)
    return sorted(rows, key=lambda row: -len(row.tokens))


def _pays(row: int, length: int, common: int, width: int) -> bool:
    if common == length:
        return True
    joined = row + length - common
    return joined <= LONGEST_ROW and LINEAR_TO_ATTENTION * width * common > joined**2 - row**2 - length**2


def _common(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    length = min(len(first), len(second))
    apart = np.flatnonzero(first[:length] != second[:length])
    return int(apart[0]) if len(apart) else length


def batches(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Rows of alike lengths together, filled up to at most `tokens` places; a longer row is alone.

    A batch that is a quarter full takes no row that would be filled up by more than a quarter of its width.
    """
    found: list[list[Row]] = []
    for row in rows:  # the longest first: the first of a batch is its width
        width = rounded(len(found[-1][0].tokens)) if found else 0
        places = len(found[-1]) * width if found else 0
        alike = 4 * len(row.tokens) >= 3 * width or 4 * places < tokens
        if found and alike and places + width <= tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def rounded(length: int) -> int:
    """The width of a batch whose longest row has so many tokens."""
    return -(-length // ROUNDED_TO) * ROUNDED_TO
