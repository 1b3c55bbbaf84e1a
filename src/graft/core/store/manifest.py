"""manifest.json of an artifact: read, and refused in words where it is not what was written."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError
from graft.core.store.ledger import Ledger

MANIFEST = "manifest.json"
SHAPE: dict[str, type | tuple[type, ...]] = {
    "inputs": dict, "ledger": dict, "facts": dict, "versions": dict, "device": str, "started": str,
    "seconds": (int, float),
}  # fmt: skip
SAYS = {dict: "an object", str: "text"}
CLEAN = "run `graft clean`, which removes it; the command that made it makes it again"


class Damaged(FaultError):
    """An artifact whose manifest cannot be used. why: in a few words."""

    def __init__(self, folder: Path, why: str, *, do: str = CLEAN) -> None:
        self.why = why
        super().__init__(f"this artifact is damaged: {MANIFEST} {why}", where=str(folder), do=do)


class Unreadable(Damaged):
    """An artifact whose manifest may be whole, and cannot be read now: nothing that `graft clean` removes."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(folder, why, do="make the file readable and run the same command again")


def has_manifest(folder: Path) -> bool:
    """Whether anything of that name is in a folder; False where that cannot be told."""
    return os.path.lexists(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What stands in the manifest of a folder.

    Raises: FileNotFoundError where there is none; Damaged where it is not what an artifact's manifest is.
    """
    found = _parsed(folder)
    for key, kind in SHAPE.items():
        if key not in found:
            raise Damaged(folder, f"lacks {key}")
        value = found[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            said = SAYS.get(kind, "a number") if isinstance(kind, type) else "a number"
            raise Damaged(folder, f"has {key}, and that is not {said}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Damaged(folder, f"has {key}, and that is not finite")
    origins = found.get("origins", {})
    if not isinstance(origins, dict) or not all(isinstance(one, str) for one in origins.values()):
        raise Damaged(folder, "has origins, and that is not an object of texts")
    if not isinstance(found.get("code", {}), Mapping):
        raise Damaged(folder, "has code, and that is not an object")
    try:
        Ledger.from_json(found["ledger"]).check()
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise Damaged(folder, "has a ledger that cannot be read") from error
    return found


def _parsed(folder: Path) -> dict[str, Any]:
    """The object in the file, whatever is in it."""
    try:
        handle = os.open(folder / MANIFEST, os.O_RDONLY | os.O_NONBLOCK)  # a fifo that nobody writes to opens at once
    except FileNotFoundError:
        if has_manifest(folder):
            raise Damaged(folder, "is a link to nothing") from None
        raise
    except OSError as error:
        raise Unreadable(folder, f"cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Damaged(folder, "is no regular file")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            content = stream.read()
        found = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise Unreadable(folder, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Damaged(folder, "is not UTF-8") from error
    except RecursionError as error:
        raise Damaged(folder, "is nested too deeply") from error
    except ValueError as error:
        raise Damaged(folder, f"is not JSON: {str(error)[:120]}") from error
    finally:
        os.close(handle)
    if not isinstance(found, dict):
        raise Damaged(folder, "is no object of JSON")
    return found
