"""pretrain: text alone becomes a base that an adaptation can start from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from command import call
from conftest import OTHER, WORDS, write_texts
from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.data.curate import Curate
from graft.data.tokenize import Tokenize
from graft.jobs.adapt import Adapt
from graft.jobs.pretrain import Pretrain
from graft.surgery.initialize import Initialize
from graft.training.settings import Train

RECIPE = """
pretrain:
  text: {text}
  vocabulary_text: {words}
  out: {out}
  initialize: {{vocabulary: 320, width: 32, layers: 2, heads: 2, feed_forward: 64, window: 64}}
  train: {{tokens: 3k, batch_size: 4, learning_rate: 3e-3, evaluations: 2, precision: fp32}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Pretrain, Store, Path]:
    """A tiny base by command line: (its job, the store, the output folder)."""
    top = tmp_path_factory.mktemp("pretrain")
    text, words = write_texts(top / "text", OTHER, 80, seed=5), write_texts(top / "words", WORDS, 80, seed=6)
    (top / "recipe.yaml").write_text(RECIPE.format(text=text, words=words, out=top / "out"))
    for said in ("train ", "Nothing to do: all 6 artifacts were there"):
        process = call("run", top / "recipe.yaml", "--store", top / "store", cwd=top)
        assert process.returncode == 0 and said in process.stderr, process.stderr
        assert f"model: {top / 'out' / 'model'}" in process.stdout
    job = Pretrain(
        text=(str(text),), vocabulary_text=(str(words),), out=str(top / "out"),
        initialize=Initialize(vocabulary=320, width=32, layers=2, heads=2, feed_forward=64, window=64),
        train=Train(tokens=3000, batch_size=4, learning_rate=3e-3, evaluations=2, precision="fp32"),
    )  # fmt: skip
    return job, Store(top / "store"), top / "out"


def test_the_base_is_a_model_and_a_tokenizer_that_transformers_opens(made):
    _, _, out = made
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    known, foreign = (tokenizer(text).input_ids for text in ("we walked by the sea", "the court of law"))
    assert len(foreign) < 12  # the vocabulary's text was read too: no spelling out byte by byte
    with torch.no_grad():
        start = torch.tensor([[tokenizer.eos_token_id or 0, *known]])
        logits = model(start[:, :-1]).logits[0]
    assert float(torch.nn.functional.cross_entropy(logits, start[0, 1:])) < 0.9 * torch.log(torch.tensor(320.0))


def test_the_base_says_how_it_was_trained(made):
    job, store, out = made
    notes = json.loads((out / "model" / "training.json").read_text())
    trained = next(artifact for artifact in store.artifacts() if artifact.kind == "train")
    assert set(trained.facts["tokens"]) == {"general"}  # the vocabulary's text is no training text
    assert notes["tokens"] == trained.facts["tokens"]["general"] == 64 * 4 * trained.facts["shape"]["steps"]
    assert notes["peak_lr"] == job.train.learning_rate and notes["batch_tokens"] == 4 * 64
    assert notes["log"][-1]["validation_general"] < notes["log"][0]["validation_general"]


def test_an_adaptation_starts_from_it(made, tmp_path):
    """Its own peak rate is what an automatic rate returns to, by half."""
    job, store, out = made
    adaptation = Adapt(
        base=str(out / "model"), domain=job.vocabulary_text, general=job.text, out=str(tmp_path / "adapted"),
        train=Train(tokens=3000, batch_size=4, precision="fp32"),
    )  # fmt: skip
    summary = adaptation(store).summary
    assert summary["outcome"] == "improved" and summary["rate"] == pytest.approx(0.5 * 3e-3)
    assert summary["domain"]["after"] < summary["domain"]["before"]


def test_every_setting_of_the_job_has_an_effect(made, tmp_path):
    job, store, _ = made
    plain = [artifact.name for artifact in job.make(store)]
    other = str(write_texts(tmp_path / "other", OTHER, 20, seed=9))
    for first_changed, change in (
        ("docs", {"text": (other,)}),
        ("corpus", {"vocabulary_text": ()}),
        ("corpus", {"curate": Curate(steps=())}),
        ("base", {"initialize": replace(job.initialize, seed=1)}),
        ("tokens", {"tokenize": Tokenize(shard_bytes=10_000)}),
        ("train", {"train": replace(job.train, seed=1)}),
    ):
        fresh = [artifact for artifact in replace(job, **change).make(store) if artifact.name not in plain]
        assert (fresh[0].kind, fresh[-1].kind) == (first_changed, "train"), change
    moved = replace(job, out=str(tmp_path / "moved"))
    assert moved(store) == tmp_path / "moved" and (tmp_path / "moved" / "model" / "config.json").exists()


def test_text_is_needed():
    with pytest.raises(UsageError, match="text names no path"):
        Pretrain(text=())
