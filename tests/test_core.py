"""Tally, ledger, seeds, fingerprints, artifacts: the nouns that everything else leans on."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.core import seed as seed_module
from graft.core.artifact import DryStore, NotMade, Store, digest
from graft.core.bootstrap import paired_change
from graft.core.errors import FaultError, UsageError, nearest
from graft.core.fingerprint import Fingerprints, Unread
from graft.core.ledger import Amount, Ledger
from graft.core.outlet import put_out
from graft.core.seed import stream
from graft.core.tally import Tally

amounts = st.builds(Amount, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
CODE = (seed_module,)


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


def test_a_second_look_at_a_file_reads_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = Fingerprints(tmp_path / "memory.json").of([path])
    again = Fingerprints(tmp_path / "memory.json")
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("the file was read again"))
    assert again.of([path]) == first


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


def _fill_the_disk(root, outcome):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        Store(root).make("docs", {}, {}, CODE, build_text("x" * 10_000))
    except FaultError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(outcome).write_text(str(error))


def test_a_full_disk_is_named_and_leaves_finished_work_alone(tmp_path):
    kept = Store(tmp_path).make("docs", {"kept": True}, {}, CODE, build_text("kept"))
    process = multiprocessing.get_context("fork").Process(target=_fill_the_disk, args=(tmp_path, tmp_path / "said"))
    process.start()
    process.join(30)
    said = (tmp_path / "said").read_text()
    assert "no room to write" in said and "MB free" in said and "--store" in said
    assert [artifact.name for artifact in Store(tmp_path).artifacts()] == [kept.name]


def test_artifacts_are_found_by_a_beginning_of_their_name(tmp_path):
    store = Store(tmp_path)
    one = store.make("docs", {}, {}, CODE, build_text("one"))
    assert store.get(one.name[:8]).name == one.name
    assert store.get(str(one.path)).name == one.name
    with pytest.raises(UsageError, match="fits 0 artifacts"):
        store.get("tokens")


def test_hashes_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_results_are_handed_over_whole(tmp_path):
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "a").write_text("new")
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "model" / "old").write_text("old")
    put_out(out, {"model": origin, "a.txt": origin / "a"})
    assert [path.name for path in (out / "model").iterdir()] == ["a"] and (out / "a.txt").read_text() == "new"
    (out / "model" / "a").write_text("changed by the user")
    assert (origin / "a").read_text() == "new"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write results"):
        put_out(tmp_path / "file", {"a.txt": origin / "a"})


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


def test_one_document_has_no_interval():
    change = paired_change(Tally(np.array([8.0]), np.array([2.0])), Tally(np.array([6.0]), np.array([2.0])))
    assert (change.before, change.after, change.change, change.interval) == (4.0, 3.0, -0.25, None)


def test_a_dry_store_finds_and_never_makes(tmp_path):
    made = Store(tmp_path).make("docs", {}, {}, CODE, build_text("one"))
    dry = DryStore(tmp_path)
    assert dry.make("docs", {}, {}, CODE, lambda _: pytest.fail("made")).name == made.name
    with pytest.raises(NotMade):
        dry.make("docs", {"other": 1}, {}, CODE, lambda _: pytest.fail("made"))
    (tmp_path / "new.txt").write_text("never read")
    with pytest.raises(Unread):
        dry.prints.of([tmp_path / "new.txt"])
