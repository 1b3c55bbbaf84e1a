"""The mean over the domains seen so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.continual.score_matrix import ScoreMatrix
from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class OverallPerformance:
    """OP_t = mean over j <= t of R[t][j]; after the last turn it is also called ACC.

    Source: Chaudhry et al. 2018 (arXiv 1801.10112) as average accuracy, TRACE (arXiv 2310.06762) as OP. Of losses it is
    a mean loss: smaller is better.
    """

    after: int = 0  # turn t, counted from 1; 0: the last

    def __post_init__(self) -> None:
        if self.after < 0:
            raise UsageError(f"after is {self.after}", allowed="a turn, counted from 1, or 0 for the last")

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        turn = self.after or scores.turns
        return scores.after_TT[..., turn - 1, :turn].mean(-1)
