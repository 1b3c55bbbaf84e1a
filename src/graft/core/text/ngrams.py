"""Hashes of word n-grams, many documents at a time: what overlap between texts is measured in.

A word is a run of letters, digits, marks and underscores, case ignored. Where a script writes no spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan), every character counts as a word. Texts are read in their
canonical form (`graft.core.text.documents.canonical`): "é" is one word whether it is stored as one character or as two.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from graft.core.text.documents import canonical

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

CHARACTER_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
WORD_BASE = 0xD1342543DE82EF95
PIECE = 1 << 21  # characters hashed at a time; about 60 bytes of memory each
SLOTS = 8  # of the sieve, per n-gram held: at most one look-up in 8 of those that find nothing is repeated in full
LAST_CODE = 0x33480  # beyond it Unicode 16 has no letters
UNSPACED = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, LAST_CODE),
)


def ngrams(texts: Sequence[str], n: int) -> tuple[Hashes, Indices]:
    """(hash of every n-gram, index of its text), texts in order; n-grams do not cross texts.

    A text of fewer than n words has one n-gram, all of it, which only a text of the same words can share; a text
    without words has none. Texts above PIECE characters are cut there, and n-grams across a cut are left out.
    """
    hashes: list[Hashes] = []
    owners: list[Indices] = []
    for batch, indices in _batches([canonical(text) for text in texts]):
        found, owner = _hashed(batch, n)
        hashes.append(found)
        owners.append(np.asarray(indices, np.int64)[owner])
    if not hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate(hashes), np.concatenate(owners)


@dataclass(frozen=True)
class Held:
    """A set of n-grams to look others up in: sorted, behind a sieve that answers most of them with one look."""

    sorted: Hashes
    found: NDArray[np.bool_]  # which of them training text has
    sieve: NDArray[np.bool_]
    shift: np.uint64

    @classmethod
    def of(cls, grams: Hashes) -> Held:
        unique = _unique(grams)
        bits = min(30, max(10, int(len(unique) * SLOTS).bit_length()))
        shift = np.uint64(64 - bits)
        sieve = np.zeros(1 << bits, np.bool_)
        sieve[unique >> shift] = True
        return cls(unique, np.zeros(len(unique), np.bool_), sieve, shift)

    def place(self, grams: Hashes) -> NDArray[np.int64]:
        """Where in `sorted` these n-grams, which are all held, stand."""
        order = np.argsort(grams)  # neighbours are found in the same part of memory: ten times as fast
        places = np.empty(len(grams), np.int64)
        places[order] = np.searchsorted(self.sorted, grams[order])
        return places

    def hits(self, grams: Hashes) -> NDArray[np.int64]:
        """Places of those of `grams` that are held."""
        likely = _unique(grams[self.sieve[grams >> self.shift]])
        places = np.minimum(np.searchsorted(self.sorted, likely), len(self.sorted) - 1)
        return places[self.sorted[places] == likely]


def _unique(grams: Hashes) -> Hashes:
    """The different ones, in order. Sorting takes a tenth of what numpy's `unique` takes, which hashes first."""
    grams = np.sort(grams)
    new = np.ones(len(grams), np.bool_)
    new[1:] = grams[1:] != grams[:-1]
    return grams[new]


def _batches(texts: Sequence[str]):
    """(texts, their indices) of together about PIECE characters."""
    batch: list[str] = []
    indices: list[int] = []
    held = 0
    for index, text in enumerate(texts):
        for start in range(0, max(1, len(text)), PIECE):
            part = text[start : start + PIECE]
            if held + len(part) > PIECE and batch:
                yield batch, indices
                batch, indices, held = [], [], 0
            batch.append(part)
            indices.append(index)
            held += len(part)
    if batch:
        yield batch, indices


def _hashed(texts: list[str], n: int) -> tuple[Hashes, Indices]:
    """`ngrams` of one batch."""
    value, kind = _characters()
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "replace"), np.uint32)
    codes = np.minimum(codes, LAST_CODE)
    kinds = kind[codes]
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    first = np.flatnonzero((kinds == 2) | ((kinds == 1) & (before != 1)))  # where words begin
    if not len(first):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    power, inverse = _powers(CHARACTER_BASE, len(codes))
    words = _mixed(np.add.reduceat(value[codes] * power, first) * inverse[first])
    text_ends = np.cumsum([len(text) + 1 for text in texts])
    word_ends = np.searchsorted(first, text_ends)  # number of words up to the end of each text
    return _grams(words, word_ends, n)


def _grams(words: Hashes, ends: Indices, n: int) -> tuple[Hashes, Indices]:
    """n-grams over word hashes, where text k has the words from ends[k - 1] to ends[k]."""
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    power, inverse = _powers(WORD_BASE, len(words) + 1)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words * power[: len(words)])])
    counts = ends - starts
    num_grams = np.maximum(counts - n + 1, (counts > 0).astype(np.int64))
    owner = np.repeat(np.arange(len(ends)), num_grams)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(num_grams) - num_grams, num_grams)
    left = starts[owner] + within
    length = np.minimum(counts, n)[owner]
    grams = (sums[left + length] - sums[left]) * inverse[left]
    return _mixed(grams + length.astype(np.uint64)), owner


def _mixed(hashes: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


@cache
def _characters() -> tuple[Hashes, NDArray[np.uint8]]:
    """For every code point: a hash of its lower-case form (0: no word), and 0 border, 1 in a word, 2 a word alone."""
    kind = np.zeros(LAST_CODE + 1, np.uint8)
    lower = np.zeros(LAST_CODE + 1, np.uint64)
    for code in range(LAST_CODE):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNM" or character == "_":
            kind[code] = 1
            lower[code] = ord(character.lower()[0])
    for low, high in UNSPACED:
        kind[low : high + 1] *= 2
    return np.where(kind > 0, _mixed(lower + np.uint64(1)), np.uint64(0)), kind


_known_powers: dict[int, tuple[Hashes, Hashes]] = {}


def _powers(base: int, count: int) -> tuple[Hashes, Hashes]:
    """base^0, base^1, ... and base^-0, base^-1, ... modulo 2^64, at least `count` of each."""
    known = _known_powers.get(base)
    if known is None or len(known[0]) < count:
        size = max(count, PIECE + (PIECE >> 4))
        known = (_cumulated(base, size), _cumulated(pow(base, -1, 1 << 64), size))
        _known_powers[base] = known
    return known[0][:count], known[1][:count]


def _cumulated(base: int, size: int) -> Hashes:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
