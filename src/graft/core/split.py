"""Which documents are trained on, which steer the training, and which are kept for the verdict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from graft.core.errors import UsageError


@dataclass(frozen=True)
class Split:
    """Train, validation and test, by a hash of (seed, id of the text).

    A document's split does not depend on the other documents, and equal texts (equal ids) have equal splits. The one
    exception is a small source: with two documents or more it gets at least one for test and one for train, with
    three or more one for validation too, those with the smallest hashes being promoted.
    """

    validation: float = 0.05  # share of the documents, expected
    test: float = 0.05  # share of the documents, expected
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 < share < 1:
                raise UsageError(f"{name} is {share}", allowed="a share of the documents, above 0 and below 1")
        if self.validation + self.test >= 1:
            raise UsageError(
                f"validation {self.validation} and test {self.test} leave nothing to train on",
                allowed="two shares that add up to less than 1",
                do="0.05 and 0.05 are usual",
            )

    def assign(self, owners: Mapping[str, str]) -> dict[str, str]:
        """The split of every id in `owners` (id -> the source that the text counts for)."""
        places = {one: self.place(one) for one in owners}
        ranked: dict[str, list[str]] = {}
        for one in sorted(owners, key=lambda one: (places[one], one)):
            ranked.setdefault(owners[one], []).append(one)
        splits: dict[str, str] = {}
        for ids in ranked.values():
            num_test, num_validation = self._counts([places[one] for one in ids])
            for rank, one in enumerate(ids):
                splits[one] = (
                    "test" if rank < num_test else "validation" if rank < num_test + num_validation else "train"
                )
        return splits

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
