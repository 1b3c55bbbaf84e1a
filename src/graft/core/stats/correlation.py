"""How a measure of texts goes with what was measured of runs on them: two coefficients, intervals over texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.core.stats.random_streams import stream

LEAST, FOR_INTERVAL = 3, 5  # texts for a coefficient, and for its interval
DRAWS = 2000


@dataclass(frozen=True)
class Correlation:
    """pearson, spearman: -1 to 1, None with fewer than 3 texts or where one side never changes.

    Intervals: 95 % percentile bootstrap over texts, all runs of a text together, since runs on one text are not
    independent; None with fewer than 5 texts. Draws in which a side never changes are left out. With few texts they
    are narrower than they should be.
    """

    runs: int
    texts: int
    pearson: float | None = None
    spearman: float | None = None
    pearson_interval: tuple[float, float] | None = None
    spearman_interval: tuple[float, float] | None = None


def correlate(
    measure_R: Sequence[float], change_R: Sequence[float], text_R: Sequence[str], seed: int = 0
) -> Correlation:
    """Of R runs: the measure of their text, the change of its loss, and which text it was."""
    from scipy.stats import rankdata

    measure, change = np.asarray(measure_R, np.float64), np.asarray(change_R, np.float64)
    names = list(dict.fromkeys(text_R))
    rows = [np.flatnonzero([one == name for one in text_R]) for name in names]
    whole = Correlation(len(measure), len(names))
    if len(names) < LEAST or not _varies(measure, change):
        return whole
    ranked = [_pearson(rankdata(measure), rankdata(change)), _pearson(measure, change)]
    if len(names) < FOR_INTERVAL:
        return Correlation(whole.runs, whole.texts, ranked[1], ranked[0])
    generator = stream(seed, "correlation")
    drawn: list[tuple[float, float]] = []
    for _ in range(DRAWS):
        taken = np.concatenate([rows[k] for k in generator.integers(0, len(rows), len(rows))])
        if _varies(measure[taken], change[taken]):
            again = rankdata(measure[taken]), rankdata(change[taken])
            drawn.append((_pearson(measure[taken], change[taken]), _pearson(*again)))
    (low, rank_low), (high, rank_high) = np.quantile(np.asarray(drawn), [0.025, 0.975], axis=0)
    return Correlation(
        whole.runs, whole.texts, ranked[1], ranked[0], (float(low), float(high)), (float(rank_low), float(rank_high))
    )


def _varies(*sides: np.ndarray) -> bool:
    return all(np.ptp(side) > 0 for side in sides)


def _pearson(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))
