"""Where documents lie in rows, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Places(NamedTuple):
    """Where documents lie: N stretches in the order of their rows, and inside a row in the order they are read.

    row_N: number of the row; at_N: how many places of the row come before the stretch; document_N, first_N, last_N: as
    in `Piece`; pass_N: how often the source had been gone through before, from 0.
    """

    row_N: np.ndarray
    at_N: np.ndarray
    document_N: np.ndarray
    first_N: np.ndarray
    last_N: np.ndarray
    pass_N: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Places], rows: int) -> Places:
        """All stretches of these parts that lie in the first `rows` rows, in order."""
        if not parts:
            return cls(*(np.zeros(0, np.int64) for _ in cls._fields))
        whole = cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        read = np.flatnonzero(whole.row_N < rows)
        return whole.take(read[np.lexsort((whole.at_N[read], whole.row_N[read]))])

    def take(self, which: np.ndarray) -> Places:
        """These stretches, in this order."""
        return Places(*(column[which] for column in self))
