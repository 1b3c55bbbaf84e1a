"""What an objective looks like, and what it may ask of the run that hosts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from graft.core.config.plugins import needs_of, plugin_name
from graft.core.models.architectures import Kind, check_kind
from graft.core.models.base_model import Base

if TYPE_CHECKING:
    from graft.core.stats.tally import Tally
    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start

OPTIONAL = ("needs",)


@dataclass(frozen=True)
class CachedTeacher:
    """The likeliest tokens of a teacher, read once before training and kept on disk."""

    model: str  # a folder or hub id; "": the model that training starts from
    top_k: int  # tokens kept per position
    temperature: float  # of the probabilities that are kept


@dataclass(frozen=True)
class Needs:
    """What an objective asks of its host.

    packing: the only kind of row it reads; None: the run's own setting.
    teachers: models it holds in memory beside the trained one; "": the one that training starts from.
    cached_teacher: what it reads from disk instead of running a teacher (`Start.shortlists`).
    kinds: the kinds of model it trains.
    files: files beside the base's weights whose content decides the outcome.
    """

    packing: Literal["stream", "whole", "pairs"] | None = None
    teachers: tuple[str, ...] = ()
    cached_teacher: CachedTeacher | None = None
    kinds: tuple[Kind, ...] = ("decoder",)
    files: tuple[str, ...] = ()


class Objective(Protocol):
    """What training minimises. `needs() -> Needs` is optional."""

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally]:
        """The loss of a run: (model, batch) -> a `Tally` of one total and one count per row.

        load: opens another model, frozen. A loss that has an attribute `leave` has it called with the model and its
        folder when training ends.
        """
        ...


def objective_needs(objective: object) -> Needs:
    """What an objective asks of its host. Raises: UsageError where it breaks the contract."""
    return needs_of(objective, "objectives", Needs())


def check_objective(base: Base, objective: object) -> None:
    """Raises: UsageError where an objective does not train this kind of model."""
    check_kind(base, plugin_name(objective), objective_needs(objective).kinds)
