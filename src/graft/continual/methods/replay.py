"""Each domain with some of the text from before it."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Earlier, Turn, TurnPlan, check_share
from graft.core.config.settings import check_choices


@dataclass(frozen=True)
class Replay:
    """A share of each turn's tokens is text from before it, the same amount of each of its sources.

    The number of tokens stays, so replayed text takes the place of the domain's. Which sources: all earlier domains and
    the general text ("all"), earlier domains alone (the first turn then has no replay), or general text alone.
    Shares of 1 to 25 % are in use (survey, arXiv 2404.16789).
    """

    share: float = 0.05
    of: Earlier = "all"

    def __post_init__(self) -> None:
        check_choices(self)
        check_share("share", self.share)

    def __call__(self, turn: Turn) -> TurnPlan:
        return turn.lesson(self.share, self.of)
