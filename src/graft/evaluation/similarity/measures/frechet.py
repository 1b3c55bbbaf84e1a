"""How far two clouds of documents lie apart, taken as Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graft.core.records.features import Features


@dataclass(frozen=True)
class Frechet:
    """Squared Frechet distance of Gaussians with the means and covariances of the documents' embeddings.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), covariances divided by documents - 1; 0 for equal clouds, in squared
    units of the embedding. The trace of the root is the sum of the singular values of A1 A2^T, where C = A^T A.
    Sources: Dowson and Landau 1982; Heusel et al. 2017 (arXiv 1706.08500). Too large with few documents, the more so
    the wider the embedding, so it compares only between texts of equally many documents, and the
    correction of `graft.evaluation.similarity.measure_similarity` is large. NaN for a single document.
    """

    larger_is_closer: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __call__(self, text: Features, reference: Features) -> float:
        if min(text.num_drawn, reference.num_drawn) < 2:
            return float("nan")
        spread, other = _spread(text), _spread(reference)
        root = np.linalg.svd(spread @ other.T, compute_uv=False).sum()
        apart = ((text.mean_W - reference.mean_W) ** 2).sum()
        return float(max(0.0, apart + (spread**2).sum() + (other**2).sum() - 2 * root))


def _spread(one: Features) -> np.ndarray:
    """A with A^T A = the covariance, of no more rows than columns."""
    part = one.times_D > 0
    centred_DW = (one.vectors_DW[part] - one.mean_W) * np.sqrt(one.times_D[part, None] / (one.num_drawn - 1))
    if len(centred_DW) <= centred_DW.shape[1]:
        return centred_DW
    return np.asarray(np.linalg.qr(centred_DW, mode="r"))
