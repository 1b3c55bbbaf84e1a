"""Which documents are trained on, which steer the training, and which are kept for the verdict."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from graft.core.config.errors import UsageError


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

    def assign(self, owners: Mapping[str, str], beyond: Collection[str] = ()) -> dict[str, str]:
        """The split of every id in `owners` (id -> the source that the text counts for).

        beyond: ids that are for train wherever they fall (see `beyond`).
        """
        splits: dict[str, str] = {}
        for ids, num_test, num_validation in self._ranked(owners):
            for rank, one in enumerate(ids):
                held_out = "test" if rank < num_test else "validation" if rank < num_test + num_validation else "train"
                splits[one] = "train" if one in beyond else held_out
        return splits

    def beyond(self, owners: Mapping[str, str], sizes: Mapping[str, int]) -> set[str]:
        """The ids that would be held out and are too many. sizes: bytes of text by id."""
        found: set[str] = set()
        for ids, num_test, num_validation in self._ranked(owners) if self.most else ():
            for part in (ids[:num_test], ids[num_test : num_test + num_validation]):
                held = 0
                for one in part:
                    if held >= self.most:
                        found.add(one)
                    held += sizes[one]
        return found

    def _ranked(self, owners: Mapping[str, str]) -> Iterator[tuple[list[str], int, int]]:
        """For each source its ids by place, and how many of the first are for test and then for validation."""
        places = {one: self.place(one) for one in owners}
        ranked: dict[str, list[str]] = {}
        for one in sorted(owners, key=lambda one: (places[one], one)):
            ranked.setdefault(owners[one], []).append(one)
        for ids in ranked.values():
            yield ids, *self._counts([places[one] for one in ids])

    def place(self, doc_id: str) -> float:
        """Where in 0..1 a document falls: below `test` it is for test, the next `validation` for validation."""
        digest = hashlib.blake2b(f"{self.seed}\0{doc_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def _counts(self, places: list[float]) -> tuple[int, int]:
        """Documents for test and for validation in a source with these places, in ascending order."""
        num_test = sum(place < self.test for place in places)
        num_validation = sum(self.test <= place < self.test + self.validation for place in places)
        if len(places) < 2:
            return num_test, num_validation
        num_test = max(num_test, 1)
        num_validation = max(num_validation, 1 if len(places) > 2 else 0)
        least = 1 if len(places) > 2 else 0
        num_validation = max(least, min(num_validation, len(places) - 1 - num_test))
        return min(num_test, len(places) - 1 - num_validation), num_validation
