"""How much a model reads is what its family's classes say, read without torch; tables that end are named in words."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.models.families import family_of, window_of
from graft.models.forward.decoder import Decoder
from graft.models.forward.lengths import longest_text
from graft.models.forward.model import Model
from graft.packing.sampler import pack

WIDE = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 66, "pad_token_id": 1,
}  # fmt: skip
BEHIND_PAD = (
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text", "xmod", "longformer",
    "roberta-prelayernorm", "esm",
)  # fmt: skip
PLAIN = ("bert", "electra", "albert", "big_bird", "mobilebert", "convbert", "deberta")


@pytest.mark.parametrize("kind", [*BEHIND_PAD, *PLAIN])
def test_the_window_is_what_the_table_of_the_built_model_holds(kind):
    more = {"longformer": {"attention_window": 16}, "xmod": {"languages": ["en_XX"]}}.get(kind, {})
    config = transformers.AutoConfig.for_model(kind, **WIDE, **more)
    hf = transformers.AutoModel.from_config(config)
    assert window_of(config.to_dict(), {}) == longest_text(hf) == (64 if kind in BEHIND_PAD else 66)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"model_type": "mpt", "max_seq_len": 128}, 128),
        ({"model_type": "mpt"}, 2048),
        ({"model_type": "dbrx", "max_seq_len": 96}, 96),
        ({"model_type": "gpt2", "n_positions": 64, "n_ctx": 32}, 64),
        ({"model_type": "bert"}, 512),  # of the class, where the file does not say
        ({"model_type": "mpnet", "max_position_embeddings": 130}, 128),  # the pad id of the class
        ({"model_type": "mpnet", "max_position_embeddings": 130, "pad_token_id": 3}, 126),
        ({"model_type": "bloom", "seq_length": 64}, 64),
        ({"model_type": "llama4_text", "max_position_embeddings": 256}, 256),
        ({"model_type": "of nobody", "max_position_embeddings": 99}, 99),
        ({"model_type": "of nobody"}, 2048),
        ({}, 2048),
    ],
)
def test_families_say_it_in_their_own_ways(config, window):
    assert window_of(config, {}) == window


def test_a_type_that_nobody_knows_is_asked_for_its_table():
    assert window_of({"model_type": "of nobody"}, {"body.position_embeddings.weight": [77, 8]}) == 77
    assert family_of("../bert").numbers == {}


def test_neither_torch_nor_transformers_is_loaded():
    code = "import sys; from graft.core.models.families import family_of; "
    code += "assert family_of('mpt').numbers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers"} & set(loaded)


def test_a_table_that_ends_is_named_in_words():
    config = transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    model = Model(transformers.GPT2LMHeadModel(config), reading=Decoder(), precision="fp32")
    row = pack([[np.arange(20)]], [0], 19)
    with pytest.raises(UsageError, match="gpt2 has no place for a token or a position in rows of 19 tokens") as caught:
        model.hidden(row)
    assert "at most 16 tokens in a row" in str(caught.value.allowed)
    with pytest.raises(UsageError, match="gpt2 has no place"):
        model.logits(torch.full((1, 4), 300))


def test_the_window_of_a_folder(world):
    assert Base("tiny", world.base.folder).window == 64
