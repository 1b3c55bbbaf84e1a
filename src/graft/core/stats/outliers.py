"""Which of many numbers stand out, by a rule that those who stand out do not move."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graft.core.config.errors import UsageError

BLOCK = 1 << 14  # losses looked at together


@dataclass(frozen=True)
class Spikes:
    """Which losses of a run stand out among their neighbours in time.

    Loss y_i of a step is a spike where y_i - m_i > max(k * MAD_i, least * m_i). m_i is the larger of two medians, of
    the `near` losses before it and of the `near` after it, so that neither a loss that falls nor one that rises to stay
    is a spike; MAD_i is the median distance of those neighbours from the median of their own side (for normal noise a
    standard deviation is 1.48 of it, so that k = 8 is 5.4 of them). Losses are those of one source, whose steps are its
    own. A side with fewer than `fewest` neighbours does not count, and a loss with fewer before it is none: the first
    steps of a run fall too steeply to say. A loss that is not finite is a spike wherever it stands. Rule and borders
    are this project's.
    """

    k: float = 8.0  # median distances above the median
    least: float = 0.02  # share of the median that a spike is above it at least
    near: int = 25  # losses on either side
    fewest: int = 5

    def __post_init__(self) -> None:
        if self.k < 0 or self.least < 0:
            raise UsageError(f"k is {self.k} and least {self.least}", allowed="0 or more")
        if not 1 <= self.fewest <= self.near:
            raise UsageError(f"fewest is {self.fewest} and near {self.near}", allowed="1 <= fewest <= near")

    @property
    def rule(self) -> str:
        """In words."""
        return (
            f"more than {self.k:g} median distances (MAD) and {self.least:.0%} above the median of the {self.near} "
            f"steps of the same source before it, and above that of the {self.near} after it"
        )

    def __call__(self, loss_S: Sequence[float] | np.ndarray) -> list[tuple[int, float]]:
        """(place, m_i) of every spike of one source's losses in their order.

        What is not finite stands out, also among the first; its m_i is that of the neighbours there are, NaN of none.
        """
        known = np.asarray(loss_S, np.float64)
        empty = np.full(self.near, np.nan)
        padded = np.concatenate([empty, np.where(np.isfinite(known), known, np.nan), empty])
        found: list[tuple[int, float]] = []
        for first in range(0, len(known), BLOCK):
            value_S = known[first : first + BLOCK]
            around = sliding_window_view(padded[first : first + len(value_S) + 2 * self.near], 2 * self.near + 1)
            middle_S, spread_S, told_S = self._usual(around[:, : self.near], around[:, self.near + 1 :])
            above_S = value_S - middle_S > np.maximum(self.k * spread_S, self.least * abs(middle_S))
            places = np.flatnonzero((told_S & above_S) | ~np.isfinite(value_S))
            found += [(first + int(i), float(middle_S[i])) for i in places]
        return found

    def _usual(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(m_i, MAD_i) from the neighbours of each loss, NaN where there is none, and whether enough came before."""
        counts = [(~np.isnan(side)).sum(1) for side in (before, after)]
        after = np.where(counts[1][:, None] < self.fewest, np.nan, after)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of rows without any neighbour, whose median is NaN
            medians = [np.nanmedian(side, axis=1, keepdims=True) for side in (before, after)]
            sides = zip((before, after), medians, strict=True)
            away = np.concatenate([abs(side - median) for side, median in sides], axis=1)
            middle_S = np.fmax(medians[0], medians[1])[:, 0]
            return middle_S, np.nanmedian(away, axis=1), counts[0] >= self.fewest


def standing_out(values_N: np.ndarray, among_M: np.ndarray, k: float = 8.0, fewest: int = 8) -> np.ndarray:
    """Of every value how many median distances it lies above (+) or below (-) the median of others; 0 within k.

    Nothing stands out among fewer than `fewest` others, or where most of them are alike.
    """
    if len(among_M) < fewest:
        return np.zeros(len(values_N))
    middle = np.median(among_M)
    spread = np.median(abs(among_M - middle))
    if spread <= 0:
        return np.zeros(len(values_N))
    away_N = (values_N - middle) / spread
    return np.where(abs(away_N) > k, away_N, 0.0)
