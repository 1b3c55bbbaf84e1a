"""Any objective, any tuning and any share of replay together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from graft.continual.turn import Earlier, Turn, TurnPlan, check_factor, check_share
from graft.core.config.plugins import Shelf
from graft.core.config.settings import check_choices
from graft.training.objectives.causal import Causal
from graft.training.tunings.full import Full


@dataclass(frozen=True)
class Combined:
    """One domain after the other with an objective, a tuning and a share of replay (see `replay`) of your choice."""

    objective: Annotated[Any, Shelf("objectives")] = Causal()
    tuning: Annotated[Any, Shelf("tunings")] = Full()
    replay: float = 0.0
    of: Earlier = "all"
    rate: float = 1.0  # times the recipe's learning rate

    def __post_init__(self) -> None:
        check_choices(self)
        check_share("replay", self.replay)
        check_factor("rate", self.rate)

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(self.replay, self.of, objective=self.objective, tuning=self.tuning, rate=self.rate)
