"""Files that are written whole or not at all, and the words for a full disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from graft.core.errors import FaultError


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, path)


def as_disk_full(error: OSError, path: Path) -> FaultError | None:
    """The error of a disk without room; None when `error` is another one."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    there = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(there).free
    return FaultError(
        f"no room to write ({error.strerror}; {free / 1e6:.0f} MB free)",
        where=str(path),
        do="free some space or choose another --store, then run the same command again: finished work is kept",
    )
