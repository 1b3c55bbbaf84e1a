"""A stream of domains, turn by turn: what a method is told of it, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graft.core.config.errors import UsageError

Earlier = Literal["all", "domains", "general"]


@dataclass(frozen=True)
class Turn:
    """One domain's turn. domains: those whose turn has come, this one last; total: of the whole stream.

    tokens: of each of these turns, the same for every method. adapters: folders of the adapters that earlier turns of
    the same method left, in their order.
    """

    domains: tuple[str, ...]
    tokens: tuple[int, ...]
    total: int
    general: str = "general"
    adapters: tuple[str, ...] = ()

    @property
    def last(self) -> bool:
        return len(self.domains) == self.total

    def lesson(self, share: float = 0.0, of: Earlier = "all", **more: Any) -> TurnPlan:
        """This turn's domain with `share` of text from before it; more: as in `Lesson`."""
        return TurnPlan(self.tokens[-1], self.mixture(share, of), **more)

    def mixture(self, share: float = 0.0, of: Earlier = "all") -> dict[str, float]:
        """This turn's domain with `share` of text from before it, evenly over its sources; none there: the domain."""
        earlier = [] if of == "general" else list(self.domains[:-1])
        earlier += [] if of == "domains" else [self.general]
        if not share or not earlier:
            return {self.domains[-1]: 1.0}
        return {self.domains[-1]: 1 - share} | dict.fromkeys(earlier, share / len(earlier))


@dataclass(frozen=True)
class TurnPlan:
    """What a method trains in a turn; None stands for what the recipe says.

    tokens: of all text together. mixture: share of them by source, the turn's domain first. rate: a factor on the
    recipe's learning rate. fresh: it starts from the base, not from what the turn before left.
    """

    tokens: int
    mixture: Mapping[str, float]
    objective: Any = None
    tuning: Any = None
    rate: float = 1.0
    fresh: bool = False


def check_share(name: str, share: float) -> None:
    """Errors: UsageError for what is no share of the tokens that leaves some to the domain."""
    if not 0 <= share < 1:
        raise UsageError(f"{name} is {share}", allowed="a share of the tokens, 0 or more and below 1")


def check_factor(name: str, factor: float) -> None:
    """Errors: UsageError for what is no factor of a learning rate."""
    if factor <= 0:
        raise UsageError(f"{name} is {factor}", allowed="more than 0")
