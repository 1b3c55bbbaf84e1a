"""What a metric looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from graft.core.records.evidence import Evidence
    from graft.core.stats.tally import Tally


class Metric(Protocol):
    """A number read off recorded evidence."""

    def __call__(self, evidence: Evidence) -> Tally[np.ndarray]:
        """A total and a count per document, (E,) each."""
        ...
