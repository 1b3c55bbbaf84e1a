"""Learn the new text, but stay close to the model that training started from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError
from graft.core.stats.tally import Tally
from graft.training.objectives.contract import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class StayClose:
    """Learn the new text, but pay for every token on which the model drifts from its start.

    per token: -log p(target) + kl_weight * KL(teacher || model), in nats, weighted by weights_BT. The teacher is the
    start, unless another one is named. Source: Li and Hoiem 2016 (arXiv 1606.09282), at temperature 1 and over the
    whole vocabulary. Costs a second forward pass and a second copy of the weights.
    """

    kl_weight: float = 0.1  # 0: plain training, to the bit
    teacher: str = ""  # folder or hub id of a model with the same vocabulary; nothing: the start

    def __post_init__(self) -> None:
        if not self.kl_weight >= 0:
            raise UsageError(
                f"kl_weight is {self.kl_weight}", allowed="0 or more (nats of drift weighed against nats of loss)"
            )

    def needs(self) -> Needs:
        return Needs(teachers=(self.teacher,) if self.kl_weight else ())

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Errors: UsageError at the first batch where the teacher's vocabulary is another."""
        import torch

        from graft.models.losses.divergence import Teacher
        from graft.models.losses.token_losses import weighted_sums
        from graft.training.objectives.causal import Causal

        if self.kl_weight == 0:
            return Causal().bind(start, load)
        teacher = load(self.teacher)

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            with torch.no_grad():
                guide = Teacher(teacher.hidden(batch), teacher.head)
            sums = weighted_sums(
                model.hidden(batch),
                model.head,
                batch.targets_BT,
                batch.weights_BT,
                teacher=guide,
                kl_weight=self.kl_weight,
            )
            return Tally(sums.total_B, batch.weights_BT.sum(1))

        return loss
