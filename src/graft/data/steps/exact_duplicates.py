"""Equal texts count once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graft.data.steps.contract import Marks, Needs, Reason, Sample


@dataclass(frozen=True)
class ExactDuplicates:
    """Keep the first of every group of equal texts, over all sources.

    Equal means equal ids: the same characters, up to Unicode normalisation (NFC), byte order marks and line ends.
    First means the first in the order in which the sources were given, then by position. A text that two sources share
    counts for the first. Texts that differ in any other character are no duplicates here; where they fall into
    different splits, `overlap` sees them.
    """

    reasons: ClassVar[tuple[Reason, ...]] = (
        Reason("duplicate", "left out: the same text stands earlier in this source", copy=True),
        Reason(
            "duplicate_of",
            "left out: the same text stands in a source that was given earlier",
            "duplicate of {}",
            copy=True,
        ),
    )

    def mark_corpus(self, needs: Needs) -> Iterator[Marks]:
        for part in needs.by_text():
            place_N = np.where(part.same_N, 0, np.arange(len(part.rows_N)))
            keeper_N = part.sources_N[np.maximum.accumulate(place_N)]
            within_N = part.same_N & (keeper_N == part.sources_N)
            yield Marks(part.rows_N[within_N], "duplicate")
            for number, source in enumerate(needs.sources):
                across_N = part.same_N & ~within_N & (keeper_N == number)
                yield Marks(part.rows_N[across_N], "duplicate_of", source)

    def expect(self, sample: Sample) -> Mapping[str, float]:
        """Of a part of the text, only as many repetitions are seen as that part is of the whole, since a text and its
        copy seldom both lie in it."""
        if not sample.ids:
            return {}
        within = 1 - len(set(sample.ids)) / len(sample.ids)
        repeated = min(within / max(sample.share, 1e-9), 1 - 1 / len(sample.ids)) if within else 0.0
        share = max(repeated, sample.copied)
        return {"duplicate": share} if share else {}
