"""Files that are written whole or not at all, locks that leave nothing behind, and the words for a full disk."""

from __future__ import annotations

import errno
import fcntl
import glob
import itertools
import os
import re
import resource
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from graft.core.config.errors import FaultError, GraftError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
UNUSABLE = (*DENIED, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
PART = re.compile(r"(.+)\.\d+-\d+\.partial")  # what `whole` calls a file that is being written
ERRNO_SAID = re.compile(r"(?:\[errno |\(os error )(\d+)", re.IGNORECASE)  # of libraries that keep the number to words
# What libraries say of a write that failed without saying why: torch.save, numpy's tofile, C++ streams.
VAGUE = re.compile(r"unexpected pos \d+|\d+ requested and \d+ written|failed writing file|iostream error")
PROBE_BYTES = 16 << 20  # room that is worth calling room: less than this is a full disk
DO_STORE = "free some space or choose another --store, then run the same command again: finished work is kept"

_numbers = itertools.count()


@contextmanager
def whole(path: Path) -> Generator[BinaryIO]:
    """A file that has its name only once it is all there, on the disk and not only in its cache.

    It is locked while it is written: a part that nobody holds is one that a killed process left.
    Errors: FaultError when the disk is full.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{next(_numbers)}.partial")  # nobody else writes to this one
    try:
        with _begun(partial) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
            os.replace(partial, path)  # while it is locked: nobody takes it for a part that was left
    except BaseException as error:
        full = as_disk_full(error, path)  # asked while the part still takes its room
        partial.unlink(missing_ok=True)
        if full:
            raise full from error
        raise


def _begun(partial: Path) -> BinaryIO:
    """The file, open and locked; begun again where somebody removed it before it was locked."""
    while True:
        out = partial.open("wb")
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody looks at it, or takes it for a part that was left
            out.close()
            continue
        except OSError:  # a file system without locks
            return out
        if _is_at(out, partial):
            return out
        out.close()


def remove_parts(path: Path) -> None:
    """Remove what killed processes left of a file that they wrote by `whole`."""
    for part in list(path.parent.glob(f"{glob.escape(path.name)}.*.partial")):
        if PART.fullmatch(part.name) and not is_held(part):
            part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    with whole(path) as out:
        out.write(text.encode())


@contextmanager
def naming_read_only(root: Path) -> Generator[None]:
    """What fails in here because nothing may be written below `root`, a store, is a UsageError; other errors pass."""
    try:
        yield
    except GraftError:
        raise
    except Exception as error:
        number = _errno(error)
        name = error.filename if isinstance(error, OSError) else None
        inside = isinstance(name, str) and Path(name).absolute().is_relative_to(root.absolute())
        if not (number in DENIED and inside) and not (number == errno.EROFS and _is_read_only(root)):
            raise
        raise not_writable(root, number or errno.EROFS) from error


def not_writable(root: Path, number: int) -> UsageError:
    """The error for a store that may be read and not written."""
    return UsageError(
        f"cannot write to the store: {os.strerror(number)}",
        where=str(root),
        allowed="a folder that may be written; `graft ls artifacts` and `graft show` read any",
        do="choose another --store (or $GRAFT_STORE), or make this one writable",
    )


def _is_read_only(root: Path) -> bool:
    there = next((p for p in (root.absolute(), *root.absolute().parents) if p.exists()), None)
    return there is not None and bool(os.statvfs(there).f_flag & os.ST_RDONLY)


@contextmanager
def naming_full_disk(path: Path, do: str = DO_STORE) -> Generator[None]:
    """Whatever fails in here because the disk of `path` is full is a FaultError; every other error passes as it is."""
    try:
        yield
    except GraftError:
        raise
    except Exception as error:  # libraries wrap a failed write in classes of their own
        full = as_disk_full(error, path, do)
        if full is None:
            raise
        raise full from error


def as_disk_full(error: BaseException, path: Path, do: str = DO_STORE) -> FaultError | None:
    """The error of a disk without room; None when `error` is another one.

    Decided by the number of the operating system where there is one, in the error, its words or what it came from;
    else by words that only a failed write has, and then only where nothing can be written now either.
    """
    number = _errno(error)
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if number not in FULL and not (number is None and VAGUE.search(str(error)) and not _has_room(there)):
        return None
    free = shutil.disk_usage(there).free
    return FaultError(
        f"no room to write ({os.strerror(number or errno.ENOSPC)}; {free / 1e6:.0f} MB free)", where=str(path), do=do
    )


def _errno(error: BaseException | None) -> int | None:
    """The number of the operating system behind an error; the outermost one counts."""
    seen: set[int] = set()
    while isinstance(error, Exception) and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        said = ERRNO_SAID.search(str(error))
        if said:
            return int(said[1])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _has_room(there: Path) -> bool:
    """Whether a file of PROBE_BYTES could be written beside `there`; asked only after a write failed."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return False
    folder = there if there.is_dir() else there.parent
    probe = folder / f".graft-probe.{os.getpid()}-{next(_numbers)}.partial"
    try:
        with probe.open("wb") as out:
            for _ in range(16):
                out.write(bytes(PROBE_BYTES // 16))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        return error.errno not in FULL
    finally:
        probe.unlink(missing_ok=True)
    return True


@contextmanager
def locked(path: Path, on_wait: Callable[[str], None] = lambda holder: None) -> Generator[None]:
    """Holds the lock file `path`, which names the process that holds it and is gone when nobody does.

    on_wait: called with the holder's process id before waiting for it; what it raises ends the wait.
    """
    lock = _taken(path, on_wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it sees that it is gone and makes another
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing does not free it while a child process has it too
        lock.close()


def is_held(path: Path) -> bool:
    """Whether a living process holds this lock file."""
    try:
        with open(path, encoding="utf-8", opener=_at_once) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # somebody holds it, or that cannot be told
        return True
    return False


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a fifo would wait for somebody who writes


def _taken(path: Path, on_wait: Callable[[str], None]) -> TextIO:
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                on_wait(lock.read().strip())
                fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(lock, path):
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()


def _is_at(lock: TextIO | BinaryIO, path: Path) -> bool:
    """Whether the open file still is the one of that name: its last holder has removed it otherwise."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
