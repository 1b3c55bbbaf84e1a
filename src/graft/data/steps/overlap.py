"""Test text must not have been trained on, not even in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graft.core.config.errors import UsageError
from graft.core.text.daft_frames import DataFrame, col, daft, mark, noted, usable
from graft.core.text.ngrams import Hashes, Held, ngrams

REASON = "dropped: overlaps train"
DOCUMENTS_AT_ONCE = 256


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

    n: int = 13  # words
    tolerance: float = 0.2  # share of a document's n-grams, 0..1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n is {self.n}", allowed="1 word or more", do="13 is usual")
        if not 0 <= self.tolerance <= 1:
            raise UsageError(f"tolerance is {self.tolerance}", allowed="a share from 0 to 1", do="0.2 is usual")

    def __call__(self, docs: DataFrame) -> DataFrame:
        rows: list[int] = []
        notes: list[str] = []
        places: list[NDArray[np.int64]] = []  # n-grams of each document, by batch
        grams: list[Hashes] = []
        for batch in usable(docs).where("split <> 'train'").select("row", "text", "notes").to_arrow_iter():
            found, owner = ngrams(batch.column("text").to_pylist(), self.n)
            grams.append(found)
            places.append(np.bincount(owner, minlength=len(batch)))
            rows += batch.column("row").to_pylist()
            notes += batch.column("notes").to_pylist()
        if not sum(map(len, grams)):
            return docs
        held = Held.of(np.concatenate(grams))
        for hits in _hits(usable(docs).where("split = 'train'"), held, self.n):
            held.found[hits] = True
        reasons: list[str] = []
        shares: list[tuple[int, int]] = []
        for found, num_places in zip(grams, places, strict=True):
            shared = _sums(held.found[held.place(found)], num_places)
            shares += zip(shared.tolist(), num_places.tolist(), strict=True)
            reasons += [REASON if over else "" for over in shared > self.tolerance * num_places]
        entries = [noted(old, {"overlap": share}) for old, share in zip(notes, shares, strict=True)]
        return mark(docs, rows, reasons, entries)


def _sums(marks: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of `marks` are set in each of the runs of these lengths that they consist of."""
    sums = np.concatenate([[0], np.cumsum(marks)])
    ends = np.cumsum(lengths)
    return sums[ends] - sums[ends - lengths]


def _hits(trained: DataFrame, held: Held, n: int) -> Iterator[NDArray[np.int64]]:
    """For batch after batch of training text, the places in `held` that it hits."""

    @daft.func.batch(return_dtype=daft.DataType.list(daft.DataType.int64()), batch_size=DOCUMENTS_AT_ONCE)
    def hit(text: daft.Series) -> daft.Series:
        found = held.hits(ngrams(text.to_pylist(), n)[0])
        # One list for the whole batch, in its first row: which document hit what is not asked.
        lists = pa.ListArray.from_arrays(pa.array([0, *[len(found)] * len(text)], pa.int32()), pa.array(found))
        return daft.Series.from_arrow(lists)

    for batch in trained.select(hit(col("text")).alias("hits")).to_arrow_iter():
        values = batch.column("hits").flatten()
        yield values.to_numpy(zero_copy_only=False)
