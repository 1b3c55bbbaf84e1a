"""Learn the new text, but hold the weights that matter where they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.stats.tally import Tally
from graft.training.objectives.contract import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from graft.models.forward.model import Model
    from graft.packing.batch import Batch
    from graft.training.contract import Start


@dataclass(frozen=True)
class Anchor:
    """Learn the new text, but pay for every weight that moves, by how much it matters.

    mean over tokens of -log p(target), in nats, + penalty_weight / 2 * sum_k F_k (theta_k - theta*_k)^2 over the
    weights that train; theta* is where training started. "l2": F = 1; L2 to the start (Li et al. 2018, arXiv
    1802.01483). "ewc": F is the diagonal of the Fisher information of the start on the text that is not to be forgotten
    (Kirkpatrick et al. 2017, arXiv 1612.00796, eq. 3). It is computed before the first step from `fisher_rows` rows of
    `source`, per counted token, from one gradient per row (see graft.models.edit.fisher for what that is); so at a
    penalty_weight of 1 the penalty is to second order, and but for what is off the diagonal, the divergence KL(start ||
    model) per token of that text. "online_ewc": as ewc, and for a run of runs, each starting from the model that the
    last one left. Beside its weights a run leaves decay * F + the Fisher information of the model it ends with on its
    own domain, and the next holds on to that, with one anchor at the latest weights; a start without one is treated as
    by ewc. Source: Schwarz et al. 2018 (arXiv 1805.06370; their gamma is `decay`). Their number of rows and gamma for
    language models: not published.

    Costs memory for theta* and, but for l2, for F: one float32 copy of the weights each; no second forward pass.
    """

    form: Literal["l2", "ewc", "online_ewc"] = "ewc"
    penalty_weight: float = 1.0  # 0: plain training, to the bit
    source: str = "general"  # whose text is not to be forgotten; the mixture need not train on it
    fisher_rows: int = 64
    targets: Literal["model", "text"] = "model"  # of the Fisher information: drawn from the model, or the text's own
    decay: float = 0.9  # of what earlier runs found, in online_ewc

    def __post_init__(self) -> None:
        check_choices(self)
        if self.penalty_weight < 0:
            raise UsageError(f"penalty_weight is {self.penalty_weight}", allowed="0 or more")
        if self.fisher_rows < 1:
            raise UsageError(f"fisher_rows is {self.fisher_rows}", allowed="1 or more")
        if not 0 <= self.decay <= 1:
            raise UsageError(f"decay is {self.decay}", allowed="0 to 1")

    def needs(self) -> Needs:
        return Needs(
            teachers=("",) if self.penalty_weight else (),
            files=("importance.safetensors",) if self.penalty_weight and self.form == "online_ewc" else (),
        )

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Opens the start once more, for its weights, and finds how much they matter.

        Errors: UsageError where there is no source of that name, and where what an earlier run left is of another
        model; from the loss, where the model that trains has other weights than the start: adapters, new blocks or
        new rows are put in.
        """
        from graft.models.edit.fisher import Anchored, Anchors, fisher, read_importance
        from graft.training.objectives.causal import Causal

        plain = Causal().bind(start, load)
        if not self.penalty_weight:
            return plain

        def importance_to(source: str, model: Model) -> dict[str, Tensor]:
            return fisher(model, start.rows(source, range(self.fisher_rows)), self.targets, start.seed)

        begun, found = load(""), None
        stars = dict(begun.hf.named_parameters())
        if self.form == "online_ewc":
            found = read_importance(start.folder, stars)
        if self.form != "l2" and found is None:
            if self.source not in start.sources:
                raise UsageError(
                    f'source is "{self.source}", and there is no such text',
                    allowed=", ".join(start.sources),
                    do="name the text that is not to be forgotten in objective anchor, or set its form to l2",
                )
            found = importance_to(self.source, begun)
        anchors = Anchors(stars, found, self.penalty_weight)
        if self.form != "online_ewc":
            return Anchored(plain, anchors)
        return Anchored(plain, anchors, lambda model: importance_to(start.names[0], model), self.decay)
