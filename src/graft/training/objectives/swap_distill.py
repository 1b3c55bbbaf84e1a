"""Learn the new text from a teacher that keeps what it knows, and is put right where the text says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.stats.tally import Tally
from graft.training.objectives.contract import CachedTeacher, Needs

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class SwapDistill:
    """Learn the new text, beside a frozen teacher whose likeliest word has changed places with the text's own.

    per token: -log p(target) + weight * KL(q' || model), in nats, weighted by weights_BT; q' is the softmax of the
    teacher's logits z after z'_k = z_y, z'_y = z_k, where y is the target and k the word of the largest logit. So q'
    has the entropy and the set of chances of the teacher's own q, y is its likeliest word, and where the teacher was
    right nothing changes.
    Source: Mix-CPT (arXiv 2407.10804), logit swap self-distillation, where the teacher is the start. Its weight,
    direction and temperature are not published: settings here. Whole vocabulary; gradients are not multiplied by
    temperature^2. Without the swap, at the other defaults, this is `stay_close` with a kl_weight of `weight`.
    Costs a second forward pass and a second copy of the weights. With top_k above 0 the teacher is an approximation:
    it reads the training text once, before the first step, in windows of its own; its top_k likeliest words per token
    are kept on disk (6 bytes each) and serve every later run on the same tokens; all other words count together as one
    (graft.models.losses.divergence.Shortlist).
    """

    weight: float = 0.3  # nats of divergence weighed against nats of loss; 0: plain training, to the bit
    direction: Literal["forward", "reverse"] = "forward"  # KL(teacher || model), or KL(model || teacher)
    temperature: float = 1.0  # both sides' logits are divided by it
    swap: bool = True
    teacher: str = ""  # folder or hub id of a model with the same vocabulary; nothing: the start
    top_k: int = 0  # words per token that are kept of the teacher; 0: all, and it runs beside the training

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.weight >= 0:
            raise UsageError(f"weight is {self.weight}", allowed="0 or more")
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}", allowed="more than 0")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}", allowed="a number of words, or 0 for the whole vocabulary")

    def needs(self) -> Needs:
        if not self.weight:
            return Needs()
        if self.top_k:
            return Needs(cached_teacher=CachedTeacher(self.teacher, self.top_k, self.temperature))
        return Needs(teachers=(self.teacher,))

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """With shortlists at the start no teacher is opened.

        Errors: UsageError at the first batch where the teacher's vocabulary is another.
        """
        import torch

        from graft.models.losses.divergence import Divergence, Shortlist, Teacher
        from graft.models.losses.token_losses import weighted_sums
        from graft.training.objectives.causal import Causal

        if self.weight == 0:
            return Causal().bind(start, load)
        divergence = Divergence(self.direction, self.temperature, self.swap)
        if start.shortlists is not None:
            kept = start.shortlists

            def guide_of(batch: Batch) -> Teacher | Shortlist:
                return kept.of(batch, divergence)
        else:
            teacher = load(self.teacher)

            def guide_of(batch: Batch) -> Teacher | Shortlist:
                with torch.no_grad():
                    return Teacher(teacher.hidden(batch), teacher.head, divergence)

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            guide = guide_of(batch)
            sums = weighted_sums(
                model.hidden(batch),
                model.head,
                batch.targets_BT,
                batch.weights_BT,
                teacher=guide,
                kl_weight=self.weight,
            )
            return Tally(sums.total_B, batch.weights_BT.sum(1))

        return loss
