"""The command line as a user meets it: what works, what it says, and every wrong request with its exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import graft
from conftest import OTHER, WORDS, write_texts
from graft.core.artifact import Store

REPOSITORY = Path(__file__).parents[1]


def call(*arguments: object, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "graft", *map(str, arguments)],
        capture_output=True, text=True, timeout=240, check=False, cwd=cwd, env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory):
    """One adaptation by command line: (process, output folder, arguments)."""
    out = tmp_path_factory.mktemp("cli") / "out"
    arguments = [
        "adapt", world.base.folder, "--domain", world.domain, "--general", world.general, "--tokens", "20k",
        "--replay", "0.25", "--seed", "7", "--out", out, "--store", world.store.root,
        "--set", "train.rate=1e-3", "--set", "train.rows=4",
    ]  # fmt: skip
    return call(*arguments), out, arguments


def test_adapt_leaves_a_model_a_page_and_a_summary(adapted):
    process, out, _ = adapted
    assert process.returncode == 0, process.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["outcome"] == "improved" and "improved on the domain" in summary["verdict"]
    assert summary["verdict"] in process.stdout and str(out / "report.html") in process.stdout
    assert summary["seed"] == 7 and summary["objective"] == {"causal": {}}
    assert set(summary["tokens"]) == {"domain", "general"}
    assert summary["ratio"] == pytest.approx(summary["tokens"]["domain"] / sum(summary["tokens"].values()))
    assert summary["ratio"] == pytest.approx(0.75, abs=0.03)
    for name in ("domain", "general"):
        row = summary[name]
        assert row["change"] == pytest.approx(row["after"] / row["before"] - 1)
        assert row["interval"][0] <= row["change"] <= row["interval"][1] < 0
        assert 0 <= row["overlap"] <= 0.2
        assert row["bits_per_byte"]["after"] < row["bits_per_byte"]["before"]
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    ids = AutoTokenizer.from_pretrained(out / "model")("the court of law", return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()


def test_the_summary_is_what_transformers_finds(world, adapted):
    """Golden: mean loss of the test documents by transformers alone, one document at a time, no code of ours."""
    _, out, _ = adapted
    summary = json.loads((out / "summary.json").read_text())
    import pyarrow.parquet as pq

    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    end = tokenizer.eos_token_id
    for folder, key in ((world.base.folder, "before"), (out / "model", "after")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        total, count, size = 0.0, 0, 0
        table = pq.read_table(world.corpus / "domain.parquet").to_pylist()
        for row in table:
            if row["split"] == "test" and not row["dropped"]:
                ids = [end, *tokenizer(row["text"]).input_ids, end]
                size += len(row["text"].encode())
                for first in range(0, len(ids) - 1, 64):
                    piece = torch.tensor([ids[first : first + 65]])
                    with torch.no_grad():
                        logits = model(piece[:, :-1]).logits[0]
                    total += float(torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum"))
                    count += piece.shape[1] - 1
        assert summary["domain"][key] == pytest.approx(total / count, rel=1e-5)
        assert summary["domain"]["bits_per_byte"][key] == pytest.approx(total / size / 0.6931471805599453, rel=1e-5)


def test_a_second_run_does_nothing_and_says_so(adapted):
    _, out, arguments = adapted
    shutil.rmtree(out)
    started = time.monotonic()
    process = call(*arguments)
    assert process.returncode == 0 and "Nothing to do: all 9 artifacts were there" in process.stderr
    assert time.monotonic() - started < 6  # 3 s on a quiet machine; torch is not loaded
    assert (out / "summary.json").exists() and (out / "model" / "config.json").exists()


def test_artifacts_are_listed_shown_and_explained(world, adapted):
    store = ("--store", world.store.root)
    listed = call("ls", "artifacts", *store)
    assert listed.returncode == 0 and "train-" in listed.stdout
    name = next(a.name for a in Store(world.store.root).artifacts() if a.kind == "report")
    shown = call("show", name[:10], *store)
    assert shown.returncode == 0 and '"verdict"' in shown.stdout
    tokens = next(a.name for a in Store(world.store.root).artifacts() if a.kind == "tokens")
    assert "train" in call("show", tokens, *store).stdout
    why = call("why", name, *store)
    assert why.returncode == 0 and all(word in why.stdout for word in ("docs-", "corpus-", "tokens-", "train-"))


def test_shelves_are_listed():
    assert "objectives" in call("ls").stdout
    assert "stay_close" in call("ls", "objectives").stdout
    wrong = call("ls", "objectifs")
    assert wrong.returncode == 2 and 'did you mean "objectives"' in wrong.stderr


def test_the_same_from_python(world, adapted, tmp_path):
    _, out, _ = adapted
    from dataclasses import replace

    settings = graft.Adapt(train=replace(graft.Adapt().train, rate=1e-3, rows=4))
    outcome = graft.adapt(
        str(world.base.folder), domain=str(world.domain), general=[str(world.general)], tokens=20_000, replay=0.25,
        seed=7, out=tmp_path / "out", store=world.store, settings=settings,
    )  # fmt: skip
    assert outcome.summary == json.loads((out / "summary.json").read_text())
    assert "adapt" in dir(graft) or graft.adapt


def test_help_and_plan_are_quick_and_leave_torch_alone(world, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"adapt:\n  base: {world.base.folder}\n  domain: {world.domain}\n  general: {world.general}\n")
    for arguments, seconds in ((["--help"], 1.5), (["plan", str(recipe), "--store", str(tmp_path)], 4.0)):
        code = (
            f"import sys; sys.argv = ['graft', *{arguments!r}]\n"
            "from graft.cli import main\n"
            "try: main()\nexcept SystemExit as end: code = end.code\n"
            "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
        )
        started = time.monotonic()
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert process.returncode == 0, process.stderr
        assert time.monotonic() - started < seconds
    assert not list(tmp_path.glob("*-*"))  # a plan makes nothing


def test_a_plan_foretells_what_the_run_then_counts(world, adapted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"adapt:\n  base: {world.base.folder}\n  domain: {world.domain}\n  general: {world.general}\n"
        "  replay: 0.25\n  train: {tokens: 20000, rows: 4, rate: 1e-3, seed: 7}\n"
    )
    from graft.forecast import forecast
    from graft.recipe import read_recipe

    blind = forecast(read_recipe(recipe), Store(tmp_path))
    known = forecast(read_recipe(recipe), world.store)
    assert not blind.sources["domain"].exact and known.sources["domain"].exact
    for name in ("domain", "general"):
        assert blind.sources[name].tokens == pytest.approx(known.sources[name].tokens, rel=0.02)
        assert blind.sources[name].documents == known.sources[name].documents == 120
    assert blind.shape == known.shape
    assert len(known.done) == 9 and not blind.done
    assert not Path("adapted").exists()  # the default --out: a plan writes nothing, also where nothing is left to do
    assert call("plan", recipe, "--store", world.store.root).stdout.count("exact") == 2


def no_tokenizer(tmp_path, world):
    folder = shutil.copytree(world.base.folder, tmp_path / "bare")
    (folder / "tokenizer.json").unlink()
    return [folder, "--domain", world.domain]


def wrong_suffix(tmp_path, world):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    return [world.base.folder, "--domain", tmp_path / "pictures"]


def one_document(tmp_path, world):
    (tmp_path / "one.txt").write_text("One document only.")
    return [world.base.folder, "--domain", tmp_path / "one.txt", "--general", world.general]


def undecodable(tmp_path, world):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.txt").write_bytes(b"\xff\xfe\xfa\xc3")
    return [world.base.folder, "--domain", tmp_path / "bad"]


def empty_folder(tmp_path, world):
    (tmp_path / "empty").mkdir()
    return [world.base.folder, "--domain", tmp_path / "empty"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda t, w: [w.base.folder, "--domain", t / "nowhere"], ["there is no such file or folder", "nowhere"]),
        (empty_folder, ["the folder is empty"]),
        (wrong_suffix, [".png", "txt"]),
        (undecodable, ["no usable document", "undecodable"]),
        (one_document, ["1 usable document", "two or more"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--general", w.domain], ["are the same text"]),
        (no_tokenizer, ["the model has no tokenizer", "tokenizer.json"]),
        (lambda t, w: ["embeded", "--domain", w.domain], ['no base model "embeded"', 'did you mean "embedded"']),
        (lambda t, w: [w.domain, "--domain", w.domain], ["no config.json"]),
        (
            lambda t, w: [w.base.folder, "--domain", w.domain, "--general", w.general, "--set", "train.window=4096"],
            ["window is 4096", "at most 64"],
        ),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--replay", "20"], ["replay is 20", "20 % is 0.2"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens", "lots"], ['--tokens is "lots"', "400k"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--objective", "cuasal"], ['did you mean "causal"']),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "trian.rows=8"], ['unknown key "trian"', "train"]),
        (lambda t, w: [w.base.folder], ["--domain"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_wrong_request_is_named_and_exits_with_2(world, tmp_path, arguments, words):
    process = call("adapt", *arguments(tmp_path, world), "--store", world.store.root, "--out", tmp_path / "out")
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr and all(word in process.stderr for word in words), process.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("adapt:\n  repley: 1\n", ["recipe.yaml:2", 'did you mean "replay"']),
        ("adapt:\n  train: {tokens: many}\n", ["recipe.yaml:2", "whole number"]),
        (None, ["there is no such recipe"]),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_wrong_recipe_exits_with_2(tmp_path, verb, recipe, words):
    path = tmp_path / "recipe.yaml"
    if recipe:
        path.write_text(recipe)
    process = call(verb, path)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert all(word in process.stderr for word in words), process.stderr


def test_an_unwritable_place_is_named(world, adapted, tmp_path):
    _, _, arguments = adapted
    (tmp_path / "file").write_text("")
    arguments = [tmp_path / "file" if arguments[i - 1] == "--out" else a for i, a in enumerate(arguments)]
    process = call(*arguments)
    assert process.returncode == 2 and "cannot write results" in process.stderr
    arguments = [tmp_path / "file" / "store" if arguments[i - 1] == "--store" else a for i, a in enumerate(arguments)]
    process = call(*arguments)
    assert process.returncode == 2 and "cannot write to the store" in process.stderr


def test_bytes_that_cannot_be_read_are_counted_and_the_rest_is_used(world, tmp_path):
    folder = write_texts(tmp_path / "mixed", WORDS, 20, seed=5)
    (folder / "zz.txt").write_bytes(b"\xff\xfe\xfa")
    process = call(
        "adapt", world.base.folder, "--domain", folder, "--general", write_texts(tmp_path / "g", OTHER, 20, seed=6),
        "--tokens", "1k", "--out", tmp_path / "out", "--store", tmp_path / "store", "--set", "train.rows=2",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    tokens = next(a for a in Store(tmp_path / "store").artifacts() if a.kind == "tokens")
    fates = tokens.ledger.fates["domain"]
    assert (fates["dropped: undecodable"].documents, fates["dropped: undecodable"].bytes) == (1, 3)
    assert tokens.ledger.read["domain"].documents == 21
