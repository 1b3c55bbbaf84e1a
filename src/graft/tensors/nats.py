"""Losses of tokens in nats, and the one place that holds logits: of a chunk of tokens at a time, never of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graft.core.errors import UsageError

# Elements of the vocabulary projection held at once: 16 MiB of float32 stay near a processor's cache; an accelerator
# wants long products instead. Below the floor of tokens, re-reading the head would cost more than it saves.
CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 27}
CHUNK_TOKENS = {"cpu": 64, "cuda": 512}


class Projection(Protocol):
    """What turns hidden states into logits."""

    @property
    def vocabulary(self) -> int: ...

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """logits_NV in float32 or wider, differentiable."""
        ...


@dataclass(frozen=True, eq=False)
class Head:
    """logits = cap(scale * (hidden @ weight^T + bias)), where cap(z) = soft_cap * tanh(z / soft_cap).

    Covers plain and tied heads, biases (Phi, GPT-J), scales (Cohere, Granite, Falcon-H1) and soft caps (Gemma).
    """

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None
    compute: torch.dtype | None = None  # type of the matrix products; None: the weight's own

    @property
    def vocabulary(self) -> int:
        return self.weight_VD.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.compute or self.weight_VD.dtype

    def logits(self, hidden_ND: Tensor) -> Tensor:
        return self.finish(_wide(F.linear(hidden_ND.to(self.dtype), self.weight_VD.to(self.dtype))))

    def finish(self, product_NV: Tensor) -> Tensor:
        """Logits from the bare product hidden @ weight^T."""
        if self.bias_V is not None:
            product_NV = product_NV + self.bias_V
        if self.scale != 1.0:
            product_NV = product_NV * self.scale
        if self.soft_cap is not None:
            product_NV = torch.tanh(product_NV / self.soft_cap) * self.soft_cap
        return product_NV

    def cast(self) -> Head:
        """The same head with its weight in the type of the products, once instead of once per chunk."""
        return replace(self, weight_VD=self.weight_VD.to(self.dtype))


class Chances(NamedTuple):
    """A chunk's logits, their softmax p_NV and the logarithm of its denominator lse_N."""

    logits_NV: Tensor
    p_NV: Tensor
    lse_N: Tensor

    @classmethod
    def of(cls, logits_NV: Tensor) -> Chances:
        """The denominator is read off the largest p = exp(largest logit - lse): cheaper than a second sweep of exp."""
        p_NV = torch.softmax(logits_NV, -1)
        return cls(logits_NV, p_NV, logits_NV.amax(-1) - p_NV.amax(-1).log())

    def nats(self, targets_N: Tensor) -> Tensor:
        """-log p(target)."""
        return self.lse_N - self.logits_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1)

    def kl(self, teacher: Chances) -> Tensor:
        """KL(teacher || self) = sum_v p_teacher * (logit_teacher - logit) - lse_teacher + lse."""
        gap_N = (teacher.logits_NV - self.logits_NV).mul_(teacher.p_NV).sum(-1)
        return (gap_N - teacher.lse_N + self.lse_N).clamp_(min=0)


class Teacher(NamedTuple):
    """A second model's view of the same tokens: hidden states shaped as the student's, and its head."""

    hidden_BTD: Tensor
    head: Projection


class Sums(NamedTuple):
    """Weighted sums over the tokens of each row, in nats; only total_B carries gradients."""

    total_B: Tensor  # learn * nats_B + leash * kl_B
    nats_B: Tensor  # sum_t weights[b, t] * -log p(target)
    kl_B: Tensor  # sum_t weights[b, t] * KL(teacher || student); zeros without a teacher


@torch.no_grad()
def score(hidden_BTD: Tensor, head: Projection, targets_BT: Tensor) -> Tensor:
    """-log p(target) of every token in nats, shaped as targets_BT, float32; no gradients."""
    hidden_ND, targets_N = hidden_BTD.flatten(0, -2), targets_BT.flatten()
    head = head.cast() if isinstance(head, Head) else head
    nats_N = [
        Chances.of(head.logits(hidden_ND[part])).nats(targets_N[part])
        for part in _parts(len(targets_N), head.vocabulary, hidden_ND.device)
    ]
    return torch.cat(nats_N).view(targets_BT.shape)


@torch.no_grad()
def diverge(hidden_BTD: Tensor, head: Projection, teacher: Teacher) -> Tensor:
    """KL(teacher || student) of every token in nats, shaped [B, T], float32; no gradients."""
    hidden_ND, guide_ND = hidden_BTD.flatten(0, -2), teacher.hidden_BTD.flatten(0, -2)
    guide = _same_vocabulary(head, teacher)
    head = head.cast() if isinstance(head, Head) else head
    kl_N = [
        Chances.of(head.logits(hidden_ND[part])).kl(Chances.of(guide.logits(guide_ND[part])))
        for part in _parts(len(hidden_ND), head.vocabulary, hidden_ND.device)
    ]
    return torch.cat(kl_N).view(hidden_BTD.shape[:-1])


def weighted_sums(
    hidden_BTD: Tensor,
    head: Projection,
    targets_BT: Tensor,
    weights_BT: Tensor,
    *,
    teacher: Teacher | None = None,
    learn: float = 1.0,
    leash: float = 0.0,
) -> Sums:
    """total_B[b] = sum_t weights[b, t] * (learn * -log p(target) + leash * KL(teacher || student)), in nats.

    Tokens of weight 0 are not projected. Gradients reach the hidden states and the head's weight and bias, not the
    teacher. They are computed in the forward pass, while each chunk's probabilities are at hand, for an upstream
    gradient of 1 and then scaled; an upstream gradient that differs between rows costs a second pass.
    """
    weights_N = weights_BT.flatten()
    counted_N = weights_N.nonzero().squeeze(1)
    everything = len(counted_N) == len(weights_N)
    job = _Job(
        targets_N=targets_BT.flatten() if everything else targets_BT.flatten()[counted_N],
        weights_N=weights_N if everything else weights_N[counted_N],
        row_N=counted_N // weights_BT.shape[1],
        counted_N=None if everything else counted_N,
        num_rows=len(weights_BT),
        learn=learn,
        leash=leash if teacher is not None else 0.0,
        guide_ND=None if teacher is None else teacher.hidden_BTD.detach().flatten(0, -2),
        guide=None if teacher is None else _same_vocabulary(head, teacher),
    )
    hidden_ND = hidden_BTD.flatten(0, -2)
    if not isinstance(head, Head):
        return _plain_sums(job, hidden_ND, head)
    if not torch.is_grad_enabled():
        return job.sums(*_sweep(job, hidden_ND, head)[:2])
    return Sums(*_WeightedSums.apply(job, head, hidden_ND, head.weight_VD, head.bias_V))


@dataclass(frozen=True, eq=False)
class _Job:
    """The counted tokens (N of them) and what is asked of them."""

    targets_N: Tensor
    weights_N: Tensor
    row_N: Tensor
    counted_N: Tensor | None  # where they stand among all tokens; None: they are all tokens
    num_rows: int
    learn: float
    leash: float
    guide_ND: Tensor | None  # the teacher's hidden states of all tokens
    guide: Projection | None

    def place(self, part: slice) -> slice | Tensor:
        """The same tokens' place among all tokens."""
        return part if self.counted_N is None else self.counted_N[part]

    @torch.no_grad()
    def guided(self, part: slice) -> Chances | None:
        if self.guide is None or self.guide_ND is None:
            return None
        return Chances.of(self.guide.logits(self.guide_ND[self.place(part)]))

    def sums(self, nats_N: Tensor, kl_N: Tensor) -> Sums:
        zeros_B = nats_N.new_zeros(self.num_rows)
        nats_B = zeros_B.index_add(0, self.row_N, nats_N * self.weights_N)
        kl_B = zeros_B.index_add(0, self.row_N, kl_N * self.weights_N)
        return Sums(self.learn * nats_B + self.leash * kl_B, nats_B, kl_B)


class _Gradients:
    """Gradients of sum_b upstream[b] * total[b], gathered chunk by chunk.

    d total / d logits = weight * ((learn + leash) * p - learn * onehot(target) - leash * p_teacher), and through a
    soft cap times 1 - (logits / soft_cap)^2. The token's weight and the head's scale are folded into the narrow
    factors (N x D), never into the wide one (N x V).
    """

    def __init__(self, job: _Job, hidden_ND: Tensor, head: Head, upstream_B: Tensor | None) -> None:
        self.job, self.head = job, head
        self.factor_N = job.weights_N * head.scale
        if upstream_B is not None:
            self.factor_N = self.factor_N * upstream_B[job.row_N]
        wide = torch.float64 if head.dtype == torch.float64 else torch.float32
        self.hidden_ND = torch.zeros_like(hidden_ND)
        self.weight_VD = torch.zeros_like(head.weight_VD, dtype=wide)
        self.bias_V = None if head.bias_V is None else torch.zeros_like(head.bias_V, dtype=wide)

    def add(self, part: slice, hidden_ND: Tensor, chances: Chances, guided: Chances | None) -> None:
        """Adds one chunk, whose probabilities are overwritten."""
        job, head = self.job, self.head
        slope_NV = chances.p_NV
        if guided is not None:
            slope_NV.mul_(job.learn + job.leash).sub_(guided.p_NV, alpha=job.leash)
        elif job.learn != 1.0:
            slope_NV.mul_(job.learn)
        targets_N1 = job.targets_N[part].unsqueeze(1)
        slope_NV.scatter_add_(1, targets_N1, slope_NV.new_full((), -job.learn).expand(targets_N1.shape))
        if head.soft_cap is not None:
            slope_NV.mul_(1 - (chances.logits_NV / head.soft_cap).square_())
        factor_N = self.factor_N[part].to(slope_NV.dtype)
        if self.bias_V is not None:
            self.bias_V.add_(slope_NV.T @ factor_N)
        slope_NV = slope_NV.to(head.dtype)
        factor_N1 = factor_N.unsqueeze(1)
        self.hidden_ND[job.place(part)] = ((slope_NV @ head.weight_VD) * factor_N1).to(self.hidden_ND.dtype)
        self.weight_VD.add_(slope_NV.T @ (hidden_ND * factor_N1).to(head.dtype))


def _sweep(
    job: _Job, hidden_ND: Tensor, head: Head, gradients: _Gradients | None = None
) -> tuple[Tensor, Tensor]:
    """nats_N and kl_N of the counted tokens in one pass over the vocabulary; fills `gradients` on the way."""
    nats_N = torch.empty_like(job.weights_N, dtype=torch.float64 if head.dtype == torch.float64 else torch.float32)
    kl_N = torch.zeros_like(nats_N)
    for part in _parts(len(nats_N), head.vocabulary, hidden_ND.device):
        chunk_ND = hidden_ND[job.place(part)].to(head.dtype)
        chances, guided = Chances.of(head.logits(chunk_ND)), job.guided(part)
        nats_N[part] = chances.nats(job.targets_N[part])
        if guided is not None:
            kl_N[part] = chances.kl(guided)
        if gradients is not None:
            gradients.add(part, chunk_ND, chances, guided)
    return nats_N, kl_N


class _WeightedSums(torch.autograd.Function):
    """See weighted_sums; keeps the gradients of an upstream gradient of 1 instead of anything of size N x V."""

    @staticmethod
    def forward(ctx: Any, job: _Job, head: Head, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Any:
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V)
        ctx.job, ctx.head = job, head
        head = replace(head, weight_VD=weight_VD, bias_V=bias_V).cast()
        ctx.gradients = _Gradients(job, hidden_ND, head, None) if any(ctx.needs_input_grad) else None
        sums = job.sums(*_sweep(job, hidden_ND, head, ctx.gradients))
        ctx.mark_non_differentiable(sums.nats_B, sums.kl_B)
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        upstream_B, gradients = upstream[0], ctx.gradients
        hidden_ND, weight_VD, bias_V = ctx.saved_tensors
        uniform = upstream_B.stride() == (0,) or bool((upstream_B == upstream_B[0]).all())
        if uniform and gradients is not None:
            ctx.gradients = None  # scaled in place: a second backward starts afresh
            for gradient in (gradients.hidden_ND, gradients.weight_VD, gradients.bias_V):
                if gradient is not None:
                    gradient.mul_(upstream_B[0])
        else:
            head = replace(ctx.head, weight_VD=weight_VD, bias_V=bias_V).cast()
            gradients = _Gradients(ctx.job, hidden_ND, head, upstream_B)
            _sweep(ctx.job, hidden_ND, head, gradients)
        bias_gradient_V = None if gradients.bias_V is None else gradients.bias_V.to(bias_V.dtype)
        return None, None, gradients.hidden_ND, gradients.weight_VD.to(weight_VD.dtype), bias_gradient_V


def _plain_sums(job: _Job, hidden_ND: Tensor, head: Projection) -> Sums:
    """The same sums for a projection of unknown arithmetic, by autograd; each chunk's logits are computed twice."""

    def losses(chunk_ND: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        logits_NV, guided = head.logits(chunk_ND), job.guided(part)
        nats_N = F.cross_entropy(logits_NV, job.targets_N[part], reduction="none")
        if guided is None:
            return nats_N, torch.zeros_like(nats_N)
        return nats_N, F.kl_div(torch.log_softmax(logits_NV, -1), guided.p_NV, reduction="none").sum(-1)

    parts = list(_parts(len(job.targets_N), head.vocabulary, hidden_ND.device))
    pairs = [checkpoint(losses, hidden_ND[job.place(part)], part, use_reentrant=False) for part in parts]
    empty_N = hidden_ND.new_zeros(0, dtype=torch.float32)
    nats_N = torch.cat([nats for nats, _ in pairs]) if pairs else empty_N
    kl_N = torch.cat([kl for _, kl in pairs]) if pairs else empty_N
    sums = job.sums(nats_N, kl_N)
    return Sums(sums.total_B, sums.nats_B.detach(), sums.kl_B.detach())


def _parts(num_tokens: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    size = max(CHUNK_ELEMENTS.get(device.type, 1 << 27) // vocabulary, CHUNK_TOKENS.get(device.type, 512))
    for start in range(0, num_tokens, size):
        yield slice(start, min(start + size, num_tokens))


def _wide(logits_NV: Tensor) -> Tensor:
    return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()


def _same_vocabulary(head: Projection, teacher: Teacher) -> Projection:
    if teacher.head.vocabulary != head.vocabulary:
        raise UsageError(
            f"the teacher has {teacher.head.vocabulary} tokens in its vocabulary, the student {head.vocabulary}",
            allowed="a divergence needs the same vocabulary on both sides",
            do="start from the base model's tokenizer, or use an objective without a teacher",
        )
    return teacher.head.cast() if isinstance(teacher.head, Head) else teacher.head
