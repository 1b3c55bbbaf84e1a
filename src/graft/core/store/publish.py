"""Handing results over: copied beside their place first, then moved into it whole, over nothing but earlier results."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from graft.core.config.errors import FaultError, UsageError
from graft.core.store.atomic_files import as_disk_full, remove_parts
from graft.core.store.fingerprints import stamp
from graft.core.store.ownership import MARK, entries_of, is_store, mark_results

DENIED = (errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
ELSEWHERE = "choose another --out folder"


def check_out(folder: Path, names: Iterable[str], *, base: str = "", sources: Iterable[str] = ()) -> None:
    """Errors: UsageError where results could not be put; to be asked before any work is done. Writes nothing.

    base, sources: what the job reads, as the user named it. A result may lie in a source's folder, where the next run
    passes over it; it may not be one, hold one, or have to do with the base's folder at all.
    """
    folder = folder.absolute()
    there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EACCES if there.is_dir() else errno.ENOTDIR)
        raise UsageError(f"cannot write results: {reason}", where=str(folder), do=ELSEWHERE)
    if is_store(folder):
        raise UsageError("cannot write results into a store of artifacts", where=str(folder), do=ELSEWHERE)
    for name in names:
        place = Path(os.path.realpath(folder)) / name
        for path, what in [(base, "base model"), *((path, "text") for path in sources)]:
            if not path or not os.path.exists(Path(path).expanduser()):  # noqa: PTH110 - False where Path would raise
                continue
            read = Path(os.path.realpath(Path(path).expanduser()))
            if place == read or place in read.parents or (what == "base model" and read in place.parents):
                raise UsageError(
                    f"results would be written to {place}, over or beside the {what} that is read from {read}",
                    where=f"--out {folder}",
                    do=ELSEWHERE,
                )
        _require_owned(folder, name)


def put_out(
    folder: Path,
    contents: Mapping[str, Path],
    texts: Mapping[str, Mapping[str, str]] | None = None,
    *,
    gone: Iterable[str] = (),
) -> Path:
    """Copy each path of `contents` to folder/NAME, replacing what graft put there before; returns the folder.

    texts: for an entry that is a folder, small files to add to it. What is there already, from the same artifact, is
    not copied again unless somebody has changed it. gone: entries that an earlier outcome may have left and this one
    has not; they are removed, or would pass for its own. Copies, not links: whoever edits the result must not reach
    into the store. Errors: UsageError when the folder cannot be written, or holds something else of that name;
    FaultError when the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder):
            remove_parts(folder / MARK)  # of processes that were killed while they wrote it
            for name, origin in contents.items():
                _put(folder, name, origin, (texts or {}).get(name, {}))
            for name in gone:
                _take_away(folder, name)
    except OSError as error:
        raise _told(error, folder) from error
    return folder


def _put(folder: Path, name: str, origin: Path, texts: Mapping[str, str]) -> None:
    _require_owned(folder, name)
    place, partial = folder / name, folder / f".{name}.partial"
    entries = entries_of(folder)
    added = {text: hashlib.blake2b(content.encode(), digest_size=8).hexdigest() for text, content in texts.items()}
    entry = {"from": f"{origin.parent.name}/{origin.name}", "files": sorted({*_stamps(origin), *texts}), "added": added}
    known = entries.get(name, {})
    same = all(known.get(key) == one for key, one in entry.items())
    if same and known.get("stamps") and known["stamps"].items() <= _stamps(place).items():
        return
    _remove(partial)
    if origin.is_dir():
        shutil.copytree(origin, partial)
        for text, content in texts.items():
            (partial / text).write_text(content, encoding="utf-8")
    else:
        shutil.copyfile(origin, partial)
    claim = {"from": "", "files": sorted({*entry["files"], *known.get("files", [])})}  # a kill from here on: replaced
    mark_results(folder, entries | {name: claim})
    _remove(place)
    os.replace(partial, place)
    stamps = {one: seen for one, seen in _stamps(place).items() if one in entry["files"]}
    mark_results(folder, entries | {name: entry | {"stamps": stamps}})


def _take_away(folder: Path, name: str) -> None:
    """Remove folder/NAME where graft put it there; what is somebody else's stays."""
    entries = entries_of(folder)
    if name in entries:
        _require_owned(folder, name)
        _remove(folder / name)
        mark_results(folder, {other: entry for other, entry in entries.items() if other != name})


def _require_owned(folder: Path, name: str) -> None:
    """Errors: UsageError when folder/NAME holds what graft did not put there."""
    place = folder / name
    if not os.path.lexists(place):
        return
    entry = entries_of(folder).get(name)
    if entry is None:
        raise UsageError(
            "this is there already, and graft did not put it there", where=str(place), do=f"move it, or {ELSEWHERE}"
        )
    strange = sorted(one for one in _stamps(place) if one not in entry["files"] and not one.startswith("."))
    if strange:
        raise UsageError(
            f"graft did not put {', '.join(strange[:3])}{' ...' * (len(strange) > 3)} there, and would remove it",
            where=str(place),
            do=f"move it, or {ELSEWHERE}",
        )


def _stamps(path: Path) -> dict[str, str]:
    """What tells a change of every file below a folder, by relative path; of a file itself, under an empty name."""
    if path.is_file():
        return {"": stamp(path.stat())}
    return {one.relative_to(path).as_posix(): stamp(one.stat()) for one in path.rglob("*") if one.is_file()}


@contextmanager
def _held(folder: Path) -> Generator[None]:
    """One process at a time; where the file system has no locks for folders, that is left to the user."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _told(error: OSError, folder: Path) -> UsageError | FaultError:
    full = as_disk_full(error, folder, "free some space or choose another --out, then run the same command again")
    if full:
        return full
    if error.errno in DENIED:
        return UsageError(f"cannot write results: {error.strerror}", where=str(folder), do=ELSEWHERE)
    return FaultError(f"cannot write results: {error}", where=str(folder), do=ELSEWHERE)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
