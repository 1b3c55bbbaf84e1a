"""Can the model that a folder describes be built, and is it the size of its files? Asked before a weight is read.

It is built without memory (torch's device "meta"), and no further than the files could fill, so that a configuration
that asks for a hundred thousand layers, or for more weights than there are, costs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)

from graft.core.config.errors import UsageError
from graft.core.models.architectures import Kind, kind_of
from graft.core.models.base_model import Base
from graft.core.models.named_tokens import GENERATION
from graft.models.runtime.numeric_faults import is_memory
from graft.models.runtime.quiet import quiet

LOADERS: dict[Kind, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
NAMES: dict[Kind, str] = {
    "decoder": "a causal language model",
    "encoder": "a masked language model",
    "encoder-decoder": "an encoder-decoder language model",
}
END = "eos_token_id"
# Families store several of their weights as one, or leave out tied ones: by these factors a model may have more.
TENSORS, WEIGHTS = (4, 1000), (3, 10_000_000)
SIZE = re.compile(
    r"^(hidden_size|vocab_size|intermediate_size|d_model|d_ff|n_embd|n_inner|max_position_embeddings|n_positions|"
    r"n_(layers?|heads?)|num_((hidden|encoder|decoder)_)?layers|num_(attention_)?heads|(encoder|decoder)_layers)$"
)
BUFFERS = 1 << 28  # numbers in tables of positions and the like, which no file holds


class ModelTooLarge(Exception):
    """A model that is more than its files could fill."""


def check_base(base: Base) -> None:
    """Raises: UsageError as `skeleton_of` does, and where a mark of documents has no embedding."""
    _check_marks(base, skeleton_of(base).get_input_embeddings())


def skeleton_of(base: Base) -> PreTrainedModel:
    """The model, without memory.

    Raises: UsageError where no such model can be built, where it is far larger than the files of the folder, and where
    weights are missing or of another shape, or most of them have no place in it.
    """
    kind = kind_of(base.config)
    _check_code(base)
    _check_sizes(base)
    with described(base.folder, kind), quiet():
        with bounded(base), torch.device("meta"):
            config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
            LOADERS[kind].from_config(config, trust_remote_code=False)
        hf, found = loaded(base, device_map="meta")
    check_complete(base, found)
    return hf


def loaded(base: Base, **more: Any) -> tuple[Any, dict[str, Any]]:
    """(the model, what transformers says of its loading: names that are missing, unexpected, or of another shape)."""
    return LOADERS[kind_of(base.config)].from_pretrained(
        base.folder,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
        use_safetensors=True,
        **more,
    )


def check_complete(base: Base, found: dict[str, Any]) -> None:
    """found: as `loaded` gives it. What is not in the files, and tied to nothing that is, would be made up at random.

    Raises: UsageError for that, and where more than half of what the files hold would not be used.
    """
    other = {f"{name} {list(stored)}, not {list(wanted)}" for name, stored, wanted in found["mismatched_keys"]}
    if other:
        raise UsageError(
            f"the weights have other shapes than config.json says: {listed(other)}",
            where=str(base.folder),
            do="put back the model's own config.json; look at hidden_size, vocab_size, and the numbers of heads",
        )
    if absent := set(found["missing_keys"]):
        raise UsageError(
            f"the model needs weights that its files do not hold: {listed(absent)}",
            where=str(base.folder),
            do="take the files of the whole language model, its head included; config.json may also be at "
            "fault (tie_word_embeddings, sizes, architecture)",
        )
    unused = sum(math.prod(base.shapes.get(name, [0])) for name in found["unexpected_keys"])
    if unused > base.num_parameters / 2:
        raise UsageError(
            f"{unused:,} of {base.num_parameters:,} stored weights have no place in the model that config.json "
            f"describes: {listed(found['unexpected_keys'])}",
            where=str(base.folder / "config.json"),
            allowed="the configuration of the model whose weights these are",
            do="put back its own config.json; look at model_type and the number of layers",
        )


def listed(names: Iterable[str]) -> str:
    """The first five of them, in order, and how many more there are."""
    shown = sorted(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _check_sizes(base: Base) -> None:
    """A number of layers below one makes a model without any, and no error."""
    for name, value in base.config.items():
        if SIZE.match(name) and type(value) is int and value < 1:
            raise UsageError(
                f"{name} is {value}",
                where=str(base.folder / "config.json"),
                allowed="1 or more",
                do="put back the model's own config.json",
            )


def _check_marks(base: Base, embedding: Any) -> None:
    """Every document ends with a mark, and a mark without an embedding ends the training."""
    known = len(embedding.weight)
    marks = [("the mark before a document", base.marks.start), ("the mark behind a document", base.marks.end)]
    for file, said in (("config.json", base.config), (GENERATION, base.generation)):
        ends = said.get(END)
        marks += [(f"{END} of {file}", one) for one in (ends if isinstance(ends, list) else [ends])]
    for name, number in marks:
        if number is not None and not (type(number) is int and 0 <= number < known):
            raise UsageError(
                f"{name} is {number!r}, and the model has embeddings for {known} tokens",
                where=str(base.folder),
                allowed=f"ids 0 to {known - 1}",
                do="put back the model's own configuration and tokenizer",
            )


def _check_code(base: Base) -> None:
    """Code of a folder is never run, and transformers is never left to ask whether it may be."""
    family = base.config.get("model_type")
    if "auto_map" in base.config and family not in CONFIG_MAPPING:
        raise UsageError(
            f"the model needs Python code of its own (auto_map in config.json): transformers has no type {family!r}, "
            "and code that comes with a model is never run here",
            where=str(base.folder / "config.json"),
            allowed="types that the installed transformers has",
            do="bring transformers up to date, which may know it by now, or take another model",
        )


@contextmanager
def bounded(base: Base) -> Generator[None]:
    """Within it no model is built that has many more weights than the files hold. Raises: TooLarge."""
    stored = base.num_parameters
    most = {
        "tensors": TENSORS[0] * base.num_tensors + TENSORS[1],
        "weights": WEIGHTS[0] * stored + WEIGHTS[1],
        "numbers in tables": max(stored, BUFFERS),
    }
    found = dict.fromkeys(most, 0)

    def note(kind: str, count: int) -> None:
        found[kind] += count
        if found[kind] > most[kind]:
            raise ModelTooLarge(
                f"{found[kind]:,} {kind} and more, and the weight files hold {base.num_tensors:,} tensors with "
                f"{stored:,} weights"
            )

    def parameter(_module: nn.Module, _name: str, value: nn.Parameter | None) -> None:
        if value is not None:
            note("tensors", 1)
            note("weights", value.numel())

    def buffer(_module: nn.Module, _name: str, value: torch.Tensor | None) -> None:
        if value is not None:
            note("numbers in tables", value.numel())

    handles = [register_module_parameter_registration_hook(parameter), register_module_buffer_registration_hook(buffer)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def described(folder: Path, kind: Kind) -> Generator[None]:
    """Raises: UsageError in place of whatever building or loading a model of transformers ends in.

    Memory that ran out goes through, as what is said in words already does.
    """
    try:
        yield
    except ModelTooLarge as error:
        raise UsageError(
            f"config.json describes a model with {error}",
            where=str(folder / "config.json"),
            allowed="the sizes of the model whose weights these are",
            do="put back its own config.json; look at the numbers of layers, heads and experts and at vocab_size",
        ) from error
    except Exception as error:  # families check their settings in as many ways as there are families
        if type(error).__module__.startswith("graft.") or is_memory(error):
            raise
        raise UsageError(
            f"transformers does not load this as {NAMES[kind]}: {_brief(error)}",
            where=str(folder),
            allowed=f"{NAMES[kind]} of a type that the installed transformers knows by itself; code that comes with a "
            "model is never run",
            do="mend config.json (which kind it is: architectures, is_decoder, is_encoder_decoder), or bring "
            "transformers up to date",
        ) from error


def _brief(error: Exception) -> str:
    """The kind of error and what it says, in one line."""
    said = " ".join(str(error).split())
    return f"{said[:300]} ({type(error).__name__})" if said else type(error).__name__
