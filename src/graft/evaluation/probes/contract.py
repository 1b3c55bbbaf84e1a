"""What a probe looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from graft.core.records.evidence import Evidence


class Probe(Protocol):
    """A comparison of the evidence before and after training."""

    def __call__(self, before: Mapping[str, Evidence], after: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        """Rows of one table; before, after: by source."""
        ...
