"""The blocks of a decoder: which they are, what each writes through, and how copies that write nothing are put in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from graft.core.config.errors import UsageError
from graft.models.forward.model import Model

NUM_TOKENS = 32  # of the text that is read before and after
TOLERANCE = 1e-6  # of the largest logit
PASSING = {"training", "gradient_checkpointing"}  # attributes that are set while a model is in use


Linear = nn.Linear | Conv1D


def insert_silent(model: Model, number: int) -> list[nn.Module]:
    """Put `number` copies of blocks into the model, evenly spread, each behind its original and adding zero.

    The last linear layer of every branch of a copy is set to zero, so that the residual stream passes through it.
    Numbers of layers, lists by layer in the configuration and the places of later blocks follow. Returns the copies.
    Errors: UsageError where there are fewer blocks, where they are not found, and where the logits are no longer the
    same or the type cannot be built anew from its configuration.
    """
    hf = model.hf
    blocks = _blocks(hf)
    if not 1 <= number <= len(blocks):
        raise UsageError(f"blocks is {number}, and the model has {len(blocks)}", allowed=f"1 to {len(blocks)}")
    before = _logits(hf)
    after = [(i + 1) * len(blocks) // number - 1 for i in range(number)]
    config: Any = hf.config.get_text_config()
    shared = {id(one): one for one in (hf.config, config)}  # a copy would not hear of another attention
    copies = {place: copy.deepcopy(blocks[place], dict(shared)) for place in after}
    for place, block in copies.items():
        for layer in _writers(block, config.hidden_size):
            for weight in layer.parameters():
                nn.init.zeros_(weight)
        blocks.insert(place + 1 + after.index(place), block)
    for key, values in vars(config).items():
        if "layer" in key and isinstance(values, list) and len(values) == len(blocks) - number:
            setattr(config, key, [value for i, value in enumerate(values) for _ in range(2 if i in copies else 1)])
    config.num_hidden_layers = len(blocks)
    for place, block in enumerate(blocks):
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = place  # type: ignore[assignment]
    _check(hf, before)
    return list(copies.values())


def _blocks(hf: PreTrainedModel) -> nn.ModuleList:
    """The list of blocks: as many as the configuration says. Errors: UsageError where there is not one such list."""
    number = hf.config.get_text_config().num_hidden_layers
    found = [m for m in hf.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == number]
    if len(found) != 1:
        raise _refusal(hf, f"it has {len(found)} lists of {number} modules, and one of them should be its blocks")
    return found[0]


def _writers(block: nn.Module, width: int) -> list[Linear]:
    """Of every part of a block, and of what stands in it directly, the last linear layer that gives `width` features:
    in most families the one whose output is added to the residual stream."""
    parts: list[Sequence[nn.Module]] = [list(block.children())]
    parts += [list(part.modules()) for part in block.children() if not isinstance(part, Linear)]
    written: list[Linear] = []
    for part in parts:
        wide = [m for m in part if isinstance(m, Linear) and _features(m) == width]
        written += wide[-1:]
    return written


def _features(layer: Linear) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.nf


def _check(hf: PreTrainedModel, before_1TV: Tensor) -> None:
    after_1TV = _logits(hf)
    difference = float((after_1TV - before_1TV).abs().max())
    if not difference <= TOLERANCE * float(before_1TV.abs().max()):
        raise _refusal(hf, f"copies of its blocks without their last layers change the logits by {difference:.2g}")
    try:
        with torch.device("meta"):
            again = type(hf)(type(hf.config).from_dict(hf.config.to_dict()))
    except (ValueError, StrictDataclassError) as error:
        raise _refusal(hf, f"its configuration does not allow another number of blocks: {error}") from error
    ours, theirs = _described(hf), _described(again)
    if ours != theirs:
        name = next(name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name))
        raise _refusal(hf, f"built anew from its configuration it is another model ({name})")


def _described(hf: PreTrainedModel) -> dict[str, Any]:
    """Shapes of the weights, and the plain numbers and words that modules keep: their place, their kind of attention,
    its window."""
    shapes: dict[str, Any] = {name: weight.shape for name, weight in hf.state_dict().items()}
    for name, module in hf.named_modules():
        kept = {key: value for key, value in vars(module).items() if isinstance(value, str | int | float)}
        shapes[f"settings of {name}"] = {key: kept[key] for key in sorted(kept.keys() - PASSING) if key[0] != "_"}
    return shapes


@torch.no_grad()
def _logits(hf: PreTrainedModel) -> Tensor:
    """logits_1TV of the first token ids, with dropout off."""
    training = hf.training
    hf.eval()
    tokens_1T = torch.arange(NUM_TOKENS, device=hf.device).unsqueeze(0) % hf.config.get_text_config().vocab_size
    logits_1TV = hf(input_ids=tokens_1T, use_cache=False).logits
    hf.train(training)
    return logits_1TV


def _refusal(hf: PreTrainedModel, why: str) -> UsageError:
    return UsageError(
        f"blocks cannot be inserted into a model of the type {hf.config.model_type}: {why}",
        where="tuning block_expansion",
        allowed="decoders whose blocks add to a residual stream, like Llama, Qwen, Mistral, GPT-2 and GPT-NeoX",
        do="take another tuning, for instance lora or freeze",
    )
