"""Mean loss per byte of text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graft.core.records.evidence import Evidence
from graft.core.stats.tally import Tally


@dataclass(frozen=True)
class BitsPerByte:
    """-log2 p(document) per UTF-8 byte of its text: comparable between any two models, whatever their tokenizers.

    The end token's bits count towards the document; it adds no byte.
    """

    def __call__(self, evidence: Evidence) -> Tally[np.ndarray]:
        return Tally(evidence.sum_D(evidence.nats_N) / math.log(2), evidence.num_bytes_D.astype(np.float64))
