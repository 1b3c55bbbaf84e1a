"""Which files a path holds, which of them can be read, and by which reader."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graft.core.config.errors import GraftError, UsageError
from graft.core.store import ownership as mark
from graft.readers.file_record import NO_MEMORY, UNDECODABLE, Fields, File, FileRecord
from graft.readers.open_compressed import COMPRESSIONS

READERS = {
    ".txt": "plain",
    ".md": "plain",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json_whole",
    ".parquet": "parquet",
    ".csv": "csv_rows",
    ".tsv": "csv_rows",
    ".html": "html",
    ".htm": "html",
}
PACKED = (".txt", ".md", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".html", ".htm")  # may also end in .gz or .zst
NO_SUFFIX, OTHER_KINDS = "no suffix", "other"
KINDS = 30  # of files that are not read: each is a row of the ledger
ALLOWED = ", ".join(READERS) + " (all but .parquet also with .gz or .zst)"


@dataclass
class Listing:
    """The files of a path in reading order, those of kinds that are not read, and what else was passed over."""

    files: list[File] = field(default_factory=list)
    unread: list[File] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def listing(path: Path, prefix: str = "") -> Listing:
    """Files of a folder, sorted by relative path, or the one file that `path` is; hidden ones are passed over."""
    found = Listing()
    if path.is_file():
        _enter(found, path, prefix + path.name)
        return found
    for below in sorted(_walk(path, found.skipped), key=lambda one: one.relative_to(path).as_posix()):
        _enter(found, below, prefix + below.relative_to(path).as_posix())
    return found


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The pieces of a file, by the reader of its suffix. Where a reader fails, the rest of the file is one loss."""
    seen, reader = 0, importlib.import_module(reader_of(file.suffix))
    try:
        for one in reader.read(file, fields):
            seen = one.seen
            yield one
    except (GraftError, OSError):
        raise
    except Exception as error:  # parsers of all formats, on files that are made to break them
        reason = NO_MEMORY if isinstance(error, MemoryError) else UNDECODABLE
        hint = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        yield FileRecord("", f"{file.name}#rest", max(0, file.size - seen), file.size, reason, hint=hint)


def reader_of(suffix: str) -> str:
    """The module that reads files of this suffix."""
    return f"graft.readers.{READERS[suffix]}"


def suffix_of(name: str) -> str:
    """The suffix that decides the reader, compression stripped: ".jsonl" of "a.jsonl.zst"; as it is where unknown."""
    stem, dot, last = name.lower().rpartition(".")
    if f".{last}" in COMPRESSIONS:
        inner = f".{stem.rpartition('.')[2]}"
        return inner if inner in PACKED else f"{inner if '.' in stem else ''}.{last}"
    return dot + last if dot else ""


def kinds_of(files: Iterable[File], most: int = KINDS) -> dict[str, str]:
    """The kind of each of these files, by name: its suffix, "no suffix", or OTHER_KINDS for those that are rare."""
    kinds = {file.name: file.suffix or NO_SUFFIX for file in files}
    common = {kind for kind, _ in Counter(kinds.values()).most_common(most)}
    return {name: kind if kind in common else OTHER_KINDS for name, kind in kinds.items()}


def counted_kinds(kinds: Iterable[str]) -> str:
    """ "7 .pdf, 3 .docx", the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(kinds).most_common())


def shown(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are not UTF-8 as "\\xff"."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _enter(found: Listing, path: Path, name: str) -> None:
    name = shown(name)
    suffix = suffix_of(shown(path.name))
    here = found.files if suffix in READERS else found.unread
    here.append(File(path, name, suffix, path.stat().st_size))


def _walk(top: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Files below `top`; links are followed, each folder is entered once, what graft made is not read."""
    entered: set[str] = set()
    for folder, folders, names in os.walk(top, followlinks=True, onerror=_unreadable):
        here = os.path.realpath(folder)
        if here in entered:
            folders.clear()
            skipped["folder reached twice"] += 1
            continue
        entered.add(here)
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            skipped["hidden"] += 1
        made = mark.own(Path(folder), [*folders, *names])
        skipped.update(["made by graft"] * len(made))
        folders[:] = sorted(set(folders) - made)
        for name in names:
            if name in made:
                continue
            if name.startswith("."):
                skipped["hidden"] += 1
            elif not (Path(folder) / name).is_file():
                skipped["not a file (a broken link, a socket)"] += 1
            else:
                yield Path(folder) / name


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read this folder: {error.strerror}", where=str(error.filename)) from error
