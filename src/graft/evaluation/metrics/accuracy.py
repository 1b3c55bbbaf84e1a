"""Share of tokens that the model would have written itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graft.core.config.errors import FaultError
from graft.core.records.evidence import Evidence
from graft.core.stats.tally import Tally


@dataclass(frozen=True)
class Accuracy:
    """Targets that no other token was likelier than, over all targets (end tokens included): top-1 accuracy.

    Comparable only between models that share a tokenizer. Larger is better.
    """

    def __call__(self, evidence: Evidence) -> Tally[np.ndarray]:
        """Errors: FaultError where the evidence does not say which token was likeliest."""
        if len(evidence.best_N) != len(evidence.nats_N):
            raise FaultError(
                f'what was seen of "{evidence.source}" does not say which token was likeliest',
                do="score the text again",
            )
        return Tally(evidence.sum_D(evidence.best_N), np.diff(evidence.bounds_E).astype(np.float64))
