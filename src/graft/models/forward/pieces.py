"""Pieces of rows: which may run side by side, and how the others run, by their widths or lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from graft.models.runtime.parallel import everyone, ranks
from graft.packing.batch import Batch

if TYPE_CHECKING:
    from graft.models.forward.model import Model


class Width(NamedTuple):
    """S pieces filled up to one width W on the right."""

    place_SW: Tensor  # place among the batch's B * T tokens; a filler repeats its piece's first
    real_SW: Tensor  # bool
    kept: bool = True  # False: run because another rank has pieces of this width, and all must run as often


def by_length(run: Callable[[Tensor, Tensor], Tensor], tokens_SW: Tensor, real_SW: Tensor) -> Tensor:
    """run(tokens_SL, real_SL) for the rows of each length L by themselves, so that no row is filled up.

    real_SW: bool, true from the left. Returns [S, W, ...], zeros where a row has ended. Ranks that work together run
    all lengths of all of them.
    """
    length_S = real_SW.sum(1)
    own = length_S.unique().tolist()
    states_SW: Tensor | None = None
    for length in sorted({one for found in everyone(own) for one in found} - {0}):
        chosen_S = length_S == length
        if length not in own:
            run(tokens_SW.new_zeros(1, length), real_SW.new_ones(1, length))
            continue
        states_SL = run(tokens_SW[chosen_S, :length], real_SW[chosen_S, :length])
        if states_SW is None:
            states_SW = states_SL.new_zeros(*tokens_SW.shape, *states_SL.shape[2:])
        filled_SW = torch.nn.functional.pad(states_SL.transpose(1, -1), (0, tokens_SW.shape[1] - length))
        states_SW = states_SW.index_put((chosen_S.nonzero().squeeze(1),), filled_SW.transpose(1, -1))
    assert states_SW is not None, "nothing to read"
    return states_SW


def share_rows(model: Model, batch: Batch) -> bool:
    """Whether the pieces of this batch may run as they lie, side by side in its rows; see Model.packs."""
    width = batch.tokens_BT.shape[1]
    if not model.packs:
        return False
    if model.unseen and width > model.unseen[0]:
        assert model.look_further is not None, "lengths that were not looked at come with a way to look"
        model.look_further(model, width)
    if model.packs_to is not None and width > model.packs_to:
        return False
    if model.rope is None or width <= model.rope:
        return True
    return max(everyone(int(batch.position_BT.max()))) < model.rope


def fills_rows(model: Model, width: int) -> bool:
    """Whether pieces of other lengths may be filled up to this width behind their last token; see Model.fills."""
    return model.fills and (model.rope is None or width <= model.rope)


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
