"""locate: documents of a corpus by what people call them: a place in a source, a file and row, a file, an id."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError, nearest
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph

COLUMNS = (
    "id", "position", "parents", "num_bytes", "split", "dropped", "dropped_by", "reason", "detail", "notes"
)  # fmt: skip
PLACE = re.compile(r"(\w[\w.-]*):(\d+)")
ID = re.compile(r"[0-9a-f]{8,32}")
ROWS = {".jsonl": "line", ".ndjson": "line", ".pdf": "page"}  # what the number behind "#" counts; elsewhere rows
WAYS = "SOURCE:POSITION, FILE#ROW, FILE, or the id of a text (8 or more of its digits)"
SHOWN = 6


@dataclass(frozen=True)
class Named:
    """A document as the tables of a corpus have it. parents: "file#row"; path: of the file, "" where none is there."""

    source: str
    position: int
    id: str
    parents: tuple[str, ...]
    num_bytes: int
    split: str
    dropped: str
    dropped_by: str
    reason: str
    detail: str
    notes: dict[str, Any]
    path: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}:{self.position}"

    @property
    def file(self) -> str:
        """The file as the corpus names it."""
        return self.parents[0].partition("#")[0] if self.parents else ""

    @property
    def place(self) -> str:
        """ "line 7", "row 7", "page 7"; "" where the file is one document."""
        _, _, number = self.parents[0].partition("#") if self.parents else ("", "", "")
        stem = re.sub(r"\.(gz|zst)$", "", self.file.lower())
        return f"{ROWS.get(Path(stem).suffix, 'row')} {number}" if number else ""

    def told(self) -> dict[str, Any]:
        return {
            "document": self.name, "source": self.source, "position": self.position, "id": self.id,
            "from": list(self.parents), "file": self.file, "place": self.place, "path": self.path,
        }  # fmt: skip


@dataclass(frozen=True)
class SourceDocuments:
    """One source of a corpus, without its texts."""

    corpus: Artifact
    source: str
    family: LineageGraph

    def rows(self, positions: Sequence[int] | None = None) -> list[Named]:
        """Its documents, or those at these places of it, in the order of the source."""
        filters = None if positions is None else [("position", "in", list(positions))]
        if positions is not None and not len(positions):
            return []
        there = pq.read_schema(self._file).names
        found = pq.read_table(self._file, columns=[name for name in COLUMNS if name in there], filters=filters)
        roots = roots_of(self.family.input(self.corpus, f"docs {self.source}"))
        paths = dict[str, str]()
        return [_named(self.source, row, roots, paths) for row in found.to_pylist()]

    def column(self, name: str) -> pa.Array:
        """A column of all its documents; the place in it is the position in the source."""
        return pq.read_table(self._file, columns=[name])[name].combine_chunks()

    def columns(self, *names: str) -> list[list[str]]:
        """Columns of text of all its documents; of one that it lacks, empty text."""
        there = pq.read_schema(self._file).names
        found = pq.read_table(self._file, columns=[name for name in names if name in there])
        return [found[name].to_pylist() if name in there else [""] * len(found) for name in names]

    @property
    def size(self) -> int:
        return pq.read_metadata(self._file).num_rows

    @property
    def _file(self) -> Path:
        return self.corpus / f"{self.source}.parquet"

    def text(self, position: int) -> str:
        filters = [("position", "=", position)]
        found = pq.read_table(self._file, columns=["text"], filters=filters)
        return found["text"][0].as_py() if found.num_rows else ""

    def parents(self) -> tuple[list[str], list[int]]:
        """(what documents were made from, the position of the document for each of these)."""
        column = self.column("parents")
        counts = np.diff(column.offsets.to_numpy())
        return column.flatten().to_pylist(), np.repeat(np.arange(len(counts)), counts).tolist()

    def with_id(self, beginning: str) -> list[Named]:
        """Its documents whose id begins so."""
        ids = self.column("id").to_pylist()
        return self.rows([position for position, one in enumerate(ids) if one.startswith(beginning)])


def tables(corpus: Artifact, family: LineageGraph) -> list[SourceDocuments]:
    return [SourceDocuments(corpus, source, family) for source in corpus.facts["sources"]]


def locate(words: str, corpus: Artifact, family: LineageGraph) -> list[Named]:
    """The documents that `words` stand for: one, or all of a file.

    Errors: UsageError where there are none, with the nearest name, and where several files fit.
    """
    every = tables(corpus, family)
    found = _at_place(words, every) or list(_of_file(words, every)) or _of_id(words, every)
    if found:
        return found
    place = PLACE.fullmatch(words)
    if place and not Path(words).exists():
        known = [one.source for one in every]
        raise UsageError(
            f'{corpus.name} has no source "{place[1]}"',
            allowed=", ".join(known),
            do=nearest(place[1], known) or "name one of them before the colon",
        )
    files = dict.fromkeys(name for one in every for name in one.parents()[0])
    near = nearest(words, files) or nearest(words, dict.fromkeys(name.partition("#")[0] for name in files))
    raise UsageError(
        f'"{words}" is no document of {corpus.name}', allowed=WAYS, do=near or f"its files: {_few(list(files))}"
    )


def same_text(one: Named, corpus: Artifact, family: LineageGraph) -> list[Named]:
    """Every document of a corpus with the same text, in the order in which the first of them is kept."""
    return [row for table in tables(corpus, family) for row in table.with_id(one.id)]


def kept(ids: Collection[str], corpus: Artifact, family: LineageGraph) -> list[Named]:
    """The documents with these texts that a corpus has not dropped: one each, where copies were.

    Equal texts have equal ids, whatever corpus they stand in.
    """
    found: list[Named] = []
    for table in tables(corpus, family):
        known, dropped = (table.column(name).to_pylist() for name in ("id", "dropped"))
        pairs = enumerate(zip(known, dropped, strict=True))
        found += table.rows([position for position, (one, fate) in pairs if not fate and one in ids])
    return found


def _at_place(words: str, every: Sequence[SourceDocuments]) -> list[Named]:
    """Errors: UsageError for a position beyond the source's end."""
    place = PLACE.fullmatch(words)
    table = place and next((one for one in every if one.source == place[1]), None)
    if not place or table is None:
        return []
    found = table.rows([int(place[2])])
    if not found:
        raise UsageError(
            f"{table.source} has no document {place[2]}", where=table.corpus.name, allowed=f"0 to {table.size - 1}"
        )
    return found


def _of_file(words: str, every: Sequence[SourceDocuments]) -> Iterator[Named]:
    """Documents whose parent is `words`, or a row of the file `words`; paths may be longer or shorter than ours.

    Errors: UsageError where documents of several files fit.
    """
    asked = re.sub(r"^(\./)+", "", words)
    parents = [one.parents() for one in every]
    names = dict.fromkeys(name for known, _ in parents for name in known)
    names |= dict.fromkeys(name.partition("#")[0] for name in names)
    fits = [name for name in names if name == asked]
    fits = fits or sorted((name for name in names if asked.endswith(f"/{name}")), key=len)[-1:]
    fits = fits or [name for name in names if name.endswith(f"/{asked}")]
    if len(fits) > 1:
        raise UsageError(f'"{words}" fits {len(fits)} files', allowed=_few(fits), do="write more of the path")
    for one, (known, rows) in zip(every, parents, strict=True):
        yield from one.rows(
            [row for name, row in zip(known, rows, strict=True) if name in fits or name.partition("#")[0] in fits]
        )


def _of_id(words: str, every: Sequence[SourceDocuments]) -> list[Named]:
    if not ID.fullmatch(words):
        return []
    found = [row for one in every for row in one.with_id(words)]
    different = dict.fromkeys(one.id for one in found)
    if len(different) > 1:
        raise UsageError(f'"{words}" begins {len(different)} ids', allowed=_few(list(different)), do="write more of it")
    return found[:1]  # equal texts have equal ids: the first one is the one that is kept


def roots_of(docs: Artifact | None) -> list[tuple[str, Path]]:
    """(how the names of its files begin, the folder that the rest is relative to) of every path that was ingested."""
    if docs is None or "paths" not in docs.facts:
        return []
    given = [origin.rpartition(" (")[0] for role, origin in docs.origins.items() if role.startswith("path ")]
    roots: list[tuple[str, Path]] = []
    for path, where in zip(docs.facts["paths"], given, strict=False):
        prefix = f"{Path(path).name}/" if len(docs.facts["paths"]) > 1 else ""
        if Path(where).is_absolute():
            roots.append((prefix, Path(where)))
    return roots


def _path_of(file: str, roots: Sequence[tuple[str, Path]]) -> str:
    """Where a file lies; "" where none of that name lies there now."""
    for prefix, where in roots:
        rest = file.removeprefix(prefix)
        for path in (where / rest, where):
            if file.startswith(prefix) and path.is_file() and path.name == Path(rest).name:
                return str(path)
    return ""


def _named(source: str, row: dict[str, Any], roots: Sequence[tuple[str, Path]], paths: dict[str, str]) -> Named:
    """paths: of the files met so far, so that a file of many rows is looked for once."""
    parents = tuple(row["parents"])
    names = ("position", "id", "num_bytes", "split", "dropped", "dropped_by", "reason", "detail")
    known = {key: row.get(key, "") for key in names}  # an older corpus has no reasons
    file = parents[0].partition("#")[0] if parents else ""
    if file not in paths:
        paths[file] = _path_of(file, roots)
    return Named(source=source, parents=parents, notes=json.loads(row["notes"]), path=paths[file], **known)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
