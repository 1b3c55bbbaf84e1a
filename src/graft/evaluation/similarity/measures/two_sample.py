"""How well a classifier tells the two texts apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.records.features import Features
from graft.core.stats.random_streams import stream


@dataclass(frozen=True)
class TwoSample:
    """Error of a linear classifier that says of unseen documents which text they are from: 0 apart, 0.5 alike.

    Ridge regression on +1 and -1 over embeddings standardised on the training folds, penalty times the squared
    weights without the intercept; every text counts for half, in training and in the error, however many documents it
    has. The error is that on held-out folds, and a little above 0.5 now and then where the texts are one.
    Source: classifier two-sample tests, Lopez-Paz and Oquab 2017 (arXiv 1610.06545); there other classifiers.
    NaN where a text has fewer than `folds` documents.
    """

    folds: int = 5
    penalty: float = 1.0  # in documents: it weighs as much as this many of them
    seed: int = 0  # of the folds

    larger_is_closer: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"folds is {self.folds}", allowed="2 or more", do="5 is usual")
        if not self.penalty > 0:
            raise UsageError(f"penalty is {self.penalty}", allowed="above 0")

    def __call__(self, text: Features, reference: Features) -> float:
        parts = [self._folds(len(side), name) for side, name in ((text, "text"), (reference, "reference"))]
        held_D, times_D = np.concatenate(parts), np.concatenate([text.times_D, reference.times_D])
        vectors_DW = np.concatenate([text.vectors_DW, reference.vectors_DW])
        side_D = np.concatenate([np.ones(len(text)), -np.ones(len(reference))])
        drawn = times_D > 0
        held_D, times_D, vectors_DW, side_D = held_D[drawn], times_D[drawn], vectors_DW[drawn], side_D[drawn]
        if min((side_D > 0).sum(), (side_D < 0).sum()) < self.folds:
            return float("nan")
        wrong_D = np.zeros(len(side_D))
        for fold in range(self.folds):
            test = held_D == fold
            if min(times_D[~test & (side_D > 0)].sum(), times_D[~test & (side_D < 0)].sum()) == 0:
                return float("nan")
            score_D = self._scores(vectors_DW[~test], side_D[~test], times_D[~test], vectors_DW[test])
            wrong_D[test] = np.where(score_D == 0, 0.5, score_D * side_D[test] < 0)
        sides = (side_D > 0, side_D < 0)
        return float(np.mean([times_D[side] @ wrong_D[side] / times_D[side].sum() for side in sides]))

    def _folds(self, documents: int, name: str) -> np.ndarray:
        return stream(self.seed, "folds", name).permutation(documents) % self.folds

    def _scores(
        self, vectors_DW: np.ndarray, side_D: np.ndarray, times_D: np.ndarray, test_DW: np.ndarray
    ) -> np.ndarray:
        """Above 0: of the text. side_D: +1 and -1."""
        half = times_D.sum() / 2
        weight_D = times_D.copy()
        for side in (side_D > 0, side_D < 0):
            weight_D[side] *= half / times_D[side].sum()
        mean_W = weight_D @ vectors_DW / weight_D.sum()
        centred_DW = vectors_DW - mean_W
        scale_W = np.sqrt(weight_D @ centred_DW**2 / weight_D.sum())
        scale_W[scale_W == 0] = 1.0
        centred_DW /= scale_W
        # Both texts weigh the same, so the mean target is 0 and there is no intercept to fit.
        inner_WW = centred_DW.T @ (weight_D[:, None] * centred_DW)
        inner_WW[np.diag_indices_from(inner_WW)] += self.penalty
        slope_W = np.linalg.solve(inner_WW, centred_DW.T @ (weight_D * side_D))
        return (test_DW - mean_W) / scale_W @ slope_W
