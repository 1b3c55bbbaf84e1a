"""Which numbers are read off the matrix of a stream, and how their intervals are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from graft.continual.metrics.backward_transfer import BackwardTransfer
from graft.continual.metrics.forgetting import Forgetting
from graft.continual.metrics.forward_transfer import ForwardTransfer
from graft.continual.metrics.fuar import Fuar
from graft.continual.metrics.general_change import GeneralChange
from graft.continual.metrics.learning_accuracy import LearningAccuracy
from graft.continual.metrics.overall_performance import OverallPerformance
from graft.core.config.errors import UsageError
from graft.core.config.plugin_labels import labelled
from graft.core.config.plugins import Shelf


@dataclass(frozen=True)
class Judge:
    """Which numbers are read off the matrix, and how their intervals are drawn."""

    metrics: Annotated[tuple[Any, ...], Shelf("stream_metrics")] = (
        OverallPerformance(), LearningAccuracy(), BackwardTransfer(), BackwardTransfer("trace"), ForwardTransfer(),
        Forgetting(), Forgetting("first_minus_last"), GeneralChange(), Fuar(),
    )  # fmt: skip
    draws: int = 2000  # of the bootstrap over documents
    seed: int = 0  # of the draws
    title: str = "Stream of domains"

    def __post_init__(self) -> None:
        if self.draws < 100:
            raise UsageError(f"draws is {self.draws}", allowed="100 or more", do="2000 is usual")
        if not any(metric == OverallPerformance() for metric in self.metrics):
            raise UsageError(
                "metrics do not hold overall_performance after the last turn",
                allowed="a list with it: methods are ranked by it",
                do="add overall_performance to the list",
            )
        labelled(self.metrics, "metrics")  # its errors are ours
