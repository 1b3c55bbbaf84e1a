"""Which texts a model may read together: what in its configuration changes with length, and texts read by length."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.tensors.batch import Batch
from graft.tensors.parallel import everyone

if TYPE_CHECKING:
    from graft.tensors.model import Model

# Numbers of tokens at which a configuration may change what a model does with a text.
SWITCHES = re.compile(r"window|chunk|local_attention|block_size|original_max_position|max_distance|axial_pos_shape")
ROPE = "rope_type"
POSITIONS = re.compile(r"(^|[._])(wpe|(embed_)?positions?(_embeddings?)?|pos_embed(ding)?s?)$")


def switches(hf: PreTrainedModel) -> list[int]:
    """Lengths from which on the model may treat a text in another way, as its configuration and modules name them."""
    found = set(_numbers(hf.config.get_text_config().to_dict()))
    found.update(length for module in hf.modules() for length in _rope_switches(module))
    return sorted(found)


def _numbers(config: Mapping[str, Any], inside: bool = False) -> Iterator[int]:
    for key, value in config.items():
        named = inside or bool(SWITCHES.search(str(key)))
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif named and isinstance(value, list | tuple):
            yield from (one for one in value if type(one) is int and one > 1)
        elif named and type(value) is int and value > 1:
            yield value


def rope_switch(hf: PreTrainedModel) -> int | None:
    """The length beyond which a text's positions depend on the longest text beside it; None where they never do.

    LongRoPE has two sets of frequencies, and dynamic NTK a set for every length: a forward pass takes the one of its
    longest row for all of them.
    """
    return min((length for module in hf.modules() for length in _rope_switches(module)), default=None)


def _rope_switches(module: nn.Module) -> Iterator[int]:
    kinds = getattr(module, ROPE, None)
    for layer, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
        if kind == "longrope":
            said: Any = getattr(module, "config", None)
            parameters = getattr(said, "rope_parameters", None) or {}
            parameters = parameters if layer is None else parameters.get(layer) or {}
            length = parameters.get("original_max_position_embeddings") or module.original_max_seq_len
            yield int(length)  # type: ignore[arg-type]
        elif isinstance(kind, str) and "dynamic" in kind:
            yield int(module.original_max_seq_len)  # type: ignore[arg-type]


def forget_lengths(hf: PreTrainedModel) -> None:
    """Makes dynamic NTK a function of the text: transformers keeps the frequencies of the longest text it has met."""
    for module in hf.modules():
        if any(_rope_switches(module)) and _as_begun not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_as_begun)


def _as_begun(module: Any, _: Any) -> None:
    for layer in module.rope_type if isinstance(module.rope_type, dict) else [None]:
        prefix = "" if layer is None else f"{layer}_"
        begun = getattr(module, f"{prefix}original_inv_freq")
        now = getattr(module, f"{prefix}inv_freq")
        module.register_buffer(f"{prefix}inv_freq", begun.to(now.device).clone(), persistent=False)
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


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
        from graft.tensors.verify import look_further  # it reads with models, which ask here

        look_further(model, width)
    if model.packs_to is not None and width > model.packs_to:
        return False
    if model.rope is None or width <= model.rope:
        return True
    return max(everyone(int(batch.position_BT.max()))) < model.rope


def fills_rows(model: Model, width: int) -> bool:
    """Whether pieces of other lengths may be filled up to this width behind their last token; see Model.fills."""
    return model.fills and (model.rope is None or width <= model.rope)


def longest_text(hf: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for; None where its positions have no end.

    A table with a pad id counts its positions from behind it (RoBERTa's), one with an offset from there (BART's).
    """
    found = [
        module.num_embeddings - (0 if module.padding_idx is None or offset else module.padding_idx + 1) - offset
        for name, module in hf.named_modules()
        if isinstance(module, nn.Embedding)
        and POSITIONS.search(name)
        and isinstance(offset := getattr(module, "offset", 0), int)
    ]
    return min(found, default=None)
