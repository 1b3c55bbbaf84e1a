"""Identity of files by content, remembered by (path, size, time) so that a second look costs a stat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from graft.core.files import write_whole


class Unread(Exception):
    """A file whose content is not known yet, asked of a memory that may not read."""


class Fingerprints:
    """Content hashes of files, cached in `memory` (a JSON file in the store).

    may_read False: only what is remembered is known, and a file that is not raises Unread.
    """

    def __init__(self, memory: Path, *, may_read: bool = True) -> None:
        self.memory, self.may_read = memory, may_read
        self.known: dict[str, str] = json.loads(memory.read_text()) if memory.exists() else {}

    def of(self, files: Iterable[Path], root: Path | None = None) -> str:
        """One hash over the names (below `root`, where given) and contents of `files`, in their order."""
        whole = hashlib.blake2b(digest_size=12)
        changed = False
        for path in files:
            seen = path.stat()
            key = f"{path.resolve()}|{seen.st_size}|{seen.st_mtime_ns}"
            if key not in self.known:
                if not self.may_read:
                    raise Unread(path)
                with path.open("rb") as stream:
                    self.known[key] = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
                changed = True
            label = path.relative_to(root) if root else path.name
            whole.update(f"{label}\0{self.known[key]}\n".encode())
        if changed:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.memory, json.dumps(self.known, indent=0))
        return whole.hexdigest()
