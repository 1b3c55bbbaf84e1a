"""Identity of files by content. Small files are read whenever they are asked for; of the others the content is
remembered with all that the file system says of a change, so that a second look costs a stat."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.process.notes import tell_notes
from graft.core.process.progress import Progress
from graft.core.store.atomic_files import DENIED, locked, naming_full_disk, write_whole

SMALL = 256 << 10  # bytes of a file that costs no more to read than to remember
CHEAP = 32 << 20  # bytes of small files that one look may read anew; about 0.05 s
LEAST = 16 << 10  # bytes that opening a file costs as much as
GRAIN_NS = 50_000_000  # two changes closer together than this may bear one time; kernels count in steps of 1 to 10 ms
TRIES = 3  # of reading a file that changes meanwhile


class Unread(Exception):
    """A file whose content is not known yet, asked of a memory that may not read."""


class Fingerprints:
    """Content hashes of files, cached in `memory` (a JSON file in the store).

    may_read False: of files that are not small only what is remembered is known, and one that is not raises Unread. A
    memory that cannot be read counts as empty: it costs time and nothing else. cheap: see CHEAP.

    What is remembered holds while size, inode, time of the last write and time of the last change are what they were.
    A program can set the time of the last write back; it cannot set the time of the last change.
    """

    def __init__(self, memory: Path, *, may_read: bool = True, cheap: int = CHEAP) -> None:
        self.memory, self.may_read, self.cheap = memory, may_read, cheap
        self.known = _remembered(memory)

    def of(self, files: Iterable[Path], root: Path | None = None) -> str:
        """One hash over the names (below `root`, where given) and contents of `files`, in their order.

        Errors: UsageError for a file that cannot be read, FaultError when the disk is full.
        """
        whole = hashlib.blake2b(digest_size=12)
        new: dict[str, list[str]] = {}
        left = self.cheap
        progress = Progress("looking at files")
        for path in files:
            seen = path.stat()
            cost = max(seen.st_size, LEAST)
            if seen.st_size <= SMALL and cost <= left:
                left -= cost
                content = _content(path)
            else:
                content = self._large(path, seen, new)
            progress.advance()
            label = path.relative_to(root) if root else path.name
            whole.update(f"{label}\0{content}\n".encode("utf-8", "surrogateescape"))
        progress.close()
        if new:
            self._remember(new)
        return whole.hexdigest()

    def _large(self, path: Path, seen: os.stat_result, new: dict[str, list[str]]) -> str:
        """The content of a file that is read once; what was learned goes into `new`."""
        key = str(path.resolve())
        known, content = self.known.get(key, ["", ""])
        if known == stamp(seen):
            return content
        if not self.may_read:
            raise Unread(path)
        for _ in range(TRIES):
            _wait_out(seen)
            content, before, seen = _content(path), seen, path.stat()
            if stamp(before) == stamp(seen):
                if not _is_fresh(seen):
                    self.known[key] = new[key] = [stamp(seen), content]
                break
        return content

    def holds(self, fact: str) -> bool:
        """Was this noted of some content before?"""
        return fact in self.known

    def note(self, fact: str) -> None:
        """Remember what was found out of a content, in words that name it; only where files may be read."""
        if self.may_read:
            self._remember({fact: ["", ""]})

    def _remember(self, new: dict[str, list[str]]) -> None:
        """Add to the memory what was found, beside what other processes have added to it meanwhile.

        In a folder that cannot be written nothing is remembered, which costs time and nothing else.
        """
        with naming_full_disk(self.memory), _told_where_read_only(self.memory):
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.memory.with_suffix(".lock")):
                self.known = _remembered(self.memory) | self.known | new
                write_whole(self.memory, json.dumps(self.known, indent=0))


def stamp(seen: os.stat_result) -> str:
    """All that the file system says of a file's content: equal stamps of one path mean that nothing was written."""
    return f"{seen.st_size} {seen.st_ino} {seen.st_mtime_ns} {seen.st_ctime_ns}"


@contextmanager
def _told_where_read_only(memory: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DENIED:
            raise
        tell_notes([f"what was read of files is not remembered: {memory.parent}: {error.strerror}"])


def _is_fresh(seen: os.stat_result) -> bool:
    """Whether the file changed so lately that a further change might not show in its times."""
    return time.time_ns() - seen.st_ctime_ns < GRAIN_NS


def _wait_out(seen: os.stat_result) -> None:
    """A file that has just been written is read a moment later, so that its times can be relied on afterwards."""
    age = time.time_ns() - seen.st_ctime_ns
    if 0 <= age < GRAIN_NS:
        time.sleep((GRAIN_NS - age) / 1e9)


def _remembered(memory: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: one for key, one in found.items() if isinstance(one, list) and [type(part) for part in one] == [str] * 2
    }


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read this file: {error.strerror}", where=str(path)) from error
