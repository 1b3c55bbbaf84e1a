"""A saved model keeps each tensor in the type that the base's files have it in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graft.models.files.stored_types import StoredTypes
from graft.models.files.weights import open_model, save_model

WIDE = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "num_key_value_heads": 1, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**WIDE),
    "mixtral": lambda: transformers.MixtralConfig(**WIDE, num_local_experts=2),  # transformers joins its experts
}
TEXTS = torch.arange(30).view(3, 10)


def base(world, into: Path, name: str, exact: str) -> dict[str, torch.Tensor]:
    """A bfloat16 checkpoint that keeps in float32 what `exact` is part of the name of; its tensors."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[name]()).to(torch.bfloat16).save_pretrained(into)
    weights = load_file(into / "model.safetensors")
    draw = torch.Generator().manual_seed(1)
    for key in weights:
        if exact in key:
            weights[key] = torch.randn(weights[key].shape, generator=draw) * 0.1
    assert len({weight.dtype for weight in weights.values()}) == 2
    save_file(weights, into / "model.safetensors", {"format": "pt"})
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(world.base.folder / file, into / file)
    return weights


@pytest.mark.parametrize(("name", "exact"), [("llama", "norm"), ("mixtral", "experts"), ("mixtral", "layernorm")])
def test_each_tensor_in_its_own_type(world, tmp_path, name, exact):
    before = base(world, tmp_path / "base", name, exact)
    model = open_model(tmp_path / "base", "fp32")
    assert save_model(model, tmp_path / "base", tmp_path / "model", TEXTS) < 1e-6
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert {key: weight.dtype for key, weight in after.items()} == {key: weight.dtype for key, weight in before.items()}
    assert all(torch.equal(after[key], before[key]) for key in before)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert config.dtype == torch.bfloat16


def test_names_are_those_of_the_loaded_model(world, tmp_path):
    base(world, tmp_path, "mixtral", "experts")
    model = open_model(tmp_path, "fp32")
    types = StoredTypes.of(tmp_path, model.hf)
    found = {name: types.type_of(name, weight) for name, weight in model.hf.state_dict().items()}
    assert {name for name, kind in found.items() if kind == torch.float32} == {n for n in found if ".experts." in n}
    assert types.type_of("of_nobody.weight", torch.zeros(1)) == torch.bfloat16
    assert types.type_of("of_nobody.count", torch.zeros(1, dtype=torch.int64)) == torch.int64


def test_a_body_saved_alone_keeps_its_types(world, tmp_path):
    """Its files name no model around it."""
    base(world, tmp_path / "whole", "llama", "norm")
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    shutil.copytree(tmp_path / "whole", tmp_path / "body")
    short = {name.removeprefix("model."): weight for name, weight in weights.items()}
    save_file(short, tmp_path / "body" / "model.safetensors", {"format": "pt"})
    model = open_model(tmp_path / "body", "fp32")
    save_model(model, tmp_path / "body", tmp_path / "out", TEXTS)
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: weight.dtype for name, weight in after.items()} == {n: w.dtype for n, w in weights.items()}
