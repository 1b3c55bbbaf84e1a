"""How alike the mean embeddings are in direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graft.core.records.features import Features


@dataclass(frozen=True)
class MeanCosine:
    """Cosine of the angle between the mean embeddings of the two texts: -1 to 1.

    Hidden states of language models lie in a narrow cone, so values near 1 are the rule and differences between texts
    are small (Ethayarajh 2019, arXiv 1909.00512). Nothing is subtracted first: what Odyssey (arXiv 2410.05581) did is
    not published.
    """

    larger_is_closer: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __call__(self, text: Features, reference: Features) -> float:
        lengths = np.linalg.norm(text.mean_W) * np.linalg.norm(reference.mean_W)
        return float(text.mean_W @ reference.mean_W / lengths)
