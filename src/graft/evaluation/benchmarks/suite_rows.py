"""The rows of a file of questions: JSON Lines, a JSON array, CSV, TSV or Parquet, whole or refused at what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.config.regular_file import require_file
from graft.core.config.strict_json import parse_json
from graft.readers.csv_rows import Lines, dialect_of
from graft.readers.encoded import Decoding
from graft.readers.folder import suffix_of
from graft.readers.open_compressed import DAMAGED, opened

LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".tsv")
SUFFIXES = (*LINES, *TABLES, ".parquet")
ALLOWED = (
    f"{', '.join(LINES)} with one JSON object per line or an array of them, {', '.join(TABLES)} with a header, or "
    ".parquet; all but .parquet also with .gz or .zst"
)
UTF8_BOM = b"\xef\xbb\xbf"


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows by number from 1; of lines of JSON by line, empty ones left out. Errors: UsageError naming the place."""
    suffix = suffix_of(path.name)
    if suffix == ".parquet":
        return _of_parquet(path)
    return _of_table(path, suffix) if suffix in TABLES else _of_json(path)


def _of_json(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    with opened(path) as stream:
        try:
            for number, line in enumerate(stream.content, 1):
                text = (line.removeprefix(UTF8_BOM) if number == 1 else line).strip()
                if number == 1 and text.startswith(b"["):
                    yield from enumerate(_parsed(text + stream.content.read(), f"{path}", "an array of objects"), 1)
                    return
                if text:
                    yield number, _parsed(text, f"{path}#{number}", "one JSON object per line")
        except DAMAGED as error:
            raise _broken(path, number + 1) from error


def _parsed(text: bytes, where: str, allowed: str) -> Any:
    try:
        return parse_json(text.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one of them
        raise UsageError(f"not JSON: {error}", where=where, allowed=allowed) from error


def _of_table(path: Path, suffix: str) -> Iterator[tuple[int, Any]]:
    header: list[str] | None = None
    number = 0
    with opened(path) as stream:
        lines = Lines(stream, Decoding())
        try:
            start = list(lines.start())
            for row in dialect_of(start, suffix, whole=lines.ended).rows(chain(start, lines)):
                lines.size = 0
                if header is None:
                    header = [name.strip() for name in row or ()]
                    continue
                number += 1
                if row is None or len(row) != len(header):
                    found = "breaks the rules of quoting" if row is None else f"has {len(row)} cells"
                    raise UsageError(
                        f"this row {found}",
                        where=f"{path}#{number}",
                        allowed=f"{len(header)} cells, one per column of the header",
                        do="quote text that holds the delimiter, and double the quotes in it",
                    )
                yield number, {name: cell for name, cell in zip(header, row, strict=True) if name}
        except DAMAGED as error:
            raise _broken(path, number + 1) from error


def _of_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_file(path, allowed=ALLOWED)
        rows = pq.ParquetFile(path).read().to_pylist()
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"this is no Parquet file that can be read: {error}", where=str(path), allowed=ALLOWED
        ) from error
    yield from enumerate(rows, 1)


def _broken(path: Path, number: int) -> UsageError:
    return UsageError(
        "this file breaks off", where=f"{path}#{number}", do="fetch it again: what is there is a part of it"
    )
