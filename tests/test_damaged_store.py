"""One broken thing in a store breaks only itself: damaged manifests, races, read-only stores, what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import call
from graft.core.config.errors import FaultError, UsageError
from graft.core.store.artifact import Artifact, Store
from graft.core.store.atomic_files import locked, whole
from graft.core.store.fingerprints import SMALL
from graft.core.store.lineage import LineageGraph
from graft.core.store.manifest import MANIFEST, read_manifest
from graft.core.store.ownership import DRAFTS, LOCKS, MARK, MEMORY
from graft.core.store.related import ancestry

CODE = "graft.core.stats.random_streams"


def make(store: Store, kind: str, inputs: dict | None = None) -> Artifact:
    return store.make(kind, {"a": kind}, inputs or {}, CODE, lambda draft: (draft / "a").write_text("kept") and None)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in").write_text("it")


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _with(**changes: object):
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _without(key: str):
    def change(path: Path) -> None:
        whole = json.loads(path.read_text())
        del whole[key]
        path.write_text(json.dumps(whole))

    return change


DAMAGE = {
    "empty": lambda path: path.write_text(""),
    "cut off": lambda path: path.write_text(path.read_text()[:-40]),
    "no JSON": lambda path: path.write_text("started: now"),
    "a list": lambda path: path.write_text("[1]"),
    "a number": lambda path: path.write_text("7"),
    "null": lambda path: path.write_text("null"),
    "a folder": _folder,
    "a fifo": _fifo,
    "a link": _link,
    "digits": lambda path: path.write_text('{"seconds": ' + "9" * 5000 + "}"),
    "nested": lambda path: path.write_text("[" * 200_000),
    "nested objects": lambda path: path.write_text('{"a":' * 200_000),
    "latin": lambda path: path.write_bytes('{"device": "é"}'.encode("latin-1")),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "infinite": _with(seconds=float("inf")),
    "a ledger": _with(ledger={"domain": {"read": 3}}),
    "fates": _with(ledger={"domain": {"read": {"documents": 1}, "fates": {}}}),
    "origins": _with(origins={"a": 3}),
    "code": _with(code=[]),
    **{f"no {key}": _without(key) for key in ("inputs", "ledger", "facts", "versions", "device", "started", "seconds")},
    **{f"{key} true": _with(**{key: True}) for key in ("inputs", "ledger", "facts", "device", "started", "seconds")},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_breaks_that_artifact_alone(tmp_path, damage):
    root = tmp_path / "store"
    store = Store(root)
    docs = make(store, "docs")
    corpus = make(store, "corpus", {"docs": docs})
    tokens = make(store, "tokens", {"corpus": corpus})
    DAMAGE[damage](corpus / MANIFEST)

    assert [one.name for one in store.artifacts()] == [docs.name, tokens.name]
    assert [one.name for one in ancestry(Artifact(tokens.path))] == [tokens.name]
    family = LineageGraph(root)
    assert family.get(corpus.name) is None and list(family.children(Artifact(docs.path))) == []
    listed = call("ls", "artifacts", "--store", root)
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in (docs.name, tokens.name, corpus.name, "1 damaged"))
    assert call("show", tokens.name, "--store", root).returncode == 0
    assert call("show", "tok", "--store", root).returncode == 0
    assert call("why", tokens.name, "--store", root).returncode == 0
    shown = call("show", corpus.name, "--store", root)
    assert shown.returncode == 1 and "graft clean" in shown.stderr and corpus.name in shown.stderr
    assert "Traceback" not in shown.stderr
    with pytest.raises(FaultError, match="graft clean"):  # what asks for it is told, and makes nothing of it
        make(store, "corpus", {"docs": docs})

    cleaned = call("clean", "--store", root)
    assert cleaned.returncode == 0 and f"removed  {corpus.name}" in cleaned.stdout, cleaned.stdout
    assert not corpus.path.exists() and store.drafts() == [] and len(store.artifacts()) == 2
    assert make(store, "corpus", {"docs": docs}).name == corpus.name and len(store.artifacts()) == 3


def test_a_manifest_that_cannot_be_read_now_is_named_and_stays(tmp_path, monkeypatch):
    store = Store(tmp_path)
    made, other = make(store, "docs"), make(store, "corpus")
    plain = os.open

    def failing(path, *args, **kwargs):
        if str(path) == str(made / MANIFEST):
            raise OSError(5, "Input/output error")
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", failing)
    listed = call("ls", "artifacts", "--store", tmp_path)
    assert listed.returncode == 0 and "Input/output error" in listed.stdout and other.name in listed.stdout
    cleaned = call("clean", "--store", tmp_path)
    assert cleaned.returncode == 0 and f"left     {made.name}" in cleaned.stdout and made.path.exists()


def test_a_folder_that_only_looks_like_an_artifact_is_nobodys(tmp_path):
    store = Store(tmp_path)
    made = make(store, "docs")
    (made / MANIFEST).unlink()
    assert store.artifacts() == [] == store.drafts() == store.clean()
    with pytest.raises(FaultError, match="move it away"):
        make(store, "docs")
    assert (made / "a").read_text() == "kept"


def test_listing_and_cleaning_beside_jobs_that_make_and_remove(tmp_path):
    """Files appear, go and are renamed all the time; nothing of what is alive is taken, and nothing fails."""
    store = Store(tmp_path)
    over = threading.Event()
    failed: list[BaseException] = []

    def guarded(work):
        def run():
            number = 0
            try:
                while not over.is_set():
                    number += 1
                    work(number)
            except BaseException as error:
                failed.append(error)

        return threading.Thread(target=run)

    def makes(number):
        def build(draft):
            for k in range(5):
                with whole(draft / f"deep{k % 2}.bin") as out:
                    out.write(bytes(1000))
                (draft / f"sub{k}").mkdir()

        shutil.rmtree(store.make("docs", {"n": number % 7}, {}, CODE, build).path)

    def stops(number):
        def build(draft):
            for k in range(5):
                (draft / f"sub{k}").mkdir(exist_ok=True)
                (draft / f"sub{k}" / "half").write_bytes(bytes(10))
            raise KeyError

        with pytest.raises(KeyError):
            store.make("tokens", {"n": number % 7}, {}, CODE, build)

    def lists(number):
        store.artifacts()
        store.drafts()

    def damages(number):
        made = store.make("corpus", {"n": number}, {}, CODE, lambda draft: None)
        (made / MANIFEST).write_text("{")

    work = [guarded(one) for one in (makes, stops, lists, damages, lambda _: store.clean(), lambda _: store.clean())]
    for one in work:
        one.start()
    time.sleep(2)
    over.set()
    for one in work:
        one.join()
    assert failed == []
    store.clean()
    assert store.drafts() == [] and not list((tmp_path / LOCKS).iterdir()) and not list((tmp_path / DRAFTS).iterdir())


@contextmanager
def read_only(root: Path):
    """The folder mounted over itself, read-only; by the immutable mark where nothing can be mounted."""
    bound = subprocess.run(["mount", "--bind", root, root], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip(f"needs the right to mount: {bound.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        yield
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_read_only_store_is_read_and_refused_in_words_where_it_would_be_written(world, tmp_path):
    root = tmp_path / "store"
    store = Store(root)
    docs = make(store, "docs")
    with pytest.raises(RuntimeError):
        store.make("tokens", {}, {}, CODE, _fails)
    adapt = ("adapt", world.base.folder, "--domain", world.domain, "--tokens", "2k", "--out", tmp_path / "out")
    with read_only(root):
        assert docs.name in call("ls", "artifacts", "--store", root).stdout
        assert call("show", docs.name, "--store", root).returncode == 0
        assert call("why", docs.name, "--store", root).returncode == 0
        assert make(store, "docs").name == docs.name  # what is finished is found
        (tmp_path / "large").write_bytes(bytes(SMALL + 1))
        assert store.prints.of([tmp_path / "large"])
        for words in (("clean",), adapt, ("compare", world.base.folder, world.base.folder, "--text", world.domain)):
            done = call(*words, "--store", root, cwd=tmp_path)
            assert done.returncode == 2 and "cannot write to the store: Read-only file system" in done.stderr, (
                words, done.stderr,
            )  # fmt: skip
            assert str(root) in done.stderr and "--store" in done.stderr and "Traceback" not in done.stderr
        with pytest.raises(UsageError, match="Read-only"):
            make(Store(root / "new"), "docs")


def _fails(draft) -> None:
    (draft / "half").write_text("half")
    raise RuntimeError


@pytest.mark.parametrize("refused", ["mkdir", "open", "replace"])
def test_a_store_without_the_right_to_write_is_an_error_in_words(tmp_path, refused):
    """The kernel's own refusal, to a user without rights: root passes over modes, so another one is taken on."""
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    store = Store(tmp_path)
    make(store, "docs")
    inner = {"mkdir": tmp_path, "open": tmp_path / LOCKS, "replace": tmp_path / DRAFTS}[refused]
    for one in (tmp_path, *tmp_path.parents[:3]):
        one.chmod(0o755)
    for one in (tmp_path / LOCKS, tmp_path / DRAFTS):
        one.chmod(0o777)
    inner.chmod(0o555)
    if refused == "mkdir":
        shutil.rmtree(tmp_path / DRAFTS)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = "nothing was raised"
        try:
            os.setresuid(65534, 65534, 65534)
            make(store, "corpus")
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 10_000).decode()
    os.close(read)
    os.waitpid(child, 0)
    assert said.startswith("UsageError") and "cannot write to the store: Permission denied" in said, said


def test_everything_that_a_kill_can_leave_is_known_to_clean(tmp_path):
    """A real process is killed while it holds each of the things that a store is written by."""
    root = tmp_path / "store"
    made = make(Store(root), "docs")
    script = """
import sys, os, signal
from pathlib import Path
from graft.core.store.artifact import Store
from graft.core.store.atomic_files import locked, whole
root = Path(sys.argv[1])
def build(draft):
    with whole(draft / "weights") as out, whole(root / "fingerprints.json") as one, whole(root / ".graft.json") as two:
        with locked(root / "fingerprints.lock"), Store(root).scratch("verify-resume") as place:
            (place / "some").write_text("thing")
            with whole(root / "drafts" / ".graft-probe") as three:
                print("holding", flush=True)
                signal.pause()
Store(root).make("tokens", {}, {}, "graft.core.stats.random_streams", build)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "holding\n"
    there = {path for path in root.rglob("*") if path not in (made.path, *made.path.iterdir())}
    assert Store(root).clean() == [] and len(Store(root).drafts()) == 6
    assert {path for path in root.rglob("*") if path not in (made.path, *made.path.iterdir())} == there
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    listed = call("ls", "artifacts", "--store", root, COLUMNS="200").stdout
    assert "part of a file, left by a run that ended" in listed and "lock, left by a run that ended" in listed
    assert call("clean", "--store", root).returncode == 0
    assert Store(root).drafts() == []
    left = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert left == {MARK, DRAFTS, LOCKS, made.name, f"{made.name}/a", f"{made.name}/{MANIFEST}"}


def test_a_clean_that_is_killed_leaves_no_half_of_a_draft(tmp_path, monkeypatch):
    """What goes on would take the other half for the whole of what was done."""
    store = Store(tmp_path)
    with pytest.raises(RuntimeError):
        store.make("tokens", {}, {}, CODE, _fails)
    [draft] = store.drafts()

    def killed(path, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.clean()
    assert not draft.path.exists()
    store.make("tokens", {}, {}, CODE, lambda draft: (draft / "b").write_text("new") and None)
    [rest] = store.drafts()
    assert store.clean() == [rest.path] and store.drafts() == []


def test_a_part_is_never_taken_from_who_writes_it(tmp_path):
    """A part is locked from its first moment; one that was removed before that is begun again."""
    (tmp_path / MEMORY).write_text("{}")
    store = Store(tmp_path)
    make(store, "docs")
    over = threading.Event()
    cleaner = threading.Thread(target=lambda: [store.clean() for _ in iter(over.is_set, True)])
    cleaner.start()
    try:
        for number in range(300):
            with whole(tmp_path / MEMORY) as out:
                out.write(json.dumps({str(number): ["", ""]}).encode())
            assert json.loads((tmp_path / MEMORY).read_text()) == {str(number): ["", ""]}
    finally:
        over.set()
        cleaner.join()


def test_a_manifest_is_whole_while_its_lock_is_held(tmp_path):
    store = Store(tmp_path)
    made = make(store, "docs")
    (made / MANIFEST).write_text("{")
    with locked(tmp_path / LOCKS / f"{made.name}.lock"):
        assert store.clean() == [] and made.path.exists()
    assert store.clean() == [made.path]


def test_what_every_stage_writes_is_read_again(world):
    for one in world.store.artifacts():
        assert read_manifest(one.path) == one.manifest
