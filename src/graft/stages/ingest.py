"""ingest: files become one table of documents; every row of every file is kept or counted with its reason."""

from __future__ import annotations

import json
import os.path
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.core import dialogue, doc
from graft.core.artifact import Artifact, Draft, Store
from graft.core.errors import UsageError, nearest
from graft.core.fingerprint import Fingerprints
from graft.core.ledger import Amount
from graft.core.progress import Progress
from graft.embedded import docstrings, questions
from graft.embedded import text as embedded
from graft.readers import dialogue as dialogues
from graft.readers import folder, hub, opened, piece, row
from graft.readers import part as parts
from graft.readers.folder import ALLOWED, Listing, listing, read, shown
from graft.readers.part import Part
from graft.readers.piece import NO_FIELD, SAMPLED_OUT, Fields, File, Piece

READING = (
    doc,
    dialogue,
    dialogues,
    folder,
    opened,
    parts,
    piece,
    row,
)  # with the reader of each format, what decides a text
TABLE = "docs.parquet"
BATCH_BYTES = 32_000_000  # of text held before it is written as a row group
BATCH_ROWS = 20_000
NAMES_SHOWN = 12


@dataclass(frozen=True)
class Ingest:
    """How files become documents.

    A row without the text field is a dialogue or a preference pair where it has the fields of one: messages,
    conversations, prompt and completion or response, instruction and output, question and answer, chosen and rejected
    (graft.readers.dialogue). Its text is then what was said, joined by newlines.
    """

    text_field: str = "text"  # the field of JSON objects, or column of Parquet files, that holds the text
    label_field: str = ""  # one that holds a label (text, number or truth), kept with the document; "": none is

    def __post_init__(self) -> None:
        if not self.text_field:
            raise UsageError("text_field is empty", allowed="the name of a field of your rows", do='"text" is usual')

    @property
    def fields(self) -> Fields:
        return Fields(self.text_field, self.label_field)


@dataclass
class Intake:
    """What PATH stands for, once looked up: files of a folder, or the embedded text of that name."""

    path: str
    found: Listing = field(default_factory=Listing)
    embedded: embedded.Embedded | None = None
    left: list[File] = field(default_factory=list)  # files that are not read, because a part of the text is enough

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.embedded.size if self.embedded else sum(file.size for file in self.found.files)

    @property
    def parted(self) -> bool:
        """Whether not all of it is read."""
        return bool(self.left) or any(file.every > 1 for file in self.found.files)

    @property
    def num_files(self) -> int:
        return len(self.embedded.modules) if self.embedded else len(self.found.files)

    @property
    def origin(self) -> str:
        """What people call it: where it lies, and how much of it there is."""
        local = not self.embedded and not self.path.startswith(hub.SCHEME)
        where = str(_local(self.path).resolve()) if local else self.path
        count = "1 file" if self.num_files == 1 else f"{self.num_files:,} files"
        return f"{shown(where)} ({count})"

    @property
    def code(self) -> list[ModuleType]:
        """The modules that turn these files into text."""
        if self.embedded:
            return [embedded, docstrings, questions]
        suffixes = sorted({file.suffix for file in self.found.files})
        return [module for suffix in suffixes for module in folder.modules_of(suffix)]

    def pieces(self, fields: Fields) -> Iterator[tuple[int, Piece]]:
        """(bytes read since the last piece, piece), in reading order."""
        if self.embedded:
            for one in self.embedded.pieces():
                yield one.seen, one
            return
        for file in self.found.files:
            seen = 0
            for one in read(file, fields):
                yield one.seen - seen, one
                seen = one.seen


def ingest(
    paths: Sequence[str], source: str, settings: Ingest = Ingest(), *, part: Part | None = None, store: Store
) -> Artifact:
    """The documents of `paths`, as docs.parquet (columns of graft.core.doc), read in the order of `paths`.

    part: how much of them is wanted, where that is not all. Then only the files drawn for it are read, and every file
    that is not, or is read in part, stands in the table as one document that was not needed, with its bytes.

    A path is a folder (all below it, sorted by relative path; hidden files passed over), a file,
    `hf://OWNER/NAME` (a data set of the hub) or one of the embedded texts (graft.embedded.text).
    Errors: UsageError when there is nothing to read, or nothing usable in what was read; FaultError when the hub
    cannot be reached; NotMade when it may not be.
    """
    intakes = [
        look_up(path, f"{Path(path).name}/" if len(paths) > 1 else "", may_fetch=store.may_fetch) for path in paths
    ]
    if not intakes:
        raise UsageError(f"source {source!r} has no path", allowed="a folder, a file, hf://OWNER/NAME, embedded:prose")
    inputs: dict[str, Artifact | str] = {"source": source}
    if part is not None:
        each = replace(part, num_bytes=part.num_bytes // len(intakes))
        intakes = [in_part(intake, each, settings) for intake in intakes]
        if any(intake.parted for intake in intakes):
            inputs["part"] = json.dumps(vars(part), sort_keys=True)
    origins: dict[str, str] = {}
    for number, intake in enumerate(intakes):
        inputs[f"path {number}"] = _identity(intake, store.prints)
        origins[f"path {number}"] = intake.origin
    code = dict.fromkeys((Ingest, *READING, *(part for intake in intakes for part in intake.code)))
    return store.make(
        "docs",
        settings,
        inputs,
        tuple(code),
        lambda draft: _write(intakes, source, settings, draft),
        origins=origins,
    )


def in_part(intake: Intake, part: Part, settings: Ingest) -> Intake:
    """The intake with the files that are drawn for a part of it; as it is where it is small, or embedded."""
    found = None if intake.embedded else part.of(intake.found, settings.fields)
    return intake if found is None else replace(intake, found=found[0], left=found[1])


def look_up(path: str, prefix: str = "", *, may_fetch: bool = True) -> Intake:
    """What `path` stands for. Errors: UsageError when it is missing, empty, or holds nothing that can be read."""
    if path.startswith(embedded.SCHEME):
        return Intake(path, embedded=embedded.Embedded.named(path))
    local = hub.fetched(path, may_fetch=may_fetch) if path.startswith(hub.SCHEME) else _local(path)
    if not path or not os.path.exists(local):  # noqa: PTH110 - Path's raises for a name that is too long
        beside = local.parent.iterdir() if os.path.isdir(local.parent) else ()  # noqa: PTH112
        near = nearest(local.name, [one.name for one in beside])
        raise UsageError(
            "there is no such file or folder",
            where=path,
            allowed=f"a folder, a file, {hub.SCHEME}OWNER/NAME, {', '.join(embedded.NAMES)}",
            do=near or f"check the path; it is taken relative to {Path.cwd()}",
        )
    found = listing(local, prefix)
    if not found.files and not found.skipped:
        raise UsageError("the folder is empty", where=path, allowed=ALLOWED, do="put text files into it")
    if not found.files:
        seen = ", ".join(f"{count} x {reason}" for reason, count in found.skipped.most_common(NAMES_SHOWN))
        raise UsageError(
            f"no file here can be read as text ({seen})", where=path, allowed=ALLOWED, do="convert them first"
        )
    return Intake(path, found)


def _local(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises where there is no such user


def _identity(intake: Intake, prints: Fingerprints) -> str:
    """Names and contents of the files; versions of the packages that embedded text comes from."""
    if intake.embedded:
        return intake.embedded.identity
    names = "\n".join(file.name for file in intake.found.files)
    if intake.parted:
        names += "\n" + "\n".join(f"{one.name} {one.size} not read" for one in intake.left)
        names += "\n".join(f"{one.every} {one.first}" for one in intake.found.files)
    return f"{prints.of([file.path for file in intake.found.files])} {doc.doc_id(names)}"


def _write(intakes: Sequence[Intake], source: str, settings: Ingest, draft: Draft) -> None:
    progress = Progress(f"reading {source}", sum(intake.size for intake in intakes))
    seen = _Seen()
    with ExitStack() as stack:
        table = stack.enter_context(_Table(draft / TABLE))
        for intake in intakes:
            for read_bytes, one in intake.pieces(settings.fields):
                progress.advance(read_bytes)
                seen.count(one)
                table.add(one, source)
            for file in intake.left:
                one = Piece("", file.name, file.size, file.size, SAMPLED_OUT)
                seen.count(one)
                table.add(one, source)
    progress.close()
    seen.check(source, settings, intakes)
    for fate, amount in seen.fates.items():
        draft.ledger.enter(source, amount)
        draft.ledger.settle(source, fate, amount)
    skipped = sum((intake.found.skipped for intake in intakes), Counter[str]())
    formats = Counter(file.suffix for intake in intakes for file in intake.found.files)
    draft.facts |= {
        "source": source,
        "paths": [shown(intake.path) for intake in intakes],
        "files": sum(len(intake.found.files) for intake in intakes),
        "formats": dict(sorted(formats.items())),
        "skipped": dict(sorted(skipped.items())),
        "embedded": {intake.path: intake.embedded.facts for intake in intakes if intake.embedded},
        "first_lost": seen.first_lost,
        **_parted(intakes, source, seen),
        "dialogues": seen.noted["dialogue"],
        "pairs": seen.noted["rejected"],
        "labelled": seen.noted["label"],
    }


def _parted(intakes: Sequence[Intake], source: str, seen: _Seen) -> dict[str, Any]:
    """Facts and a note on what was not read; nothing where all was."""
    if not any(intake.parted for intake in intakes):
        return {}
    kept, left = seen.fates["kept"], seen.fates.get(SAMPLED_OUT, Amount())
    files = sum(len(intake.left) for intake in intakes)
    there = files + sum(len(intake.found.files) for intake in intakes)
    words = (
        f"{source.capitalize()} text is a part, drawn by a seed: {kept.documents:,} documents with "
        f"{kept.bytes / 1e6:,.1f} MB of text were needed and taken; {files:,} of {there:,} files were not read. "
        "Duplicates and overlap are those among what was read. general_tokens: all reads everything."
    )
    return {"part": {"files_left": files, "bytes_left": left.bytes}, "notes": [words]}


class _Seen:
    """Counts of what was read, and the words for when none of it is usable."""

    def __init__(self) -> None:
        self.fates: dict[str, Amount] = {"kept": Amount()}
        self.fields: Counter[str] = Counter()
        self.first_lost: dict[str, str] = {}
        self.noted: Counter[str] = Counter()  # documents with such an entry in their notes

    def count(self, one: Piece) -> None:
        fate = one.dropped or "kept"
        self.fates[fate] = self.fates.get(fate, Amount()) + Amount(1, one.num_bytes)
        if one.dropped:
            self.first_lost.setdefault(one.dropped, one.parent)
            self.fields.update(one.fields)
        elif one.notes != "{}":
            notes = json.loads(one.notes)
            self.noted.update([*notes, *notes.get(dialogue.NOTE, {})])

    def check(self, source: str, settings: Ingest, intakes: Sequence[Intake]) -> None:
        """Errors: UsageError unless at least one document is usable."""
        if self.fates["kept"].documents:
            return
        where = ", ".join(intake.path for intake in intakes)
        lost = {fate: amount for fate, amount in self.fates.items() if fate != "kept"}
        if NO_FIELD in lost:
            names = [name for name, _ in self.fields.most_common(NAMES_SHOWN)]
            raise UsageError(
                f'no row has a field "{settings.text_field}" with text in it ({_words(lost)})',
                where=f"{where}, first at {self.first_lost[NO_FIELD]}",
                allowed=f"text_field: one of the fields that are there: {', '.join(names) or 'there are none'}; or the "
                "fields of a dialogue: messages, prompt and response, instruction and output, chosen and rejected ...",
                do=nearest(settings.text_field, names) or "set text_field (--text-field) to the one with the text",
            )
        raise UsageError(
            f"no usable document for source {source!r} ({_words(lost) or 'the files have no rows'})",
            where=where,
            allowed="documents with text in UTF-8",
            do="look at " + (", ".join(dict.fromkeys(self.first_lost.values())) or "the files"),
        )


def _words(lost: dict[str, Amount]) -> str:
    return ", ".join(f"{amount.documents} x {fate.removeprefix('dropped: ')}" for fate, amount in lost.items())


class _Table:
    """docs.parquet in the making: rows are held until they are worth a row group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict] = []
        self.held = 0
        self.position = 0

    def __enter__(self) -> _Table:
        self.writer = pq.ParquetWriter(self.path, doc.SCHEMA, compression="zstd", compression_level=1)
        return self

    def add(self, one: Piece, source: str) -> None:
        self.rows.append(
            doc.doc_row(
                one.text,
                source=source,
                position=self.position,
                parent=one.parent,
                dropped=one.dropped,
                num_bytes=one.num_bytes,
                notes=one.notes,
            )
        )
        self.position += 1
        self.held += one.num_bytes
        if self.held >= BATCH_BYTES or len(self.rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=doc.SCHEMA))
        self.rows, self.held = [], 0

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self.writer.close()
