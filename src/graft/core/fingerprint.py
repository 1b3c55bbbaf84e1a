"""Identity of files by content, remembered by (path, size, time) so that a second look costs a stat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from graft.core.errors import UsageError
from graft.core.files import locked, naming_full_disk, write_whole
from graft.core.progress import Progress


class Unread(Exception):
    """A file whose content is not known yet, asked of a memory that may not read."""


class Fingerprints:
    """Content hashes of files, cached in `memory` (a JSON file in the store).

    may_read False: only what is remembered is known, and a file that is not raises Unread. A memory that cannot be
    read counts as empty: it costs time and nothing else.
    """

    def __init__(self, memory: Path, *, may_read: bool = True) -> None:
        self.memory, self.may_read = memory, may_read
        self.known = _remembered(memory)

    def of(self, files: Iterable[Path], root: Path | None = None) -> str:
        """One hash over the names (below `root`, where given) and contents of `files`, in their order.

        Errors: UsageError for a file that cannot be read, FaultError when the disk is full.
        """
        whole = hashlib.blake2b(digest_size=12)
        new: dict[str, str] = {}
        progress = Progress("looking at files")
        for path in files:
            seen = path.stat()
            key = f"{path.resolve()}|{seen.st_size}|{seen.st_mtime_ns}"
            if key not in self.known:
                if not self.may_read:
                    progress.close()
                    raise Unread(path)
                self.known[key] = new[key] = _content(path)
            progress.advance()
            label = path.relative_to(root) if root else path.name
            whole.update(f"{label}\0{self.known[key]}\n".encode("utf-8", "surrogateescape"))
        progress.close()
        if new:
            self._remember(new)
        return whole.hexdigest()

    def _remember(self, new: dict[str, str]) -> None:
        """Add to the memory what was found, beside what other processes have added to it meanwhile."""
        with naming_full_disk(self.memory):
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.memory.with_suffix(".lock")):
                self.known = _remembered(self.memory) | self.known | new
                write_whole(self.memory, json.dumps(self.known, indent=0))


def _remembered(memory: Path) -> dict[str, str]:
    try:
        found = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: one for key, one in found.items() if isinstance(one, str)} if isinstance(found, dict) else {}


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read this file: {error.strerror}", where=str(path)) from error
