"""Many texts to token ids, exactly as the tokenizer would give them, but each distinct word is asked for only once."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graft.core.tokens.safe_cuts import EDGE, PART, separable, with_edges_inside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLOCK = 1 << 20  # characters of text looked up together
SPAN = 1 << 18  # characters; a longer text is taken in spans of about this length
SLICE = 4 << 20  # characters handed at once to a tokenizer that is asked for whole texts
GROUP, GROUP_CHARS = 256, 4096  # new words that share one call inside the tokenizer
WORD_BYTES = 250  # what a remembered word takes besides its characters (string, dict entry, number, ids)


class Encoded(NamedTuple):
    """Token ids of many texts end to end, and how many belong to each. D texts."""

    ids: NDArray[np.uint32]
    length_D: NDArray[np.int64]


class CachedEncoder:
    """Token ids of many texts: those of `tokenizer.encode_batch_fast(texts, add_special_tokens=False)`, id by id.

    Nearly all of a text is words seen before. One compiled expression cuts texts into words, a dict numbers each
    distinct one, only new words go to the tokenizer, and the ids are gathered by number. graft.core.tokens.safe_cuts
    says why this is exact, and for which tokenizers: byte-level BPE of the GPT-2, NeoX, Llama 3, Qwen, o200k, Mistral
    and DeepSeek kinds. Every other tokenizer is asked for whole texts.

    The tokenizer must stay as it is while the encoder is in use. Words are forgotten, and learned anew, once they take
    about `memory` bytes. Left out: a second process, since one core at this is sooner than two without it.
    """

    def __init__(self, tokenizer: Tokenizer, memory: int = 256 << 20) -> None:
        self.tokenizer = tokenizer
        self.memory = memory
        self.by_words = separable(tokenizer)
        self._uncut = with_edges_inside(tokenizer)
        self._forget()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of each text, with no token added before or after."""
        if not self.by_words:
            return self._whole(texts)
        parts = [np.zeros(0, np.uint32)]
        length_D = np.zeros(len(texts), np.int64)
        for owners, spans in self._blocks(texts):
            ids, lengths = self._look_up(spans)
            parts.append(ids)
            np.add.at(length_D, owners, lengths)
        return Encoded(np.concatenate(parts), length_D)

    def _whole(self, texts: Sequence[str]) -> Encoded:
        ids, lengths = array("I"), array("q")
        for part in slices(texts, SLICE, len(texts)):
            for encoding in self.tokenizer.encode_batch_fast(part, add_special_tokens=False):
                ids.extend(encoding.ids)
                lengths.append(len(encoding))
        return Encoded(np.array(ids, np.uint32), np.array(lengths, np.int64))

    def _blocks(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Spans of texts, as lists of words, and the text each belongs to: about BLOCK characters at a time."""
        owners: list[int] = []
        spans: list[list[str]] = []
        size = 0
        for owner, text in enumerate(texts):
            for span in self._spans(text):
                owners.append(owner)
                spans.append(span)
                size += SPAN if len(text) > SPAN else len(text)
                if size >= BLOCK:
                    yield owners, spans
                    owners, spans, size = [], [], 0
        if owners:
            yield owners, spans

    def _spans(self, text: str) -> Iterator[list[str]]:
        """The words of a text; of a long one, stretch by stretch."""
        if self._uncut and self._uncut.search(text):
            yield [text]
            return
        begin = 0
        while len(text) - begin > SPAN and (edge := EDGE.search(text, begin + SPAN)):
            yield PART.findall(text, begin, edge.end())
            begin = edge.end()
        yield PART.findall(text, begin) or [""]

    def _look_up(self, spans: list[list[str]]) -> Encoded:
        """The ids of each list of words."""
        counts = np.fromiter(map(len, spans), np.int64, len(spans))
        numbers = np.fromiter(map(self._number.__getitem__, chain.from_iterable(spans)), np.int64, int(counts.sum()))
        new = len(self._number) - len(self._length)
        if new:
            self._learn(list(islice(reversed(self._number), new))[::-1])
        lengths = self._length[numbers]
        end = _ends(lengths)
        places = np.arange(end[-1], dtype=np.int64) + np.repeat(self._first[numbers] - end[:-1], lengths)
        found = Encoded(self._ids[places], np.diff(end[_ends(counts)]))
        if self._bytes > self.memory:
            self._forget()
        return found

    def _learn(self, words: list[str]) -> None:
        """Ask the tokenizer for new words, each as a text of its own; only the calls are shared."""
        ids, lengths = array("I"), [self._length]
        groups = list(slices(words, GROUP_CHARS, GROUP))
        encodings = self.tokenizer.encode_batch(groups, add_special_tokens=False, is_pretokenized=True)
        for group, encoding in zip(groups, encodings, strict=True):
            ids.extend(encoding.ids)
            lengths.append(np.bincount(np.array(encoding.word_ids, np.int64), minlength=len(group)))
        self._ids = np.concatenate([self._ids, np.array(ids, np.uint32)])
        self._length = np.concatenate(lengths)
        self._first = np.cumsum(self._length) - self._length
        self._bytes += sum(map(len, words)) + WORD_BYTES * len(words)

    def _forget(self) -> None:
        self._number: defaultdict[str, int] = defaultdict(count().__next__)
        self._ids = np.zeros(0, np.uint32)
        self._first = np.zeros(0, np.int64)
        self._length = np.zeros(0, np.int64)
        self._bytes = 0


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, then where each of these lengths ends when they lie one after the other."""
    end = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=end[1:])
    return end


def slices(texts: Sequence[str], num_chars: int, num_texts: int) -> Iterator[list[str]]:
    """Neighbours together: a slice is full with so many texts, or once it has so many characters."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= num_chars or len(held) >= num_texts:
            yield held
            held, size = [], 0
    if held:
        yield held
