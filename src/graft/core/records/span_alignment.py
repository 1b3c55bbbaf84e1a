"""Two readings of one text laid beside each other: cut where both have a border, the nats summed in between.

Tokens of two tokenizers do not compare, characters do. A reading knows at which character each of its targets ends;
the text is cut at the characters where both readings end a target, and what either model paid for the characters
between two cuts is the sum of its nats there. So the spans' nats add up to exactly what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.core.records.evidence import Evidence


@dataclass(frozen=True)
class ReadDocument:
    """One model's targets of one document. T targets, the end mark not among them.

    end_T: the character after each, never decreasing; cut_T: whether the text may be cut there, which it may not
    inside a character of several tokens; nats_T: NaN for what was not scored. mark: nats of the end mark, or None.
    """

    end_T: np.ndarray
    cut_T: np.ndarray
    nats_T: np.ndarray
    mark: float | None = None

    @classmethod
    def of(
        cls, offsets: Sequence[tuple[int, int]], length: int, nats_T: np.ndarray, mark: float | None = None
    ) -> ReadDocument:
        """offsets: (first character, character after the last) of every target, as a tokenizer says them.

        Characters between two targets, such as a space that a tokenizer leaves out, belong to the later one, and what
        stands behind the last target to the last. length: characters of the text.
        """
        begin_T = np.array([one for one, _ in offsets], np.int64)
        end_T = np.maximum.accumulate(np.array([one for _, one in offsets], np.int64))
        following_T = np.append(np.minimum.accumulate(begin_T[::-1])[::-1][1:], length)
        cut_T = (following_T >= end_T) & (end_T > 0)
        end_T[-1], cut_T[-1] = length, True
        return cls(end_T, cut_T, nats_T, mark)


@dataclass(frozen=True)
class Spans:
    """The stretches of one document that both models scored. S spans, in the order of the text.

    begin_S, end_S: characters; an end mark, which stands for none, is a span from the end of the text to the end.
    before_S, after_S: nats of each model; tokens_before_S, tokens_after_S: in how many targets.
    left_out: characters that only one model scored; marks_left_out: end marks that only one has.
    """

    begin_S: np.ndarray
    end_S: np.ndarray
    before_S: np.ndarray
    after_S: np.ndarray
    tokens_before_S: np.ndarray
    tokens_after_S: np.ndarray
    left_out: int = 0
    marks_left_out: int = 0

    def texts(self, text: str) -> list[str]:
        return [text[a:b] for a, b in zip(self.begin_S.tolist(), self.end_S.tolist(), strict=True)]


def align(length: int, before: ReadDocument, after: ReadDocument) -> Spans:
    """Two readings of a text of this many characters, in their common spans."""
    cuts = np.intersect1d(before.end_T[before.cut_T], after.end_T[after.cut_T])
    sums = [_sum(one, cuts) for one in (before, after)]
    begin_S, end_S = np.append(0, cuts[:-1]), cuts
    (old_S, old_tokens_S), (new_S, new_tokens_S) = sums
    kept_S, one_S = np.isfinite(old_S) & np.isfinite(new_S), np.isfinite(old_S) ^ np.isfinite(new_S)
    columns = [one[kept_S] for one in (begin_S, end_S, old_S, new_S, old_tokens_S, new_tokens_S)]
    if before.mark is not None and after.mark is not None:
        last = (length, length, before.mark, after.mark, 1, 1)
        columns = [np.append(column, value) for column, value in zip(columns, last, strict=True)]
    return Spans(
        *columns,
        left_out=int((end_S - begin_S)[one_S].sum()),
        marks_left_out=int((before.mark is None) != (after.mark is None)),
    )


def _sum(reading: ReadDocument, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(nats, targets) between the cuts; NaN where a target was not scored."""
    place_T = np.searchsorted(cuts, reading.end_T)
    nats_S = np.bincount(place_T, weights=reading.nats_T.astype(np.float64), minlength=len(cuts))
    return nats_S, np.bincount(place_T, minlength=len(cuts))


def words(text: str, spans: Spans) -> np.ndarray:
    """For every span the number of the word that it belongs to, from 0: spans with a border inside a word are one."""
    inside = np.fromiter((one.isalnum() or one == "_" for one in text), np.bool_, len(text))
    opens_S = np.ones(len(spans.end_S), np.bool_)
    inner_S = (spans.begin_S > 0) & (spans.begin_S < len(text))
    at = spans.begin_S[inner_S]
    joined = np.append(False, spans.end_S[:-1] == spans.begin_S[1:])[: len(opens_S)]
    opens_S[inner_S] = ~(inside[at - 1] & inside[at] & joined[inner_S])
    return np.cumsum(opens_S) - 1


@dataclass(frozen=True)
class Unit:
    """Stretches of text of one kind in the making: their distinct texts numbered, documents one after the other."""

    number: dict[str, int]
    items: list[np.ndarray]
    before: list[np.ndarray]
    after: list[np.ndarray]

    @classmethod
    def empty(cls) -> Unit:
        return cls({}, [], [], [])

    def add(self, texts: Sequence[str], before: np.ndarray, after: np.ndarray) -> None:
        """One document."""
        found = (self.number.setdefault(text, len(self.number)) for text in texts)
        self.items.append(np.fromiter(found, np.uint32, len(texts)))
        self.before.append(before)
        self.after.append(after)

    def evidence(self, source: str, position_D: np.ndarray, num_bytes_D: np.ndarray) -> tuple[Evidence, Evidence]:
        """What both models made of it, in evidence whose targets are these texts."""
        bounds_E = np.append(0, np.cumsum([len(one) for one in self.items])).astype(np.int64)
        items_N = np.concatenate([np.zeros(0, np.uint32), *self.items])
        vocabulary = {number: text for text, number in self.number.items()}
        old_N, new_N = (np.concatenate([np.zeros(0), *side]) for side in (self.before, self.after))
        old, new = (
            Evidence(source, position_D, num_bytes_D, bounds_E, items_N, nats_N, vocabulary)
            for nats_N in (old_N, new_N)
        )
        return old, new
