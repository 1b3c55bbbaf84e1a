"""Whether texts may share a row is settled where a model is opened: every stage gets what transformers makes of a
text alone, whatever stands beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from graft.models.files.weights import open_model
from graft.models.forward import attention
from graft.models.forward.lengths import longest_text, rope_switch, switches
from graft.models.forward.model import Model
from graft.models.losses.token_losses import score, weighted_sums
from graft.models.scoring.continuations import Ending, EndingScorer
from graft.packing.sampler import pack

V = 320
NO_IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
WIDE: dict[str, Any] = {
    "vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "initializer_range": 0.2, **NO_IDS,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 48, "factor": 4.0,
    "short_factor": [1.0] * 8, "long_factor": [3.0] * 8,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**WIDE, max_position_embeddings=256),
    "bloom": lambda: transformers.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.2),
    "falcon_alibi": lambda: transformers.FalconConfig(**WIDE, alibi=True, new_decoder_architecture=False),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.2, **NO_IDS
    ),
    "xglm": lambda: transformers.XGLMConfig(
        vocab_size=V, d_model=32, num_layers=2, attention_heads=2, ffn_dim=64, max_position_embeddings=256, init_std=0.2
    ),
    "mistral": lambda: transformers.MistralConfig(
        **WIDE, num_key_value_heads=1, sliding_window=24, max_position_embeddings=256
    ),
    "long_window": lambda: transformers.MistralConfig(
        **WIDE, num_key_value_heads=1, sliding_window=110, max_position_embeddings=256
    ),
    "longrope": lambda: transformers.Phi3Config(
        **WIDE, max_position_embeddings=256, original_max_position_embeddings=48, rope_parameters=LONGROPE
    ),
    "dynamic": lambda: transformers.LlamaConfig(
        **WIDE,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0},
    ),
    "llama4": lambda: transformers.Llama4TextConfig(
        **WIDE,
        intermediate_size_mlp=64,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        attention_chunk_size=40,
        num_local_experts=2,
        interleave_moe_layer_step=2,
    ),
}
LENGTHS = (70, 3, 49, 20, 100, 41, 9)  # below and beyond 24, 40, 48 and 64


def opened(world, name: str, into: Path, **options: Any) -> Model:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(FAMILIES[name]()).save_pretrained(into)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(world.base.folder / file, into / file)
    return open_model(into, "fp32", frozen=True, **options)


def texts() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(5, V, length + 1) for length in LENGTHS]


def reference(folder: Path, tokens: np.ndarray) -> torch.Tensor:
    """nats of each token of a text by a model that has read nothing else."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        logits = hf(input_ids=ids[None, :-1], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_scores_the_same_in_any_company(world, tmp_path, name):
    model = opened(world, name, tmp_path)
    found = texts()
    right = [reference(tmp_path, text) for text in found]
    packed = pack([found], [0], sum(LENGTHS) + 11)  # and a filler
    ours = score(model.hidden(packed), model.head, packed.targets_BT)[0, : sum(LENGTHS)].split(LENGTHS)
    for one, other in zip(ours, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    endings = [Ending(text, min(4, len(text) - 1)) for text in found]
    shared = [Ending(np.concatenate([found[0][:30], text[-3:]]), 3) for text in found[3:]]
    nats, _ = EndingScorer(model, 256)([*endings, *shared])
    right += [reference(tmp_path, one.ids) for one in shared]
    sums = [float(nats_T[-one.size :].sum()) for nats_T, one in zip(right, [*endings, *shared], strict=True)]
    np.testing.assert_allclose(nats, sums, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "mistral", "longrope"])
def test_what_can_share_a_row_does(world, tmp_path, name):
    model = opened(world, name, tmp_path)
    assert model.packs and model.packs_to is None and not model.notes


@pytest.mark.parametrize("name", ["bloom", "mamba", "falcon_alibi"])
def test_what_cannot_is_told_by_opening_it(world, tmp_path, name):
    model = opened(world, name, tmp_path)
    assert not model.packs and any("packed pieces see each other" in note for note in model.notes)


def test_lengths_at_which_a_model_changes_are_read_off_it():
    build = transformers.AutoModelForCausalLM.from_config
    assert switches(build(FAMILIES["mistral"]())) == [24]
    assert switches(build(FAMILIES["llama4"]())) == [40]
    assert rope_switch(build(FAMILIES["longrope"]())) == 48
    assert rope_switch(build(FAMILIES["dynamic"]())) == 64
    assert rope_switch(build(FAMILIES["llama"]())) is None


def test_a_long_switch_is_looked_at_when_it_is_first_reached(world, tmp_path, monkeypatch):
    """Comparing beyond it costs as much as some batches, which who reads short rows never pays."""
    monkeypatch.setattr("graft.models.checks.verify.AT_ONCE", 0)
    probabilities = attention._probabilities

    def without_window(q_GWC, k_GWC, rows, columns, window):
        return probabilities(q_GWC, k_GWC, rows, columns, None if columns.start == 0 else window)

    monkeypatch.setattr(attention, "_probabilities", without_window)
    model = opened(world, "long_window", tmp_path)
    assert model.hf.config._attn_implementation == attention.NAME and model.packs and model.unseen == [110]
    model.hidden(pack([[np.arange(5, 20)]], [0], 64))
    assert model.unseen == [110] and not model.notes
    found = [*texts(), np.random.default_rng(1).integers(5, V, 181)]
    packed = pack([found], [0], sum(LENGTHS) + 180)
    ours = score(model.hidden(packed), model.head, packed.targets_BT)[0].split([*LENGTHS, 180])
    assert model.unseen == [] and model.packs_to == 110 and "more than 110 tokens" in model.notes[0]
    for one, text in zip(ours, found, strict=True):
        torch.testing.assert_close(one, reference(tmp_path, text), atol=1e-4, rtol=1e-4)


def test_dynamic_frequencies_forget_the_longest_text(world, tmp_path):
    """transformers keeps the frequencies of the longest text that a model has read for texts of 64 tokens and more."""
    model = opened(world, "dynamic", tmp_path)
    text = torch.from_numpy(texts()[0][None])
    before = model.logits(text)
    model.logits(torch.from_numpy(texts()[4][None]))
    torch.testing.assert_close(model.logits(text), before)


def test_training_reads_pieces_alone_too(world, tmp_path):
    """Gradients of a packed row are those of its texts alone."""
    model = opened(world, "longrope", tmp_path)
    model.hf.requires_grad_(True)
    found = texts()
    packed = pack([found], [0], sum(LENGTHS))
    weights = [weight for weight in model.hf.parameters() if weight.requires_grad]
    total = weighted_sums(model.hidden(packed), model.head, packed.targets_BT, packed.weights_BT).total_B.sum()
    ours = torch.autograd.grad(total, weights)
    alone = [
        torch.nn.functional.cross_entropy(
            model.hf(input_ids=torch.from_numpy(one)[None, :-1], use_cache=False).logits[0],
            torch.from_numpy(one)[1:],
            reduction="sum",
        )
        for one in found
    ]
    for one, other in zip(ours, torch.autograd.grad(sum(alone), weights), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_no_more_tokens_than_the_tables_of_a_model_hold():
    build = transformers.AutoModelForMaskedLM.from_config
    small = WIDE | {"pad_token_id": 1}
    assert longest_text(build(transformers.BertConfig(**small, max_position_embeddings=64))) == 64
    assert longest_text(build(transformers.RobertaConfig(**small, max_position_embeddings=66))) == 64
    assert longest_text(build(transformers.MPNetConfig(**small, max_position_embeddings=66))) == 64
    opt = transformers.OPTConfig(
        vocab_size=V, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, word_embed_proj_dim=32,
        max_position_embeddings=64,
    )  # fmt: skip
    assert longest_text(transformers.OPTForCausalLM(opt)) == 64
    gpt2 = transformers.GPT2Config(vocab_size=V, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    assert longest_text(transformers.GPT2LMHeadModel(gpt2)) == 64
