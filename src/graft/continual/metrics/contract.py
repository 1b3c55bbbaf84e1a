"""What a metric of a stream looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from graft.continual.score_matrix import ScoreMatrix


class StreamMetric(Protocol):
    """A number read off the matrix of a stream."""

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        """One number for every leading dimension of `scores` (bootstrap resamples)."""
        ...
