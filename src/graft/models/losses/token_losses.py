"""Losses of tokens in nats, without ever holding the logits of all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graft.models.losses.divergence import Guide, Pull, Shortlist, Teacher, check_vocabulary
from graft.models.losses.head import Chances, Foreign, Head, Projection, Reader, parts_of

# Elements of the head's gradient made at once where its products are in a narrower type than their sum.
SLAB_ELEMENTS = {"cpu": 1 << 20}


class Sums(NamedTuple):
    """Weighted sums over the tokens of each row (of each group, where groups are given), in nats.

    Only total_B carries gradients.
    """

    total_B: Tensor  # learn * nats_B + kl_weight * kl_B
    nats_B: Tensor  # sum_t weights[b, t] * -log p(target)
    kl_B: Tensor  # sum_t weights[b, t] * divergence from the teacher; zeros without one


def score(hidden_BTD: Tensor, head: Projection, targets_BT: Tensor) -> Tensor:
    """-log p(target) of every token in nats, shaped as targets_BT, float32; no gradients."""
    return score_and_best(hidden_BTD, head, targets_BT)[0]


@torch.no_grad()
def score_and_best(hidden_BTD: Tensor, head: Projection, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(target) of every token in nats, float32, and whether no token is likelier, bool; no gradients.

    A tie counts as the best: in float32 there are next to none, logits rounded to bfloat16 have some.
    """
    hidden_ND, targets_N = hidden_BTD.flatten(0, -2), targets_BT.flatten()
    reader = Reader(head, len(targets_N), hidden_ND.device)
    nats_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_ND.device)
    best_N = torch.empty(len(targets_N), dtype=torch.bool, device=hidden_ND.device)
    for part in reader.parts:
        logits_NV = reader.logits(hidden_ND[part])
        logp_NV = torch.log_softmax(logits_NV, -1, out=logits_NV)
        target_N = logp_NV.gather(1, targets_N[part].unsqueeze(1)).squeeze(1)
        nats_N[part], best_N[part] = -target_N, target_N >= logp_NV.amax(-1)
    return nats_N.view(targets_BT.shape), best_N.view(targets_BT.shape)


def weighted_sums(
    hidden_BTD: Tensor,
    head: Projection,
    targets_BT: Tensor,
    weights_BT: Tensor,
    *,
    teacher: Teacher | Shortlist | None = None,
    learn: float = 1.0,
    kl_weight: float = 0.0,
    group_BT: Tensor | None = None,
    num_groups: int = 0,
) -> Sums:
    """total_B[b] = sum_t weights[b, t] * (learn * -log p(target) + kl_weight * divergence from the teacher), in nats.

    Tokens of weight 0 are not projected. Gradients reach the hidden states and the head's weight and bias, not the
    teacher. They are computed in the forward pass, while each chunk's probabilities are at hand, for an upstream
    gradient of 1 and then scaled; an upstream gradient that differs between rows costs a second pass.

    group_BT: int64 in 0 .. num_groups - 1, which of the sums a token belongs to, in place of its row. As sums by group
    are wanted for what is not linear in them, their gradients are left to the backward pass from the start.
    Errors: UsageError where the vocabularies of teacher and student differ.
    """
    weights_N = weights_BT.flatten()
    counted_N = weights_N.nonzero().squeeze(1)
    everything = len(counted_N) == len(weights_N)
    if teacher is not None:
        check_vocabulary(head.vocabulary, teacher.vocabulary)
    targets_N = targets_BT.flatten()
    job = _Job(
        targets_N=targets_N if everything else targets_N[counted_N],
        weights_N=weights_N if everything else weights_N[counted_N],
        group_N=counted_N // weights_BT.shape[1] if group_BT is None else group_BT.flatten()[counted_N],
        counted_N=None if everything else counted_N,
        num_groups=len(weights_BT) if group_BT is None else num_groups,
        differentiable=torch.is_grad_enabled(),
        ahead=group_BT is None,
        learn=learn,
        kl_weight=kl_weight if teacher is not None else 0.0,
        teacher=teacher,
    )
    hidden_ND = hidden_BTD.flatten(0, -2)
    if not isinstance(head, Head):
        return _plain_sums(job, hidden_ND, head)
    return Sums(*_WeightedSums.apply(job, head, hidden_ND, head.weight_VD, head.bias_V))


@dataclass(frozen=True, eq=False)
class _Job:
    """The counted tokens (N of them) and what is asked of them."""

    targets_N: Tensor
    weights_N: Tensor
    group_N: Tensor
    counted_N: Tensor | None  # where they stand among all tokens; None: they are all tokens
    num_groups: int
    differentiable: bool
    ahead: bool  # gradients are computed before they are asked for
    learn: float
    kl_weight: float
    teacher: Teacher | Shortlist | None

    def place(self, part: slice) -> slice | Tensor:
        """The same tokens' place among all tokens."""
        return part if self.counted_N is None else self.counted_N[part]

    def guide(self, num_tokens: int) -> Guide | None:
        return None if self.teacher is None else self.teacher.guide(num_tokens, self.targets_N.device)

    def sums(self, nats_N: Tensor, kl_N: Tensor) -> Sums:
        zeros_G = nats_N.new_zeros(self.num_groups)
        nats_G = zeros_G.index_add(0, self.group_N, nats_N * self.weights_N)
        kl_G = zeros_G.index_add(0, self.group_N, kl_N * self.weights_N)
        return Sums(self.learn * nats_G + self.kl_weight * kl_G, nats_G, kl_G)


class _Gradients:
    """Gradients of sum_g upstream[g] * total[g], gathered chunk by chunk.

    d total / d logits = weight * (learn * (p - onehot(target)) + kl_weight * d divergence / d logits), and through a
    soft cap times 1 - (logits / soft_cap)^2. The token's weight and the head's scale are folded into the narrow factors
    (N x D), never into the wide one (N x V).
    """

    def __init__(
        self, job: _Job, hidden_ND: Tensor, head: Head, upstream_G: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        self.job = job
        self.factor_N = job.weights_N * head.scale
        if upstream_G is not None:
            self.factor_N = self.factor_N * upstream_G[job.group_N]
        self.hidden_ND, self.weight_VD, self.bias_V = (
            torch.zeros_like(tensor, dtype=dtype) if want and tensor is not None else None
            for tensor, dtype, want in zip(
                (hidden_ND, head.weight_VD, head.bias_V), (hidden_ND.dtype, head.wide, head.wide), wanted, strict=True
            )
        )

    def add(self, part: slice, hidden_ND: Tensor, chances: Chances, pull: Pull | None, reader: Reader) -> None:
        """Adds one chunk, whose chances are overwritten."""
        job, head = self.job, reader.head
        assert isinstance(head, Head)
        slope_NV = chances.p_NV
        if pull is not None:
            pull.blend(slope_NV, job.learn, job.kl_weight)
        elif job.learn != 1.0:
            slope_NV.mul_(job.learn)
        targets_N1 = job.targets_N[part].unsqueeze(1)
        slope_NV.scatter_add_(1, targets_N1, slope_NV.new_full((), -job.learn).expand(targets_N1.shape))
        if head.soft_cap is not None:
            slope_NV.mul_(chances.logits_NV.div_(head.soft_cap).square_().neg_().add_(1))
        factor_N = self.factor_N[part].to(slope_NV.dtype)
        if self.bias_V is not None:
            self.bias_V.add_(slope_NV.T @ factor_N)
        if slope_NV.dtype != head.dtype:
            slope_NV = reader.product_NV[: len(slope_NV)].copy_(slope_NV)
        factor_N1 = factor_N.unsqueeze(1)
        if self.hidden_ND is not None:
            self.hidden_ND[job.place(part)] = ((slope_NV @ head.weight_VD) * factor_N1).to(self.hidden_ND.dtype)
        if self.weight_VD is not None:
            _add_product(self.weight_VD, slope_NV, (hidden_ND * factor_N1).to(head.dtype))


def _add_product(sum_VD: Tensor, left_NV: Tensor, right_ND: Tensor) -> None:
    """sum_VD += left^T @ right, where need be slab by slab: a product of size V x D would leave the cache twice."""
    if sum_VD.dtype == left_NV.dtype:
        sum_VD.addmm_(left_NV.T, right_ND)
        return
    rows = max(1, SLAB_ELEMENTS.get(sum_VD.device.type, sum_VD.numel()) // sum_VD.shape[1])
    for sum_SD, left_NS in zip(sum_VD.split(rows), left_NV.split(rows, 1), strict=True):
        sum_SD.add_(left_NS.T @ right_ND)


def _sweep(job: _Job, hidden_ND: Tensor, head: Head, gradients: _Gradients | None) -> tuple[Tensor, Tensor]:
    """nats_N and kl_N of the counted tokens in one pass over the vocabulary; fills `gradients` on the way."""
    nats_N = torch.empty_like(job.weights_N, dtype=head.wide)
    kl_N = torch.zeros_like(nats_N)
    reader = Reader(head, len(nats_N), hidden_ND.device)
    guide = job.guide(len(nats_N))
    for part in reader.parts:
        chunk_ND = hidden_ND[job.place(part)].to(head.dtype)
        chances = reader.read(chunk_ND)
        nats_N[part] = chances.nats(job.targets_N[part])
        pull = None if guide is None else guide.pull(job.place(part), job.targets_N[part], chances)
        if pull is not None:
            kl_N[part] = pull.kl_N
        if gradients is not None:
            gradients.add(part, chunk_ND, chances, pull, reader)
    return nats_N, kl_N


class _WeightedSums(torch.autograd.Function):
    """See weighted_sums; keeps the gradients of an upstream gradient of 1 instead of anything of size N x V."""

    @staticmethod
    def forward(ctx: Any, job: _Job, head: Head, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Any:
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V)
        ctx.job, ctx.head = job, head
        ctx.wanted = [job.differentiable and needed for needed in ctx.needs_input_grad[2:]]
        ahead = job.ahead and any(ctx.wanted)
        ctx.gradients = _Gradients(job, hidden_ND, head, None, ctx.wanted) if ahead else None
        sums = job.sums(*_sweep(job, hidden_ND, head, ctx.gradients))
        ctx.mark_non_differentiable(sums.nats_B, sums.kl_B)
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        upstream_G, gradients = upstream[0], ctx.gradients
        hidden_ND, weight_VD, bias_V = ctx.saved_tensors
        if gradients is not None and _uniform(upstream_G):
            ctx.gradients = None  # scaled in place: a second backward starts afresh
            for gradient in (gradients.hidden_ND, gradients.weight_VD, gradients.bias_V):
                if gradient is not None:
                    gradient.mul_(upstream_G[0])
        else:
            head = replace(ctx.head, weight_VD=weight_VD, bias_V=bias_V)
            gradients = _Gradients(ctx.job, hidden_ND, head, upstream_G, ctx.wanted)
            _sweep(ctx.job, hidden_ND, head, gradients)
        weight_VD, bias_V = (
            None if gradient is None else gradient.to(tensor.dtype)
            for gradient, tensor in ((gradients.weight_VD, weight_VD), (gradients.bias_V, bias_V))
        )
        return None, None, gradients.hidden_ND, weight_VD, bias_V


def _uniform(upstream_G: Tensor) -> bool:
    return upstream_G.stride() == (0,) or bool((upstream_G == upstream_G[0]).all())


def _plain_sums(job: _Job, hidden_ND: Tensor, head: Foreign) -> Sums:
    """The same sums for a projection of unknown arithmetic, by autograd; each chunk's logits are computed twice."""

    def losses(chunk_ND: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        logits_NV, targets_N = head.logits(chunk_ND), job.targets_N[part]
        nats_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        guide = job.guide(len(chunk_ND))
        return nats_N, torch.zeros_like(nats_N) if guide is None else guide.plain(job.place(part), targets_N, logits_NV)

    parts = list(parts_of(len(job.targets_N), head.vocabulary, hidden_ND.device))
    pairs = [checkpoint(losses, hidden_ND[job.place(part)], part, use_reentrant=False) for part in parts]
    empty_N = hidden_ND.flatten()[:0].float()
    nats_N = torch.cat([nats for nats, _ in pairs]) if pairs else empty_N
    kl_N = torch.cat([kl for _, kl in pairs]) if pairs else empty_N
    sums = job.sums(nats_N, kl_N)
    return Sums(sums.total_B, sums.nats_B.detach(), sums.kl_B.detach())
