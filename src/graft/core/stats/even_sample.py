"""Steps of the golden ratio: however many of them are taken, they lie evenly over what they go through."""

from __future__ import annotations

import numpy as np

GOLDEN = (5**0.5 - 1) / 2


def golden_order(count: int) -> np.ndarray:
    """0 .. count - 1 in an order of which every beginning spreads evenly over all of them."""
    return np.argsort(np.arange(count) * GOLDEN % 1.0, kind="stable")
