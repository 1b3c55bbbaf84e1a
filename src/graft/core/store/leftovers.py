"""What processes that ended left in a store: drafts, damaged artifacts, parts of files and locks that nobody holds.

All of it is known by its name and freed under the lock that whoever makes it holds, so that nothing of a process that
is alive is ever taken. Other processes make, finish and remove things meanwhile: what is gone when it is looked at
counts as not there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graft.core.store.atomic_files import PART, is_held, locked
from graft.core.store.manifest import MANIFEST, Damaged, Unreadable, has_manifest, read_manifest
from graft.core.store.ownership import ARTIFACT, DRAFTS, LOCKS, MARK, MEMORY

GONE = ".gone"  # what is being removed has this at the end of its name: a kill in the midst leaves no half of a draft
OWN = (MEMORY, MARK, ".graft-probe")  # files that are written into the root of a store
MEMORY_LOCK = Path(MEMORY).with_suffix(".lock").name
LOCK, DRAFT, PARTIAL = "lock", "draft", "part of a file"


class Busy(Exception):
    """What is to be removed is in use."""


@dataclass(frozen=True)
class Unfinished:
    """What somebody left, or is at; changed: when it last was, in seconds since 1970. busy: a process is at it.

    what: "draft", "lock", "part of a file", or what is wrong with an artifact. lock: held by whoever is at it.
    stays: `graft clean` leaves it, since what is in it may be whole.
    """

    path: Path
    what: str
    size: int
    changed: float
    busy: bool
    lock: Path
    stays: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_artifact(self) -> bool:
        """Whether this is a damaged artifact, and no work in progress."""
        return self.what not in (DRAFT, LOCK, PARTIAL)


def artifact_folders(root: Path) -> list[Path]:
    """Folders that are called like artifacts and have a manifest, whole or not, by name."""
    named = [entry.path for entry in _entries(root) if ARTIFACT.fullmatch(entry.name)]
    return sorted(path for path in map(Path, named) if has_manifest(path))


def unfinished(root: Path) -> list[Unfinished]:
    """Drafts, damaged artifacts, parts of files and locks of a store, the longest untouched first."""
    drafts, locks = root / DRAFTS, root / LOCKS
    begun = [one for one in _entries(drafts) if not PART.fullmatch(one.name)]
    found = [_seen(Path(one.path), DRAFT, lock_of(root, one.name.removesuffix(GONE))) for one in begun]
    for folder in artifact_folders(root):
        with suppress(FileNotFoundError):
            try:
                read_manifest(folder)
            except Damaged as error:
                what, stays = f"{MANIFEST} {error.why}", isinstance(error, Unreadable)
                found.append(_seen(folder, what, lock_of(root, folder.name), stays=stays))
    covered = {one.lock.name for one in found if one is not None}
    for one in (*_entries(root), *_entries(drafts), *_entries(locks)):
        path = Path(one.path)
        if not one.is_file(follow_symlinks=False):
            continue
        if (part := PART.fullmatch(one.name)) and part[1] in OWN:
            found.append(_seen(path, PARTIAL, path))
        elif one.name == MEMORY_LOCK or (path.parent == locks and one.name not in covered):
            found.append(_seen(path, LOCK, path))
    there = [one for one in found if one is not None]
    return sorted(there, key=lambda one: (one.changed, one.name))


def clean(root: Path) -> list[Path]:
    """Remove all that is unfinished and that no living process is at; returns the paths that are gone.

    Raises: OSError where something cannot be removed.
    """
    gone: list[Path] = []
    for one in unfinished(root):
        if one.stays or one.busy:
            continue
        one.lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Busy, FileNotFoundError), locked(one.lock, _refuse_to_wait):
            if one.is_artifact and not _is_damaged(one.path):
                continue  # it was removed and made again meanwhile
            if one.what not in (LOCK, PARTIAL):  # their lock is the file itself, and goes with it
                _remove(one.path, root / DRAFTS)
            gone.append(one.path)
    return gone


def lock_of(root: Path, name: str) -> Path:
    """The lock that whoever makes an artifact holds."""
    return root / LOCKS / f"{name}.lock"


def _is_damaged(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except Damaged as error:
        return not isinstance(error, Unreadable)
    return False


def _remove(path: Path, drafts: Path) -> None:
    """Take a folder away, by its name at first; FileNotFoundError where it is gone already."""
    aside = drafts / f"{path.name.removesuffix(GONE)}{GONE}"
    if path != aside:
        drafts.mkdir(exist_ok=True)
        _delete(aside)
        os.replace(path, aside)
    _delete(aside)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _seen(path: Path, what: str, lock: Path, *, stays: bool = False) -> Unfinished | None:
    """How it is now; None where it is gone."""
    sizes, changed = 0, []
    for one in (path, *_below(path)):
        with suppress(OSError):
            status = os.lstat(one)
            sizes += 0 if one is path and path.is_dir() else status.st_size
            changed.append(status.st_mtime)
    if not changed:
        return None
    return Unfinished(path, what, sizes, max(changed), is_held(lock), lock, stays)


def _below(path: Path) -> Iterator[str]:
    """Everything in a folder, at any depth; what cannot be read, or goes meanwhile, is passed over."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield os.path.join(folder, name)  # noqa: PTH118


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where it is not there."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda one: one.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _refuse_to_wait(holder: str) -> None:
    raise Busy(holder)
