"""What a model does with long texts, read off its configuration and modules: switches, positions, its body."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

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


def body_of(hf: PreTrainedModel) -> nn.Module:
    """What the head stands on. transformers' base_model is the whole model where its prefix names no part of it."""
    if hf.base_model is not hf:
        return hf.base_model
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    parts = {part: list(part.modules()) for part in hf.children()}
    inner = [part for part, within in parts.items() if embedding in within and head not in within]
    return inner[0] if len(inner) == 1 and embedding is not inner[0] else hf
