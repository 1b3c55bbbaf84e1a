"""Packing changes nothing: the same losses and gradients as documents alone, on every attention implementation."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers
from torch import Tensor

from graft.tensors.batch import Batch
from graft.tensors.model import Model
from graft.tensors.nats import score, weighted_sums
from graft.tensors.verify import verify

V, T = 97, 48
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": V}
GROUPED = {**SMALL, "num_key_value_heads": 2}
NO_SPECIAL = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED, **NO_SPECIAL, tie_word_embeddings=True),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, **NO_SPECIAL),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=V, n_positions=T, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        **NO_SPECIAL,
    ),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, **NO_SPECIAL, sliding_window=5),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED, **NO_SPECIAL),
    "qwen3": lambda: transformers.Qwen3Config(**GROUPED, **NO_SPECIAL, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(
        **GROUPED, **NO_SPECIAL, head_dim=8, sliding_window=5, query_pre_attn_scalar=8, final_logit_softcapping=2.0
    ),
    "olmo2": lambda: transformers.Olmo2Config(**GROUPED, **NO_SPECIAL),
    "phi3": lambda: transformers.Phi3Config(**GROUPED, **NO_SPECIAL),
}
LENGTHS = ((7, 1, 22, 18), (48,), (3, 9, 2, 34), (24, 24))


def build(name: str, attention: str = "auto") -> Model:
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]())
    for parameter in hf.parameters():  # larger than the usual start, or every loss would be log V
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(hf, precision="fp32", attention=attention)


def packed() -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(3, V, (len(LENGTHS), T), generator=generator)
    position_BT = torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in LENGTHS])
    weights_BT = torch.rand(tokens_BT.shape, generator=generator).round(decimals=1)
    return Batch(tokens_BT, tokens_BT.roll(-1, 1), weights_BT, position_BT, torch.zeros(len(LENGTHS), dtype=torch.long))


def alone(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    """nats_BT and the weighted sum by the plainest means: one forward of the whole model per piece, no positions."""
    nats_BT, total = torch.zeros(batch.tokens_BT.shape), torch.zeros(())
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            piece = slice(start, start + length)
            logits_TV = model.hf(input_ids=batch.tokens_BT[row : row + 1, piece], use_cache=False).logits[0]
            nats_T = torch.nn.functional.cross_entropy(logits_TV, batch.targets_BT[row, piece], reduction="none")
            nats_BT[row, piece] = nats_T.detach()
            total = total + (nats_T * batch.weights_BT[row, piece]).sum()
            start += length
    return nats_BT, total


def gradients(model: Model, total: Tensor) -> dict[str, Tensor]:
    model.hf.zero_grad()
    total.backward()
    return {name: parameter.grad.clone() for name, parameter in model.hf.named_parameters() if parameter.grad is not None}


def assert_same(model: Model, reference: Model) -> None:
    batch = packed()
    nats_BT, total = alone(reference, batch)
    hidden_BTD = model.hidden(batch)
    torch.testing.assert_close(score(hidden_BTD, model.head, batch.targets_BT), nats_BT, atol=1e-5, rtol=1e-5)
    sums = weighted_sums(hidden_BTD, model.head, batch.targets_BT, batch.weights_BT)
    torch.testing.assert_close(sums.total_B.sum(), total.detach(), atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(model, sums.total_B.sum()), gradients(reference, total)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("attention", ["graft_pieces", "sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_packed_equals_alone(name: str, attention: str) -> None:
    if name == "gemma2" and attention != "eager":
        pytest.skip("soft caps on attention scores: transformers' eager only")
    assert_same(build(name, attention), build(name, "eager"))


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gpt2"])
def test_pieces_as_rows_equal_alone(name: str) -> None:
    model = build(name)
    model.packs = False
    assert_same(model, build(name, "eager"))


@pytest.mark.parametrize("attention", ["graft_pieces", "sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gpt2", "mistral"])
def test_a_document_does_not_see_its_neighbours(name: str, attention: str) -> None:
    model, batch = build(name, attention), packed()
    tokens_BT = batch.tokens_BT.clone()
    tokens_BT[0, :7] = (tokens_BT[0, :7] + 11) % V  # the first document of row 0
    tokens_BT[2, 12:14] = (tokens_BT[2, 12:14] + 11) % V  # the third of row 2
    changed = Batch(tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT, batch.source_B)
    with torch.no_grad():
        before_BT, after_BT = (score(model.hidden(each), model.head, batch.targets_BT) for each in (batch, changed))
    touched_BT = torch.zeros_like(before_BT, dtype=torch.bool)
    touched_BT[0, :7] = touched_BT[2, 12:14] = True
    assert torch.equal(before_BT[~touched_BT], after_BT[~touched_BT])
    assert (before_BT[touched_BT] != after_BT[touched_BT]).all()


def test_a_token_does_not_see_what_follows() -> None:
    model, batch = build("llama"), packed()
    tokens_BT = batch.tokens_BT.clone()
    tokens_BT[:, -1] = (tokens_BT[:, -1] + 11) % V
    changed = Batch(tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT, batch.source_B)
    with torch.no_grad():
        before_BT, after_BT = (score(model.hidden(each), model.head, batch.targets_BT) for each in (batch, changed))
    assert torch.equal(before_BT[:, :-1], after_BT[:, :-1])


def test_verify_is_content_with_what_packs() -> None:
    for name in CONFIGS:
        model = build(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            verify(model, packed())
        assert model.packs
        assert not model.own_head
        assert model.hf.training


@pytest.mark.parametrize(
    "config",
    [
        transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=V, state_size=4, **NO_SPECIAL),
        transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=V, **NO_SPECIAL),
    ],
    ids=["mamba", "bloom"],
)
def test_verify_finds_what_does_not_pack(config: transformers.PreTrainedConfig) -> None:
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in hf.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    model = Model(hf, precision="fp32")
    with pytest.warns(RuntimeWarning, match=f"{config.model_type}: packed pieces see each other"):
        verify(model, packed())
    assert not model.packs
    nats_BT, _ = alone(model, packed())
    with torch.no_grad():
        ours_BT = score(model.hidden(packed()), model.head, packed().targets_BT)
    torch.testing.assert_close(ours_BT, nats_BT, atol=1e-5, rtol=1e-5)


def test_split_and_segments() -> None:
    batch = packed()
    assert [len(part) for part in batch.split(3)] == [3, 1]
    assert torch.equal(torch.cat([part.tokens_BT for part in batch.split(3)]), batch.tokens_BT)
    assert batch.segment_BT[0].tolist() == [0] * 7 + [1] + [2] * 22 + [3] * 18
    assert torch.equal(batch.position_BT, packed().position_BT)  # reading the pieces changes nothing


def test_a_row_that_continues_a_document_is_a_piece() -> None:
    model, batch = build("llama"), packed()
    later = Batch(batch.tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT.clone(), batch.source_B)
    later.position_BT[1] += 5  # places 5..52 of a document cut at the row's border
    assert later.segment_BT[1].unique().tolist() == [0]
    model.packs = True
    together = model.hidden(later)
    model.packs = False
    torch.testing.assert_close(together, model.hidden(later), atol=1e-5, rtol=1e-5)
