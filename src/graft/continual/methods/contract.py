"""What a method looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graft.continual.turn import Turn, TurnPlan


class Method(Protocol):
    """How a stream of domains is learned."""

    def __call__(self, turn: Turn) -> TurnPlan | None:
        """What this turn trains and on what; None: it waits."""
        ...
