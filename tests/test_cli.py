"""The command line as a user meets it: what works, what it says, and every wrong request with its exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import graft
from command import call
from conftest import OTHER, WORDS, write_texts
from fork_server import run
from graft.core.store.artifact import Store
from meter import processor_seconds

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory):
    """One adaptation by command line: (process, output folder, arguments)."""
    out = tmp_path_factory.mktemp("cli") / "out"
    arguments = [
        "adapt", world.base.folder, "--domain", world.domain, "--general", world.general, "--tokens", "20k",
        "--replay", "0.25", "--seed", "7", "--out", out, "--store", world.store.root,
        "--set", "train.learning_rate=1e-3", "--set", "train.batch_size=4",
    ]  # fmt: skip
    return call(*arguments), out, arguments


def test_adapt_leaves_a_model_a_page_and_a_summary(adapted):
    process, out, _ = adapted
    assert process.returncode == 0, process.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["outcome"] == "improved" and "so the model reads the domain better" in summary["verdict"]
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
    process = call(*arguments)
    assert process.returncode == 0 and "Nothing to do: all 10 artifacts were there" in process.stderr
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

    settings = graft.Adapt(train=replace(graft.Adapt().train, learning_rate=1e-3, batch_size=4))
    outcome = graft.adapt(
        str(world.base.folder), domain=str(world.domain), general=[str(world.general)], tokens=20_000, replay=0.25,
        seed=7, out=tmp_path / "out", store=world.store, settings=settings,
    )  # fmt: skip
    assert outcome.summary == json.loads((out / "summary.json").read_text())


# As it stands in the README; a folder is all that it needs.
STAGES = """\
import graft

store = graft.Store.default()
base = graft.Base.find("embedded")
docs = {"domain": graft.ingest(["my_texts/"], "domain", store=store)}
corpus = graft.curate(docs, graft.Curate(split=graft.Split(test=0.1)), store=store)
tokens = graft.tokenize(corpus, base, store=store)
before = graft.evaluate(base, tokens, store=store)
trained = graft.train(base, tokens, {"domain": 1.0}, graft.Train(tokens=400_000), store=store)
after = graft.evaluate(graft.Base(trained.name, trained / "model"), tokens, store=store)
findings = graft.examine(before, after, store=store)
print((findings / "forgetting.json").read_text())
"""


def test_every_setting_of_adapt_has_an_effect(world, tmp_path):
    """Each changed alone: the first artifact that differs is of the stage that the setting is for."""
    from dataclasses import replace

    texts = [one.read_text() for one in sorted(world.domain.iterdir())]
    rows = [json.dumps({"text": text, "other": text[:99]}) + "\n" for text in texts]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    job = graft.Adapt(
        base=str(world.base.folder), domain=(str(tmp_path / "rows.jsonl"),), general=(str(world.general),),
        out=str(tmp_path / "out"), train=graft.Train(tokens=600, batch_size=2, evaluations=1, validation_tokens=400),
        evaluate=graft.Evaluate(max_tokens=400),
    )  # fmt: skip
    assert "embedded prose" not in "".join(job(world.store).summary["notes"])
    plain = [artifact.name for artifact in job.make(world.store)]
    other = shutil.copytree(world.base.folder, tmp_path / "base")
    (other / "training.json").write_text('{"peak_lr": 0.01}')
    for first_changed, change in (
        ("train", {"base": str(other)}),
        ("docs", {"domain": (str(world.domain),)}),
        ("docs", {"general": (str(tmp_path / "rows.jsonl"), str(world.general))}),
        ("train", {"replay": 0.4}),
        ("docs", {"ingest": graft.Ingest(text_field="other")}),
        ("corpus", {"curate": graft.Curate(split=graft.Split(seed=1))}),
        ("tokens", {"tokenize": graft.Tokenize(shard_bytes=10_000)}),
        ("train", {"train": replace(job.train, batch_size=4)}),
        ("evidence", {"evaluate": graft.Evaluate(max_tokens=200)}),
        ("findings", {"examine": graft.Examine(probes=job.examine.probes[:1])}),
        ("report", {"report": graft.AdaptationReport(title="Another title")}),
    ):
        changed = replace(job, out=str(tmp_path / "changed"), **change)
        fresh = [artifact for artifact in changed(world.store).artifacts if artifact.name not in plain]
        assert (fresh[0].kind, fresh[-1].kind) == (first_changed, "report"), change
        page = (tmp_path / "changed" / "report.html").read_text()
        assert ("<h1>Another title</h1>" in page) == ("report" in change)
        assert ("Which tokens did it" in page) == ("examine" not in change)


@pytest.mark.parametrize("split", ["validation", "train"])
def test_another_split_is_called_by_its_name(world, tmp_path, split):
    job = graft.Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),),
        out=str(tmp_path / "out"), train=graft.Train(tokens=600, batch_size=2, evaluations=1),
        evaluate=graft.Evaluate(split=split, max_tokens=2000),
    )  # fmt: skip
    summary = job(world.store).summary
    assert summary["split"] == split and any(f"The {split} split was scored" in note for note in summary["notes"])
    assert (summary["domain"]["overlap"] is None) == (split == "train")
    page = (tmp_path / "out" / "report.html").read_text()
    assert summary["notes"][0] in page and "held-out documents" not in page


def run_python(code: str, **how: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False, **how)


def test_the_stages_one_by_one_from_python(world, forks, tmp_path):
    shutil.copytree(world.domain, tmp_path / "my_texts")
    assert STAGES in (REPOSITORY / "docs" / "how-to" / "python.md").read_text()
    tiny = STAGES.replace('"embedded"', repr(str(world.base.folder))).replace("400_000", "1_000, batch_size=4")
    process = run([sys.executable, "-c", tiny], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    [row] = json.loads(process.stdout)
    assert row["source"] == "domain" and row["documents"] > 5 and row["after"] < row["before"]


def test_every_name_of_the_package_is_there_and_loads_no_torch():
    code = (
        "import sys, graft\n"
        "assert not [name for name in sys.modules if name.startswith('graft.')]\n"
        "assert set(graft.__all__) <= set(dir(graft))\n"
        "for name in graft.__all__: assert getattr(graft, name).__name__ == name, name\n"
        "from graft import *\n"
        "import graft.data.ingest, graft.training.train\n"
        "assert callable(graft.ingest) and callable(graft.train) and graft.Train().tokens is None\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = graft.trian


def test_the_gate_closes_after_everything_was_written(adapted):
    _, out, arguments = adapted
    shutil.rmtree(out, ignore_errors=True)
    process = call(*arguments, "--fail-if", "domain.change < -1%", "--fail-if", "general.change > 2%")
    assert process.returncode == 3 and "Traceback" not in process.stderr, process.stderr
    change = json.loads((out / "summary.json").read_text())["domain"]["change"]
    assert f'domain.change is {change:.4%}, and the gate is "domain.change < -1%"' in process.stderr
    assert "general.change" not in process.stderr and (out / "report.html").exists()
    assert call(*arguments, "--fail-if", "general.change > 2%").returncode == 0


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("general.change", ["is no condition", "KEY > NUMBER"]),
        ("general.change = 2%", ["is no condition"]),
        ("general.change > 2 %  or so", ["is no condition"]),
        ("genral.change > 2%", ['no number "genral.change"', 'did you mean "general.change"']),
        ("verdict > 1", ['no number "verdict"', "domain.after"]),
    ],
)
def test_a_wrong_gate_is_named_before_any_work(world, tmp_path, condition, words):
    process = call(
        "adapt", world.base.folder, "--domain", world.domain, "--fail-if", condition,
        "--out", tmp_path / "out", "--store", tmp_path / "store",
    )  # fmt: skip
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert all(word in process.stderr for word in ["--fail-if", "allowed:", *words]), process.stderr
    assert not list(tmp_path.iterdir())


def test_a_gate_needs_a_summary(tmp_path):
    (tmp_path / "recipe.yaml").write_text("pretrain: {}")
    process = call("run", tmp_path / "recipe.yaml", "--fail-if", "steps > 1", "--store", tmp_path / "store")
    assert process.returncode == 2 and "the job pretrain leaves no numbers" in process.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("condition", "closed"),
    [
        ("general.change > 2%", True), ("general.change>.03", False), ("general.change >= 3e-2", True),
        ("general.change <= 3 %", True), ("general.change < 3%", False), ("general.change > -1", True),
        ("general.interval.1 > 4%", True), ("general.interval.1 > 5%", False), ("steps < +20.5", True),
        ("domain.interval.0 > 100", True), ("domain.overlap > 100", True),
    ],
)  # fmt: skip
def test_conditions_hold_or_not(condition, closed):
    """What was not measured cannot be ruled out, and closes the gate."""
    from graft.cli.gate import check_gate, read_conditions

    summary = {
        "steps": 20,
        "general": {"change": 0.03, "interval": [0.01, 0.05]},
        "domain": {"interval": None, "overlap": None},
    }
    conditions = read_conditions([condition], graft.Adapt())
    if closed:
        with pytest.raises(graft.GateClosed, match=condition.strip()[:7]):
            check_gate(conditions, summary)
    else:
        check_gate(conditions, summary)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("loss.kept > 50%", ""),  # joint never has it, and naive is below
        ("loss.kept > 5%", "naive.loss.kept is 10.0000%"),
        ("naive.loss.kept > 50%", ""),
        ("joint.loss.kept > 50%", "joint.loss.kept was not measured"),
        ("general.change > 900%", "late.general.change was not measured"),
        ("naive.general.change > 900%", ""),
        ("loss.lost > 1", "loss.lost was not measured"),  # nobody has it
    ],
)
def test_a_gate_over_runs_skips_what_one_never_has_and_closes_on_what_was_not_measured(condition, words):
    from graft.cli.gate import Condition

    general = {"change": 0.01}
    summary = {
        "runs": {
            "naive": {"general": general, "loss": {"kept": 0.1}},
            "joint": {"general": general, "loss": {}},
            "late": {"general": None},
        }
    }
    keys = [*(f"loss.{name}" for name in ("kept", "lost")), "general.change"]
    keys += [f"{label}.{key}" for label in summary["runs"] for key in keys]
    said = Condition.read(condition, keys).check(summary)
    assert said.startswith(words) and bool(said) == bool(words)


def test_the_field_with_the_text_can_be_named(world, tmp_path):
    text = [(path.read_text(), number) for number, path in enumerate(sorted(world.domain.iterdir())[:20])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"body": one, "n": n}) + "\n" for one, n in text))
    arguments = ["adapt", world.base.folder, "--domain", tmp_path / "rows.jsonl", "--tokens", "1k", "--store", tmp_path]
    arguments += ["--general", tmp_path / "rows2.jsonl", "--out", tmp_path / "out", "--set", "train.batch_size=2"]
    (tmp_path / "rows2.jsonl").write_text("".join(json.dumps({"body": one[:60]}) + "\n" for one, _ in text))
    wrong = call(*arguments)
    assert wrong.returncode == 2 and "--text-field" in wrong.stderr and "body" in wrong.stderr
    right = call(*arguments, "--text-field", "body")
    assert right.returncode == 0, right.stderr
    assert {a.manifest["settings"]["text_field"] for a in Store(tmp_path).artifacts() if a.kind == "docs"} == {"body"}


def test_help_and_plan_are_quick_and_leave_torch_alone(world, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"adapt:\n  base: embedded\n  domain: {world.domain}\n  general: {world.general}\n")
    for arguments, limit in ((["--help"], 1.5), (["plan", str(recipe), "--store", str(tmp_path)], 4.0)):
        code = (
            f"import sys; sys.argv = ['graft', *{arguments!r}]\n"
            "from graft.cli.app import main\n"
            "try: main()\nexcept SystemExit as end: code = end.code\n"
            "sys.exit(code or ('torch' in sys.modules or 'transformers' in sys.modules))"
        )
        before = processor_seconds()
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
        assert process.returncode == 0, process.stderr
        assert processor_seconds() - before < 2 * limit  # twice what a slow machine takes
    assert not list(tmp_path.glob("*-*"))  # a plan makes nothing


def test_help_says_what_is_taken_where_nothing_is_given():
    said = re.sub(r"[\s│]+", " ", call("adapt", "--help", COLUMNS="120").stdout)
    for words in ("the embedded prose stands in", "one pass over the domain", "adapted", "$GRAFT_STORE, or .graft"):
        assert f"[default: {words}]" in said


def test_a_plan_foretells_what_the_run_then_counts(world, adapted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"adapt:\n  base: {world.base.folder}\n  domain: {world.domain}\n  general: {world.general}\n"
        "  replay: 0.25\n  train: {tokens: 20000, batch_size: 4, learning_rate: 1e-3, seed: 7}\n"
    )
    from graft.core.config.recipe import read_recipe
    from graft.planning.plan import forecast

    blind = forecast(read_recipe(recipe), Store(tmp_path))
    known = forecast(read_recipe(recipe), world.store)
    assert blind.sources["domain"].exact and known.sources["domain"].exact  # a small folder is counted
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
    (tmp_path / "bad" / "a.txt").write_bytes(b"\x81\x8d\x90\xc3")
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
            lambda t, w: [
                w.base.folder,
                "--domain",
                w.domain,
                "--general",
                w.general,
                "--set",
                "train.sequence_length=4096",
            ],
            ["sequence_length is 4096", "at most 64"],
        ),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--replay", "20"], ["replay is 20", "20 % is 0.2"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens", "lots"], ['--tokens is "lots"', "400k"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--objective", "cuasal"], ['did you mean "causal"']),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "trian.rows=8"], ['unknown key "trian"', "train"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens", "inf"], ['--tokens is "inf"', "whole number"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens", "nan"], ['--tokens is "nan"', "whole number"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens", "0.4"], ['--tokens is "0.4"', "whole number"]),
        (lambda t, w: [w.base.folder, "--domain", w.domain, "--tokens=-5k"], ['--tokens is "-5k"', "positive"]),
        (
            lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "train.batch_size=[8"],
            ["--set train.batch_size=[8: not YAML", "allowed:"],
        ),
        (
            lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "replay.x=1"],
            ["--set replay.x=1: replay has no keys", "a number"],
        ),
        (
            lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "domain.x=1"],
            ["--set domain.x=1: domain has no keys", "a list of text"],
        ),
        (
            lambda t, w: [w.base.folder, "--domain", w.domain, "--set", "examine.probes=blame"],
            ["--set examine.probes=blame", "with forgetting among them", "add forgetting"],
        ),
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


@pytest.mark.parametrize(
    ("option", "place", "words"),
    [("--out", "file", "cannot write results"), ("--store", "file/store", "cannot write to the store")],
)
def test_an_unwritable_place_is_named(adapted, tmp_path, option, place, words):
    _, _, arguments = adapted
    (tmp_path / "file").write_text("")
    process = call(*(tmp_path / place if before == option else one for before, one in pairwise(["", *arguments])))
    assert process.returncode == 2 and words in process.stderr, process.stderr


def test_unfinished_work_is_removed_unless_someone_is_at_it(world, tmp_path):
    root = tmp_path / "store"
    assert call("clean", "--store", root).stdout == "nothing to remove\n" and not root.exists()
    store = Store(root)
    done = store.make("tokens", None, {}, (), lambda draft: (draft / "a").write_text("kept") and None)

    def stop(draft):
        (draft / "shard").write_bytes(bytes(2_500_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make("train", None, {}, (), stop)
    [left] = [draft.name for draft in store.drafts()]

    def look(draft):
        process = call("clean", "--store", root)
        assert process.returncode == 0, process.stderr
        assert re.search(rf"removed  {left}  2.5 MB\nin use   docs-\w+\nfreed 2.5 MB", process.stdout), process.stdout
        assert draft.path.exists()

    store.make("docs", None, {}, (), look)
    assert not store.drafts() and (done / "a").read_text() == "kept"
    assert call("clean", "--store", root).stdout == "nothing to remove\n"


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "drafts" / "novel-0123456789ab").mkdir(parents=True)
    process = call("clean", "--store", tmp_path)
    assert process.returncode == 2 and "this folder is no store" in process.stderr
    assert (tmp_path / "drafts" / "novel-0123456789ab").exists()


def test_bytes_that_cannot_be_read_are_counted_and_the_rest_is_used(world, tmp_path):
    folder = write_texts(tmp_path / "mixed", WORDS, 20, seed=5)
    (folder / "zz.txt").write_bytes(b"\xff\xfe\xfa")
    process = call(
        "adapt", world.base.folder, "--domain", folder, "--general", write_texts(tmp_path / "g", OTHER, 20, seed=6),
        "--tokens", "1k", "--out", tmp_path / "out", "--store", tmp_path / "store", "--set", "train.batch_size=2",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    tokens = next(a for a in Store(tmp_path / "store").artifacts() if a.kind == "tokens")
    fates = tokens.ledger.fates["domain"]
    assert (fates["dropped: undecodable"].documents, fates["dropped: undecodable"].bytes) == (1, 3)
    assert tokens.ledger.read["domain"].documents == 21
