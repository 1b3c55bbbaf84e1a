"""What a soak holds a store and its results to: the same bits as undisturbed, and nothing that nobody knows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from graft.core.store.artifact import Store
from graft.core.store.leftovers import artifact_folders
from graft.core.store.ownership import DRAFTS, LOCKS, MARK, MEMORY

MEASURED = ("seconds", "peak_memory_bytes")  # of the machine and the moment
TIMES = ("started", "seconds", "device", "origins", "facts")


def contents(folder: Path) -> dict[str, str]:
    """Every file of a store's artifacts and of the results beside it: its bits, times and memory aside."""
    found: dict[str, str] = {}
    for top in (*artifact_folders(folder / "store"), folder / "out"):
        for path in sorted(top.rglob("*")):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = _bits(path)
    return found


def _bits(path: Path) -> str:
    if path.name in ("report.html", MARK):
        return "there"
    content = path.read_bytes()
    if path.suffix == ".json":
        told = json.loads(content)
        if path.name == "manifest.json":
            told = {key: value for key, value in told.items() if key not in TIMES}
        content = json.dumps(_plain(told), sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _plain(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: _plain(value) for key, value in told.items() if key not in MEASURED}
    return [_plain(value) for value in told] if isinstance(told, list) else told


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Files that are not what they are without a disturbance."""
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def unknown(root: Path) -> list[str]:
    """What lies in a store that is no artifact, no part of every store, and nothing that `graft clean` knows."""
    if not root.is_dir():
        return []
    store = Store(root)
    there = list(root.iterdir())  # at first: what is looked at later may be gone, and is no finding then
    known = {MARK, MEMORY, DRAFTS, LOCKS, *(one.name for one in store.artifacts())}
    listed = {one.path for one in store.drafts()} | {one.lock for one in store.drafts()}
    found = [path for path in there if path.name not in known]
    for folder in (root / DRAFTS, root / LOCKS):
        found += list(folder.iterdir()) if folder.is_dir() else []
    return sorted(str(path) for path in found if path not in listed)


def left_after_cleaning(folder: Path) -> list[str]:
    """What `graft clean` leaves in a store nobody is at, and parts of files beside the results."""
    root = folder / "store"
    Store(root).clean()
    left = [str(path) for name in (DRAFTS, LOCKS) if (root / name).is_dir() for path in (root / name).iterdir()]
    left += [str(path) for path in root.rglob("*.partial")] + [str(path) for path in root.rglob("*.lock")]
    return left + [str(path) for path in (folder / "out").rglob("*") if path.name.endswith(".partial")]
