"""What a tuning looks like, and what it may ask of the run that hosts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graft.core.config.plugins import needs_of

if TYPE_CHECKING:
    from graft.models.forward.model import Model

OPTIONAL = ("needs",)


@dataclass(frozen=True)
class Needs:
    """What a tuning asks of its host.

    adapters: folders of adapters in PEFT's form that it reads; their content decides the outcome, not their place.
    placeless: the tuning without these paths, by which the run is known; None: itself.
    dropout: the share of activations it drops.
    reshapes: the outcome has other weights than the base, so that there is no line between both.
    """

    adapters: tuple[str, ...] = ()
    placeless: Tuning | None = None
    dropout: float = 0.0
    reshapes: bool = False


class Tuning(Protocol):
    """Which weights train. `needs() -> Needs` is optional."""

    def apply(self, model: Model) -> Model:
        """Freeze what stays, and put in what trains beside it."""
        ...

    def fold(self, model: Model) -> Model:
        """A plain model again: whatever `apply` put in is merged into the weights or removed."""
        ...


def tuning_needs(tuning: object) -> Needs:
    """What a tuning asks of its host. Raises: UsageError where it breaks the contract."""
    return needs_of(tuning, "tunings", Needs())
