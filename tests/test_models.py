"""Models that are not ours: other families through the whole path, fallbacks that hold everywhere, honest refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Artifact, Store
from graft.data import user_notes as tell
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.models.files.weights import open_model
from graft.models.forward import model as models
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.surgery.initialize import Initialize, initialize
from graft.training.objectives.causal import Causal
from graft.training.objectives.stay_close import StayClose
from graft.training.settings import Train
from graft.training.train import train

V = 320
IDS = {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": 0, "vocab_size": V}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, **IDS}
LONG = {"max_position_embeddings": 64}
CONFIGS = {
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, **LONG, tie_word_embeddings=False),
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **IDS),
    "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=2, seq_length=64, **IDS),
    "gemma2": lambda: transformers.Gemma2Config(
        **SMALL, **LONG, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, final_logit_softcapping=1.5
    ),
    "bert": lambda: transformers.BertConfig(**SMALL, **LONG),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, max_position_embeddings=600),
}
MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=3e-3,
    precision="fp32",
    evaluations=3,
)


def folder(world, name: str, into: Path, **changes) -> Path:
    """A tiny untrained model of a family, with the world's tokenizer."""
    config = CONFIGS[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(config)
    for parameter in hf.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.1)
    hf.save_pretrained(into)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(world.base.folder / file, into / file)
    return into


def curve(trained: Artifact) -> list[dict]:
    return json.loads((trained / "curve.json").read_text())


def loss(entry: dict) -> float:
    totals, counts = zip(*entry["loss"].values(), strict=True)
    return sum(totals) / sum(counts)


@pytest.mark.parametrize(("name", "tied"), [("gpt_neox", False), ("gpt2", True)])
def test_other_families_go_the_whole_way(world, tmp_path, name, tied):
    store = Store(tmp_path / "store")
    base = Base(name, folder(world, name, tmp_path / "base")).checked()
    before = evaluate(base, world.tokens, Evaluate(max_tokens=2000), store=store)
    trained = train(base, world.tokens, MIXTURE, SHORT, store=store)
    after = evaluate(Base("trained", trained / "model").checked(), world.tokens, Evaluate(max_tokens=2000), store=store)
    assert trained.facts["notes"] == before.facts["notes"][:0] == []
    for source in ("domain", "general"):
        old, new = (read_evidence(each)[source].nats_N.mean() for each in (before, after))
        assert new < old - 0.5
    again = AutoModelForCausalLM.from_pretrained(trained / "model")
    head, embedding = again.get_output_embeddings().weight, again.get_input_embeddings().weight
    assert (head.data_ptr() == embedding.data_ptr()) == tied and again.config.tie_word_embeddings == tied
    assert torch.equal(head, embedding) == tied
    assert trained.facts["reload_difference"] <= 1e-4
    assert trained.origins == {"base": base.origin} and before.origins == {"model": base.origin}


@pytest.mark.parametrize("name", ["gpt_neox", "bloom", "gemma2"])
def test_a_teacher_falls_back_where_its_student_does(world, tmp_path, monkeypatch, name):
    """At step 1 start and model are the same, so a kl_weight of any strength weighs a divergence of 0."""
    if name == "gemma2":  # a head whose arithmetic we do not know
        monkeypatch.setattr(models, "SOFT_CAPS", ())
    base = Base(name, folder(world, name, tmp_path / "base"))
    once = replace(SHORT, tokens=64 * 32, batch_size=32)  # enough rows for documents to begin inside some
    plain, leashed = (
        train(base, world.tokens, MIXTURE, replace(once, objective=objective), store=Store(tmp_path / "store"))
        for objective in (Causal(), StayClose(kl_weight=1000.0))
    )
    assert loss(curve(leashed)[1]) == pytest.approx(loss(curve(plain)[1]), abs=2e-3)  # 1000 times 2e-6 nats
    words = {"bloom": "packed pieces see each other", "gemma2": "its logits are not those of its head"}.get(name)
    assert [words in note for note in leashed.facts["notes"]] == ([True] if words else [])


def test_notes_come_once_and_in_plain_words(world, tmp_path, capsys):
    tell.tell.cache_clear()
    base = Base("bloom", folder(world, "bloom", tmp_path / "base"))
    store = Store(tmp_path / "store")
    trained = train(base, world.tokens, MIXTURE, replace(SHORT, tokens=64 * 4), store=store)
    seen = evaluate(base, world.tokens, Evaluate(max_tokens=500), store=store)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("graft: note: bloom")]
    [note] = trained.facts["notes"]
    assert said == [f"graft: note: {note}"] and note in seen.facts["notes"]


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_what_sees_the_future_is_refused(world, tmp_path, name, stage):
    base = Base(name, folder(world, name, tmp_path / "base"))
    with pytest.raises(UsageError, match=f"{name}: not a causal model"):
        if stage == "train":
            train(base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path / "store"))
        else:
            evaluate(base, world.tokens, store=Store(tmp_path / "store"))


def test_the_same_family_as_a_decoder_is_welcome(world, tmp_path):
    base = Base("bert", folder(world, "bert", tmp_path / "base", is_decoder=True))
    seen = read_evidence(evaluate(base, world.tokens, Evaluate(max_tokens=500), store=Store(tmp_path / "store")))
    assert len(seen["domain"].nats_N)


def without(path: Path, *names: str, **more: torch.Tensor) -> Path:
    weights = load_file(path / "model.safetensors")
    assert set(names) <= set(weights)
    kept = {name: weight for name, weight in weights.items() if name not in names} | more
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_a_head_that_is_in_no_file_is_not_made_up(world, tmp_path):
    base = without(folder(world, "gpt_neox", tmp_path / "base"), "embed_out.weight")
    with pytest.raises(UsageError, match="needs weights that its files do not hold: (lm_head|embed_out).weight"):
        open_model(base, "fp32")


def test_a_weight_of_another_shape_is_named(world, tmp_path):
    base = folder(world, "gpt_neox", tmp_path / "base")
    without(base, "embed_out.weight", **{"embed_out.weight": torch.zeros(V, 16)})
    with pytest.raises(
        UsageError, match=r"other shapes than config.json says: (lm_head|embed_out).weight \[\d+, 16\], not"
    ):
        open_model(base, "fp32")


def test_weights_without_a_place_are_noted(world, tmp_path):
    base = without(folder(world, "gpt2", tmp_path / "base"), visual=torch.zeros(3))
    assert ["not used: visual" in note for note in open_model(base, "fp32").notes] == [True]
    assert not open_model(folder(world, "gpt2", tmp_path / "whole"), "fp32").notes


def test_a_body_saved_alone_loads_where_its_head_is_tied(world, tmp_path):
    whole = AutoModelForCausalLM.from_pretrained(folder(world, "gpt2", tmp_path / "base"))
    whole.base_model.save_pretrained(tmp_path / "body")
    opened = open_model(tmp_path / "body", "fp32")
    assert torch.equal(opened.hf.get_output_embeddings().weight, whole.get_input_embeddings().weight)


def test_what_is_no_language_model_is_refused(tmp_path):
    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="does not load this as a causal language model"):
        open_model(tmp_path, "fp32")


def test_tokens_without_an_embedding_are_named(world, tmp_path):
    base = Base("small", folder(world, "gpt2", tmp_path / "base", vocab_size=300))
    for stage in (
        lambda: train(base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path / "store")),
        lambda: evaluate(base, world.tokens, store=Store(tmp_path / "store")),
    ):
        with pytest.raises(
            UsageError, match=r"uses the token .* and the model has embeddings for 300 tokens"
        ) as caught:
            stage()
        assert "resize_token_embeddings" in caught.value.do and caught.value.allowed == "ids 0 to 299"


def test_tokens_of_another_tokenizer_are_named(world, tmp_path):
    begun = initialize(world.corpus, Initialize(300, 32, 1, 2, 64, 64), store=world.store)
    with pytest.raises(UsageError, match="the model has embeddings for 300 tokens"):
        evaluate(Base("other", begun / "model"), world.tokens, store=Store(tmp_path))


def test_a_token_that_never_occurs_needs_no_embedding(world, tmp_path):
    """Many tokenizers hold a mark that was added after training and that no text uses."""
    base = Base("added", folder(world, "gpt2", tmp_path / "base"))
    tokenizer = base.tokenizer
    tokenizer.add_special_tokens(["<|added|>"])
    assert tokenizer.get_vocab_size() == V + 1
    assert evaluate(base, world.tokens, Evaluate(max_tokens=500), store=Store(tmp_path / "store")).facts["scored"]


def test_flash_attention_is_for_16_bits(monkeypatch):
    model = Model(AutoModelForCausalLM.from_config(CONFIGS["gpt2"]()), reading=Decoder(), precision="bf16")
    monkeypatch.setattr(models, "is_flash_attn_2_available", lambda: True)
    monkeypatch.setattr(Model, "device", torch.device("cuda"))
    assert model._attention("auto") == "flash_attention_2"
    model.precision = "fp32"
    assert model._attention("auto") == "sdpa"


@pytest.mark.parametrize("change", [{"spread": 0.2}, {"tokenizer_bytes": 300}, {"seed": 1}], ids=str)
def test_every_free_setting_of_a_new_base_has_an_effect(world, change):
    tiny = Initialize(vocabulary=320, width=32, layers=1, heads=2, feed_forward=64, window=64)
    plain = initialize(world.corpus, tiny, store=world.store)
    other = initialize(world.corpus, replace(tiny, **change), store=world.store)
    old, new = (load_file(each / "model" / "model.safetensors")["model.embed_tokens.weight"] for each in (plain, other))
    tokenizers = [json.loads((each / "model" / "tokenizer.json").read_text())["model"] for each in (plain, other)]
    assert (tokenizers[0] != tokenizers[1]) == ("tokenizer_bytes" in change)
    assert torch.equal(old, new) == ("tokenizer_bytes" in change)
    if "spread" in change:
        assert float(new.float().std()) == pytest.approx(10 * float(old.float().std()), rel=0.05)
