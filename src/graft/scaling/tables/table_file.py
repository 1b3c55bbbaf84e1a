"""Tables of runs from CSV, Parquet, JSON and JSON Lines; what is no table is refused by file and line."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError, nearest, said
from graft.core.config.regular_file import require_file
from graft.core.config.strict_json import parse_json
from graft.readers.open_compressed import COMPRESSIONS, DAMAGED, opened
from graft.scaling.tables.table import CellTable

MOST_COLUMNS = 50_000  # of runs, their settings and the shares of their domains
KINDS = ".csv, .tsv, .parquet, .json or .jsonl, also .gz and .zst of those but .parquet"
LONGEST_CELL = 1 << 17  # characters


def read_table(path: Path) -> CellTable:
    """The table in a file. Errors: UsageError for what is no table, naming the file, the line and what is allowed."""
    bare = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    readers: dict[str, Callable[[Path], tuple[dict[str, list[Any]], list[str]]]] = {
        ".csv": _read_csv, ".tsv": _read_csv, ".json": _read_json, ".jsonl": _read_lines, ".ndjson": _read_lines,
        ".parquet": _read_parquet, ".pq": _read_parquet,
    }  # fmt: skip
    read = readers.get(bare.suffix.lower())
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        near = nearest(path.name, [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise UsageError("there is no such file", where=str(path), do=near or "check the path")
    if read is None or path.is_dir():
        raise UsageError("this is no table that can be read", where=str(path), allowed=f"a file named {KINDS}")
    try:
        require_file(path, allowed=f"a file named {KINDS}")
        columns, rows = read(path)
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=str(path), do="save it as UTF-8") from error
    except (*DAMAGED, OSError, MemoryError) as error:
        raise UsageError(f"the file cannot be read: {error}", where=str(path)) from error
    if not rows:
        raise UsageError("the table has no rows", where=str(path), allowed="one row per run or checkpoint")
    if len(columns) > MOST_COLUMNS:
        raise UsageError(
            f"the table has {len(columns):,} columns",
            where=str(path),
            allowed=f"at most {MOST_COLUMNS:,}",
            do="keep the columns that the law reads",
        )
    return CellTable(path.name, columns, tuple(rows), (path.name,) * len(rows))


def _text(path: Path) -> str:
    with opened(path) as stream:
        content = stream.content.read()
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def _read_csv(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    text = _text(path)
    head = text.split("\n", 1)[0]
    sign = max(",;\t", key=head.count) if any(mark in head for mark in ",;\t") else ","
    csv.field_size_limit(LONGEST_CELL)  # of the whole process: readers of text set another one
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
    cells: list[list[str]] = []
    rows: list[str] = []
    header: list[str] = []
    try:
        for line in lines:
            if not line:
                continue  # an empty line is no row
            if not header:
                header = [name.strip() for name in line]
                _require_single(header, path)
                continue
            if len(line) != len(header):
                raise UsageError(
                    f"row {len(rows) + 1} (line {lines.line_num}) has {len(line)} cells",
                    where=str(path),
                    allowed=f"{len(header)}, one per column of the header",
                    do="quote text that holds the delimiter, and write numbers without thousands separators",
                )
            cells.append(line)
            rows.append(f"row {len(rows) + 1} (line {lines.line_num})")
    except csv.Error as error:
        raise UsageError(f"line {lines.line_num} is not CSV: {error}", where=str(path)) from error
    columns = {name: [line[k].strip() or None for line in cells] for k, name in enumerate(header)}
    return columns, rows


def _require_single(header: Iterable[str], path: Path) -> None:
    """Errors: UsageError for a column that stands twice."""
    seen: dict[str, int] = {}
    for number, name in enumerate(header, 1):
        if name and name in seen:
            raise UsageError(
                f'the column "{name}" stands twice, as column {seen[name]} and column {number}',
                where=str(path),
                allowed="each name once",
                do="rename or remove one of them",
            )
        seen[name] = number


class _Twice(ValueError):
    """A key that stands twice in one object of JSON."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _parse(text: str, path: Path, where: str = "") -> Any:
    try:
        return parse_json(text, finite=False, pairs=_once)  # a cell that is not finite is refused by its row
    except _Twice as error:
        raise UsageError(f'{where}the column "{error}" stands twice', where=str(path), allowed="each once") from error
    except ValueError as error:
        raise UsageError(f"{where}not JSON that can be read: {error}", where=str(path)) from error


def _read_lines(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    found: list[Any] = []
    places: list[str] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            places.append(f"row {len(found) + 1} (line {number})")
            found.append(_parse(line, path, f"{places[-1]}: "))
    return _from_rows(found, places, path)


def _read_json(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    text = _text(path)
    whole = _parse(text, path)
    if isinstance(whole, list):
        return _from_rows(whole, [f"row {number}" for number in range(1, len(whole) + 1)], path)
    if isinstance(whole, Mapping) and whole:
        columns = {name: list(cells.values()) if isinstance(cells, Mapping) else cells for name, cells in whole.items()}
        if all(isinstance(cells, list) for cells in columns.values()):
            lengths = {name: len(cells) for name, cells in columns.items()}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{name} {length}" for name, length in lengths.items())
                raise UsageError(f"the columns are of different lengths: {told}", where=str(path), allowed="one length")
            return columns, [f"row {number}" for number in range(1, next(iter(lengths.values())) + 1)]
    raise UsageError(
        "this JSON is no table", where=str(path), allowed='[{"loss": 2.1, ...}, ...] or {"loss": [2.1, ...], ...}'
    )


def _from_rows(found: Sequence[Any], places: list[str], path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    for row, place in zip(found, places, strict=True):
        if not isinstance(row, Mapping):
            raise UsageError(f"{place} is {said(row, 40)!r}", where=str(path), allowed='an object, {"loss": 2.1, ...}')
    names = dict.fromkeys(name for row in found for name in row)
    return {name: [row.get(name) for row in found] for name in names}, places


def _read_parquet(path: Path) -> tuple[dict[str, list[Any]], list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        _require_single(table.column_names, path)
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except UsageError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # damaged, or of odd cells
        raise UsageError(f"this is no Parquet file that can be read: {error}", where=str(path)) from error
    return columns, [f"row {number}" for number in range(1, table.num_rows + 1)]
