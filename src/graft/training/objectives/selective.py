"""Learn from the tokens of the new text that a reference model shows to be worth it."""

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
class Selective:
    """Learn only from the tokens that the model finds harder than a reference does.

    per row: the sum of -log p(target) over the ceil(share * n) tokens of largest excess loss among its n tokens of
    weight above 0, in nats, weighted by weights_BT; excess = nats under the model being trained - nats under the
    reference. Of equal tokens the earlier one is kept. The mean is over the tokens kept.
    Source: Rho-1 (Lin et al. 2024, arXiv 2404.07965), selective language modelling, whose reference is trained on text
    of high quality. There the share is taken over the batch; here over each row, so that how a batch is cut into
    micro-batches does not matter. With the start as reference (the default) the choice falls on what training has made
    worse, and at the first step, where all excess is 0, on the first tokens: name a reference of your own.
    Costs a forward pass and a copy of the weights for the reference, and a second projection to the vocabulary.
    """

    share: float = 0.6  # of the counted tokens of a row; 1: plain training, to the bit
    reference: str = ""  # folder or hub id of a model with the same vocabulary; nothing: the start

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share is {self.share}", allowed="more than 0 and at most 1")

    def needs(self) -> Needs:
        return Needs(teachers=(self.reference,) if self.share < 1 else ())

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Errors: UsageError at the first batch where the reference's vocabulary is another."""
        import torch

        from graft.models.losses.divergence import check_vocabulary
        from graft.models.losses.token_losses import score, weighted_sums
        from graft.training.objectives.causal import Causal

        if self.share == 1:
            return Causal().bind(start, load)
        reference = load(self.reference)

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            check_vocabulary(model.head.vocabulary, reference.head.vocabulary)
            hidden_BTD = model.hidden(batch)
            with torch.no_grad():
                reference_BT = score(reference.hidden(batch), reference.head, batch.targets_BT)
                excess_BT = score(hidden_BTD, model.head, batch.targets_BT) - reference_BT
                weights_BT = batch.weights_BT * _largest(excess_BT, batch.weights_BT > 0, self.share)
            sums = weighted_sums(hidden_BTD, model.head, batch.targets_BT, weights_BT)
            return Tally(sums.total_B, weights_BT.sum(1))

        return loss


def _largest(excess_BT: Tensor, counted_BT: Tensor, share: float) -> Tensor:
    """True for the ceil(share * counted) largest of each row's counted tokens."""
    from graft.packing.wide import wide

    counted_B1 = counted_BT.sum(1, keepdim=True).to(wide(counted_BT.device))
    little = 1e-9 if counted_B1.dtype.itemsize == 8 else 1e-4
    kept_B1 = (counted_B1 * share - little).ceil()  # 0.1 * 30 is 3, not a little more
    order_BT = excess_BT.masked_fill(~counted_BT, float("-inf")).argsort(stable=True, dim=1, descending=True)
    return order_BT.argsort(1) < kept_B1
