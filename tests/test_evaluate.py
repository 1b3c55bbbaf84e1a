"""Evaluate: every setting has an effect, long documents are cut in the open, and faults name places."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import WORDS
from graft.core.config.errors import FaultError, UsageError
from graft.core.models.base_model import Base
from graft.core.records.evidence import read_evidence
from graft.core.stats.evaluation_size import most_of_one
from graft.core.store.artifact import Artifact, Store
from graft.data import user_notes as tell
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import sources, tokenize
from graft.evaluation.score_documents import Evaluate, evaluate


@pytest.mark.parametrize(
    "change", [{"split": "validation"}, {"max_tokens": 200}, {"window": 16}, {"precision": "bf16"}], ids=str
)
def test_every_setting_has_an_effect(world, change):
    plain = read_evidence(evaluate(world.base, world.tokens, store=world.store))
    other = read_evidence(evaluate(world.base, world.tokens, Evaluate(**change), store=world.store))
    for name in ("domain", "general"):
        ours, theirs = other[name], plain[name]
        if "split" in change:
            assert not set(ours.position_D.tolist()) & set(theirs.position_D.tolist())
        elif "max_tokens" in change:
            assert len(ours.nats_N) <= 200 < len(theirs.nats_N) and ours.num_documents >= 2
        else:
            assert np.array_equal(ours.targets_N, theirs.targets_N) and not np.array_equal(ours.nats_N, theirs.nats_N)
    if "precision" in change:
        np.testing.assert_allclose(other["domain"].nats_N, plain["domain"].nats_N, atol=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 0}, "window is 0"),
        ({"window": -3}, "window is -3"),
        ({"max_tokens": -1}, "max_tokens is -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change, words):
    with pytest.raises(UsageError, match=words):
        Evaluate(**change)


def test_a_window_that_the_model_has_not_is_refused(world):
    with pytest.raises(UsageError, match="window is 65, and the model reads at most 64 tokens"):
        evaluate(world.base, world.tokens, Evaluate(window=65), store=world.store)


def test_the_nats_are_the_models_own(world):
    """Golden: transformers' model on each window alone, torch's cross-entropy."""
    seen = read_evidence(evaluate(world.base, world.tokens, store=world.store))["domain"]
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32)
    source = sources(world.tokens)["domain"]
    place = {int(position): d for d, position in enumerate(source.position_D)}
    for d in range(2):
        tokens = torch.from_numpy(source.tokens(place[int(seen.position_D[d])]).astype(np.int64))
        own = [
            torch.nn.functional.cross_entropy(
                model(input_ids=tokens[None, first : min(first + 64, len(tokens) - 1)]).logits[0],
                tokens[first + 1 : first + 65],
                reduction="none",
            )
            for first in range(0, len(tokens) - 1, 64)
        ]
        np.testing.assert_allclose(seen.document(d)[1], torch.cat(own).detach().numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def with_a_book(world, tmp_path_factory):
    """(store, tokens): a domain of one long file among short ones, all of it test text."""
    root = tmp_path_factory.mktemp("book")
    store = Store(root / "store")
    draw = np.random.default_rng(0)
    for name, lines in {"book": 400, **{f"{i:03}": 3 for i in range(60)}}.items():
        text = "\n".join(" ".join(draw.choice(WORDS, 9)) + " – é." for _ in range(lines))
        (root / f"{name}.txt").write_text(text)
    docs = {
        name: ingest([str(path)], name, store=store) for name, path in (("domain", root), ("general", world.general))
    }
    return store, tokenize(curate(docs, store=store), world.base, store=store)


def test_of_a_long_document_the_beginning_is_scored_and_its_bytes_are_counted(world, with_a_book):
    store, tokens = with_a_book
    source = sources(tokens)["domain"]
    longest = int(np.argmax(source.pairs_D))
    split = next(one for one in ("train", "validation", "test") if longest in source.documents(one))
    limit = int(source.pairs_D[source.documents(split)].sum()) - 1
    made = evaluate(world.base, tokens, Evaluate(split=split, max_tokens=limit), store=store)
    seen = read_evidence(made)["domain"]
    d = seen.position_D.tolist().index(source.position_D[longest])
    part = most_of_one(limit)
    assert len(seen.document(d)[0]) == part < source.pairs_D[longest]
    assert made.facts["scored"]["domain"]["documents_cut"] == 1 and seen.num_documents > 2
    assert any(f"only the first {part:,} tokens of 1 long document" in note for note in made.facts["notes"])
    text = world.base.tokenizer.decode(source.tokens(longest, 1, part + 1).tolist())
    assert seen.num_bytes_D[d] == pytest.approx(len(text.encode()), abs=1)
    others = np.delete(np.arange(seen.num_documents), d)
    bytes_of = dict(zip(source.position_D.tolist(), source.num_bytes_D.tolist(), strict=True))
    assert [seen.num_bytes_D[i] for i in others] == [bytes_of[int(seen.position_D[i])] for i in others]


def test_a_broken_model_names_files_and_rows(world, tmp_path):
    shutil.copytree(world.base.folder, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FaultError, match="is not a number") as caught:
        evaluate(Base("broken", tmp_path / "model"), world.tokens, store=world.store)
    [first, *_] = caught.value.where.removeprefix("documents ").split(", ")
    table = pq.read_table(world.corpus / "domain.parquet", columns=["parents", "split"]).to_pylist()
    assert first in {row["parents"][0] for row in table if row["split"] == "test"}
    assert ".txt" in first


def test_places_are_positions_where_the_corpus_is_gone(world, tmp_path):
    found = tell.places(world.tokens, [("domain", 3), ("general", 0)])
    assert len(found) == 2 and all(".txt" in place for place in found.values())
    moved = Artifact(tmp_path / world.tokens.name)
    shutil.copytree(world.tokens.path, moved.path)
    assert tell.places(moved, [("domain", 3)]) == {}


def test_notes_are_told_once(capsys):
    tell.tell.cache_clear()
    tell.tell_notes(["one", "two"])
    tell.tell_notes(["two", "three"])
    assert capsys.readouterr().err == "graft: note: one\ngraft: note: two\ngraft: note: three\n"


def test_memory_that_is_not_there_names_the_setting_to_lower(world, tmp_path, monkeypatch):
    import graft.models.scoring.scoring as scoring

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")

    monkeypatch.setattr(scoring, "_score_rows", full)
    with pytest.raises(FaultError, match=r"not enough memory for scoring \(CUDA out of memory"):
        evaluate(world.base, world.tokens, store=Store(tmp_path))


def test_evidence_says_what_it_saw(world):
    made = evaluate(world.base, world.tokens, store=world.store)
    assert made.facts["notes"] == [] and made.facts["window"] == 64
    scored = made.facts["scored"]["domain"]
    assert scored["documents"] == scored["documents_of_split"] and scored["documents_cut"] == 0
    assert json.loads((made / "domain.vocabulary.json").read_text())
    assert replace(Evaluate(), window=32) == Evaluate(window=32)
