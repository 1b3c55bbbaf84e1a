"""Marks of documents: a narrow table on disk, one row per document of all sources, without its text.

Every column is a file of numbers that is mapped, and what has no fixed width is in files that only grow. So memory
does not grow with the number of documents: whoever works on all of them takes `chunks`, or `by_text` and `by_place`,
which give the rows in parts. A row takes about 70 bytes of disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core.text.documents import SPLITS
from graft.core.text.drop_reasons import Drop, Reason
from graft.core.text.split import Split

Rows = NDArray[np.int64]
CHUNK = 1 << 16  # rows that are looked at together
PART = 1 << 20  # rows of one part that is sorted, about
SPLIT_NAMES = ("", *SPLITS)  # a split is stored as its place here
NOTHING = -1  # in `text_at` and `extra_at`
NOTES, DETAIL = b"n", b"d"  # what a record of `extras` is
COLUMNS = {
    "id": ("<u8", 2),  # the two halves of the 128 bits, the first of them first
    "place": ("<f8", 1),  # where in 0..1 the split looks for it
    "num_bytes": ("<i8", 1),
    "split": ("u1", 1),
    "beyond": ("u1", 1),  # not held out, because enough are
    "drop": ("<u4", 1),  # 0: used; else its place in `drops`
    "first": ("<i8", 1),  # row of the first usable document of the same text
    "text_at": ("<i8", 1),  # where in `texts` the text is that a step wrote
    "extra_at": ("<i8", 1),  # where in `extras` its notes and its detail are
}
READ_COLUMNS = ["id", "num_bytes", "position", "dropped", "dropped_by", "reason", "detail"]


class Heap:
    """A file of records of any length that only grows; a record is known by where it begins."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("w+b")
        self._end, self._at_end = 0, True

    def put(self, record: bytes) -> int:
        """Where the record is now."""
        if not self._at_end:  # to seek is to write out what is held
            self._file.seek(self._end)
        self._file.write(len(record).to_bytes(8, "little") + record)
        at, self._end, self._at_end = self._end, self._end + 8 + len(record), True
        return at

    def get(self, at: int) -> bytes:
        self._at_end = False
        self._file.seek(at)
        return self._file.read(int.from_bytes(self._file.read(8), "little"))

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Narrow:
    """Columns of some rows. ids_N2: both halves of each id; sources_N: numbers of sources; splits_N: of SPLIT_NAMES."""

    rows_N: Rows
    ids_N2: NDArray[np.uint64]
    sources_N: NDArray[np.int64]
    splits_N: NDArray[np.uint8]
    num_bytes_N: Rows

    @property
    def same_N(self) -> NDArray[np.bool_]:
        """Whether a row has the id of the row before it."""
        same_N = np.zeros(len(self.rows_N), np.bool_)
        same_N[1:] = (self.ids_N2[1:] == self.ids_N2[:-1]).all(axis=1)
        return same_N


@dataclass
class MarkTable:
    """The marks of all documents of some sources; first_row: of each source, and the end of the last one."""

    sources: list[str]
    first_row: list[int]
    columns: dict[str, np.ndarray]
    texts: Heap
    extras: Heap
    drops: list[Drop] = field(default_factory=lambda: [Drop("", "", "", "")])
    changed: bool = True  # since splits were given: what is usable, or a text

    @classmethod
    def read(cls, folder: Path, tables: Mapping[str, Path], split: Split) -> MarkTable:
        """The marks as reading left them; tables: source -> its document table. `folder` is empty or not there."""
        folder.mkdir(parents=True, exist_ok=True)
        counts = [pq.read_metadata(path).num_rows for path in tables.values()]
        ends = np.cumsum([0, *counts]).tolist()
        columns: dict[str, np.ndarray] = {}
        for name, (dtype, width) in COLUMNS.items():
            shape = (max(1, ends[-1]), width) if width > 1 else (max(1, ends[-1]),)
            columns[name] = np.memmap(folder / f"{name}.bin", dtype, "w+", shape=shape)[: ends[-1]]
        table = cls(list(tables), ends, columns, Heap(folder / "texts.bin"), Heap(folder / "extras.bin"))
        for path, first in zip(tables.values(), ends, strict=False):
            table._fill(path, first, split)
        return table

    def _fill(self, path: Path, row: int, split: Split) -> None:
        first = row
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(CHUNK, columns=READ_COLUMNS, use_threads=False):
                rows = slice(row, row + len(batch))
                places = batch.column("position").to_numpy()
                assert (places == np.arange(row - first, row - first + len(batch))).all(), path
                ids = batch.column("id").to_pylist()
                self.columns["id"][rows] = halves(ids)
                self.columns["place"][rows] = [split.place(one) for one in ids]
                self.columns["num_bytes"][rows] = batch.column("num_bytes").to_numpy()
                self.columns["text_at"][rows] = self.columns["extra_at"][rows] = NOTHING
                names = ("dropped_by", "reason", "detail", "dropped")
                told = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
                self.columns["drop"][rows] = [self._number(Drop(*one)) if one[3] else 0 for one in told]
                row += len(batch)

    def close(self) -> None:
        """Let go of the files, which whoever gave the folder removes."""
        self.columns.clear()
        self.texts.close()
        self.extras.close()

    def __len__(self) -> int:
        return self.first_row[-1]

    def rows(self, source: str) -> range:
        number = self.sources.index(source)
        return range(self.first_row[number], self.first_row[number + 1])

    def sources_of(self, rows_N: Rows) -> NDArray[np.int64]:
        """The number of the source of each row."""
        return np.searchsorted(self.first_row, rows_N, side="right") - 1

    def chunks(self, rows: range | None = None) -> Iterator[slice]:
        """All rows, or a range of them, in order."""
        rows = range(len(self)) if rows is None else rows
        for start in range(rows.start, rows.stop, CHUNK):
            yield slice(start, min(rows.stop, start + CHUNK))

    def narrow(self, rows_N: Rows) -> Narrow:
        columns = self.columns
        ids_N2, splits_N, sizes_N = (columns[name][rows_N] for name in ("id", "split", "num_bytes"))
        return Narrow(rows_N, ids_N2, self.sources_of(rows_N), splits_N, sizes_N)

    def by_text(self) -> Iterator[Narrow]:
        """Every usable row, in parts: equal ids are in one part, beside each other, the first row first."""
        bits = max(0, (len(self) // PART).bit_length())
        shift = np.uint64(64 - bits) if bits else np.uint64(0)
        for part in range(1 << bits):
            found: list[Rows] = []
            for chunk in self.chunks():
                within = self.columns["drop"][chunk] == 0
                if bits:
                    within &= (self.columns["id"][chunk, 0] >> shift) == part
                found.append(chunk.start + np.flatnonzero(within))
            rows_N = np.concatenate(found) if found else np.empty(0, np.int64)
            ids_N2 = self.columns["id"][rows_N]
            yield self.narrow(rows_N[np.lexsort((rows_N, ids_N2[:, 1], ids_N2[:, 0]))])

    def by_place(self) -> Iterator[Narrow]:
        """The first row of every usable text, in parts that follow each other, in the order of places and then ids."""
        parts = len(self) // PART + 1
        for part in range(parts):
            found: list[Rows] = []
            for chunk in self.chunks():
                rows_N = np.arange(chunk.start, chunk.stop)
                own = (self.columns["drop"][chunk] == 0) & (self.columns["first"][chunk] == rows_N)
                if parts > 1:
                    own &= np.minimum(self.columns["place"][chunk] * parts, parts - 1).astype(np.int64) == part
                found.append(rows_N[own])
            rows_N = np.concatenate(found) if found else np.empty(0, np.int64)
            ids_N2, places_N = self.columns["id"][rows_N], self.columns["place"][rows_N]
            yield self.narrow(rows_N[np.lexsort((ids_N2[:, 1], ids_N2[:, 0], places_N))])

    def drop(self, rows_N: Rows, by: str, reason: Reason, detail: str = "") -> None:
        """These rows are not used any more. A detail that the ledger does not count by is kept for each row."""
        if not len(rows_N):
            return
        counted = detail if reason.by_detail else ""
        self.columns["drop"][rows_N] = self._number(Drop(by, reason.code, counted, reason.fate(counted)))
        self.changed = True
        if detail and not reason.by_detail:
            for row in rows_N.tolist():
                self._add(row, DETAIL + detail.encode())

    def note(self, row: int, entries: str) -> None:
        """Add to the notes of a document; entries: a JSON object."""
        self._add(row, NOTES + entries.encode())

    def rewrite(self, row: int, one: str, text: str, place: float) -> int:
        """Give a document another text, whose id is `one`; returns by how many bytes it shrank."""
        record = text.encode()
        self.columns["text_at"][row] = self.texts.put(record)
        self.columns["id"][row] = halves([one])[0]
        self.columns["place"][row] = place
        shrunk = int(self.columns["num_bytes"][row]) - len(record)
        self.columns["num_bytes"][row] = len(record)
        self.changed = True
        return shrunk

    def text(self, row: int) -> str:
        """The text that a step wrote for a row which has one."""
        return self.texts.get(int(self.columns["text_at"][row])).decode()

    def extra(self, row: int) -> tuple[list[str], str]:
        """(JSON objects that were added to the notes of a row, in their order; its detail)."""
        notes: list[str] = []
        detail, at = "", int(self.columns["extra_at"][row])
        while at != NOTHING:  # the latest record first, each beginning with the place of the one before
            record = self.extras.get(at)
            if record[8:9] == NOTES:
                notes.insert(0, record[9:].decode())
            else:
                detail = record[9:].decode()
            at = int.from_bytes(record[:8], "little", signed=True)
        return notes, detail

    def _add(self, row: int, record: bytes) -> None:
        before = int(self.columns["extra_at"][row]).to_bytes(8, "little", signed=True)
        self.columns["extra_at"][row] = self.extras.put(before + record)

    def _number(self, drop: Drop) -> int:
        if drop not in self.drops:
            self.drops.append(drop)
        return self.drops.index(drop)

    def strings(self, name: str, chunk: slice) -> pa.Array:
        """A column of the document table for these rows: "split", or a field of their drops ("fate", "by" ...)."""
        if name == "split":
            return pa.array(SPLIT_NAMES).take(pa.array(self.columns["split"][chunk]))
        return pa.array([getattr(one, name) for one in self.drops]).take(pa.array(self.columns["drop"][chunk]))


def joined_notes(raw: str, added: Sequence[str]) -> str:
    """A JSON object with the entries of others added."""
    if raw == "{}" and len(added) == 1:
        return added[0]
    notes = json.loads(raw)
    for one in added:
        notes |= json.loads(one)
    return json.dumps(notes)


def halves(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Hexadecimal ids of 128 bits as two numbers each; they sort as the ids do."""
    return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").astype(np.uint64).reshape(-1, 2)


def hexadecimal(ids_N2: NDArray[np.uint64]) -> list[str]:
    """The ids themselves."""
    return [f"{high:016x}{low:016x}" for high, low in ids_N2.tolist()]
