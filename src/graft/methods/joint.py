"""All domains at once, as if there were no stream."""

from __future__ import annotations

from dataclasses import dataclass

from graft.core.turn import Lesson, Turn, check_share


@dataclass(frozen=True)
class Joint:
    """One run from the base on all domains, the same amount of each, with the tokens of all turns together.

    What a stream could reach if nothing had to be learned before the rest is there: the usual upper bound. It has only
    the last row of R, so what compares rows is not defined for it. general: share of the tokens that is general text.
    """

    general: float = 0.0

    def __post_init__(self) -> None:
        check_share("general", self.general)

    def __call__(self, turn: Turn) -> Lesson | None:
        if not turn.last:
            return None
        share = (1 - self.general) / turn.total
        mixture = dict.fromkeys(reversed(turn.domains), share)
        mixture |= {turn.general: self.general} if self.general else {}
        return Lesson(mixture, times=turn.total, fresh=True)
