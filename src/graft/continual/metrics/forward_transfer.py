"""What earlier turns did for domains whose turn was still to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.continual.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class ForwardTransfer:
    """FWT = 1 / (T - 1) * sum over j >= 2 of (R[j-1][j] - b_j), b the base before any turn; above 0 is help.

    Of losses the sign is turned, so that above 0 is help too. Source: Lopez-Paz and Ranzato 2017 (arXiv 1706.08840),
    whose b is a network at random; here it is the base that is adapted. Undefined for one domain.
    """

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        if scores.turns < 2:
            return np.full(scores.start_T.shape[:-1], np.nan)
        before_T = np.diagonal(scores.after_TT, offset=1, axis1=-2, axis2=-1)
        return scores.gain(before_T, scores.start_T[..., 1:]).mean(-1)
