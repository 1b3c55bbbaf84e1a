"""Mean loss per token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.core.records.evidence import Evidence
from graft.core.stats.tally import Tally


@dataclass(frozen=True)
class NatsPerToken:
    """-log p(target) in nats, per target token (end tokens included); exp of its mean is the perplexity.

    Comparable only between models that share a tokenizer.
    """

    def __call__(self, evidence: Evidence) -> Tally[np.ndarray]:
        return Tally(evidence.sum_D(evidence.nats_N), np.diff(evidence.bounds_E).astype(np.float64))
