"""Decoders: packed rows in one forward pass where the model can be told of borders, else piece by piece."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft.core.models.architectures import Kind
from graft.models.forward.attention import NAME, Pieces
from graft.models.forward.fused_modules import fused
from graft.models.forward.model import Model, TargetScores
from graft.models.forward.pieces import Width, by_length, fills_rows, put_back, share_rows, widths_of
from graft.models.losses.token_losses import score_and_best
from graft.packing.batch import Batch


@dataclass(frozen=True)
class Decoder:
    """Each token sees itself and what stands before it in its piece."""

    kind: Kind = "decoder"
    ahead: int = 0
    measure: str = ""

    def hidden(self, model: Model, batch: Batch) -> Tensor:
        with model.autocast(), fused(model.body) if model.fast else nullcontext():
            if not share_rows(model, batch):
                return _by_piece(model, batch)
            if model.flash:
                return _in_one_row(model, batch)
            if model.hf.config._attn_implementation == NAME:
                carrier = Pieces(batch.starts_BT).carrier
                return _run(model, batch.tokens_BT, position_ids=batch.position_BT, attention_mask=carrier)
            return _run(model, batch.tokens_BT, position_ids=batch.position_BT)

    @torch.no_grad()
    def scores(self, model: Model, batch: Batch, sample: bool) -> TargetScores:
        """One pass asks for all."""
        nats_BT, best_BT = score_and_best(model.hidden(batch), model.head, batch.targets_BT)
        return TargetScores(nats_BT, torch.ones_like(best_BT), best_BT)

    def logits(self, model: Model, tokens_PT: Tensor) -> Tensor:
        return model.hf(input_ids=tokens_PT, use_cache=False).logits


def _run(model: Model, tokens_BT: Tensor, **arguments: Any) -> Tensor:
    return model.body(input_ids=tokens_BT, use_cache=False, **arguments).last_hidden_state


def _in_one_row(model: Model, batch: Batch) -> Tensor:
    """All rows end to end: flash attention takes pieces of any length, but only from a single row."""
    starts_N = batch.starts_BT.flatten().nonzero().squeeze(1).int()
    bounds = torch.cat([starts_N, starts_N.new_tensor([batch.tokens_BT.numel()])])
    longest = int(bounds.diff().max())
    hidden_1ND = _run(
        model,
        batch.tokens_BT.view(1, -1),
        position_ids=batch.position_BT.view(1, -1),
        cu_seq_lens_q=bounds,
        cu_seq_lens_k=bounds,
        max_length_q=longest,
        max_length_k=longest,
    )
    return hidden_1ND.view(*batch.tokens_BT.shape, -1)


def _by_piece(model: Model, batch: Batch) -> Tensor:
    """Each piece as a row with the model's own positions, filled on the right, where a causal model cannot see it."""
    tokens_N = batch.tokens_BT.flatten()

    def run(width: Width) -> Tensor:
        tokens_SW = tokens_N[width.place_SW]
        if fills_rows(model, tokens_SW.shape[1]):
            return _run(model, tokens_SW)
        return by_length(lambda tokens_SL, _: _run(model, tokens_SL), tokens_SW, width.real_SW)

    widths = list(widths_of(batch, model.longest))
    return put_back(batch, widths, [run(width) for width in widths])
