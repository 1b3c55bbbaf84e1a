"""Attention inside pieces as batched matrix products: no work across borders or above the diagonal, little kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "graft_pieces"
NARROWEST = 64  # pieces are filled up to multiples of this, or of a quarter of the power of two below their length
TILE = 256  # queries per product: keys to the right of a tile are never touched


@dataclass(frozen=True, eq=False)
class Group:
    """S pieces filled up to one width W; fillers stand on the right, where no real token sees them."""

    width: int
    place_N: Tensor  # S * W places in the batch's B * T tokens; a filler repeats its piece's first
    filler_N: Tensor  # which of the S * W are fillers


class Pieces:
    """How the pieces of one batch fall into groups of equal width: made once, used by every layer."""

    def __init__(self, starts_BT: Tensor) -> None:
        self.starts_BT = starts_BT
        starts_S = starts_BT.flatten().nonzero().squeeze(1)
        lengths_S = torch.diff(starts_S, append=starts_S.new_tensor([starts_BT.numel()]))
        powers = 2 ** torch.arange(63, device=lengths_S.device)
        step_S = (powers[torch.bucketize(lengths_S, powers, right=True) - 1] // 4).clamp(min=NARROWEST)
        widths_S = (lengths_S + step_S - 1) // step_S * step_S
        self.groups: list[Group] = []
        self.filled_N = torch.empty(starts_BT.numel(), dtype=torch.long, device=starts_BT.device)
        num_filled = 0
        for width in widths_S.unique().tolist():
            first_S1 = starts_S[widths_S == width, None]
            offset_SW = torch.arange(width, device=starts_BT.device).expand(len(first_S1), -1)
            real_SW = offset_SW < lengths_S[widths_S == width, None]
            place_SW = first_S1 + offset_SW * real_SW
            self.filled_N[place_SW[real_SW]] = num_filled + real_SW.flatten().nonzero().squeeze(1)
            self.groups.append(Group(width, place_SW.flatten(), (~real_SW).flatten().nonzero().squeeze(1)))
            num_filled += place_SW.numel()
        self.num_filled = num_filled

    def spread(self, states_BTHC: Tensor, silent: bool = False) -> list[Tensor]:
        """One contiguous [S * H, W, C] per group; silent: with zeros for fillers."""
        *_, heads, channels = states_BTHC.shape
        flat_NC = states_BTHC.reshape(-1, heads * channels)
        parts = []
        for group in self.groups:
            part_NC = flat_NC.index_select(0, group.place_N)
            if silent:
                part_NC.index_fill_(0, group.filler_N, 0)
            part_SWHC = part_NC.view(-1, group.width, heads, channels)
            parts.append(part_SWHC.transpose(1, 2).reshape(-1, group.width, channels))
        return parts

    def collect(self, parts: list[Tensor], heads: int) -> Tensor:
        """Undoes `spread`: [B, T, H, C], fillers left out."""
        channels = parts[0].shape[-1]
        filled_NHC = parts[0].new_empty(self.num_filled, heads, channels)
        start = 0
        for group, part in zip(self.groups, parts, strict=True):
            stop = start + len(group.place_N)
            filled_NHC[start:stop].view(-1, group.width, heads, channels).copy_(
                part.view(-1, heads, group.width, channels).transpose(1, 2)
            )
            start = stop
        return filled_NHC.flatten(1).index_select(0, self.filled_N).view(*self.starts_BT.shape, heads, channels)

    @cached_property
    def carrier(self) -> Tensor:
        """What brings the pieces to every layer: transformers hands a mask of four dimensions on as it is.

        Its one number is NaN, so that code which takes it for an ordinary mask cannot go wrong in silence.
        """
        mask_1111 = torch.full((1, 1, 1, 1), torch.nan, device=self.starts_BT.device)
        mask_1111.pieces = self  # type: ignore[attr-defined]
        return mask_1111

    def mask(self, window: int | None) -> Tensor:
        """True where token t sees token s, [B, 1, T, T]: for what only transformers' own attention can do."""
        segment_BT = self.starts_BT.cumsum(1)
        place_T = torch.arange(segment_BT.shape[1], device=segment_BT.device)
        distance_TT = place_T[:, None] - place_T
        near_TT = (distance_TT >= 0) & (distance_TT < (window or len(place_T)))
        return ((segment_BT[:, :, None] == segment_BT[:, None]) & near_TT).unsqueeze(1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **extras: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: [B, H, T, C] in, [B, T, H, C] out.

    Without pieces (generation, somebody else's call), or where something is asked that the products here do not
    do (dropout, a bias on the scores), this is transformers' sdpa.
    """
    pieces: Pieces | None = getattr(attention_mask, "pieces", None)
    known = all(extras.get(name) is None for name in ("softcap", "position_bias", "s_aux"))
    if pieces is None or dropout > 0 or not known or extras.get("is_causal") is False:
        mask = attention_mask if pieces is None else pieces.mask(sliding_window)
        return sdpa_attention_forward(
            module, query, key, value, mask, scaling=scaling, dropout=dropout, sliding_window=sliding_window, **extras
        )
    shared = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, shared), repeat_kv(value, shared)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, pieces, scale, sliding_window), None


def register() -> str:
    """Makes the implementation known to transformers under a name of its own; models that do not ask keep theirs."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


class _Attention(torch.autograd.Function):
    """softmax(scale * q k^T) v inside pieces; keeps q, k, v and computes the probabilities again in backward."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, scale: float, window: int | None
    ) -> Tensor:
        device = query.device.type
        compute = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
        ctx.types = [states.dtype for states in (query, key, value)]
        ctx.pieces, ctx.scale, ctx.window = pieces, scale, window
        with torch.autocast(device, enabled=False):
            queries = pieces.spread((query * scale).to(compute).transpose(1, 2))
            keys, values = (pieces.spread(states.to(compute).transpose(1, 2)) for states in (key, value))
            ctx.save_for_backward(*queries, *keys, *values)
            outputs = []
            for q_GWC, k_GWC, v_GWC in zip(queries, keys, values, strict=True):
                output_GWC = torch.empty_like(v_GWC)
                for rows, columns in _tiles(q_GWC.shape[1], window):
                    p_GWW = _probabilities(q_GWC[:, rows], k_GWC[:, columns], rows, columns, window)
                    output_GWC[:, rows] = torch.bmm(p_GWW, v_GWC[:, columns])
                outputs.append(output_GWC)
            return pieces.collect(outputs, query.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        pieces, heads, saved = ctx.pieces, upstream[0].shape[2], ctx.saved_tensors
        outward = pieces.spread(upstream[0].to(saved[0].dtype), silent=True)
        gradients: list[list[Tensor]] = [[], [], []]
        for number, g_GWC in enumerate(outward):
            q_GWC, k_GWC, v_GWC = saved[number :: len(outward)]
            made = _gradients(q_GWC, k_GWC, v_GWC, g_GWC, ctx.window)
            for parts, part in zip(gradients, made, strict=True):
                parts.append(part)
        query, key, value = (
            pieces.collect(parts, heads).transpose(1, 2).to(kind)
            for parts, kind in zip(gradients, ctx.types, strict=True)
        )
        return query.mul_(ctx.scale), key, value, None, None, None


def _gradients(
    q_GWC: Tensor, k_GWC: Tensor, v_GWC: Tensor, g_GWC: Tensor, window: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to (scaled) queries, keys and values of one group, tile by tile."""
    dq_GWC, dk_GWC, dv_GWC = torch.empty_like(q_GWC), torch.zeros_like(k_GWC), torch.zeros_like(v_GWC)
    for rows, columns in _tiles(q_GWC.shape[1], window):
        q, k, g = q_GWC[:, rows], k_GWC[:, columns], g_GWC[:, rows]
        p_GWW = _probabilities(q, k, rows, columns, window)
        dv_GWC[:, columns] += torch.bmm(p_GWW.transpose(1, 2), g)
        dp_GWW = torch.bmm(g, v_GWC[:, columns].transpose(1, 2))
        ds_GWW = torch.ops.aten._softmax_backward_data(dp_GWW, p_GWW, -1, p_GWW.dtype)
        dq_GWC[:, rows] = torch.bmm(ds_GWW, k)
        dk_GWC[:, columns] += torch.bmm(ds_GWW.transpose(1, 2), q)
    return dq_GWC, dk_GWC, dv_GWC


def _tiles(width: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Queries of a tile and the keys that any of them sees."""
    for start in range(0, width, TILE):
        stop = min(start + TILE, width)
        yield slice(start, stop), slice(0 if window is None else max(0, start - window + 1), stop)


def _probabilities(q_GWC: Tensor, k_GWC: Tensor, rows: slice, columns: slice, window: int | None) -> Tensor:
    scores_GWW = torch.bmm(q_GWC, k_GWC.transpose(1, 2))
    if window is None:  # only the square on the diagonal has anything to hide
        square = rows.stop - rows.start
        scores_GWW[:, :, -square:] += _hide(square, square, 0, None, scores_GWW.dtype, scores_GWW.device)
    else:
        shape = rows.stop - rows.start, columns.stop - columns.start
        scores_GWW += _hide(*shape, rows.start - columns.start, window, scores_GWW.dtype, scores_GWW.device)
    return torch.softmax(scores_GWW, -1)


@lru_cache(maxsize=64)
def _hide(rows: int, columns: int, ahead: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where query r, standing `ahead` + r places after the first key, does not see key c; 0 elsewhere."""
    distance = torch.arange(rows)[:, None] + ahead - torch.arange(columns)
    seen = (distance >= 0) & (distance < (window or rows + columns))
    return torch.where(seen, 0.0, -torch.inf).to(dtype=dtype, device=device)
