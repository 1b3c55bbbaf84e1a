"""Learn which of two answers to the same question is the better one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

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
class Preference:
    """Make the better of two answers likelier, and the worse one less likely.

    A row holds pieces chosen, rejected, chosen, rejected ..., each a question with its answer; weights_BT mark the
    tokens of the answers. lp is the weighted sum of log p over an answer's tokens, n the sum of its weights. Per pair,
    in nats:
    dpo   -log sigmoid(beta * ((lp_c - ref_c) - (lp_r - ref_r))), ref being lp under a frozen reference
          (Rafailov et al. 2023, arXiv 2305.18290, eq. 7)
    orpo  -lp_c / n_c - odds * log sigmoid(log(o_c / o_r)), with o = p / (1 - p) and p = exp(lp / n)
          (Hong et al. 2024, arXiv 2403.07691, eq. 4 to 7); the first term is taken over the answer, not the question
    The count is of pairs. Chances p above 1 - 1e-6 are taken for that.
    Costs: the gradient is computed in a second sweep over the vocabulary; dpo, also a forward pass and a copy of the
    weights for the reference.
    """

    form: Literal["dpo", "orpo"] = "dpo"
    beta: float = 0.1  # dpo: how firmly the model is held to the reference
    odds: float = 0.1  # orpo: nats of preference weighed against nats of the chosen answer
    teacher: str = ""  # dpo: folder or hub id of the reference, of the same vocabulary; nothing: the start

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.beta > 0:
            raise UsageError(f"beta is {self.beta}", allowed="more than 0")
        if not self.odds >= 0:
            raise UsageError(f"odds is {self.odds}", allowed="0 or more")

    def needs(self) -> Needs:
        return Needs(packing="pairs", teachers=(self.teacher,) if self.form == "dpo" else ())

    def bind(self, start: Start, load: Callable[[str], Model]) -> Callable[[Model, Batch], Tally[Tensor]]:
        """Errors: UsageError at a row that does not hold whole pairs; where the reference's vocabulary is another."""
        loss_of = _dpo(self.beta, load(self.teacher)) if self.form == "dpo" else _orpo(self.odds)

        def loss(model: Model, batch: Batch) -> Tally[Tensor]:
            pairs = _pairs_of(batch)
            loss_P = loss_of(model, batch, pairs)
            zeros_B = loss_P.new_zeros(len(batch))
            count_B = zeros_B.index_add(0, pairs.row_P, loss_P.new_ones(len(loss_P)))
            return Tally(zeros_B.index_add(0, pairs.row_P, loss_P), count_B)

        return loss


class _Pairs(NamedTuple):
    """Where the pairs of a batch stand; pieces are numbered through the batch."""

    piece_BT: Tensor
    weight_M: Tensor  # of the counted tokens of each piece
    chosen_P: Tensor  # number of the chosen answer's piece; the rejected one's is the next
    row_P: Tensor

    def nats(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """-lp of the chosen and of the rejected answers."""
        from graft.models.losses.token_losses import weighted_sums

        sums = weighted_sums(
            model.hidden(batch),
            model.head,
            batch.targets_BT,
            batch.weights_BT,
            group_BT=self.piece_BT,
            num_groups=len(self.weight_M),
        )
        return sums.total_B[self.chosen_P], sums.total_B[self.chosen_P + 1]


def _pairs_of(batch: Batch) -> _Pairs:
    """Pieces of even number within their row are chosen answers, or else the filling at the row's end."""
    starts_N = batch.starts_BT.flatten()
    piece_BT = (starts_N.cumsum(0) - 1).view(batch.starts_BT.shape)
    row_M = starts_N.nonzero().squeeze(1) // batch.starts_BT.shape[1]
    weight_M = batch.weights_BT.new_zeros(len(row_M)).index_add(0, piece_BT.flatten(), batch.weights_BT.flatten())
    even_M = (row_M.new_ones(len(row_M)).cumsum(0) - 1 - piece_BT[row_M, 0]) % 2 == 0
    paired_M = row_M.diff(append=row_M.new_full((1,), -1)) == 0
    chosen_P = (even_M & paired_M).nonzero().squeeze(1)
    empty_M = weight_M == 0
    odd_M = even_M & ~paired_M & ~empty_M
    if bool(odd_M.any() | empty_M[chosen_P].any() | empty_M[chosen_P + 1].any()):
        raise UsageError(
            "a row does not hold whole pairs of answers",
            allowed="pieces chosen, rejected, chosen, rejected ..., each with counted tokens, then filling of weight 0",
            do="train on a source of preference pairs, or with another objective",
        )
    return _Pairs(piece_BT, weight_M, chosen_P, row_M[chosen_P])


def _dpo(beta: float, reference: Model) -> Callable[[Model, Batch, _Pairs], Tensor]:
    import torch
    import torch.nn.functional as F

    from graft.models.losses.divergence import check_vocabulary

    def loss(model: Model, batch: Batch, pairs: _Pairs) -> Tensor:
        check_vocabulary(model.head.vocabulary, reference.head.vocabulary)
        with torch.no_grad():
            reference_chosen_P, reference_rejected_P = pairs.nats(reference, batch)
        chosen_P, rejected_P = pairs.nats(model, batch)
        margin_P = (rejected_P - reference_rejected_P) - (chosen_P - reference_chosen_P)
        return F.softplus(-beta * margin_P)

    return loss


def _orpo(odds: float) -> Callable[[Model, Batch, _Pairs], Tensor]:
    import torch
    import torch.nn.functional as F

    def loss(model: Model, batch: Batch, pairs: _Pairs) -> Tensor:
        chosen_P, rejected_P = pairs.nats(model, batch)
        chosen_P = chosen_P / pairs.weight_M[pairs.chosen_P]
        rejected_P = rejected_P / pairs.weight_M[pairs.chosen_P + 1]

        def log_odds(nats_P: Tensor) -> Tensor:
            return -nats_P - torch.log(-torch.expm1(-nats_P.clamp(min=1e-6)))

        return chosen_P + odds * F.softplus(log_odds(rejected_P) - log_odds(chosen_P))

    return loss
