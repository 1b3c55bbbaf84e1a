"""What the stream did to text that is in no domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.continual.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class GeneralChange:
    """Score on general text after the last turn minus that of the base; below 0 is forgetting.

    Of losses the sign is turned. As the deltas of TRACE (arXiv 2310.06762), which are of a suite of tasks.
    """

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        return scores.gain(scores.general_T[..., -1], scores.general)
