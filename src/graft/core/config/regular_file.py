"""Is this path a regular file? Asked before anybody opens it, since a pipe or a device can block for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from graft.core.config.errors import UsageError


def require_file(path: Path, *, allowed: str = "a regular file") -> None:
    """Raises: UsageError for a folder, a pipe or a device; FileNotFoundError for nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a null byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"this cannot be read: {reason}", where=str(path), allowed=allowed) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise UsageError(f"this is {kinds.get(stat.S_IFMT(mode), 'a device')}", where=str(path), allowed=allowed)
