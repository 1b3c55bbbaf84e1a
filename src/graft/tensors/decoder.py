"""Decoders: packed rows in one forward pass where the model can be told of borders, else piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from graft.core.kind import Kind
from graft.tensors.attention import NAME, Pieces
from graft.tensors.batch import Batch
from graft.tensors.company import by_length, fills_rows, share_rows
from graft.tensors.fused import fused
from graft.tensors.nats import score_and_best
from graft.tensors.parallel import everyone, ranks

if TYPE_CHECKING:
    from graft.tensors.model import Model


class Scores(NamedTuple):
    """What a model makes of the targets of packed rows."""

    nats_BT: Tensor  # float32; 0 where nothing was asked
    asked_BT: Tensor  # bool: the target was predicted; of fillers and, but for decoders, of marks it is not
    best_BT: Tensor  # bool: and no token was likelier


class Reading(Protocol):
    """How a kind of model reads packed rows and is asked for their targets."""

    @property
    def kind(self) -> Kind: ...

    @property
    def ahead(self) -> int:
        """Tokens of a piece beyond its pairs that are read when it is scored."""
        ...

    @property
    def measure(self) -> str:
        """What the nats of `scores` are, where they are not those of the next token."""
        ...

    def hidden(self, model: Model, batch: Batch) -> Tensor:
        """hidden_BTD: what the head projects."""
        ...

    def scores(self, model: Model, batch: Batch, sample: bool) -> Scores:
        """No gradients. sample: a fixed part of the targets is enough, where asking for all takes several passes."""
        ...

    def logits(self, model: Model, tokens_PT: Tensor) -> Tensor:
        """logits_PTV by the model's own forward, for comparing two copies of it."""
        ...


class Width(NamedTuple):
    """S pieces filled up to one width W on the right."""

    place_SW: Tensor  # place among the batch's B * T tokens; a filler repeats its piece's first
    real_SW: Tensor  # bool
    kept: bool = True  # False: run because another rank has pieces of this width, and all must run as often


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
    def scores(self, model: Model, batch: Batch, sample: bool) -> Scores:
        """One pass asks for all."""
        nats_BT, best_BT = score_and_best(model.hidden(batch), model.head, batch.targets_BT)
        return Scores(nats_BT, torch.ones_like(best_BT), best_BT)

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


def widths_of(batch: Batch, most: int | None = None) -> Iterator[Width]:
    """The pieces of a batch by their lengths rounded up to 2^k, or to the row or `most` where that is shorter.

    Ranks that work together must run a model equally often: theirs are all of one width.
    """
    starts_S = batch.starts_BT.flatten().nonzero().squeeze(1)
    lengths_S = torch.diff(starts_S, append=starts_S.new_tensor([batch.tokens_BT.numel()]))
    powers = 2 ** torch.arange(63, device=lengths_S.device)
    rounded_S = (
        powers[torch.bucketize(lengths_S, powers)]
        .clamp(max=min(batch.tokens_BT.shape[1], most or batch.tokens_BT.shape[1]))
        .maximum(lengths_S)
    )
    if ranks() > 1:
        rounded_S.fill_(rounded_S.max())
    own = rounded_S.unique().tolist()
    for width in sorted({width for found in everyone(own) for width in found}):
        if width not in own:
            place_1W = torch.arange(width, device=starts_S.device).unsqueeze(0)
            yield Width(place_1W, torch.ones_like(place_1W, dtype=torch.bool), kept=False)
            continue
        chosen = rounded_S == width
        offset_SW = torch.arange(width, device=starts_S.device).expand(int(chosen.sum()), -1)
        real_SW = offset_SW < lengths_S[chosen, None]
        yield Width(starts_S[chosen, None] + torch.where(real_SW, offset_SW, 0), real_SW)


def put_back(batch: Batch, widths: list[Width], states: list[Tensor]) -> Tensor:
    """[S, W, D] of each width as one [B, T, D], fillers left out."""
    kept = [width.real_SW & width.kept for width in widths]
    place_N = torch.cat([width.place_SW[kept_SW] for width, kept_SW in zip(widths, kept, strict=True)])
    states_ND = torch.cat([state[kept_SW] for state, kept_SW in zip(states, kept, strict=True)])
    return states_ND[place_N.argsort()].view(*batch.tokens_BT.shape, -1)
