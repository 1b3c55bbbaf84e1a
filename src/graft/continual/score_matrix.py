"""R, the matrix of a stream: what a model makes of every domain after each turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreMatrix:
    """after_TT[..., i, j]: the score on domain j after turn i; start_T: of the base; general_T, general: the same of
    general text, after each turn and of the base. Leading dimensions are draws or seeds; a turn that trained nothing is
    NaN.

    smaller_is_better: these are losses. Then every difference is turned, so that more than 0 is better in each metric
    that compares, but for those that measure forgetting, where it is worse; levels stay losses.
    """

    after_TT: np.ndarray
    start_T: np.ndarray
    general_T: np.ndarray
    general: np.ndarray
    smaller_is_better: bool

    @property
    def turns(self) -> int:
        return self.after_TT.shape[-1]

    def gain(self, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """How much better the later one is, in the unit of the scores."""
        return earlier - later if self.smaller_is_better else later - earlier

    @property
    def diagonal_T(self) -> np.ndarray:
        """Each domain just after its own turn."""
        return np.diagonal(self.after_TT, axis1=-2, axis2=-1)
