"""How much of a text's wording the reference has too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.records.features import Features
from graft.core.text.ngrams import ngrams


@dataclass(frozen=True)
class NgramOverlap:
    """Share of the places in the text whose n words in a row also stand somewhere in the reference: 0 to 1.

    Words as in `graft.core.text.ngrams`. It grows with the length of the reference, so it compares only between texts
    that were held against the same one. The reference is taken as it is: when documents are drawn again for an
    interval, those of the text alone are. NaN where the text has no words.
    """

    n: int = 3  # words; not published

    larger_is_closer: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n is {self.n}", allowed="1 word or more", do="3 is the default")

    def __call__(self, text: Features, reference: Features) -> float:
        met = _meet(text.texts, reference.texts, self.n)
        places = text.times_D @ met.places_D
        return float(text.times_D @ met.shared_D / places) if places else float("nan")


class _Met(NamedTuple):
    """Of each document of a text: its n-grams, and how many of them the reference has."""

    places_D: np.ndarray
    shared_D: np.ndarray


@lru_cache(maxsize=4)
def _meet(texts: tuple[str, ...], references: tuple[str, ...], n: int) -> _Met:
    """Kept, because an interval asks some hundred times for the same two texts."""
    grams, owner = ngrams(texts, n)
    shared = np.isin(grams, ngrams(references, n)[0])
    return _Met(np.bincount(owner, minlength=len(texts)), np.bincount(owner, weights=shared, minlength=len(texts)))
