"""A base of packed weights is refused where it is looked at, before anything is read, trained or saved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.models.quantised import refuse_packed, refuse_quantised

SAID = [
    {"quant_method": "gptq", "bits": 4, "group_size": 128},
    {"quant_method": "awq", "bits": 4},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "mxfp4"},
    {"load_in_8bit": True},
]


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world.base.folder, tmp_path / "base")


def say(folder, **more):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | more))


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.get("quant_method", "unnamed"))
def test_a_configuration_that_says_so_is_refused(folder, said):
    say(folder, quantization_config=said)
    with pytest.raises(UsageError, match="are quantised") as caught:
        Base.find(str(folder))
    assert said.get("quant_method", "quantization_config") in caught.value.what
    assert "config.json" in str(caught.value.where) and "dequantize" in str(caught.value.do)


def test_one_of_a_text_part_too(folder):
    say(folder, text_config={"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(UsageError, match="gptq"):
        Base.find(str(folder))


@pytest.mark.parametrize("said", [None, {}])
def test_an_empty_one_says_nothing(folder, said):
    say(folder, quantization_config=said)
    assert Base.find(str(folder)).window == 64


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8, torch.uint8])
def test_files_are_believed_more_than_the_configuration(folder, kind):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("up_proj.weight"))
    save_file(weights | {name: weights[name].to(kind)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=f"{name} is") as caught:
        Base.find(str(folder))
    assert caught.value.where == str(folder / "model.safetensors")


def test_whole_numbers_that_are_no_weights_are_welcome(tmp_path):
    refuse_packed({"a.weight": "BF16", "position_ids": "I64", "mask": "BOOL", "attn.bias": "U8"}, tmp_path)
    refuse_quantised({"model_type": "llama"}, tmp_path)
