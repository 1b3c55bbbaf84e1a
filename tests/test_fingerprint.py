"""Fingerprints of files: a changed content is noticed whatever its size and its time, and what is known is not read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core import fingerprint
from graft.core.artifact import DryStore, Store
from graft.core.fingerprint import CHEAP, LEAST, SMALL, Fingerprints, Unread
from graft.stages.ingest import ingest

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
