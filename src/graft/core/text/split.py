"""Which documents are trained on, which steer the training, and which are kept for the verdict."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graft.core.config.errors import UsageError
from graft.core.text.documents import SPLITS

Splits = NDArray[np.uint8]
TRAIN, VALIDATION, TEST = range(len(SPLITS))


@dataclass(frozen=True)
class Split:
    """Train, validation and test, by a hash of (seed, id of the text).

    A document's split does not depend on the other documents, and equal texts (equal ids) have equal splits. There
    are two exceptions. A small source: with two documents or more it gets at least one for test and one for train,
    with three or more one for validation too, those with the smallest hashes being promoted. A large one: more than
    `most` bytes are not held out, because they would never be scored; in the order of their hashes, the documents
    that have that many before them return to train.
    """

    validation: float = 0.05  # share of the documents, expected
    test: float = 0.05  # share of the documents, expected
    seed: int = 0
    most: int = 20_000_000  # bytes of text held out for test, and as many for validation, per source; 0: no limit

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 < share < 1:
                raise UsageError(f"{name} is {share}", allowed="a share of the documents, above 0 and below 1")
        if self.most < 0:
            raise UsageError(f"most is {self.most}", allowed="0 (no limit) or more, in bytes of text")
        if self.validation + self.test >= 1:
            raise UsageError(
                f"validation {self.validation} and test {self.test} leave nothing to train on",
                allowed="two shares that add up to less than 1",
                do="0.05 and 0.05 are usual",
            )

    def place(self, doc_id: str) -> float:
        """Where in 0..1 a document falls: below `test` it is for test, the next `validation` for validation."""
        digest = hashlib.blake2b(f"{self.seed}\0{doc_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def counts(self, num: int, below_test: int, below_both: int) -> tuple[int, int]:
        """Documents for test and for validation in a source of `num`.

        below_test, below_both: how many of them are placed below `test`, and below `test` + `validation`.
        """
        num_test, num_validation = below_test, below_both - below_test
        if num < 2:
            return num_test, num_validation
        num_test = max(num_test, 1)
        num_validation = max(num_validation, 1 if num > 2 else 0)
        least = 1 if num > 2 else 0
        num_validation = max(least, min(num_validation, num - 1 - num_test))
        return min(num_test, num - 1 - num_validation), num_validation


@dataclass
class Ranks:
    """Gives splits to documents that come in the order of their places, source by source mixed.

    counts: documents for test and for validation of each source. Splits are numbers: places in `SPLITS`.
    """

    split: Split
    counts: list[tuple[int, int]]

    def __post_init__(self) -> None:
        self._seen = [0] * len(self.counts)
        self._held = [[0, 0] for _ in self.counts]  # bytes for test and for validation so far

    def take(self, sources_N: NDArray[np.int64], num_bytes_N: NDArray[np.int64]) -> tuple[Splits, NDArray[np.bool_]]:
        """(the split of each of the next documents, whether as many bytes as `most` were held out before it)."""
        splits_N = np.full(len(sources_N), TRAIN, np.uint8)
        beyond_N = np.zeros(len(sources_N), np.bool_)
        for source, (num_test, num_validation) in enumerate(self.counts):
            own = np.flatnonzero(sources_N == source)
            ranks = self._seen[source] + np.arange(len(own))
            self._seen[source] += len(own)
            bounds = (0, num_test, num_test + num_validation)
            for part, name in enumerate((TEST, VALIDATION)):
                mine = own[(ranks >= bounds[part]) & (ranks < bounds[part + 1])]
                splits_N[mine] = name
                sizes = num_bytes_N[mine]
                before = self._held[source][part] + np.cumsum(sizes) - sizes
                beyond_N[mine] = (self.split.most > 0) & (before >= self.split.most)
                self._held[source][part] += int(sizes.sum())
        return splits_N, beyond_N
