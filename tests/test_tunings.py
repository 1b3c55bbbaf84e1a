"""Tunings: what trains and what stays, the formulas by hand, exact merging, and saved models that others read."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen3Config,
)

from conftest import write_texts
from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.store.artifact import DryStore, NotMade, Store
from graft.core.store.publish import put_out
from graft.data.tokenize import sources, tokenize
from graft.models.checks.verify import verify
from graft.models.edit.parameter_patterns import fits
from graft.models.edit.peft_adapters import PeftAdapter, orthogonality, read_factors
from graft.models.files.weights import open_model, save_model
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.packing.batch import Batch
from graft.packing.sampler import Sampler
from graft.surgery.initialize import Initialize, initialize
from graft.training import run as module
from graft.training.loop import Pace, run
from graft.training.objectives.causal import Causal
from graft.training.objectives.denoise import Denoise
from graft.training.objectives.masked import Masked
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train
from graft.training.tunings.block_expansion import BlockExpansion
from graft.training.tunings.dora import Dora
from graft.training.tunings.freeze import Freeze
from graft.training.tunings.full import Full
from graft.training.tunings.ia3 import Ia3
from graft.training.tunings.lora import Lora
from graft.training.tunings.o_lora import OLora

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=1e-2,
    precision="fp32",
    evaluations=2,
)
SMALL = Lora(rank=4, alpha=8.0)
EVERY = [
    Full(),
    SMALL,
    Lora(rank=2, targets=("q_proj", "mlp"), also=("embed_tokens", "*norm*"), rank_stabilised=True),
    Dora(rank=4),
    Ia3(),
    Ia3(outputs=("o_proj",), inputs=("up_proj",), also=("norm",)),
    Freeze(train=("layers.1", "norm")),
    Freeze(freeze=("embed_tokens",)),
    BlockExpansion(blocks=1),
    OLora(rank=4, alpha=8.0),
]
every = pytest.mark.parametrize("tuning", EVERY, ids=lambda one: repr(one)[:60])


def tiny(config, **changes) -> Model:
    """A small random model of a type, in float32."""
    torch.manual_seed(1)
    model = Model(AutoModelForCausalLM.from_config(config(**(SIZES | changes))), reading=Decoder(), precision="fp32")
    model.hf.eval()
    return model


SIZES = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2_SIZES = {"n_embd": 32, "n_layer": 4, "n_head": 4}
TOKENS_1T = torch.randint(0, 120, (1, 40), generator=torch.Generator().manual_seed(0))


def untied(config=LlamaConfig) -> Model:
    return tiny(config, tie_word_embeddings=False)


def tied(config=LlamaConfig) -> Model:
    return tiny(config, tie_word_embeddings=True)


@torch.no_grad()
def logits(hf) -> torch.Tensor:
    return hf.eval()(input_ids=TOKENS_1T, use_cache=False).logits


@torch.no_grad()
def disturb(model: Model, size: float = 0.05) -> Model:
    """Moves everything that trains, so that no test starts where adapters are zero."""
    draw = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        weight.add_(size * torch.randn(weight.shape, generator=draw))
    return model


def copies(hf) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in hf.named_parameters(remove_duplicate=False)}


def sampled(world) -> Sampler:
    return Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0)


def trained(world, tuning, *, steps=3, rate=1e-2, weight_decay=0.1, seed=0) -> Model:
    """A model after a few steps of the loop, not folded."""
    model = open_model(world.base.folder, "fp32")
    model.seed = seed
    model = tuning.apply(model)
    model.hf.train()
    optimizer = adamw(model, rate=rate, betas=(0.9, 0.95), weight_decay=weight_decay)
    pace = Pace(rate=lambda step: rate, micro_rows=4, clip=1.0, seed=0)
    list(run(model, world.bind(Causal()), sampled(world), optimizer, pace, 0, steps))
    return model


@every
def test_hidden_states_are_those_of_the_models_own_forward(world, tuning):
    """Our norms, MLPs and attention stand aside for adapters or work with them, whatever `verify` found before."""
    model = open_model(world.base.folder, "fp32")
    batch = sampled(world).batch(0)
    verify(model, batch)
    assert model.fast and model.packs
    model = disturb(tuning.apply(model))
    model.hf.eval()
    row = torch.arange(64).expand(4, -1)
    whole = Batch(batch.tokens_BT, batch.targets_BT, batch.weights_BT, row, batch.source_B)
    with torch.no_grad():
        own = model.hf(input_ids=batch.tokens_BT, use_cache=False, output_hidden_states=True)
        torch.testing.assert_close(model.hidden(whole), own.hidden_states[-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.head.logits(model.hidden(whole)), own.logits, atol=1e-5, rtol=1e-5)


@every
def test_three_steps_move_all_that_trains_and_nothing_else(world, tuning):
    fresh = tuning.apply(open_model(world.base.folder, "fp32"))
    before = copies(fresh.hf)
    model = trained(world, tuning)
    trains = {name for name, weight in model.hf.named_parameters(remove_duplicate=False) if weight.requires_grad}
    moved = {name for name, weight in copies(model.hf).items() if not torch.equal(weight, before[name])}
    assert trains and moved == trains
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


@every
def test_folding_changes_no_logit_and_leaves_a_plain_model(world, tuning):
    base = open_model(world.base.folder, "fp32")
    names = set(copies(base.hf))
    model = trained(world, tuning)
    before = logits(model.hf)
    outside = [name for name, weight in model.hf.named_parameters() if ".base_layer." not in name and name in names]
    kept = {name: weight for name, weight in copies(model.hf).items() if name in outside}
    model = tuning.fold(model)
    torch.testing.assert_close(logits(model.hf), before, atol=1e-4, rtol=0)
    assert model.adapter is None and not model.penalties and not hasattr(model.hf, "peft_config")
    assert isinstance(tuning, BlockExpansion) or set(copies(model.hf)) == names
    assert all(torch.equal(copies(model.hf)[name], weight) for name, weight in kept.items())


def merged_by_hand(name: str, weight: torch.Tensor, held: dict[str, torch.Tensor], tuning) -> torch.Tensor:
    """The weight that a layer has in effect, by the papers' formulas; held: the adapter's parameters by name."""
    layer = name.removesuffix(".weight")
    if isinstance(tuning, Ia3):
        factor = held.get(f"{layer}.ia3_l.default")
        return weight if factor is None else weight * factor
    if f"{layer}.lora_A.default.weight" not in held:
        return weight
    scale = tuning.alpha / (tuning.rank**0.5 if tuning.rank_stabilised else tuning.rank)
    product = scale * held[f"{layer}.lora_B.default.weight"] @ held[f"{layer}.lora_A.default.weight"]
    if isinstance(tuning, Lora):
        return weight + product
    turned = weight + product
    length = held[f"{layer}.lora_magnitude_vector.default.weight"]
    return length[:, None] * turned / turned.norm(dim=1, keepdim=True).detach()


@pytest.mark.parametrize(
    "tuning", [SMALL, Lora(rank=4, alpha=8.0, rank_stabilised=True), Dora(rank=4, alpha=8.0), Ia3()], ids=repr
)
def test_steps_are_those_of_the_formula_worked_by_hand(world, tuning):
    """Golden: the paper's effective weights in transformers' model, torch's cross-entropy and AdamW; two steps."""
    fresh = tuning.apply(open_model(world.base.folder, "fp32"))
    held = {
        name: weight.detach().clone().requires_grad_()
        for name, weight in fresh.hf.named_parameters()
        if weight.requires_grad
    }
    reference = open_model(world.base.folder, "fp32", frozen=True).hf
    plain = dict(reference.named_parameters())
    decay = [one for one in held.values() if min(one.shape) > 1 and one.dim() == 2]
    rest = [one for one in held.values() if all(one is not other for other in decay)]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-2, betas=(0.9, 0.95))
    for k in range(2):
        batch = sampled(world).batch(k)
        weights = {name: merged_by_hand(name, weight, held, tuning) for name, weight in plain.items()}
        total = 0.0
        for row in range(4):  # every piece alone
            starts = (batch.position_BT[row] == 0).nonzero().flatten().tolist()
            for first, last in pairwise([*starts, 64]):
                tokens = batch.tokens_BT[row : row + 1, first:last]
                found = functional_call(reference, weights, kwargs={"input_ids": tokens}).logits[0]
                total = total + F.cross_entropy(found, batch.targets_BT[row, first:last], reduction="sum")
        (total / (4 * 64)).backward()
        torch.nn.utils.clip_grad_norm_(list(held.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ours, begun = trained(world, tuning, steps=2), copies(fresh.hf)
    moved = 0.0
    for name, weight in ours.hf.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight, held[name], atol=1e-4, rtol=1e-3)
            moved = max(moved, float((weight.detach() - begun[name]).abs().max()))
    assert moved > 5e-3  # or everything would agree by standing still


@pytest.mark.parametrize("tuning", [SMALL, Dora(rank=4), Ia3(outputs=("c_attn",), inputs=("mlp.c_proj",))], ids=repr)
@pytest.mark.parametrize("sort", [LlamaConfig, GPT2Config], ids=["llama", "gpt2"])
def test_adapters_fit_every_kind_of_linear_layer(tuning, sort):
    """GPT-2 keeps its weights the other way round, and has biases."""
    model = tiny(sort, **(GPT2_SIZES if sort is GPT2Config else {}))
    if isinstance(tuning, Ia3) and sort is LlamaConfig:
        tuning = Ia3()
    base = logits(model.hf)
    model = tuning.apply(model)
    torch.testing.assert_close(logits(model.hf), base, atol=1e-6, rtol=0)
    moved = logits(disturb(model).hf)
    assert float((moved - base).abs().max()) > 1e-3
    torch.testing.assert_close(logits(tuning.fold(model).hf), moved, atol=1e-5, rtol=0)


KINDS = {
    "llama": (Causal(), AutoModelForCausalLM, "CAUSAL_LM"),
    "bert": (Masked(), AutoModelForMaskedLM, None),
    "t5": (Denoise(), AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM"),
}


@pytest.mark.parametrize(
    "tuning", [SMALL, Dora(rank=4), Ia3(), OLora(rank=4)], ids=lambda one: type(one).__name__.lower()
)
@pytest.mark.parametrize("architecture", KINDS)
def test_every_adapter_trains_every_kind_of_model(world, tmp_path, architecture, tuning):
    """Through the train stage; PEFT itself puts the adapter on the base and gets the merged model."""
    objective, loader, task = KINDS[architecture]
    tiny = Initialize(
        vocabulary=420, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture=architecture
    )
    base = Base(architecture, initialize(world.corpus, tiny, store=world.store) / "model")
    tokens = tokenize(world.corpus, base, store=world.store)
    if isinstance(tuning, OLora):
        first = train(base, tokens, MIXTURE, replace(SHORT, objective=objective, tuning=SMALL), store=world.store)
        tuning = replace(tuning, earlier=(str(first / "adapter"),))
    settings = replace(SHORT, objective=objective, tuning=tuning, tokens=64 * 4 * 4, learning_rate=3e-2, evaluations=1)
    made = train(base, tokens, MIXTURE, settings, store=Store(tmp_path))
    assert json.loads((made / "adapter" / "adapter_config.json").read_text())["task_type"] == task
    inputs = {"input_ids": TOKENS_1T + 10} | (
        {"decoder_input_ids": TOKENS_1T[:, :9] + 10} if task and "2" in task else {}
    )

    @torch.no_grad()
    def says(hf) -> torch.Tensor:
        return hf.eval()(**inputs).logits

    plain, merged = (loader.from_pretrained(one, dtype=torch.float32) for one in (base.folder, made / "model"))
    before = says(plain)
    tuned = says(PeftModel.from_pretrained(plain, made / "adapter"))
    assert float((tuned - before).abs().max()) > 1e-3
    torch.testing.assert_close(says(merged), tuned, atol=0.03, rtol=0.02)  # stored in bfloat16


def test_the_settings_of_lora_take_effect(world):
    def first(tuning, seed=0):
        model = open_model(world.base.folder, "fp32")
        model.seed = seed
        return tuning.apply(model)

    def factors(model):
        return {name: weight for name, weight in model.hf.named_parameters() if weight.requires_grad}

    plain = factors(first(SMALL))
    assert len(plain) == 2 * 2 * 7  # two layers, seven matrices, A and B
    assert {min(weight.shape) for weight in plain.values()} == {4}
    assert {min(weight.shape) for weight in factors(first(Lora(rank=2))).values()} == {2}
    chosen = factors(first(Lora(rank=4, targets=("q_proj", "layers.1.mlp"))))
    assert len(chosen) == 2 * (2 + 3)
    again, other = factors(first(SMALL)), factors(first(SMALL, seed=1))
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    assert any(not torch.equal(other[name], plain[name]) for name in plain)
    louder, stable = (
        trained(world, one) for one in (Lora(rank=4, alpha=80.0), Lora(rank=4, alpha=8.0, rank_stabilised=True))
    )
    dropped = trained(world, replace(SMALL, dropout=0.5))
    seen = [logits(one.hf) for one in (trained(world, SMALL), louder, stable, dropped)]
    assert all(not torch.equal(seen[0], one) for one in seen[1:])
    assert torch.equal(seen[3], logits(trained(world, replace(SMALL, dropout=0.5)).hf))  # and is drawn from the seed


def test_drawing_adapters_leaves_the_global_generator_alone(world):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SMALL.apply(open_model(world.base.folder, "fp32"))
    assert torch.equal(torch.rand(3), expected)


def test_names_are_runs_of_whole_parts():
    name = "model.layers.1.self_attn.q_proj.weight"
    for pattern in ("q_proj", "layers.1", "*proj", "self_attn", "*", "q_proj.weight", name, "layers.?.self*"):
        assert fits(name, pattern)
    for pattern in ("proj", "layers.11", "layer", "q_proj.bias", "weight.q_proj"):
        assert not fits(name, pattern)


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        (Lora(targets=("q_porj",)), 'tuning: targets: "q_porj" fits none .* did you mean "q_proj"'),
        (Dora(targets=("q_proj", "embed_token")), '"embed_token" fits none'),
        (Lora(also=("embed_token",)), 'tuning: also: "embed_token" .* did you mean "embed_tokens"'),
        (Ia3(outputs=("k_prj",)), 'tuning ia3: outputs: "k_prj" .* did you mean "k_proj"'),
        (Ia3(outputs=("mlp",), inputs=("down_proj",)), "among the outputs and among the inputs"),
        (Freeze(train=("layers.7",)), 'tuning freeze: train: "layers.7" fits none of the .* weights'),
        (Freeze(freeze=("nrom",)), 'did you mean "norm"'),
        (Freeze(freeze=("*",)), "nothing is left to train"),
        (BlockExpansion(blocks=5), "blocks is 5, and the model has 4.*1 to 4"),
        (Lora(targets=("lm_head",)), '"lm_head" shares its weight with "model.embed_tokens"'),
        (Dora(targets=("embed_tokens",)), '"model.embed_tokens" shares its weight with "lm_head"'),
        (Freeze(train=("embed_tokens",), freeze=("lm_head",)), "one tied weight"),
    ],
    ids=lambda one: repr(one)[:50],
)
def test_requests_that_cannot_be_met_say_why(tuning, words):
    with pytest.raises(UsageError, match="(?s)" + words):
        tuning.apply(tied())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lora(rank=0), lambda: Lora(alpha=0), lambda: Dora(dropout=1.0), lambda: OLora(rank=0),
        lambda: OLora(penalty_weight=-1), lambda: Freeze(train=()), lambda: BlockExpansion(blocks=0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(UsageError, match="allowed"):
        make()


def test_types_that_peft_does_not_know_are_refused_in_our_words():
    with pytest.raises(UsageError, match='peft has no default for models of the type "granite"'):
        Ia3().apply(tiny(GraniteConfig))
    with pytest.raises(UsageError, match="peft puts no such adapter into a model of the type mamba: .*out_proj"):
        SMALL.apply(tiny(MambaConfig))


@pytest.mark.parametrize("make", [tied, untied], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "tuning",
    [
        Lora(rank=4, also=("embed_tokens",)),
        Lora(rank=4, also=("lm_head", "*norm*")),
        Freeze(train=("embed_tokens",)),
        Freeze(train=("lm_head", "layers.2")),
        Full(),
    ],
    ids=repr,
)
def test_embeddings_train_in_place_and_come_back_from_disk(tuning, make, tmp_path):
    model = make()
    together = model.hf.get_output_embeddings().weight is model.hf.get_input_embeddings().weight
    base = logits(model.hf)
    tuned = logits(disturb(tuning.apply(model)).hf)
    assert float((tuned - base).abs().max()) > 1e-2
    embeddings = model.hf.get_input_embeddings().weight, model.hf.get_output_embeddings().weight
    assert (embeddings[0] is embeddings[1]) == together
    model = tuning.fold(model)
    model.hf.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(logits(again), tuned, atol=1e-5, rtol=0)
    assert again.config.tie_word_embeddings == together


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("kind", [Lora, Dora])
def test_adapters_at_an_untied_head_or_embedding_are_not_lost(kind, target, tmp_path):
    tuning = kind(rank=4, targets=(target, "q_proj"))
    model = untied()
    base = logits(model.hf)
    tuned = logits(disturb(tuning.apply(model)).hf)
    batch = Batch(TOKENS_1T, TOKENS_1T, torch.ones(1, 40), torch.arange(40)[None], TOKENS_1T[:, 0])
    with torch.no_grad():
        torch.testing.assert_close(model.head.logits(model.hidden(batch)[0]), tuned[0], atol=1e-5, rtol=1e-5)
    model = tuning.fold(model)
    assert float((logits(model.hf) - base).abs().max()) > 1e-2
    torch.testing.assert_close(logits(model.hf), tuned, atol=1e-4, rtol=0)
    model.hf.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(logits(again), tuned, atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", [tied, untied], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "tuning", [Lora(rank=4, also=("embed_tokens", "norm")), Dora(rank=4), Ia3(also=("q_proj",))], ids=repr
)
def test_the_adapter_in_pefts_form_is_the_tuned_model(tuning, make, tmp_path):
    """PEFT itself puts it on the base, with what trained in full beside it, and gets the same logits."""
    make().hf.save_pretrained(tmp_path / "base")
    model = disturb(tuning.apply(make()))
    tuned = logits(model.hf)
    assert isinstance(model.adapter, PeftAdapter)
    model.adapter.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    assert float((logits(base) - tuned).abs().max()) > 1e-3
    again = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(again), tuned, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(again.merge_and_unload()), tuned, atol=1e-4, rtol=0)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_freeze_holds_a_tied_weight_under_all_its_names():
    for tuning in (Freeze(freeze=("lm_head",)), Freeze(freeze=("embed_tokens",))):
        model = tuning.apply(tied())
        assert not model.hf.get_input_embeddings().weight.requires_grad
        assert sum(1 for _ in model.parameters()) == 4 * 9 + 1
    model = Freeze(freeze=("lm_head",)).apply(untied())
    assert model.hf.get_input_embeddings().weight.requires_grad
    assert not model.hf.get_output_embeddings().weight.requires_grad
    named = {
        name
        for name, weight in Freeze(("layers.1", "norm"), ("mlp",)).apply(tied()).hf.named_parameters()
        if weight.requires_grad
    }
    assert all(name.startswith(("model.layers.1.", "model.norm")) and ".mlp." not in name for name in named)
    assert len(named) == 9 - 3 + 1


def test_factors_stored_as_columns_do_not_decay(world):
    """(IA)^3's identity is 1: pulled towards 0 it would fade the layers out."""
    model = Ia3().apply(open_model(world.base.folder, "fp32"))
    groups = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1).param_groups
    assert [group["weight_decay"] for group in groups] == [0.0]
    full = adamw(Full().apply(model), rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1).param_groups
    assert [group["weight_decay"] for group in full] == [0.1, 0.0]
    assert all(weight.dim() == 2 for weight in full[0]["params"])


FAMILIES = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "llama with biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "qwen3": (Qwen3Config, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "mistral": (MistralConfig, {"sliding_window": 8}),
    "gemma2": (Gemma2Config, {"head_dim": 8, "sliding_window": 8}),
    "gpt2": (GPT2Config, GPT2_SIZES),
    "gpt-neox": (GPTNeoXConfig, {}),
}


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_inserted_blocks_are_silent_and_the_deeper_model_is_a_plain_one(family, blocks, tmp_path):
    kind, changes = FAMILIES[family]
    model = tiny(kind, **changes)
    old, base = copies(model.hf), logits(model.hf)
    model = BlockExpansion(blocks=blocks).apply(model)
    assert torch.equal(logits(model.hf), base)
    trains = {name for name, weight in model.hf.named_parameters() if weight.requires_grad}
    disturb(model)
    tuned = logits(model.hf)
    assert float((tuned - base).abs().max()) > 1e-3
    places = {1: [4], 2: [2, 5], 4: [1, 3, 5, 7]}[blocks]
    held = "transformer.h" if kind is GPT2Config else "gpt_neox.layers" if kind is GPTNeoXConfig else "model.layers"
    assert trains and {int(name.removeprefix(held).split(".")[1]) for name in trains} == set(places)
    moved = [place for place in range(4 + blocks) if place not in places]  # where the old blocks stand now
    kept = copies(model.hf)
    for name, weight in old.items():
        if name.startswith(held):
            first, _, rest = name.removeprefix(held + ".").partition(".")
            name = f"{held}.{moved[int(first)]}.{rest}"
        assert torch.equal(kept[name], weight)
    model = BlockExpansion(blocks=blocks).fold(model)
    model.hf.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.config.num_hidden_layers == 4 + blocks
    torch.testing.assert_close(logits(again), tuned, atol=1e-6, rtol=0)
    cached = again.generate(TOKENS_1T, max_new_tokens=5, do_sample=False)
    plain = again.generate(TOKENS_1T, max_new_tokens=5, do_sample=False, use_cache=False)
    assert torch.equal(cached, plain)  # places in the cache are the layers' own


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (MixtralConfig, {"num_local_experts": 4}, "copies of its blocks without their last layers change the logits"),
        (
            GPT2Config,
            GPT2_SIZES | {"scale_attn_by_inverse_layer_idx": True},
            "another model .settings of transformer.h",
        ),
        (
            GPTNeoConfig,
            {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "intermediate_size": None},
            "another",
        ),
    ],
    ids=["mixtral", "gpt2 by layer", "gpt-neo"],
)
def test_models_whose_blocks_cannot_be_copied_are_refused(kind, changes, words):
    with pytest.raises(UsageError, match=f"blocks cannot be inserted into a model of the type .*{words}"):
        BlockExpansion(blocks=2).apply(tiny(kind, **changes))


def written(folder: Path, model: Model) -> str:
    model.adapter.save(folder)
    return str(folder)


def test_the_penalty_of_o_lora_is_its_formula():
    """Golden: worked by hand; orthogonal inputs cost nothing, and the gradient is that of the square."""
    ours = torch.nn.Parameter(torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]))
    earlier = torch.tensor([[1.0, 0.0, 1.0]])
    penalty = orthogonality([(ours, earlier), (ours, torch.tensor([[0.0, 0.0, 2.0]]))], 0.5)
    # products: (1, -1) and (0, -2); squares: 1 + 1 and 0 + 4; half of 6. gradient: the products times the earlier rows
    assert float(penalty().detach()) == pytest.approx(3.0)
    penalty().backward()
    torch.testing.assert_close(ours.grad, torch.tensor([[1.0, 0.0, 1.0], [-1.0, 0.0, -5.0]]))
    apart = torch.nn.Parameter(torch.tensor([[0.0, 1.0, 0.0], [1.0, 5.0, -1.0]]))
    assert float(orthogonality([(apart, earlier)], 0.5)().detach()) == 0.0


def test_o_lora_pulls_inputs_apart_and_without_a_leash_is_lora(world, tmp_path):
    earlier = written(tmp_path / "earlier", trained(world, replace(SMALL, rank=3), seed=7))
    past = read_factors(earlier)
    assert len(past) == 14 and all(one.shape[0] == 3 for one in past.values())

    def overlap(model) -> float:
        held = dict(model.hf.named_parameters())
        return sum(
            float((one @ held[f"{name}.lora_A.default.weight"].detach().T).square().sum()) for name, one in past.items()
        )

    plain = trained(world, SMALL)
    loose = trained(world, OLora(rank=4, alpha=8.0, penalty_weight=0.0, earlier=(earlier,)))
    alone = trained(world, OLora(rank=4, alpha=8.0))
    for other in (loose, alone):
        assert all(torch.equal(one, copies(other.hf)[name]) for name, one in copies(plain.hf).items())
        assert not other.penalties
    held = trained(world, OLora(rank=4, alpha=8.0, penalty_weight=5.0, earlier=(earlier,)))
    assert float(held.penalty().detach()) == pytest.approx(5.0 * overlap(held), rel=1e-4)
    assert overlap(held) < 0.8 * overlap(plain)
    twice = OLora(rank=4, alpha=8.0, penalty_weight=5.0, earlier=(earlier, earlier)).apply(
        open_model(world.base.folder, "fp32")
    )
    once = OLora(rank=4, alpha=8.0, penalty_weight=5.0, earlier=(earlier,)).apply(open_model(world.base.folder, "fp32"))
    assert float(twice.penalty().detach()) == pytest.approx(2 * float(once.penalty().detach()))


def test_o_lora_says_which_adapter_does_not_fit(tmp_path):
    good = written(tmp_path / "good", SMALL.apply(tied()))
    for folder, tuning, words in (
        ("nowhere", OLora(earlier=("nowhere",)), "there is no adapter here"),
        ("ia3", OLora(earlier=(written(tmp_path / "ia3", Ia3().apply(tied())),)), "no LoRA here"),
        ("apart", OLora(targets=("q_proj",), earlier=(
            written(tmp_path / "apart", Lora(targets=("k_proj",)).apply(tied())),)), "no layer in common"),
        ("wide", OLora(earlier=(written(tmp_path / "wide", SMALL.apply(tiny(LlamaConfig, hidden_size=64))),)),
         "belongs to another model: .* reads 64 features there, and 32 here"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words) as caught:
            tuning.apply(tied())
        assert folder in caught.value.where
    assert OLora(earlier=(good,)).apply(tied()).penalties


def test_training_leaves_the_adapter_beside_the_model(world, tmp_path):
    tuning = Lora(rank=4, alpha=8.0, also=("embed_tokens",))
    made = train(world.base, world.tokens, MIXTURE, replace(SHORT, tuning=tuning), store=Store(tmp_path))
    assert made.facts["num_trained"] < made.facts["num_parameters"]
    base = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(made / "model", dtype=torch.float32)
    started = logits(base)
    light = logits(PeftModel.from_pretrained(base, made / "adapter"))
    assert float((started - light).abs().max()) > 0.05
    torch.testing.assert_close(light, logits(whole), atol=0.03, rtol=0.02)  # the model is stored in bfloat16
    curve = [entry for entry in json.loads((made / "curve.json").read_text()) if "validation" in entry]
    first, last = (entry["validation"]["domain"] for entry in (curve[0], curve[-1]))
    assert last[0] / last[1] < first[0] / first[1] - 0.05
    plain = train(world.base, world.tokens, MIXTURE, SHORT, store=world.store)
    assert not (plain / "adapter").exists()


@pytest.mark.parametrize("tuning", [SMALL, BlockExpansion(1), Dora(rank=2), Ia3()], ids=repr)
def test_a_killed_run_goes_on_to_the_bit(world, tmp_path, monkeypatch, tuning):
    settings = replace(SHORT, tuning=tuning, checkpoint_minutes=0.0, tokens=64 * 4 * 5)
    plain = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "plain"))
    noted = module.TrainingRun._note

    def die(self, step):
        if step.number == 4:
            raise KeyboardInterrupt
        noted(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(module.TrainingRun, "_note", die)
        with pytest.raises(KeyboardInterrupt):
            train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "killed"))
    went_on = []
    monkeypatch.setattr(
        module.TrainingRun, "_note", lambda self, step: went_on.append(step.number) or noted(self, step)
    )
    resumed = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "killed"))
    assert went_on == [4, 5]
    ours, theirs = (load_file(one / "model" / "model.safetensors") for one in (plain, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert json.loads((plain / "curve.json").read_text()) == json.loads((resumed / "curve.json").read_text())


def test_earlier_adapters_are_part_of_a_runs_identity(world, tmp_path):
    folder = Path(written(tmp_path / "earlier", trained(world, SMALL, seed=7)))
    path = folder / "adapter_model.safetensors"
    first = load_file(path)
    tuning = OLora(rank=4, alpha=8.0, earlier=(str(folder),))
    settings = replace(SHORT, tuning=tuning, tokens=64 * 4 * 2)
    store, dry = Store(tmp_path / "store"), DryStore(tmp_path / "store")
    made = train(world.base, world.tokens, MIXTURE, settings, store=store)
    assert train(world.base, world.tokens, MIXTURE, settings, store=dry).name == made.name
    save_file({name: 2 * factor for name, factor in first.items()}, path)
    store.prints.of([folder / "adapter_config.json", path], folder)
    with pytest.raises(NotMade):
        train(world.base, world.tokens, MIXTURE, settings, store=dry)
    assert not replace(tuning, penalty_weight=0.0).needs().adapters and not OLora().needs().adapters
    path.unlink()
    with pytest.raises(UsageError, match=r"there is no adapter_model\.safetensors here"):
        train(world.base, world.tokens, MIXTURE, settings, store=store)


def test_results_keep_no_adapter_of_an_earlier_outcome(world, tmp_path):
    made = train(world.base, world.tokens, MIXTURE, replace(SHORT, tuning=SMALL), store=world.store)
    out = tmp_path / "out"
    put_out(out, {"model": made / "model", "adapter": made / "adapter"}, gone=())
    assert (out / "adapter" / "adapter_config.json").exists()
    put_out(out, {"model": made / "model"}, gone=("adapter",))
    assert not (out / "adapter").exists() and (out / "model").exists()
    write_texts(out / "adapter", ["mine"], 1, seed=0)
    put_out(out, {"model": made / "model"}, gone=("adapter",))
    assert (out / "adapter").exists()  # not graft's


@pytest.mark.parametrize("make", [tied, untied], ids=["tied", "untied"])
def test_a_folded_model_passes_the_check_after_saving(world, make, tmp_path):
    model = make()
    model.hf.save_pretrained(tmp_path / "base")
    model = SMALL.fold(disturb(SMALL.apply(model)))
    assert save_model(model, tmp_path / "base", tmp_path / "model", TOKENS_1T) < 1e-5
