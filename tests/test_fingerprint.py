"""Fingerprints of files: a changed content is noticed whatever its size and its time, and what is known is not read."""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.config.plugins import HOUSE
from graft.core.store import fingerprints as fingerprint
from graft.core.store.artifact import DryStore, Store
from graft.core.store.fingerprints import CHEAP, LEAST, SMALL, Fingerprints, Unread
from graft.core.store.publish import put_out
from graft.data.ingest import _identity, ingest, look_up

each_size = pytest.mark.parametrize("size", [10, SMALL, SMALL + 1])


def written(path: Path, content: bytes, like: Path | None = None) -> Path:
    """A file with this content; `like`: with the times that this one has."""
    seen = like.stat() if like else None
    path.write_bytes(content)
    if seen:
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return path


@each_size
@pytest.mark.parametrize("cheap", [0, CHEAP])
def test_a_rewritten_file_of_equal_size_and_time_is_noticed(tmp_path: Path, size: int, cheap: int) -> None:
    path, memory = written(tmp_path / "a.txt", b"a" * size), tmp_path / "memory.json"
    first = Fingerprints(memory, cheap=cheap).of([path])
    before = path.stat()
    written(path, b"b" * size, like=path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    second = Fingerprints(memory, cheap=cheap).of([path])
    assert second != first
    written(path, b"a" * size, like=path)
    assert Fingerprints(memory, cheap=cheap).of([path]) == first


@each_size
def test_another_file_in_its_place_is_noticed(tmp_path: Path, size: int) -> None:
    """As `mv` and `cp -p` leave it: equal size, equal time of writing."""
    path, memory = written(tmp_path / "a.txt", b"a" * size), tmp_path / "memory.json"
    first = Fingerprints(memory).of([path])
    other = written(tmp_path / "b.txt", b"b" * size)
    shutil.copystat(path, other)
    other.replace(path)
    assert Fingerprints(memory).of([path]) != first


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.booleans()), min_size=2, max_size=8))
def test_the_fingerprint_is_that_of_the_content_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str, bool]]
) -> None:
    """Files are rewritten at once, one after another, with and without their old time; nothing is ever mixed up."""
    folder = tmp_path_factory.mktemp("texts")
    paths = [written(folder / f"{number}.txt", b"a" * 9) for number in range(3)]
    for number, letter, keeps_time in edits:
        path = paths[number]
        written(path, letter.encode() * 9, like=path if keeps_time else None)
        known = Fingerprints(folder / "memory.json", cheap=0).of(paths)
        assert known == Fingerprints(folder / "none.json", cheap=CHEAP).of(paths)


def test_a_second_look_at_a_large_file_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = written(tmp_path / "a.txt", b"a" * (SMALL + 1)), tmp_path / "memory.json"
    first = Fingerprints(memory).of([path])
    again = Fingerprints(memory)
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("the file was read again"))
    assert again.of([path]) == first


def test_of_many_small_files_as_many_are_read_as_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [written(tmp_path / f"{number}.txt", b"a") for number in range(10)]
    memory = tmp_path / "memory.json"
    first = Fingerprints(memory, cheap=4 * LEAST).of(paths)
    assert len(json.loads(memory.read_text())) == 6
    read: list[Path] = []
    content = fingerprint._content
    monkeypatch.setattr(fingerprint, "_content", lambda path: (read.append(path), content(path))[1])
    assert Fingerprints(memory, cheap=4 * LEAST).of(paths) == first and read == paths[:4]


def test_a_file_that_was_only_just_written_is_remembered(tmp_path: Path) -> None:
    """What a stage has made is known by its content to the one after it, and to `graft why` without being read."""
    path, memory = written(tmp_path / "a.txt", b"a" * (SMALL + 1)), tmp_path / "memory.json"
    known = Fingerprints(memory).of([path])
    assert Fingerprints(memory, may_read=False).of([path]) == known


def test_a_file_that_changes_while_it_is_read_is_not_remembered_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, memory = written(tmp_path / "a.txt", b"a" * (SMALL + 1)), tmp_path / "memory.json"
    content, changes = fingerprint._content, iter("bcdefg")

    def reading(at: Path) -> str:
        found = content(at)
        written(at, next(changes).encode() * (SMALL + 1), like=at)
        return found

    monkeypatch.setattr(fingerprint, "_content", reading)
    Fingerprints(memory).of([path])
    monkeypatch.undo()
    assert not memory.exists()
    assert Fingerprints(memory).of([path]) == Fingerprints(tmp_path / "none.json").of([path])


def test_an_older_memory_counts_as_empty(tmp_path: Path) -> None:
    path, memory = written(tmp_path / "a.txt", b"a" * (SMALL + 1)), tmp_path / "memory.json"
    first = Fingerprints(memory).of([path])
    [(key, [stamp, content])] = json.loads(memory.read_text()).items()
    for old in ({f"{key}|{SMALL + 1}|1": content}, {key: [stamp]}, {key: [stamp, 1]}):
        memory.write_text(json.dumps(old))
        assert Fingerprints(memory).of([path]) == first


def test_a_dry_look_reads_what_is_small_and_nothing_else(tmp_path: Path) -> None:
    small, large = written(tmp_path / "a.txt", b"a"), written(tmp_path / "b.txt", b"b" * (SMALL + 1))
    dry = DryStore(tmp_path / "store").prints
    assert dry.of([small]) == Fingerprints(tmp_path / "memory.json").of([small])
    with pytest.raises(Unread):
        dry.of([large])


def test_a_text_that_was_edited_and_dated_back_is_read_again(tmp_path: Path) -> None:
    text = written(tmp_path / "texts.txt", b"the one text")
    store = Store(tmp_path / "store")
    first = ingest([str(text)], "domain", store=store)
    written(text, b"another text", like=text)
    second = ingest([str(text)], "domain", store=store)
    assert second.name != first.name
    written(text, b"the one text")
    assert ingest([str(text)], "domain", store=store).name == first.name


def test_a_result_that_was_edited_where_it_lies_is_put_back(tmp_path: Path) -> None:
    """Of equal size and time too: what lies there passes for the artifact's own."""
    made = tmp_path / "store" / "train-0123456789ab" / "model"
    made.mkdir(parents=True)
    written(made / "config.json", b'{"a": 1}')
    put_out(tmp_path / "out", {"model": made}, {"model": {"training.json": "{}"}})
    for name, content in (("config.json", b'{"a": 2}'), ("training.json", b"[]")):
        place = tmp_path / "out" / "model" / name
        before = place.read_bytes()
        written(place, content, like=place)
        put_out(tmp_path / "out", {"model": made}, {"model": {"training.json": "{}"}})
        assert place.read_bytes() == before


def test_what_is_added_to_a_result_is_known_by_its_content(tmp_path: Path) -> None:
    made = tmp_path / "store" / "train-0123456789ab" / "model"
    made.mkdir(parents=True)
    for notes in ("{1}", "{2}"):
        put_out(tmp_path / "out", {"model": made}, {"model": {"training.json": notes}})
        assert (tmp_path / "out" / "model" / "training.json").read_text() == notes


def test_embedded_text_of_the_same_version_and_another_distributor_is_another_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities: list[str] = []
    for number, files in enumerate(({"a.py": '"""One."""'}, {"a.py": '"""One two."""'}, {"b.py": '"""One."""'})):
        library = tmp_path / str(number)
        library.mkdir()
        for name, content in files.items():
            (library / name).write_text(content)
        monkeypatch.setattr(sysconfig, "get_paths", lambda library=library: {"stdlib": str(library)})
        identities.append(_identity(look_up("embedded:code"), Fingerprints(tmp_path / "memory.json")))
    assert len(set(identities)) == 3 and all(f"python {platform.python_version()}" in one for one in identities)


def test_text_is_read_and_written_as_utf8_in_every_locale() -> None:
    """The encoding of the locale would decide what is in an artifact, and is in no name."""
    loose = [
        f"{path.relative_to(HOUSE)}:{call.lineno}"
        for path in sorted(HOUSE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if call.func.attr in ("read_text", "write_text") and len(call.args) == (call.func.attr == "write_text")
        if not any(word.arg == "encoding" for word in call.keywords)
    ]
    assert loose == []
