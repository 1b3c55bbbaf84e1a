"""Whether documents of two texts are as near to each other as to their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.records.features import Features


@dataclass(frozen=True)
class Mmd:
    """Squared maximum mean discrepancy of the documents' embeddings under a Gaussian kernel, unbiased.

    k(a, b) = exp(-|a - b|^2 / (2 s^2)), s = scale * median distance between any two different documents of both texts
    together; MMD^2 = mean k within the text + mean k within the reference - 2 mean k across, no document with itself.
    0 is expected of two samples of one text, so it can come out below 0.
    Source: Gretton et al. 2012 (JMLR 13, lemma 6; the median in section 8). NaN where a text has a single document.
    """

    scale: float = 1.0  # of the median distance

    larger_is_closer: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UsageError(f"scale is {self.scale}", allowed="above 0", do="1 is the median heuristic")

    def __call__(self, text: Features, reference: Features) -> float:
        times_D = np.concatenate([text.times_D, reference.times_D])
        vectors_DW = np.concatenate([text.vectors_DW, reference.vectors_DW])[times_D > 0]
        first = int((text.times_D > 0).sum())
        times_D = times_D[times_D > 0]
        if first < 2 or len(times_D) - first < 2:
            return float("nan")
        square_D = (vectors_DW**2).sum(1)
        square_DD = np.maximum(square_D[:, None] + square_D - 2 * vectors_DW @ vectors_DW.T, 0.0)
        above = np.triu_indices(len(times_D), 1)
        width = (self.scale * np.median(np.sqrt(square_DD[above]))) ** 2
        if width == 0:
            return 0.0  # more than half of all documents are one and the same
        kernel_DD = np.exp(-square_DD / (2 * width))
        np.fill_diagonal(kernel_DD, 0.0)
        mine, theirs = slice(0, first), slice(first, None)
        across = times_D[mine] @ kernel_DD[mine, theirs] @ times_D[theirs]
        across /= times_D[mine].sum() * times_D[theirs].sum()
        return float(
            _within(kernel_DD[mine, mine], times_D[mine])
            + _within(kernel_DD[theirs, theirs], times_D[theirs])
            - 2 * across
        )


def _within(kernel_DD: np.ndarray, times_D: np.ndarray) -> float:
    """Mean of the kernel over pairs of different documents; its diagonal is 0."""
    return float(times_D @ kernel_DD @ times_D / (times_D.sum() ** 2 - (times_D**2).sum()))
