"""How well each domain was learned in its own turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.continual.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class LearningAccuracy:
    """The mean of the diagonal of R: each domain just after its turn. Of losses: smaller is better.

    Source: Riemer et al. 2019 (arXiv 1810.11910).
    """

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        return scores.diagonal_T.mean(-1)
