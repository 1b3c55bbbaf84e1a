"""ingest: files become one table of documents; every row of every file is kept or counted with its reason."""

from __future__ import annotations

import json
import os.path
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError, nearest
from graft.core.process.notes import tell_notes
from graft.core.process.progress import Progress
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.fingerprints import Fingerprints
from graft.core.store.ledger import Amount
from graft.core.text import documents as doc
from graft.embedded import text as embedded
from graft.readers import folder, hub
from graft.readers.encoded import encoding_of
from graft.readers.file_record import SAMPLED_OUT, UNREAD_KIND, Fields, File, FileRecord
from graft.readers.folder import ALLOWED, Listing, counted_kinds, kinds_of, listing, read, shown
from graft.readers.part import SourcePart
from graft.readers.seen import ReadCounts

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

    text_field: str = "text"  # the field of JSON objects, or column of Parquet, CSV and TSV files, with the text
    label_field: str = ""  # one that holds a label (text, number or truth), kept with the document; "": none is
    encoding: str = ""  # of text that is not UTF-8 and has no byte order mark, e.g. cp1252; "": guessed, or not used

    def __post_init__(self) -> None:
        if self.encoding:
            encoding_of(self.encoding)
        if not self.text_field:
            raise UsageError("text_field is empty", allowed="the name of a field of your rows", do='"text" is usual')

    @property
    def fields(self) -> Fields:
        return Fields(self.text_field, self.label_field, self.encoding and encoding_of(self.encoding))


@dataclass
class Intake:
    """What PATH stands for, once looked up: files of a folder, or the embedded text of that name."""

    path: str
    found: Listing = field(default_factory=Listing)
    embedded: embedded.Embedded | None = None
    encodings: dict[str, str] = field(default_factory=dict)  # by file, of those read that are not in UTF-8
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
    def readers(self) -> list[str]:
        """The modules that read these files."""
        return [folder.reader_of(suffix) for suffix in sorted({file.suffix for file in self.found.files})]

    def pieces(self, fields: Fields) -> Iterator[tuple[int, FileRecord]]:
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
                if one.encoding:
                    self.encodings[file.name] = one.encoding

    def unread(self) -> Iterator[FileRecord]:
        """A loss for each file of a kind that is not read."""
        kinds = kinds_of(self.found.unread)
        for file in self.found.unread:
            yield FileRecord("", file.name, file.size, 0, f"{UNREAD_KIND}{kinds[file.name]}")


def ingest(
    paths: Sequence[str], source: str, settings: Ingest = Ingest(), *, part: SourcePart | None = None, store: Store
) -> Artifact:
    """The documents of `paths`, as docs.parquet (columns of graft.core.text.documents), read in the order of `paths`.

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
    readers = dict.fromkeys(reader for intake in intakes for reader in intake.readers)
    return store.make(
        "docs",
        settings,
        inputs,
        (__name__, *readers),
        lambda draft: _write(intakes, source, settings, draft),
        origins=origins,
    )


def in_part(intake: Intake, part: SourcePart, settings: Ingest) -> Intake:
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
    if not found.files and not found.unread and not found.skipped:
        raise UsageError("the folder is empty", where=path, allowed=ALLOWED, do="put text files into it")
    if not found.files:
        seen = [f"{count} x {reason}" for reason, count in found.skipped.most_common(NAMES_SHOWN)]
        unread = counted_kinds(kinds_of(found.unread, NAMES_SHOWN).values())
        raise UsageError(
            f"no file here can be read as text ({', '.join([unread] * bool(unread) + seen)})",
            where=path,
            allowed=ALLOWED,
            do="convert them first",
        )
    return Intake(path, found)


def _local(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's raises where there is no such user


def _identity(intake: Intake, prints: Fingerprints) -> str:
    """Names and contents of the files, and names and sizes of those that are not read; of embedded text the versions of
    the packages that it comes from."""
    if intake.embedded:
        return f"{intake.embedded.identity}; {intake.embedded.extent}"
    names = "\n".join(file.name for file in intake.found.files)
    if intake.parted:
        names += "\n" + "\n".join(f"{one.name} {one.size} not read" for one in intake.left)
        names += "\n".join(f"{one.every} {one.first}" for one in intake.found.files)
    unread = "\n".join(f"{file.size} {file.name}" for file in intake.found.unread)
    told = f" without {doc.exact_id(unread)}" if unread else ""
    return f"{prints.of([file.path for file in intake.found.files])} {doc.exact_id(names)}{told}"


def _write(intakes: Sequence[Intake], source: str, settings: Ingest, draft: Draft) -> None:
    progress = Progress(f"reading {source}", sum(intake.size for intake in intakes))
    found = ReadCounts()
    with ExitStack() as stack:
        table = stack.enter_context(_Table(draft / TABLE))
        for intake in intakes:
            for read_bytes, one in intake.pieces(settings.fields):
                progress.advance(read_bytes)
                found.count(one)
                table.add(one, source)
            for file in intake.left:
                one = FileRecord("", file.name, file.size, file.size, SAMPLED_OUT)
                found.count(one)
                table.add(one, source)
        for one in (one for intake in intakes for one in intake.unread()):
            found.count(one)
            table.add(one, source)  # after all documents, whose positions do not depend on such files
    progress.close()
    encodings = {name: one for intake in intakes for name, one in intake.encodings.items()}
    tell_notes(found.notes(source, encodings))
    found.check(source, settings.text_field, ", ".join(intake.path for intake in intakes))
    for fate, amount in found.fates.items():
        draft.ledger.enter(source, amount)
        draft.ledger.settle(source, fate, amount)
    skipped = sum((intake.found.skipped for intake in intakes), Counter[str]())
    files = sum(len(intake.found.files) for intake in intakes)
    formats = Counter(file.suffix for intake in intakes for file in intake.found.files)
    draft.facts |= {
        "source": source,
        "paths": [shown(intake.path) for intake in intakes],
        "files": files,
        "formats": dict(sorted(formats.items())),
        "encodings": _counted(encodings, files),
        "skipped": dict(sorted(skipped.items())),
        "embedded": {intake.path: intake.embedded.facts for intake in intakes if intake.embedded},
        "first_lost": found.first_lost,
        **({"part": part} if (part := _part(intakes, found)) else {}),
        "dialogues": found.noted["dialogue"],
        "pairs": found.noted["rejected"],
        "labelled": found.noted["label"],
        "notes": [*found.notes(source, encodings, lasting=True), *_part_notes(intakes, source, found)],
    }


def _counted(encodings: Mapping[str, str], files: int) -> dict[str, int]:
    """How many of so many files are in each encoding; encodings: of those that are not in UTF-8."""
    counts = Counter({"utf-8": files - len(encodings)}) + Counter(encodings.values())
    return dict(sorted(counts.items()))


def _part(intakes: Sequence[Intake], found: ReadCounts) -> dict[str, int] | None:
    """What was left unread because a part of the text was enough; None where all was read."""
    if not any(intake.parted for intake in intakes):
        return None
    left = found.fates.get(SAMPLED_OUT, Amount())
    return {"files_left": sum(len(intake.left) for intake in intakes), "bytes_left": left.bytes}


def _part_notes(intakes: Sequence[Intake], source: str, found: ReadCounts) -> list[str]:
    """A note on what was not read; none where all was."""
    part, kept = _part(intakes, found), found.fates["kept"]
    if part is None:
        return []
    there = part["files_left"] + sum(len(intake.found.files) for intake in intakes)
    return [
        f"{source.capitalize()} text is a part, drawn by a seed: {kept.documents:,} documents with "
        f"{kept.bytes / 1e6:,.1f} MB of text were needed and taken; {part['files_left']:,} of {there:,} files were not "
        "read. Duplicates and overlap are those among what was read. general_tokens: all reads everything."
    ]


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

    def add(self, one: FileRecord, source: str) -> None:
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
