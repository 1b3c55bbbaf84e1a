"""How far a student's next-token chances stand from a teacher's, chunk by chunk, with the slope of that distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.core.config.errors import UsageError
from graft.models.losses.head import Chances, Projection, Reader
from graft.packing.wide import wide

Direction = Literal["forward", "reverse"]


@dataclass(frozen=True)
class Divergence:
    """Which divergence of the student's chances p from the teacher's q, in nats per token.

    direction    "forward": KL(q || p); "reverse": KL(p || q)
    temperature  tau: p = softmax(student's logits / tau), q = softmax(teacher's logits / tau). Gradients are those of
                 the divergence as it is stated, not multiplied by tau^2 (as Hinton et al. 2015, arXiv 1503.02531, do)
    swap         the teacher's logits of its likeliest word k and of the target y change places before the softmax:
                 z'_k = z_y, z'_y = z_k (arXiv 2407.10804). Of words that tie for the first place k is the one of the
                 lowest number; where z_y is itself the largest nothing changes
    """

    direction: Direction = "forward"
    temperature: float = 1.0
    swap: bool = False

    def __post_init__(self) -> None:
        if self.direction not in ("forward", "reverse"):
            raise UsageError(f'direction is "{self.direction}"', allowed='"forward" or "reverse"')
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}", allowed="more than 0")


class Pull(Protocol):
    """The divergence of one chunk of tokens, and its slope."""

    kl_N: Tensor

    def blend(self, p_NV: Tensor, learn: float, kl_weight: float) -> None:
        """In the place of the student's chances p_NV: learn * p_NV + kl_weight * d kl / d logits. Once per pull."""
        ...


class Guide(Protocol):
    """A teacher in one sweep over the tokens. `place` says where a chunk stands among all tokens."""

    def pull(self, place: slice | Tensor, targets_N: Tensor, student: Chances) -> Pull:
        """Leaves the student as it is. What it returns holds until the next call."""
        ...

    def plain(self, place: slice | Tensor, targets_N: Tensor, logits_NV: Tensor) -> Tensor:
        """kl_N of a student of unknown arithmetic, for autograd."""
        ...


@dataclass(frozen=True, eq=False)
class Teacher:
    """A second model's view of the same tokens: hidden states shaped as the student's, and its head."""

    hidden_BTD: Tensor
    head: Projection
    divergence: Divergence = Divergence()

    @property
    def vocabulary(self) -> int:
        return self.head.vocabulary

    def guide(self, num_tokens: int, device: torch.device) -> Guide:
        """For num_tokens tokens in all, in chunks as `parts_of` makes them."""
        return _Whole(self, Reader(self.head, num_tokens, device))


@dataclass(frozen=True, eq=False)
class Shortlist:
    """What is kept of a teacher: its K likeliest words per token. An approximation.

    ids_BTK      the words, no two alike, in any order
    nats_BTK     -log of their chances at the divergence's temperature
    vocabulary   of the teacher

    All other words of either side are counted together as one: the divergence is that of K + 1 outcomes. Merging
    outcomes never raises a KL divergence (data-processing inequality), so it is a lower bound of the divergence over
    the whole vocabulary, and equals it where the student spreads the rest as the teacher does. A swap between a
    target that is not listed and the likeliest word puts the target in that word's place on the list, and the word
    among the rest: exactly what listing the swapped teacher's words, that one left out, would have given.
    The rest's chance is not taken for less than float32 can tell from nothing (1.2e-7).
    """

    ids_BTK: Tensor
    nats_BTK: Tensor
    vocabulary: int
    divergence: Divergence = Divergence()

    def guide(self, num_tokens: int, device: torch.device) -> Guide:
        """Nothing is set aside for the chunks to come."""
        return _Listed(self)


def check_vocabulary(student: int, teacher: int) -> None:
    """Rows of the two heads. Errors: UsageError where they differ."""
    if teacher != student:
        raise UsageError(
            f"the teacher has {teacher} tokens in its vocabulary, the student {student}",
            allowed="heads with as many rows: one for each token, and the same number that pad them",
            do=f"where both read the same tokenizer, one head is padded: bring the two to one number of rows "
            f"(transformers: model.resize_token_embeddings({min(teacher, student)})); else take another teacher",
        )


def swap_top(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Largest logit and target's change places, in place: two numbers per token move, nothing is copied."""
    top_N1, word_N1 = logits_NV.max(-1, keepdim=True)
    targets_N1 = targets_N.unsqueeze(1)
    logits_NV.scatter_(1, word_N1, logits_NV.gather(1, targets_N1))
    return logits_NV.scatter_(1, targets_N1, top_N1)


@dataclass(eq=False)
class _Mixed:
    """d kl / d logits = (own_factor * own_NV + other_factor * other_NV) / temperature; own_NV None: the student's p."""

    kl_N: Tensor
    temperature: float
    own_factor: float | Tensor
    own_NV: Tensor | None
    other_factor: float
    other_NV: Tensor

    def blend(self, p_NV: Tensor, learn: float, kl_weight: float) -> None:
        rate = kl_weight / self.temperature
        if self.own_NV is None:
            p_NV.mul_(learn + rate * self.own_factor)
        else:
            p_NV.mul_(learn).add_(self.own_NV.mul_(self.own_factor), alpha=rate)
        p_NV.add_(self.other_NV, alpha=rate * self.other_factor)


class _Whole:
    """A teacher that says the chances of all words; its chunk's two buffers turn into what the slope is made of."""

    def __init__(self, teacher: Teacher, reader: Reader) -> None:
        self.divergence, self.reader = teacher.divergence, reader
        self.hidden_MD = teacher.hidden_BTD.flatten(0, -2)

    @torch.no_grad()
    def pull(self, place: slice | Tensor, targets_N: Tensor, student: Chances) -> Pull:
        teacher = self._chances(place, targets_N)
        return (self._forward if self.divergence.direction == "forward" else self._reverse)(student, teacher)

    def plain(self, place: slice | Tensor, targets_N: Tensor, logits_NV: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = self._chances(place, targets_N)
        logp_NV = torch.log_softmax(logits_NV / self.divergence.temperature, -1)
        if self.divergence.direction == "forward":
            return F.kl_div(logp_NV, teacher.p_NV, reduction="none").sum(-1)
        return (logp_NV.exp() * (logp_NV - teacher.logits_NV + teacher.lse_N.unsqueeze(1))).sum(-1)

    def _chances(self, place: slice | Tensor, targets_N: Tensor) -> Chances:
        logits_NV = self.reader.logits(self.hidden_MD[place])
        if self.divergence.swap:
            swap_top(logits_NV, targets_N)
        if self.divergence.temperature != 1.0:
            logits_NV.div_(self.divergence.temperature)
        return self.reader.chances(logits_NV)

    def _forward(self, student: Chances, teacher: Chances) -> Pull:
        """sum q * (log q - log p), whose slope is (p - q) / tau."""
        tau = self.divergence.temperature
        gap_NV = teacher.logits_NV.sub_(student.logits_NV, alpha=1 / tau)
        gap_N = gap_NV.mul_(teacher.p_NV).sum(-1)
        own_NV, lse_N = (None, student.lse_N) if tau == 1.0 else _warmed(student.logits_NV, tau, gap_NV)
        return _Mixed((gap_N - teacher.lse_N + lse_N).clamp_(min=0), tau, 1.0, own_NV, -1.0, teacher.p_NV)

    def _reverse(self, student: Chances, teacher: Chances) -> Pull:
        """sum p * r with r = log p - log q, whose slope is p * (r - kl) / tau."""
        tau = self.divergence.temperature
        log_ratio_NV = teacher.logits_NV.neg_().add_(student.logits_NV, alpha=1 / tau)
        own_NV, lse_N = (None, student.lse_N) if tau == 1.0 else _warmed(student.logits_NV, tau, teacher.p_NV)
        log_ratio_NV.add_((teacher.lse_N - lse_N).unsqueeze(1))
        weighed_NV = log_ratio_NV.mul_(student.p_NV if own_NV is None else own_NV)
        kl_N = weighed_NV.sum(-1)
        return _Mixed(kl_N.clamp(min=0), tau, -kl_N.unsqueeze(1), own_NV, 1.0, weighed_NV)


@dataclass(eq=False)
class _Mended:
    """d kl / d logits = unlisted_N1 * p / temperature, but listed_NK / temperature at the listed words."""

    kl_N: Tensor
    temperature: float
    own_NV: Tensor | None
    unlisted_N1: Tensor
    ids_NK: Tensor
    listed_NK: Tensor

    def blend(self, p_NV: Tensor, learn: float, kl_weight: float) -> None:
        rate = kl_weight / self.temperature
        if self.own_NV is None:
            listed_NK = p_NV.gather(1, self.ids_NK).mul_(learn).add_(self.listed_NK, alpha=rate)
            p_NV.mul_(learn + rate * self.unlisted_N1).scatter_(1, self.ids_NK, listed_NK)
        else:
            slope_NV = self.own_NV.mul_(self.unlisted_N1).scatter_(1, self.ids_NK, self.listed_NK)
            p_NV.mul_(learn).add_(slope_NV, alpha=rate)


class _Listed:
    """A teacher that says the chances of a few words."""

    def __init__(self, shortlist: Shortlist) -> None:
        self.divergence = shortlist.divergence
        self.ids_MK, self.nats_MK = shortlist.ids_BTK.flatten(0, -2), shortlist.nats_BTK.flatten(0, -2)
        self.scratch_NV: Tensor | None = None

    @torch.no_grad()
    def pull(self, place: slice | Tensor, targets_N: Tensor, student: Chances) -> Pull:
        tau = self.divergence.temperature
        ids_NK, logq_NK, logq_N1 = self._list(place, targets_N, student.p_NV.dtype)
        own_NV = None if tau == 1.0 else _warmed(student.logits_NV, tau, self._scratch(student.p_NV))[0]
        p_NV = student.p_NV if own_NV is None else own_NV
        p_NK = p_NV.gather(1, ids_NK)
        rest_N1 = p_NV.scatter_(1, ids_NK, 0).sum(-1, keepdim=True)  # 1 - sum(p_NK) would cancel
        p_NV.scatter_(1, ids_NK, p_NK)
        kl_N, (ratio_NK, ratio_N1) = self._kl(_log(p_NK), _log(rest_N1), logq_NK, logq_N1)
        if self.divergence.direction == "forward":
            unlisted_N1, listed_NK = 1 - logq_N1.exp() / _positive(rest_N1), p_NK - logq_NK.exp()
        else:
            unlisted_N1, listed_NK = ratio_N1 - kl_N.unsqueeze(1), p_NK * (ratio_NK - kl_N.unsqueeze(1))
        return _Mended(kl_N.clamp(min=0), tau, own_NV, unlisted_N1, ids_NK, listed_NK)

    def plain(self, place: slice | Tensor, targets_N: Tensor, logits_NV: Tensor) -> Tensor:
        ids_NK, logq_NK, logq_N1 = self._list(place, targets_N, logits_NV.dtype)
        logp_NV = torch.log_softmax(logits_NV / self.divergence.temperature, -1)
        kinds = torch.finfo(logits_NV.dtype)
        rest_N1 = logp_NV.scatter(1, ids_NK, kinds.min).logsumexp(-1, keepdim=True)
        floor = torch.tensor(kinds.tiny).log().item()
        return self._kl(logp_NV.gather(1, ids_NK), rest_N1.clamp(min=floor), logq_NK, logq_N1)[0]

    def _kl(self, logp_NK: Tensor, logp_N1: Tensor, logq_NK: Tensor, logq_N1: Tensor) -> tuple[Tensor, Any]:
        """kl_N of K + 1 outcomes, and log p - log q of each."""
        ratio_NK, ratio_N1 = logp_NK - logq_NK, logp_N1 - logq_N1
        if self.divergence.direction == "forward":
            weighed_NK, weighed_N1 = -logq_NK.exp() * ratio_NK, -logq_N1.exp() * ratio_N1
        else:
            weighed_NK, weighed_N1 = logp_NK.exp() * ratio_NK, logp_N1.exp() * ratio_N1
        return weighed_NK.sum(-1) + weighed_N1.squeeze(1), (ratio_NK, ratio_N1)

    def _list(self, place: slice | Tensor, targets_N: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Words, log of their chances, log of the rest's; swapped where that is asked."""
        ids_NK, logq_NK = self.ids_MK[place].long(), -self.nats_MK[place].to(dtype)
        rest_N1 = 1 - logq_NK.to(wide(logq_NK.device)).exp().sum(-1, keepdim=True)
        logq_N1 = rest_N1.clamp_(min=torch.finfo(torch.float32).eps).log_().to(dtype)
        if self.divergence.swap:
            ids_NK = _swapped(ids_NK, logq_NK, targets_N)
        return ids_NK, logq_NK, logq_N1

    def _scratch(self, like_NV: Tensor) -> Tensor:
        """One buffer for the whole sweep: the first chunk is the largest."""
        if self.scratch_NV is None:
            self.scratch_NV = torch.empty_like(like_NV)
        return self.scratch_NV[: len(like_NV)]


def _swapped(ids_NK: Tensor, logq_NK: Tensor, targets_N: Tensor) -> Tensor:
    """The list of the swapped teacher: y in the place of the first word, which stands in y's, if that is listed."""
    top_N1, targets_N1 = logq_NK.argmax(-1, keepdim=True), targets_N.unsqueeze(1)
    return torch.where(ids_NK == targets_N1, ids_NK.gather(1, top_N1), ids_NK).scatter(1, top_N1, targets_N1)


def _warmed(logits_NV: Tensor, temperature: float, out_NV: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(logits / temperature) in the place of out_NV, and the logarithm of its denominator."""
    torch.div(logits_NV, temperature, out=out_NV)
    top_N1 = out_NV.amax(-1, keepdim=True)
    sum_N1 = out_NV.sub_(top_N1).exp_().sum(-1, keepdim=True)
    return out_NV.div_(sum_N1), (top_N1 + sum_N1.log()).squeeze(1)


def _positive(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny)


def _log(p: Tensor) -> Tensor:
    return _positive(p).log()
