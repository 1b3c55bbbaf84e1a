"""What a schedule looks like."""

from __future__ import annotations

from typing import Protocol


class Schedule(Protocol):
    """The learning rate over a run, as a share of its peak."""

    def __call__(self, step: int, steps: int) -> float:
        """The share at `step` of `steps`, in 0..1."""
        ...
