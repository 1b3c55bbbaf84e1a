"""Packing changes nothing: the same losses and gradients as documents alone, on every attention implementation."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from graft.models.checks.verify import verify
from graft.models.forward import attention as pieces
from graft.models.forward import fused_modules as blocks
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.models.losses.token_losses import score, weighted_sums
from graft.packing.batch import Batch

V, T = 97, 48
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": V}
GROUPED = {**SMALL, "num_key_value_heads": 2}
NO_SPECIAL = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED, **NO_SPECIAL, tie_word_embeddings=True),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, **NO_SPECIAL),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        vocab_size=V,
        n_positions=T,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
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
    return Model(hf, reading=Decoder(), precision="fp32", attention=attention)


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
    return {name: weight.grad.clone() for name, weight in model.hf.named_parameters() if weight.grad is not None}


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
        torch.testing.assert_close(ours[name], gradient, atol=2e-5, rtol=1e-4, msg=lambda text: f"{name}: {text}")  # noqa: B023


# Gemma2 caps its attention scores, which only transformers' eager attention does.
ATTENTIONS = [
    (name, attention)
    for name in CONFIGS
    for attention in ("graft_pieces", "sdpa", "eager")
    if name != "gemma2" or attention == "eager"
]


@pytest.mark.parametrize(("name", "attention"), ATTENTIONS)
def test_packed_equals_alone(name: str, attention: str) -> None:
    assert_same(build(name, attention), build(name, "eager"))


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gpt2", "mistral", "qwen2"])
def test_tiles_equal_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "TILE", 5)
    monkeypatch.setattr(pieces, "NARROWEST", 4)
    assert_same(build(name, pieces.NAME), build(name, "eager"))


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


def test_nor_under_dropout() -> None:
    config = CONFIGS["gpt2"]()
    config.attn_pdrop = 0.5
    model, batch = (
        Model(transformers.GPT2LMHeadModel(config), reading=Decoder(), precision="fp32", attention=pieces.NAME),
        packed(),
    )
    model.hf.train()
    tokens_BT = batch.tokens_BT.clone()
    tokens_BT[0, :7] = (tokens_BT[0, :7] + 11) % V
    changed = Batch(tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT, batch.source_B)

    def hidden(seed: int, batch: Batch) -> Tensor:
        torch.manual_seed(seed)
        return model.hidden(batch)

    assert not torch.equal(hidden(0, batch), hidden(1, batch))  # something is dropped
    assert torch.equal(hidden(0, batch)[0, 7:], hidden(0, changed)[0, 7:])


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
        verify(model, packed())
        assert model.packs
        assert not model.notes
        assert not model.own_head
        assert model.hf.training


def test_verify_takes_out_blocks_that_are_not_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_norm", lambda self, hidden_states: hidden_states * self.weight)
    model = build("llama")
    verify(model, packed())
    assert ["our blocks are not this model's" in note for note in model.notes] == [True]
    assert_same(model, build("llama", "eager"))


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
    model = Model(hf, reading=Decoder(), precision="fp32")
    verify(model, packed())
    assert [f"{config.model_type}: packed pieces see each other" in note for note in model.notes] == [True]
    assert not model.packs
    nats_BT, _ = alone(model, packed())
    with torch.no_grad():
        ours_BT = score(model.hidden(packed()), model.head, packed().targets_BT)
    torch.testing.assert_close(ours_BT, nats_BT, atol=1e-5, rtol=1e-5)


def test_split_and_pieces() -> None:
    batch = packed()
    assert [len(part) for part in batch.split(3)] == [3, 1]
    assert torch.equal(torch.cat([part.tokens_BT for part in batch.split(3)]), batch.tokens_BT)
    assert batch.starts_BT[0].nonzero().flatten().tolist() == [0, 7, 8, 30]
    assert torch.equal(batch.position_BT, packed().position_BT)  # reading the pieces changes nothing


def test_a_row_that_continues_a_document_is_a_piece() -> None:
    model, batch = build("llama"), packed()
    later = Batch(batch.tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT.clone(), batch.source_B)
    later.position_BT[1] += 5  # places 5..52 of a document cut at the row's border
    assert later.starts_BT[1].nonzero().flatten().tolist() == [0]
    model.packs = True
    together = model.hidden(later)
    model.packs = False
    torch.testing.assert_close(together, model.hidden(later), atol=1e-5, rtol=1e-5)


def test_blocks_of_llamas_kind_are_recognised_and_given_back() -> None:
    taken = {}
    for name in CONFIGS:
        body = build(name).body
        with blocks.fused(body):
            taken[name] = sorted({type(module).__name__ for module in body.modules() if "forward" in vars(module)})
        assert not any("forward" in vars(module) for module in body.modules())
    assert taken["llama"] == ["LlamaMLP", "LlamaRMSNorm"]
    assert taken["qwen3"] == ["Qwen3MLP", "Qwen3RMSNorm"]
    assert taken["gemma2"] == taken["gpt2"] == taken["gpt_neox"] == []  # 1 + weight, LayerNorm


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_recomputed_activations_give_the_same_gradients() -> None:
    model = build("llama", pieces.NAME)
    model.hf.gradient_checkpointing_enable()
    model.hf.train()
    assert_same(model, build("llama", "eager"))


def test_block_gradients_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, gate, up = torch.randn(3, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight_D = torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, w: blocks._RMSNorm.apply(h, w, 1e-3, torch.float64), (hidden, weight_D))
    assert torch.autograd.gradcheck(blocks._SwiGLU.apply, (gate, up))


def test_attention_gradients_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "TILE", 3)
    monkeypatch.setattr(pieces, "NARROWEST", 4)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(2, 2, 8, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    starts_BT = torch.tensor([[1, 0, 0, 0, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]).bool()
    for window in (None, 2):

        def attend(*states: Tensor, window: int | None = window) -> Tensor:
            return pieces._Attention.apply(*states, pieces.Pieces(starts_BT), 0.7, window)

        assert torch.autograd.gradcheck(attend, states)


def test_bfloat16_stays_near_float32() -> None:
    exact, rough, batch = build("llama"), build("llama"), packed()
    rough.precision = "bf16"
    plain = build("llama", "eager")
    plain.precision, plain.fast = "bf16", False
    with torch.no_grad():
        exact_BT, ours_BT, theirs_BT = (
            score(model.hidden(batch), model.head, batch.targets_BT) for model in (exact, rough, plain)
        )
    ours, theirs = (float((nats_BT - exact_BT).square().mean().sqrt()) for nats_BT in (ours_BT, theirs_BT))
    assert 0 < ours < 1.5 * theirs  # no further off than transformers' own blocks under autocast


def test_flash_attention_is_told_where_pieces_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash attention itself needs an accelerator; what it would be given does not."""
    told: dict[str, Tensor | int] = {}

    def record(*args: Tensor, **kwargs: Tensor) -> object:
        told.update(kwargs)
        return sdpa_attention_forward(*args, **kwargs)

    transformers.AttentionInterface.register("recorder", record)
    transformers.AttentionMaskInterface.register("recorder", sdpa_mask)
    model = build("llama", "recorder")
    monkeypatch.setattr(Model, "flash", True)
    assert_same(model, build("llama", "eager"))
    bounds = [0, *torch.tensor([length for lengths in LENGTHS for length in lengths]).cumsum(0).tolist()]
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == bounds
    assert told["max_length_q"] == told["max_length_k"] == 48


def test_generation_is_untouched() -> None:
    ours, theirs = build("llama", pieces.NAME), build("llama", "sdpa")
    tokens_BT, filled_BT = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    settings = {"attention_mask": filled_BT, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    written = [model.hf.generate(tokens_BT, **settings) for model in (ours, theirs)]
    assert torch.equal(*written)
