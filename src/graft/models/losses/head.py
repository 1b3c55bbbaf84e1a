"""From hidden states to chances: with nats.py the one place that holds logits, of one chunk of tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of the vocabulary projection held at once: 8 MiB of float32 stay near a processor's cache; an accelerator
# wants long products instead. Below the floor of tokens, re-reading the head would cost more than it saves.
CHUNK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 27}
CHUNK_TOKENS = {"cpu": 128, "cuda": 512}


class Foreign(Protocol):
    """A head of unknown arithmetic: all it can do is logits."""

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

    @property
    def wide(self) -> torch.dtype:
        """Type of the loss arithmetic."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def cast(self) -> Head:
        """The same head with its weight in the type of the products, once instead of once per chunk."""
        return replace(self, weight_VD=self.weight_VD.detach().to(self.dtype))

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """logits_NV, differentiable: for a look at a few tokens, not for losses."""
        return self.finish(F.linear(hidden_ND.to(self.dtype), self.weight_VD.to(self.dtype)).to(self.wide))

    def finish(self, product_NV: Tensor) -> Tensor:
        """Logits in the place of the bare product hidden @ weight^T."""
        if self.bias_V is not None:
            product_NV.add_(self.bias_V)
        if self.scale != 1.0:
            product_NV.mul_(self.scale)
        if self.soft_cap is None:
            return product_NV
        capped_NV = product_NV.div_(self.soft_cap).tanh_()
        return capped_NV * self.soft_cap if capped_NV.requires_grad else capped_NV.mul_(self.soft_cap)


Projection = Head | Foreign


class Chances(NamedTuple):
    """A chunk's logits, their softmax p_NV and the logarithm of its denominator lse_N."""

    logits_NV: Tensor
    p_NV: Tensor
    lse_N: Tensor

    def nats(self, targets_N: Tensor) -> Tensor:
        """-log p(target)."""
        return self.lse_N - self.logits_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1)


class Reader:
    """Chances of one chunk after the other, each in the place of the one before.

    Memory this large goes back to the system when it is freed and comes back filled with zeros, page by page;
    doing that for every chunk would cost more than the softmax.
    """

    def __init__(self, head: Projection, num_tokens: int, device: torch.device) -> None:
        self.head = head.cast() if isinstance(head, Head) else head
        self.parts = list(parts_of(num_tokens, head.vocabulary, device))
        if isinstance(self.head, Head) and self.parts:
            shape = (self.parts[0].stop, head.vocabulary)
            self.product_NV = torch.empty(shape, dtype=self.head.dtype, device=device)
            same = self.head.dtype == self.head.wide
            self.logits_NV = self.product_NV if same else torch.empty(shape, dtype=self.head.wide, device=device)
            self.p_NV = torch.empty(shape, dtype=self.head.wide, device=device)

    def read(self, hidden_ND: Tensor) -> Chances:
        return self.chances(self.logits(hidden_ND))

    @torch.no_grad()
    def logits(self, hidden_ND: Tensor) -> Tensor:
        """logits_NV of a chunk, to be changed at will before `chances`."""
        if not isinstance(self.head, Head):
            return self.head.logits(hidden_ND)
        product_NV, logits_NV = self.product_NV[: len(hidden_ND)], self.logits_NV[: len(hidden_ND)]
        torch.mm(hidden_ND.to(self.head.dtype), self.head.weight_VD.T, out=product_NV)
        if logits_NV.dtype != product_NV.dtype:
            logits_NV.copy_(product_NV)
        return self.head.finish(logits_NV)

    @torch.no_grad()
    def chances(self, logits_NV: Tensor) -> Chances:
        """The denominator is read off the largest p = exp(largest logit - lse): cheaper than a second sweep of exp."""
        if isinstance(self.head, Head):
            p_NV = torch.softmax(logits_NV, -1, out=self.p_NV[: len(logits_NV)])
        else:
            p_NV = torch.softmax(logits_NV, -1)
        return Chances(logits_NV, p_NV, logits_NV.amax(-1) - p_NV.amax(-1).log())


def parts_of(num_tokens: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Chunks of tokens whose logits are held at once."""
    size = max(CHUNK_ELEMENTS.get(device.type, 1 << 27) // vocabulary, CHUNK_TOKENS.get(device.type, 512))
    for start in range(0, num_tokens, size):
        yield slice(start, min(start + size, num_tokens))
