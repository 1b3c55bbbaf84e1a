"""Test text must not have been trained on, not even in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from graft.core.config.errors import UsageError
from graft.core.text.ngrams import Hashes, Held, Indices, ngrams
from graft.data.steps.contract import Marks, Needs, Reason


@dataclass(frozen=True)
class Overlap:
    """Drop validation and test documents of whose n-grams more than `tolerance` also stand in the training text.

    share = places in the document whose n-gram occurs in any usable train document of any source / all its places;
    words as in `graft.core.text.ngrams`. A document of fewer than n words overlaps only with one of the same words.
    What is left is noted for every evaluated document as the tally overlap = [shared places, places].

    Sources: n = 13 as in Brown et al. 2020 (arXiv 2005.14165, appendix C); 20 % as the border of a clean sample as in
    Touvron et al. 2023 (arXiv 2307.09288, appendix A.6), there over tokens. The evaluated side is dropped, not the
    training side, because that side is a tenth of the text and boiler-plate makes the other very dear. In % of tokens
    (seed 0, splits 90/5/5), with the share of evaluated 13-grams that is still found in training at the end:

                                        laws          health pages   source code   novels
        any shared 13-gram at first     9.0           25.8           10.7          0.01
        (a) drop train, any shared      36 -> 0       84 -> 0        59 -> 0       0.4 -> 0
        (b) drop train above 20 %       3.2 -> 4.7    39 -> 21.8     6.5 -> 4.4    0 -> 0.01
        (c) drop test above 20 %        15 -> 3.4     47 -> 7.4      15 -> 2.9     0 -> 0.01
            the same above 5 %          37 -> 1.0     79 -> 1.5      31 -> 1.2     0 -> 0.01

    (a) and (b) are lost training tokens, (c) lost evaluation tokens. What it costs: the documents that are left to
    test on hold less boiler-plate than those trained on, so a domain's gain is understated, if anything.
    Left out: paraphrase, translation, and what validation and test text share. Memory: under 100 bytes per
    word of evaluated text, measured with 19 million of them; the split's `most` bounds how many there are.
    """

    reasons: ClassVar[tuple[Reason, ...]] = (
        Reason(
            "overlap",
            "left out of validation and test: shares passages with training text",
            "overlaps train",
        ),
    )

    n: int = 13  # words
    tolerance: float = 0.2  # share of a document's n-grams, 0..1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n is {self.n}", allowed="1 word or more", do="13 is usual")
        if not 0 <= self.tolerance <= 1:
            raise UsageError(f"tolerance is {self.tolerance}", allowed="a share from 0 to 1", do="0.2 is usual")

    def mark_corpus(self, needs: Needs) -> Iterator[Marks]:
        held_out = list(needs.texts(self._grams, "held out"))
        if not sum(len(grams) for _, _, grams in held_out):
            return
        held = Held.of(np.concatenate([grams for _, _, grams in held_out]))
        for places_N in needs.texts(lambda _, texts: held.hits(ngrams(texts, self.n)[0]), "train"):
            held.found[places_N] = True
        for rows_N, num_places_N, grams in held_out:
            shared_N = _sums(held.found[held.place(grams)], num_places_N)
            shares = zip(shared_N.tolist(), num_places_N.tolist(), strict=True)
            yield Marks(rows_N, notes=[{"overlap": list(one)} for one in shares])
            yield Marks(rows_N[shared_N > self.tolerance * num_places_N], "overlap")

    def _grams(self, rows_N: Indices, texts: list[str]) -> tuple[Indices, Indices, Hashes]:
        """(rows, n-grams of each of them, all n-grams)."""
        grams, owner = ngrams(texts, self.n)
        return rows_N, np.bincount(owner, minlength=len(texts)), grams


def _sums(marks: NDArray[np.bool_], lengths: Indices) -> Indices:
    """How many of `marks` are set in each of the runs of these lengths that they consist of."""
    sums = np.concatenate([[0], np.cumsum(marks)])
    ends = np.cumsum(lengths)
    return sums[ends] - sums[ends - lengths]
