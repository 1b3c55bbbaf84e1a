"""All domains at once, as if there were no stream."""

from __future__ import annotations

from dataclasses import dataclass

from graft.continual.turn import Turn, TurnPlan, check_share


@dataclass(frozen=True)
class Joint:
    """One run from the base on all domains, with the tokens of all turns together and of each what its turn has.

    What a stream could reach if nothing had to be learned before the rest is there: the usual upper bound. It has only
    the last row of R, so what compares rows is not defined for it. general: share of the tokens that is general text.
    """

    general: float = 0.0

    def __post_init__(self) -> None:
        check_share("general", self.general)

    def __call__(self, turn: Turn) -> TurnPlan | None:
        if not turn.last:
            return None
        whole = sum(turn.tokens)
        parts = reversed(list(zip(turn.domains, turn.tokens, strict=True)))
        mixture = {name: (1 - self.general) * tokens / whole for name, tokens in parts}
        mixture |= {turn.general: self.general} if self.general else {}
        return TurnPlan(whole, mixture, fresh=True)
