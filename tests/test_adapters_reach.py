"""What no adapter reaches is said, with its share of the weights."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.training.tunings.dora import Dora
from graft.training.tunings.ia3 import Ia3
from graft.training.tunings.lora import Lora

SIZES = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tiny(config) -> Model:
    torch.manual_seed(1)
    return Model(AutoModelForCausalLM.from_config(config(**SIZES)), reading=Decoder(), precision="fp32")


@pytest.mark.parametrize(
    "tuning", [Lora(rank=2), Dora(rank=2), Ia3(outputs=("k_proj",)), Lora(rank=2, targets=("q_proj",))], ids=repr
)
def test_stacked_experts_that_stay_are_named(tuning):
    model = tiny(MixtralConfig)
    whole = sum(weight.numel() for weight in model.parameters())
    stacks = {name: w for name, w in model.hf.named_parameters() if ".experts." in name or name.endswith("gate.weight")}
    assert any(weight.dim() == 3 for weight in stacks.values())
    [note] = tuning.apply(model).notes
    share = sum(weight.numel() for weight in stacks.values()) / whole
    assert f"{share:.0%} of the weights" in note and "experts.gate_up_proj" in note and "also: [" in note
    assert not any(weight.requires_grad for weight in stacks.values())


def test_what_the_note_says_to_do_trains_them():
    model = Lora(rank=2, also=("experts", "gate")).apply(tiny(MixtralConfig))
    assert model.notes == []
    trained = {name for name, weight in model.hf.named_parameters() if weight.requires_grad}
    assert any(name.endswith("experts.gate_up_proj") for name in trained)


def test_where_everything_is_reached_nothing_is_said():
    assert Lora(rank=2).apply(tiny(LlamaConfig)).notes == []
    assert Lora(rank=2, targets=("q_proj",)).apply(tiny(LlamaConfig)).notes == []
