"""A model from a folder, read as its kind is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from graft.core.models.architectures import kind_of
from graft.core.models.base_model import Base
from graft.core.process.precision import Computed
from graft.models.checks.skeleton import check_complete, described, listed, loaded, skeleton_of
from graft.models.forward.decoder import Decoder
from graft.models.forward.encoder import Encoder
from graft.models.forward.encoder_decoder import EncoderDecoder
from graft.models.forward.model import Model
from graft.models.runtime.parallel import loading_slices

READINGS = {"encoder": Encoder, "encoder-decoder": EncoderDecoder}


def load_model(
    folder: str | Path,
    *,
    precision: Computed = "bf16",
    attention: str = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    sliced: Callable[[PreTrainedModel], bool] | bool = True,
) -> Model:
    """A model from a folder. Masters stay in float32: bfloat16 weights lose updates below 2^-9 of a weight.

    sliced: where ranks work together, whether each reads its slices alone (see parallel.loading_slices).
    Errors: UsageError where it is no language model, or lacks weights that would then be random.
    """
    base = Base(str(folder), Path(folder))
    kind = kind_of(base.config)
    skeleton_of(base)
    with described(base.folder, kind), loading_slices(sliced) as options:
        hf, found = loaded(base, dtype=dtype, **options)
    check_complete(base, found)
    hf.to(device)
    reading = READINGS[kind](base) if kind in READINGS else Decoder()
    model = Model(hf, precision=precision, attention=attention, reading=reading)
    if found["unexpected_keys"]:
        model.notes.append(
            f"{hf.config.model_type}: the files hold weights that the model has no place for, and they are not "
            f"used: {listed(found['unexpected_keys'])}"
        )
    return model
