"""Two modules most decoders share, with a backward of their own: fewer passes over memory, fewer tensors kept."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm


@contextmanager
def fused(body: nn.Module) -> Generator[None]:
    """Within the context the norms and gated MLPs of this one model that are Llama's run the functions below.

    A module is Llama's when the code of its forward is, whatever family it belongs to (transformers copies these
    classes word by word). Nothing is replaced where activations are recomputed: that happens after the context.
    """
    modules = list(body.modules())
    recomputed = any(getattr(module, "gradient_checkpointing", False) for module in modules)
    taken = [] if recomputed else [(module, forward) for module in modules if (forward := _better(module))]
    for module, forward in taken:
        module.forward = MethodType(forward, module)  # of the instance, in front of its class's method
    try:
        yield
    finally:
        for module, _ in taken:
            del module.forward


def _better(module: nn.Module) -> Callable[..., Tensor] | None:
    if "forward" in vars(module):
        return None
    if _same_code(module, LlamaRMSNorm):
        return _norm
    if _same_code(module, LlamaMLP) and isinstance(module.act_fn, nn.SiLU | SiLUActivation):
        return _gated_mlp
    return None


def _same_code(module: nn.Module, known: type[nn.Module]) -> bool:
    ours, theirs = (inspect.unwrap(kind.forward).__code__ for kind in (type(module), known))
    return (ours.co_code, ours.co_names, ours.co_consts) == (theirs.co_code, theirs.co_names, theirs.co_consts)


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    return _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon, _product_type(hidden_states))


def _gated_mlp(self: Any, x: Tensor) -> Tensor:
    """down(silu(gate(x)) * up(x)); the product, a seventh of what a block keeps, is made anew for down's gradient."""
    gate, up = self.gate_proj(x), self.up_proj(x)
    product = _SwiGLU.apply(gate, up)
    parts = gate.detach(), up.detach()  # kept in any case
    known = product.data_ptr(), product.dtype, product.numel()

    def put_away(tensor: Tensor) -> Tensor | torch.Size:
        same = (tensor.data_ptr(), tensor.dtype, tensor.numel()) == known and tensor.is_contiguous()
        return tensor.shape if same else tensor

    def fetch(kept: Tensor | torch.Size) -> Tensor:
        return kept if isinstance(kept, Tensor) else _swiglu(*parts).view(kept)

    with torch.autograd.graph.saved_tensors_hooks(put_away, fetch):
        return self.down_proj(product)


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


def _product_type(states: Tensor) -> torch.dtype:
    """What the linear layer after this one will want: casting once saves it a cast per layer that reads it."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


class _RMSNorm(torch.autograd.Function):
    """y = weight * h / root with root = sqrt(mean(h^2) + epsilon), in float32; keeps h and one number a token.

    With n = h / root and g the gradient to y: dweight = sum(g n), dh = (g weight - n mean(g weight n)) / root.
    Source: Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight_D: Tensor, epsilon: float, made: torch.dtype) -> Tensor:
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        rate = norm.square_().div_(hidden.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(hidden, weight_D, rate)
        return (wide * rate).mul_(weight_D).to(made)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        hidden, weight_D, rate = ctx.saved_tensors
        width = hidden.shape[-1]
        g = upstream[0].to(rate.dtype, copy=True)
        n = hidden * rate
        gn_ND = (g * n).reshape(-1, width)
        mean = (gn_ND @ weight_D.to(gn_ND.dtype)).div_(-width).view(rate.shape)
        dhidden = g.mul_(weight_D).addcmul_(n, mean).mul_(rate)
        return dhidden.to(hidden.dtype), gn_ND.sum(0).to(weight_D.dtype), None, None


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020, arXiv 2002.05202); keeps gate and up, not silu(gate)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _swiglu(gate, up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up = ctx.saved_tensors
        dgate = torch.ops.aten.silu_backward(upstream[0] * up, gate)
        return dgate, F.silu(gate).mul_(upstream[0])
