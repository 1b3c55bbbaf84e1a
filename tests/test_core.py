"""Tally, ledger, seeds, fingerprints, artifacts: the nouns that everything else leans on."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.cli.listing import show_artifact, show_artifacts
from graft.core.config.errors import UsageError, nearest
from graft.core.config.plain_text import plain
from graft.core.stats.bootstrap import levels, paired_change
from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally
from graft.core.store.artifact import DryStore, NotMade, Store, digest
from graft.core.store.atomic_files import as_disk_full, is_held, locked, write_whole
from graft.core.store.fingerprints import SMALL, Fingerprints, Unread
from graft.core.store.ledger import Amount, Ledger
from graft.core.store.lineage import LineageGraph
from graft.lineage.why.ancestry import ancestry, show_ancestry

amounts = st.builds(Amount, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
CODE = "graft.core.stats.random_streams"


def test_tallies_add_and_divide_once():
    tally = Tally(1.0, 1.0) + Tally(9.0, 3.0)
    assert tally.mean == 2.5  # the mean of the means would be 2
    assert np.isnan(Tally(0.0, 0).mean)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.tuples(st.sampled_from(["train", "test"]), amounts))))
def test_a_ledger_that_adds_up_survives_json(entries):
    ledger = Ledger()
    for source, settled in entries.items():
        ledger.enter(source, sum((amount for _, amount in settled), Amount()))
        for fate, amount in settled:
            ledger.settle(source, fate, amount)
    ledger.check()
    assert list(Ledger.from_json(json.loads(json.dumps(ledger.to_json()))).rows()) == list(ledger.rows())


@pytest.mark.parametrize("missing", [Amount(1), Amount(0, 1), Amount(0, 0, 1)])
def test_a_ledger_that_does_not_add_up_stops(missing):
    ledger = Ledger()
    ledger.enter("domain", Amount(3, 30, 9) + missing)
    ledger.settle("domain", "train", Amount(3, 30, 9))
    with pytest.raises(AssertionError, match="does not add up"):
        ledger.check()


def test_streams_depend_on_their_names_alone():
    first = stream(0, "rows", 3).random(4)
    stream(0, "other").random(100)
    assert (stream(0, "rows", 3).random(4) == first).all()
    assert (stream(0, "rows", 4).random(4) != first).all()
    assert (stream(1, "rows", 3).random(4) != first).all()


def test_did_you_mean():
    assert nearest("stay_clos", ["causal", "stay_close"]) == 'did you mean "stay_close"?'
    assert nearest("zzz", ["causal"]) == ""


def test_fingerprints_follow_content_and_not_time(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    prints = Fingerprints(tmp_path / "memory.json")
    first = prints.of([path])
    path.touch()
    assert Fingerprints(tmp_path / "memory.json").of([path]) == first
    path.write_text("two")
    assert prints.of([path]) != first


@pytest.mark.parametrize("content", [b'{"a": ', b"", b"[1]", b"\xff\xfe"])
def test_a_memory_that_cannot_be_read_counts_as_empty(tmp_path, content):
    (tmp_path / "a.txt").write_text("one")
    memory = tmp_path / "memory.json"
    whole = Fingerprints(memory, cheap=0).of([tmp_path / "a.txt"])
    memory.write_bytes(content)
    assert Fingerprints(memory, cheap=0).of([tmp_path / "a.txt"]) == whole
    assert len(json.loads(memory.read_text())) == 1


def _remember(memory, folder, number):
    prints = Fingerprints(memory, cheap=0)
    for i in range(40):
        path = folder / f"{number}-{i}.txt"
        path.write_text(str(path))
        prints.of([path])


def test_processes_that_remember_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_remember, args=(tmp_path / "m.json", tmp_path, n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(500)
        assert process.exitcode == 0
    assert len(json.loads((tmp_path / "m.json").read_text())) == 160
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt", ".json"}  # neither locks nor parts are left


def test_two_names_that_are_not_utf8_are_two_files(tmp_path):
    one, other = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/\xff.txt", b"/\xfe.txt"))
    one.write_text("same")
    other.write_text("same")
    prints = Fingerprints(tmp_path / "memory.json", cheap=0)
    assert prints.of([one]) != prints.of([other])
    assert Fingerprints(tmp_path / "memory.json", may_read=False, cheap=0).of([one]) == prints.of([one])


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one")

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read anything
    with pytest.raises(UsageError, match=r"a\.txt: cannot read this file: Permission denied"):
        Fingerprints(tmp_path / "memory.json").of([tmp_path / "a.txt"])


def build_text(text):
    def build(draft):
        (draft / "text.txt").write_text(text)
        draft.facts["text"] = text

    return build


def test_an_artifact_is_made_once_and_found_again(tmp_path):
    told = []
    store = Store(tmp_path / "store", on_made=lambda artifact, fresh: told.append((artifact.kind, fresh)))
    first = store.make("docs", {"a": 1}, {}, CODE, build_text("one"))
    again = store.make("docs", {"a": 1}, {}, CODE, lambda _: pytest.fail("built twice"))
    other = store.make("docs", {"a": 2}, {}, CODE, build_text("two"))
    assert first.name == again.name != other.name
    assert told == [("docs", True), ("docs", False), ("docs", True)]
    assert first.facts == {"text": "one"} and first.kind == "docs"
    assert store.find("docs", {"a": 1}, {}, CODE) is not None
    assert store.find("docs", {"a": 3}, {}, CODE) is None


def test_an_artifact_appears_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)

    def broken(draft):
        (draft / "half.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.make("docs", {}, {}, CODE, broken)
    assert store.artifacts() == []

    def goes_on(draft):
        assert (draft / "half.txt").read_text() == "half"  # the draft is where it was left

    assert store.make("docs", {}, {}, CODE, goes_on) == store.artifacts()[0]


def test_a_ledger_that_does_not_add_up_leaves_no_artifact(tmp_path):
    with pytest.raises(AssertionError):
        Store(tmp_path).make("docs", {}, {}, CODE, lambda draft: draft.ledger.enter("domain", Amount(1)))
    assert Store(tmp_path).artifacts() == []


def _make_slowly(root, log):
    def build(draft):
        time.sleep(0.3)
        with Path(log).open("a") as out:
            out.write("built\n")
        (draft / "text.txt").write_text("one")

    Store(root).make("docs", {}, {}, CODE, build)


def test_two_processes_build_an_artifact_once(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_make_slowly, args=(tmp_path / "store", log)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    assert log.read_text() == "built\n"


def _as_text(path):
    path.write_text("x" * 10_000)


def _as_array(path):
    np.zeros(10_000).tofile(path)


def _as_checkpoint(path):
    import torch

    with path.open("wb") as out:
        torch.save({"a": torch.zeros(10_000)}, out)


def _as_safetensors(path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(10_000)}, path)


def _as_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, pa.schema([("a", pa.int64())]), compression="none") as writer:
        writer.write_table(pa.table({"a": np.arange(10_000)}))


def _as_tree(path):
    origin = path.parent.parent / "origin"  # made before the disk was full
    shutil.copytree(origin, path)


def _as_whole(path):
    write_whole(path, "x" * 10_000)


WRITERS = [_as_text, _as_array, _as_checkpoint, _as_safetensors, _as_parquet, _as_tree, _as_whole]


def _fill_the_disk(root, outcome, writer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        Store(root).make("docs", {}, {}, CODE, lambda draft: writer(draft / "file"))
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(outcome).write_text(f"{type(error).__name__} {error}")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named_and_leaves_finished_work_alone(tmp_path, writer):
    (tmp_path / "drafts" / "origin").mkdir(parents=True)
    (tmp_path / "drafts" / "origin" / "file").write_text("x" * 10_000)
    kept = Store(tmp_path).make("docs", {"kept": True}, {}, CODE, build_text("kept"))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_fill_the_disk, args=(tmp_path, tmp_path / "said", writer))
    process.start()
    process.join(500)
    said = (tmp_path / "said").read_text()
    assert said.startswith("FaultError") and "no room to write" in said, said
    assert "MB free" in said and "--store" in said
    assert [artifact.name for artifact in Store(tmp_path).artifacts()] == [kept.name]


def _use_a_full_disk(root, outcome):
    """The first thing a stage does is to ask for fingerprints: no room for the memory, and none for the lock."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    said = []
    for use in (
        lambda: Store(root).prints.of([root / "text.txt"]),
        lambda: Store(root).make("docs", {}, {}, CODE, lambda draft: None),
        lambda: Store(root / "new").prints,
    ):
        try:
            use()
        except Exception as error:
            said.append(f"{type(error).__name__} {error}".split("(")[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcome.write_text(json.dumps(said))


def test_a_full_disk_is_named_outside_of_building_too(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"x" * (SMALL + 1))  # so large that its content is remembered
    Store(tmp_path).make("docs", {"kept": True}, {}, CODE, build_text("kept"))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_use_a_full_disk, args=(tmp_path, tmp_path / "said"))
    process.start()
    process.join(500)
    said = json.loads((tmp_path / "said").read_text())
    assert len(said) == 3 and all(one.startswith("FaultError") and "no room to write" in one for one in said), said


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("unexpected pos 704 vs 598"),  # as torch.save says it, but there is room
        OSError("100 requested and 12 written"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        KeyError("text"),
    ],
)
def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, error):
    def fails(draft):
        raise error

    with pytest.raises(type(error)) as raised:
        Store(tmp_path).make("docs", {}, {}, CODE, fails)
    assert raised.value is error


def test_a_full_disk_behind_another_error_is_found():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise RuntimeError("could not save") from full
    except RuntimeError as error:
        assert as_disk_full(error, Path("/")) is not None


def test_artifacts_are_found_by_a_beginning_of_their_name(tmp_path):
    store = Store(tmp_path)
    one = store.make("docs", {}, {}, CODE, build_text("one"))
    assert store.get(one.name[:8]).name == one.name
    assert store.get(str(one.path)).name == one.name
    with pytest.raises(UsageError, match="fits 0 artifacts"):
        store.get("tokens")


def test_hashes_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_the_paired_interval_covers_the_truth():
    """Documents whose loss falls by 2 % on average: about 95 of 100 intervals hold that."""
    draw = np.random.default_rng(0)
    held = 0
    for trial in range(100):
        count = draw.integers(20, 400, size=60).astype(float)
        before = count * draw.normal(4, 0.5, size=60)
        after = before * draw.normal(0.98, 0.02, size=60)
        low, high = paired_change(Tally(before, count), Tally(after, count), seed=trial).interval or (0, 0)
        held += low <= -0.02 <= high
    assert 88 <= held <= 100


def test_few_documents_make_wide_intervals():
    """By hand for 20: t is 2.0930, sqrt(20 / 19) 1.02598, and the normal table has .01588 below -2.1474."""
    assert levels(20) == pytest.approx((0.01588, 0.98412), abs=5e-5)
    assert levels(10**6) == pytest.approx((0.025, 0.975), abs=1e-6)
    draw = np.random.default_rng(1)
    held, trials = 0, 400
    for trial in range(trials):
        count = np.full(12, 100.0)
        before = count * 4
        after = before * draw.normal(0.98, 0.02, size=12)
        low, high = paired_change(Tally(before, count), Tally(after, count), seed=trial).interval or (0, 0)
        held += low <= -0.02 <= high
    assert 0.93 <= held / trials <= 0.975  # by the plain percentiles .90


def test_one_document_has_no_interval():
    change = paired_change(Tally(np.array([8.0]), np.array([2.0])), Tally(np.array([6.0]), np.array([2.0])))
    assert (change.before, change.after, change.change, change.interval) == (4.0, 3.0, -0.25, None)


def test_a_dry_store_finds_and_never_makes(tmp_path):
    made = Store(tmp_path).make("docs", {}, {}, CODE, build_text("one"))
    dry = DryStore(tmp_path)
    assert dry.make("docs", {}, {}, CODE, lambda _: pytest.fail("made")).name == made.name
    with pytest.raises(NotMade):
        dry.make("docs", {"other": 1}, {}, CODE, lambda _: pytest.fail("made"))
    (tmp_path / "new.txt").write_bytes(b"x" * (SMALL + 1))  # too large to be read on the way
    with pytest.raises(Unread):
        dry.prints.of([tmp_path / "new.txt"])


HOLD = """
import sys, time
from pathlib import Path
from graft.core.store.artifact import Store
def build(draft):
    (draft / "text.txt").write_text("x" * 2_000_000)
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
Store(Path(sys.argv[1])).make("docs", {}, {}, "graft.core.stats.random_streams", build)
"""


def hold(root: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that is at an artifact for a while; returns once it is."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "building\n"
    return process


def test_waiting_is_said_and_leaves_no_lock_behind(tmp_path, capsys):
    holder = hold(tmp_path, 0.5)
    made = Store(tmp_path).make("docs", {}, {}, CODE, lambda _: pytest.fail("built twice"))
    assert capsys.readouterr().err == f"waiting for {made.name}: process {holder.pid} is making it\n"
    assert holder.wait(30) == 0
    assert not list(tmp_path.rglob("*.lock"))
    Store(tmp_path).make("docs", {}, {}, CODE, lambda _: pytest.fail("built twice"))
    assert capsys.readouterr().err == ""


def test_what_is_finished_is_found_while_its_lock_is_held(tmp_path):
    made = Store(tmp_path).make("docs", {}, {}, CODE, build_text("one"))
    with locked(tmp_path / "locks" / f"{made.name}.lock"):
        assert Store(tmp_path).make("docs", {}, {}, CODE, lambda _: pytest.fail("built twice")) == made


def _count_up(path, lock):
    for _ in range(50):
        with locked(lock):
            path.write_text(str(int(path.read_text()) + 1))


def test_a_lock_that_is_removed_still_locks(tmp_path):
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count_up, args=(tmp_path / "count", tmp_path / "lock")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(500)
        assert process.exitcode == 0
    assert (tmp_path / "count").read_text() == "200"
    assert not (tmp_path / "lock").exists() and not is_held(tmp_path / "lock")


def test_drafts_are_listed_and_cleaned_while_those_in_work_stay(tmp_path, capsys):
    def broken(draft):
        (draft / "half.bin").write_bytes(bytes(3_000_000))
        raise RuntimeError("stopped")

    store = Store(tmp_path)
    assert store.drafts() == [] == store.clean()
    with pytest.raises(RuntimeError):
        store.make("tokens", {}, {}, CODE, broken)
    kept = store.make("corpus", {}, {}, CODE, build_text("kept"))
    holder = hold(tmp_path, 60)
    left, busy = store.drafts()
    assert (left.size, left.busy, busy.busy) == (3_000_000, False, True)
    assert left.name.startswith("tokens-") and busy.name.startswith("docs-")
    show_artifacts(store)
    said = capsys.readouterr().out
    assert all(words in said for words in (left.name, "3.0 MB", "left by a run that ended", "being made now", " ago"))
    assert store.clean() == [left.path] and not left.path.exists()
    holder.kill()
    holder.wait(30)
    assert store.clean() == [busy.path] and store.drafts() == []
    assert store.artifacts() == [kept]


def test_parts_of_files_that_a_kill_left_do_not_get_into_the_artifact(tmp_path):
    def killed(draft):
        (draft / "text.txt.123-0.partial").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Store(tmp_path).make("docs", {}, {}, CODE, killed)
    made = Store(tmp_path).make("docs", {}, {}, CODE, build_text("one"))
    assert sorted(path.name for path in made.path.iterdir()) == ["manifest.json", "text.txt"]


LONG = "x" * 300


@pytest.mark.parametrize("value", [LONG, "", "..", "drafts", "a\0b", "[red]x[/blue]"])
def test_inputs_are_listed_whatever_they_say(tmp_path, capsys, value):
    store = Store(tmp_path / "a [b] [/c]")
    first = store.make("docs", {}, {}, CODE, build_text("one"))
    second = store.make("tokens", {}, {"corpus": first, "shape": value}, CODE, build_text("two"))
    show_artifacts(store)
    show_artifact(second)
    show_ancestry({"tree": ancestry(second, LineageGraph(store.root))})
    said = capsys.readouterr().out
    [listed] = [line for line in said.splitlines() if line.startswith(f" {second.name} ")]
    assert listed.split()[-1] == first.name  # and the other input is no artifact
    assert f"shape: {plain(value)}".rstrip() in said and "a [b] [/c]" in said
    show_artifacts(Store(tmp_path / "[/none]"))
    assert "[/none]" in capsys.readouterr().out


def test_a_name_too_long_is_no_artifact(tmp_path):
    with pytest.raises(UsageError, match="fits 0 artifacts"):
        Store(tmp_path).get(LONG)
    Store(tmp_path).make("docs", {}, {}, CODE, build_text("one"))
    with pytest.raises(UsageError, match="fits 0 artifacts"):
        Store(tmp_path).get("")


def test_ancestry_follows_origins_and_names_what_came_from_outside(tmp_path, capsys):
    store = Store(tmp_path)
    docs = store.make(
        "docs", {}, {"path 0": "5f3a"}, CODE, build_text("1"), origins={"path 0": "/texts [old] (3 files)"}
    )
    trained = store.make("train", {}, {"base": "77aa", "tokens": docs}, CODE, build_text("2"), origins={"base": "gpt"})
    evidence = store.make("evidence", {}, {"model": "8bb1"}, CODE, build_text("3"), origins={"model": trained.name})
    assert evidence.origins == {"model": trained.name}
    show_ancestry({"tree": ancestry(evidence, LineageGraph(store.root))})
    lines = [line.strip(" │├└─") for line in capsys.readouterr().out.splitlines()]
    expected = [evidence.name, f"model: {trained.name}", "base: gpt", f"tokens: {docs.name}"]
    assert lines == [*expected, "path 0: /texts [old] (3 files)"]
    show_artifact(docs)
    assert "/texts [old] (3 files)" in capsys.readouterr().out


def test_origins_are_no_part_of_the_identity(tmp_path):
    one = Store(tmp_path).make("docs", {}, {"a": "1"}, CODE, build_text("1"), origins={"a": "here"})
    again = Store(tmp_path).make("docs", {}, {"a": "1"}, CODE, build_text("1"), origins={"a": "there"})
    assert one.name == again.name and again.origins == {"a": "here"}
