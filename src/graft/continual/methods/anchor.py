"""Weights that earlier text needs are held where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graft.continual.turn import Turn, TurnPlan
from graft.core.config.settings import check_choices
from graft.training.objectives import anchor


@dataclass(frozen=True)
class Anchor:
    """Each domain with the objective `anchor`, held to the model that the turn before left.

    online_ewc hands the importance of the weights on from turn to turn (Schwarz et al. 2018, arXiv 1805.06370); ewc
    knows that of the general text alone; l2 knows none. See the objective for the formulas.
    """

    form: Literal["l2", "ewc", "online_ewc"] = "online_ewc"
    penalty_weight: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        assert self._objective  # its errors are ours

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(objective=self._objective)

    @property
    def _objective(self) -> anchor.Anchor:
        return anchor.Anchor(form=self.form, penalty_weight=self.penalty_weight)
