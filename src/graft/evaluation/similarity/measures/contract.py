"""What a measure of similarity looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from graft.core.records.features import Features


class Similarity(Protocol):
    """How alike two texts are."""

    larger_is_closer: ClassVar[bool]
    bounds: ClassVar[tuple[float, float]]  # of its values

    def __call__(self, text: Features, reference: Features) -> float:
        """Of two texts as features; NaN where they are too small to tell."""
        ...
