"""How well predictions meet measured losses."""

from __future__ import annotations

import numpy as np


def r2(predicted_T: np.ndarray, loss_T: np.ndarray) -> float:
    """1 - residual sum of squares / sum of squares about the mean; NaN where the losses do not differ."""
    spread = float(np.square(loss_T - loss_T.mean()).sum())
    return 1 - float(np.square(loss_T - predicted_T).sum()) / spread if spread > 0 else float("nan")


def huber(predicted_T: np.ndarray, loss_T: np.ndarray, delta: float = 1e-3) -> float:
    """Mean Huber loss of the difference of logarithms: r^2 / 2 up to delta, delta (|r| - delta / 2) beyond."""
    return float(huber_of(np.log(predicted_T) - np.log(loss_T), delta).mean())


def huber_of(residual: np.ndarray, delta: float) -> np.ndarray:
    """Element by element, as scipy.special.huber."""
    small = np.minimum(np.abs(residual), delta)
    return small * (np.abs(residual) - 0.5 * small)


def mre(predicted_T: np.ndarray, loss_T: np.ndarray) -> float:
    """Mean relative error, |predicted - loss| / loss."""
    return float((np.abs(predicted_T - loss_T) / np.abs(loss_T)).mean())


def spearman(predicted_T: np.ndarray, loss_T: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank; NaN where either side does not differ."""
    one, other = (_ranks(values) - (len(values) + 1) / 2 for values in (predicted_T, loss_T))
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """1-based ranks, ties sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def all_metrics(predicted_T: np.ndarray, loss_T: np.ndarray) -> dict[str, float]:
    """n, r2, huber, mre and spearman, as the tables of this package show them."""
    return {
        "n": len(loss_T),
        "r2": r2(predicted_T, loss_T),
        "huber": huber(predicted_T, loss_T),
        "mre": mre(predicted_T, loss_T),
        "spearman": spearman(predicted_T, loss_T),
    }
