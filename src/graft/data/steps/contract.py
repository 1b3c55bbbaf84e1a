"""What a curation step looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graft.core.text.daft_frames import DataFrame


class Step(Protocol):
    """Curation of documents."""

    def __call__(self, docs: DataFrame) -> DataFrame:
        """The same documents; what it drops is marked, never deleted."""
        ...
