"""The mark in folders that graft writes into: what in them is graft's own, so that nothing else is ever replaced
and no result is read as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft.core.store.atomic_files import write_whole

MARK = ".graft.json"
MEMORY, DRAFTS, LOCKS = "fingerprints.json", "drafts", "locks"  # of a store, beside its artifacts
ARTIFACT = re.compile(r".+-[0-9a-f]{12}")


def mark_store(root: Path) -> None:
    """Say that this folder is a store, unless it says so already."""
    if not (root / MARK).exists():
        write_whole(root / MARK, json.dumps({"kind": "store"}))


def mark_results(folder: Path, entries: dict[str, Any]) -> None:
    """Say which of a folder's entries were put there: name -> {"from": artifact, "files": names below it}."""
    write_whole(folder / MARK, json.dumps({"kind": "results", "entries": entries}, indent=1))


def is_store(folder: Path) -> bool:
    """Whether artifacts are made here."""
    made = (folder / MEMORY).is_file() and (folder / DRAFTS).is_dir()
    return made or _read(folder).get("kind") == "store"


def entries_of(folder: Path) -> dict[str, Any]:
    """The entries that the mark of a folder of results names; none without a mark that can be read."""
    entries = _read(folder).get("entries")
    return entries if isinstance(entries, dict) else {}


def own(folder: Path, names: Iterable[str]) -> set[str]:
    """Those of a folder's entries that graft made: results it handed over, and what a store consists of."""
    names = set(names)
    if not names & {MARK, MEMORY}:
        return set()
    found = names & set(entries_of(folder))
    if is_store(folder):
        found |= names & {MEMORY, DRAFTS, LOCKS}
        found |= {name for name in names if ARTIFACT.fullmatch(name) and (folder / name / "manifest.json").is_file()}
    return found


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
