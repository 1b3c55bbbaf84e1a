"""What adapters leave out: matrices that are no linear layers, such as experts kept as one stack."""

from __future__ import annotations

import re

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

LINEAR = (nn.Linear, Conv1D)
LEAST_NAMED = 0.001  # share of the weights, below which it is not worth a note that they stay


def left_out(hf: PreTrainedModel) -> list[str]:
    """In words, which matrices no adapter can reach and nothing trains, with their share of the base's weights."""
    reached = {
        id(weight)
        for module in hf.modules()
        if isinstance(module, (BaseTunerLayer, *LINEAR, nn.Embedding))
        for weight in module.parameters()
    }
    frozen = {
        name: weight.numel()
        for name, weight in hf.named_parameters()
        if weight.dim() > 1 and not weight.requires_grad and id(weight) not in reached
    }
    whole = sum(weight.numel() for weight in hf.parameters() if not weight.requires_grad or id(weight) not in reached)
    share = sum(frozen.values()) / max(1, whole)
    if share < LEAST_NAMED:
        return []
    names = sorted({re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in frozen})
    endings = sorted({name.rsplit(".", 2)[-2] for name in names if "." in name})
    return [
        f"no adapter reaches {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}, {share:.0%} of the weights: "
        "they are stacks of matrices and no linear layers (such as experts kept as one), and stay as they are; "
        f"also: [{', '.join(endings[:4])}] trains them in full beside the adapters"
    ]
