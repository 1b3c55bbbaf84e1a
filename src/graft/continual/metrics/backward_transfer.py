"""What later turns did to earlier domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graft.continual.score_matrix import ScoreMatrix
from graft.core.config.settings import check_choices


@dataclass(frozen=True)
class BackwardTransfer:
    """BWT = sum over j < T of (R[T][j] - R[j][j]), over T - 1 ("gem") or over T ("trace"); below 0 is forgetting.

    Of losses the sign is turned, so that below 0 is forgetting too. Source: Lopez-Paz and Ranzato 2017 (arXiv
    1706.08840); TRACE (arXiv 2310.06762) divides by the number of all domains. Minus the gem form is forgetting in its
    first-minus-last form. Undefined for one domain.
    """

    divisor: Literal["gem", "trace"] = "gem"

    def __post_init__(self) -> None:
        check_choices(self)

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        if scores.turns < 2:
            return np.full(scores.start_T.shape[:-1], np.nan)
        gain_T = scores.gain(scores.after_TT[..., -1, :-1], scores.diagonal_T[..., :-1])
        return gain_T.sum(-1) / (scores.turns - (self.divisor == "gem"))
