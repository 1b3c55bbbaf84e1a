"""Predictions are held near those of the model that the turn began with."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Turn, TurnPlan
from graft.training.objectives import stay_close


@dataclass(frozen=True)
class StayClose:
    """Each domain with the objective `stay_close`: a divergence from the model that the turn before left is paid for.

    Source: Li and Hoiem 2016 (arXiv 1606.09282), there with one start for each new task as here.
    """

    kl_weight: float = 0.5

    def __post_init__(self) -> None:
        assert self._objective  # its errors are ours

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(objective=self._objective)

    @property
    def _objective(self) -> stay_close.StayClose:
        return stay_close.StayClose(kl_weight=self.kl_weight)
