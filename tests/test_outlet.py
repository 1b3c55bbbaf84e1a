"""Results are handed over whole, over nothing but earlier results, and are no text for the next run."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from graft.core.config.errors import FaultError, UsageError
from graft.core.store.artifact import Store
from graft.core.store.fingerprints import SMALL
from graft.core.store.ownership import MARK
from graft.core.store.publish import check_out, put_out
from graft.jobs.adapt import Adapt
from graft.jobs.pretrain import Pretrain
from graft.readers.folder import listing


def made(root: Path, name: str, content: str = "new") -> Path:
    """A finished model folder as it lies in a store."""
    model = root / "store" / name / "model"
    model.mkdir(parents=True)
    (model / "weights").write_text(content)
    return model


def test_results_are_handed_over_whole(tmp_path):
    first, second = made(tmp_path, "train-1"), made(tmp_path, "train-2", "newer")
    (first / "old").write_text("old")
    out = tmp_path / "out"
    put_out(out, {"model": first, "page.html": first / "old"})
    assert put_out(out, {"model": second, "page.html": second / "weights"}) == out
    assert [path.name for path in (out / "model").iterdir()] == ["weights"]
    assert (out / "model" / "weights").read_text() == (out / "page.html").read_text() == "newer"
    assert sorted(path.name for path in out.iterdir()) == [MARK, "model", "page.html"]
    (out / "model" / "weights").write_text("changed by the user")
    assert (second / "weights").read_text() == "newer"


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot write results: Not a directory"):
            check_out(folder, ["model"])
    with pytest.raises(UsageError, match="cannot write results"):
        put_out(tmp_path / "file", {"model": made(tmp_path, "train-1")})
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="cannot write results: Permission denied"):
        check_out(tmp_path / "new", ["model"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link", "broken link"])
def test_what_graft_did_not_put_there_is_never_replaced(tmp_path, kind):
    out, model = tmp_path / "out", made(tmp_path, "train-1")
    out.mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_text("mine")
    if kind == "folder":
        (tmp_path / "mine").rename(out / "model")
    elif kind == "file":
        (out / "model").write_text("mine")
    else:
        (out / "model").symlink_to(tmp_path / ("mine" if kind == "link" else "nowhere"))
    for ask in (lambda: check_out(out, ["model"]), lambda: put_out(out, {"model": model})):
        with pytest.raises(UsageError, match=r"out/model: this is there already.*\n.*--out"):
            ask()
    assert [path.name for path in out.iterdir()] == ["model"]
    put_out(out, {"page.html": model / "weights"})  # another name is free
    with pytest.raises(UsageError, match="there already"):
        check_out(out, ["model"])


def test_files_that_were_added_to_a_result_are_not_removed_with_it(tmp_path):
    out = tmp_path / "out"
    put_out(out, {"model": made(tmp_path, "train-1")})
    (out / "model" / ".DS_Store").write_text("of the system")
    check_out(out, ["model"])
    (out / "model" / "sub").mkdir()
    (out / "model" / "sub" / "model.gguf").write_text("converted by the user")
    for ask in (lambda: check_out(out, ["model"]), lambda: put_out(out, {"model": made(tmp_path, "train-2")})):
        with pytest.raises(UsageError, match=r"graft did not put sub/model.gguf there, and would remove it"):
            ask()
    assert (out / "model" / "sub" / "model.gguf").exists()


@pytest.mark.parametrize(
    ("base", "sources", "allowed"),
    [
        ("out/model", (), False),  # is the base
        ("out/model/deep", (), False),  # holds it
        ("out", (), False),  # lies in it
        ("other", (), True),
        ("other", ("out/model",), False),
        ("other", ("free", "out/model/deep/text.txt"), False),
        ("other", (".",), True),  # the next run passes over results
        ("owner/name", ("hf://owner/name", "embedded:prose"), True),
    ],
)
def test_what_a_job_reads_is_out_of_reach_of_its_results(tmp_path, monkeypatch, base, sources, allowed):
    monkeypatch.chdir(tmp_path)
    put_out(Path("out"), {"model": made(tmp_path, "train-1")})
    (tmp_path / "out" / "model" / "deep").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "model" / "deep" / "text.txt").write_text("mine")
    mark = json.loads((tmp_path / "out" / MARK).read_text())
    mark["entries"]["model"]["files"].append("deep/text.txt")  # so that this alone would not stop it
    (tmp_path / "out" / MARK).write_text(json.dumps(mark))
    for out in (Path("out"), Path("link"), tmp_path / "other" / ".." / "out"):
        if allowed:
            check_out(out, ["model"], base=base, sources=sources)
        else:
            with pytest.raises(UsageError, match=r"results would be written to .*model, over or beside the"):
                check_out(out, ["model"], base=base, sources=sources)


@pytest.mark.parametrize("sure", [True, False])
def test_a_store_is_no_place_for_results(tmp_path, sure):
    store = Store(tmp_path)
    store.make("docs", {}, {}, (), lambda draft: None)
    (tmp_path.parent / "large.txt").write_bytes(b"x" * (SMALL + 1))
    store.prints.of([tmp_path.parent / "large.txt"])
    if not sure:
        (tmp_path / MARK).unlink()  # of an earlier version, which left no mark
    with pytest.raises(UsageError, match="into a store of artifacts"):
        check_out(tmp_path, ["model"])


def test_what_is_there_already_is_not_copied_again(tmp_path):
    out, model = tmp_path / "out", made(tmp_path, "train-1")
    notes = {"model": {"training.json": "{}"}}
    put_out(out, {"model": model}, notes)
    assert (out / "model" / "training.json").read_text() == "{}"
    before = (out / "model" / "weights").stat()
    put_out(out, {"model": model}, notes)
    assert (out / "model" / "weights").stat().st_ino == before.st_ino
    for harm in (lambda path: path.unlink(), lambda path: path.write_text("cut o")):
        harm(out / "model" / "weights")
        put_out(out, {"model": model}, notes)
        assert (out / "model" / "weights").read_text() == "new"
    put_out(out, {"model": made(tmp_path, "train-2", "NEW")}, notes)  # of the same sizes
    assert (out / "model" / "weights").read_text() == "NEW"


def test_killed_before_any_rename_the_next_time_finishes_it(tmp_path, monkeypatch):
    rename = os.replace
    for stop in range(3):
        out = tmp_path / f"out-{stop}"
        put_out(out, {"model": made(tmp_path, f"train-1{stop}", "old")})
        left = [stop]

        def killed(source, target, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            rename(source, target)

        model = made(tmp_path, f"train-2{stop}", "new")
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            put_out(out, {"model": model})
        monkeypatch.setattr(os, "replace", rename)
        put_out(out, {"model": model})
        assert (out / "model" / "weights").read_text() == "new"
        assert sorted(path.name for path in out.iterdir()) == [MARK, "model"]


def _fill(out, model, said):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        put_out(out, {"model": model})
    except FaultError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(str(error))


def test_a_full_disk_is_named_and_leaves_the_old_result(tmp_path):
    out = tmp_path / "out"
    put_out(out, {"model": made(tmp_path, "train-1")})
    large = made(tmp_path, "train-2", "x" * 10_000)
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(out, large, tmp_path / "said"))
    process.start()
    process.join(30)
    said = (tmp_path / "said").read_text()
    assert "no room to write" in said and "--out" in said and "--store" not in said
    assert (out / "model" / "weights").read_text() == "new"


@pytest.mark.parametrize("kind", ["adapt", "pretrain"])
def test_jobs_ask_before_they_begin(tmp_path, monkeypatch, kind):
    """The finding: in a project that holds ./model, `--out .` removed the user's base."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("model", "config.json").write_text("{}")
    job = Adapt(base="./model", out=".") if kind == "adapt" else Pretrain(out=".")
    with pytest.raises(UsageError, match="over or beside the base|graft did not put it there"):
        job(Store(tmp_path / "store"))
    assert Path("model", "config.json").exists() and not Path("store").exists()
    if kind == "pretrain":
        job = replace(job, out="new", text=("new/model",))
        Path("new").mkdir()
        Path("model").rename("new/model")
        with pytest.raises(UsageError, match="over or beside the text"):
            job(Store(tmp_path / "store"))


def test_results_and_stores_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("mine" * SMALL)  # so large that the store remembers it
    store = Store(tmp_path / "kept")
    store.make("docs", {}, {}, (), lambda draft: (draft / "b.txt").write_text("of the store"))
    store.prints.of([tmp_path / "a.txt"])
    (tmp_path / "kept" / "mine.txt").write_text("mine, in an odd place")
    model = made(tmp_path, "train-1")
    (model / "vocab.json").write_text("{}")
    put_out(
        tmp_path / "adapted", {"model": model, "summary.json": model / "vocab.json", "report.html": model / "weights"}
    )
    put_out(tmp_path, {"report.html": model / "weights"})
    (tmp_path / "adapted" / "mine.md").write_text("mine, beside results")
    (tmp_path / "store").rename(tmp_path / ".store")
    found = listing(tmp_path)
    assert [file.name for file in found.files] == ["a.txt", "adapted/mine.md", "kept/mine.txt"]
    assert found.skipped["made by graft"] == 3 + 1 + 4  # in adapted, beside it, and what the store consists of
