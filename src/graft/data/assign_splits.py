"""assign_splits: what is usable of a table of marks is split, each text counting for the first source that has it."""

from __future__ import annotations

import numpy as np

from graft.core.text.mark_table import MarkTable
from graft.core.text.split import TRAIN, Ranks, Split


def assign_splits(marks: MarkTable, split: Split) -> list[int]:
    """Give every usable document its split; returns the number of different texts that count for each source.

    What is `beyond` is for training wherever it falls.
    """
    _find_first(marks)
    ranks = Ranks(split, _counts(marks, split))
    texts = np.zeros(len(marks.sources), np.int64)
    for part in marks.by_place():
        splits_N, _ = ranks.take(part.sources_N, part.num_bytes_N)
        splits_N[marks.columns["beyond"][part.rows_N] > 0] = TRAIN
        marks.columns["split"][part.rows_N] = splits_N + 1
        texts += np.bincount(part.sources_N, minlength=len(texts))
    for chunk in marks.chunks():
        rows_N = np.arange(chunk.start, chunk.stop)
        first_N = marks.columns["first"][chunk]
        copies = (marks.columns["drop"][chunk] == 0) & (first_N != rows_N)
        marks.columns["split"][rows_N[copies]] = marks.columns["split"][first_N[copies]]
    marks.changed = False
    return texts.tolist()


def limit_held_out(marks: MarkTable, split: Split) -> bool:
    """Settle which texts are beyond the limit, for all steps of a round; returns whether there are any.

    None of them may come back from training later, where a step could not look at it.
    """
    total = sum(int(marks.columns["num_bytes"][chunk].sum()) for chunk in marks.chunks())
    if not split.most or total <= split.most:
        return False
    _find_first(marks)
    ranks, found = Ranks(split, _counts(marks, split)), False
    marks.columns["beyond"][:] = 0
    for part in marks.by_place():
        _, beyond_N = ranks.take(part.sources_N, part.num_bytes_N)
        marks.columns["beyond"][part.rows_N] = beyond_N
        found = found or bool(beyond_N.any())
    if found:
        for chunk in marks.chunks():
            usable = marks.columns["drop"][chunk] == 0
            first_N = np.where(usable, marks.columns["first"][chunk], np.arange(chunk.start, chunk.stop))
            marks.columns["beyond"][chunk] = marks.columns["beyond"][first_N]
    marks.changed = True
    return found


def _find_first(marks: MarkTable) -> None:
    """For every usable document, the first usable one of the same text."""
    for part in marks.by_text():
        place_N = np.where(part.same_N, 0, np.arange(len(part.rows_N)))
        marks.columns["first"][part.rows_N] = part.rows_N[np.maximum.accumulate(place_N)]


def _counts(marks: MarkTable, split: Split) -> list[tuple[int, int]]:
    """Documents for test and for validation of each source, of the first usable rows of all texts."""
    num, test, both = np.zeros((3, len(marks.sources)), np.int64)
    for chunk in marks.chunks():
        rows_N = np.arange(chunk.start, chunk.stop)
        own = (marks.columns["drop"][chunk] == 0) & (marks.columns["first"][chunk] == rows_N)
        sources_N, places_N = marks.sources_of(rows_N[own]), marks.columns["place"][chunk][own]
        num += np.bincount(sources_N, minlength=len(num))
        test += np.bincount(sources_N[places_N < split.test], minlength=len(num))
        both += np.bincount(sources_N[places_N < split.test + split.validation], minlength=len(num))
    return [split.counts(*one) for one in zip(num.tolist(), test.tolist(), both.tolist(), strict=True)]
