"""Plain continued pre-training: predict the next token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.stats.tally import Tally

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class Causal:
    """Predict the next token of the text, and nothing else.

    per token: -log p(target), in nats, weighted by weights_BT.
    Costs one forward and one backward pass.
    """

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Needs neither the start nor another model."""
        from graft.models.losses.token_losses import weighted_sums

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            sums = weighted_sums(model.hidden(batch), model.head, batch.targets_BT, batch.weights_BT)
            return Tally(sums.total_B, batch.weights_BT.sum(1))

        return loss
