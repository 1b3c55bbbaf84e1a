"""How much of what was once known of earlier domains is gone at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from graft.continual.score_matrix import ScoreMatrix
from graft.core.config.settings import check_choices


@dataclass(frozen=True)
class Forgetting:
    """Mean over j < T of what R[j] lost: from its best after any earlier turn ("max"), or from just after its own turn
    ("first_minus_last"). Above 0 is forgetting, of losses too.

    max: 1 / (T - 1) * sum over j < T of max over l < T of (R[l][j] - R[T][j]); Chaudhry et al. 2018 (arXiv 1801.10112).
    It is below 0 only where the last turn is the best for a domain. first_minus_last is minus BWT (gem). Undefined for
    one domain.
    """

    form: Literal["max", "first_minus_last"] = "max"

    def __post_init__(self) -> None:
        check_choices(self)

    def __call__(self, scores: ScoreMatrix) -> np.ndarray:
        if scores.turns < 2:
            return np.full(scores.start_T.shape[:-1], np.nan)
        last_T = scores.after_TT[..., -1, :-1]
        if self.form == "first_minus_last":
            return scores.gain(scores.diagonal_T[..., :-1], last_T).mean(-1)
        earlier_TT = scores.after_TT[..., :-1, :-1]
        return scores.gain(earlier_TT, last_T[..., None, :]).max(-2).mean(-1)
