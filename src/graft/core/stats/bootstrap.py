"""Intervals by resampling documents, the unit that is independent; tokens of one document are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally

DRAWS = 4000


@dataclass(frozen=True)
class MeanChange:
    """A mean before and after on the same documents, and the relative change (after - before) / before.

    interval: 95 % bootstrap over documents, paired (a draw takes a document's before and after together), its
    percentiles as `levels` has them; None with fewer than two documents, where nothing can be resampled.
    """

    before: float
    after: float
    change: float
    interval: tuple[float, float] | None


def levels(documents: int) -> tuple[float, float]:
    """The two percentiles of draws between which a 95 % interval lies, for so many documents that are drawn from.

    From few documents 2.5 and 97.5 % make intervals that are too narrow, as a normal interval is that should be
    Student's: by the expanded percentile interval of Hesterberg 2015 (arXiv 1411.5279, section 5.3) the lower level is
    Phi(sqrt(n / (n - 1)) * t_(0.025, n - 1)), 1.6 % for 20 documents and 2.2 % for 100. How often the truth is held
    then: benchmarks/coverage.py.
    """
    from scipy.stats import norm, t

    low = float(norm.cdf(np.sqrt(documents / (documents - 1)) * t.ppf(0.025, documents - 1)))
    return low, 1 - low


def paired_change(before: Tally[np.ndarray], after: Tally[np.ndarray], *, seed: int = 0) -> MeanChange:
    """before, after: one entry per document (total_D, count_D), in the same order, with the same counts."""
    old, new = float(before.total.sum()), float(after.total.sum())
    count = float(before.count.sum())
    interval = None
    if len(before.total) >= 2:
        draws = _draw_changes(before.total, after.total, stream(seed, "bootstrap"))
        low, high = np.quantile(draws, levels(len(before.total)))
        interval = (float(low), float(high))
    return MeanChange(old / count, new / float(after.count.sum()), new / old - 1, interval)


def change_bound(before: Tally[np.ndarray], after: Tally[np.ndarray], confidence: float, *, seed: int = 0) -> float:
    """What the relative change is below with this confidence, one-sided; see `paired_change`.

    With fewer than two documents nothing can be resampled: then it is the change itself.
    """
    if len(before.total) < 2:
        return float(after.total.sum() / before.total.sum()) - 1
    return float(np.quantile(_draw_changes(before.total, after.total, stream(seed, "bootstrap")), confidence))


def resampled(totals_KD: np.ndarray, draws: int, draw: np.random.Generator) -> np.ndarray:
    """sums_RK: of K rows of numbers, one per document, over the documents of each draw, the same draws for all rows."""
    documents = totals_KD.shape[1]
    sums_RK = np.empty((draws, len(totals_KD)))
    block = max(1, 4_000_000 // documents)
    for first in range(0, draws, block):
        size = min(block, draws - first)
        times_RD = draw.multinomial(documents, np.full(documents, 1 / documents), size=size)
        sums_RK[first : first + size] = times_RD.astype(np.float64) @ totals_KD.T
    return sums_RK


def _draw_changes(before_D: np.ndarray, after_D: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Relative change of DRAWS resamples; counts cancel because both sides share them."""
    before_R, after_R = resampled(np.stack([before_D, after_D]), DRAWS, draw).T
    return after_R / before_R - 1
