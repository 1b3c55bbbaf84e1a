"""What a law looks like, and what it asks of the table it is fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from graft.core.config.plugins import needs_of
from graft.scaling.fitting.fitted import Fitted

if TYPE_CHECKING:
    from graft.scaling.fitting.trials import Trials

# A law of one formula has it as `form`; a law whose fit is no `fitting.fitted.Fitted` names its class as `fitted`.
OPTIONAL = ("form", "fitted")


@dataclass(frozen=True)
class Needs:
    """What a law asks of a table of runs.

    columns: needed, to fit and to predict. optional: read where the table has them. fit_only: of these, the ones that
    no prediction needs. forgetting: the constant that scales what is forgotten; "": all of a rise is forgetting.
    """

    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    fit_only: tuple[str, ...] = ()
    forgetting: str = ""


class Law(Protocol):
    """The loss of runs that were not made, from a table of runs that were."""

    def needs(self) -> Needs:
        """The columns it reads."""
        ...

    def fit(self, trials: Trials) -> Any:
        """Its constants with intervals, able to predict (see `graft.scaling.fitting.fitted.Fitted`)."""
        ...


def law_needs(law: object) -> Needs:
    """What a law asks of a table. Raises: UsageError where it breaks the contract."""
    return needs_of(law, "laws", Needs())


def fitted_from_json(law: object, saved: Mapping[str, Any]) -> Any:
    """Rebuilds what `law.fit` returned, of its own class where the law names one."""
    return getattr(law, "fitted", Fitted).from_json(law, saved)
