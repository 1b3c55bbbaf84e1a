"""What was forgotten for each unit that was learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.continual.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class Fuar:
    """FUAR = forgotten / (updated + acquired): 0 is no forgetting, 1 is break-even, undefined without gain.

    forgotten: what general text lost against the base, at least 0. Acquired: the mean over domains of what each gained
    against the base by the end, at least 0 each; plain text knows no facts that are updated. Source: Jang et al. 2022
    (arXiv 2110.03215), who count facts; taking losses or accuracies of text in their place is ours.
    """

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        forgotten = np.maximum(scores.gain(scores.general, scores.general_T[..., -1]), 0.0)
        acquired = np.maximum(scores.gain(scores.after_TT[..., -1, :], scores.start_T), 0.0).mean(-1)
        return np.where(acquired > 0, forgotten / np.where(acquired > 0, acquired, 1.0), np.nan)
