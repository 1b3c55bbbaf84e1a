"""Parquet, batch by batch: every row is a document or is counted as one that could not be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.readers import dialogue
from graft.readers.file_record import (
    EXPANDS,
    NO_FIELD,
    NOT_TEXT,
    SAMPLED_OUT,
    UNDECODABLE,
    Fields,
    File,
    FileRecord,
    piece,
)
from graft.readers.row import from_row

BATCH_ROWS, BATCH_BYTES = 8192, 1 << 28
# A file may hold MOST rows and MOST bytes, and beyond them so many for each of its bytes.
MOST_ROWS, ROWS_PER_BYTE = 10_000, 20
MOST_BYTES, TIMES = 1 << 26, 200


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The document in every row, in the file's order; rows that a part leaves out are one piece at the end."""
    number = 0
    try:
        with file.path.open("rb") as raw, pq.ParquetFile(raw) as table:
            columns, total = table.schema_arrow.names, table.metadata.num_rows
            if _expands(table.metadata, file.size):
                yield FileRecord("", file.name, file.size, file.size, EXPANDS)
                return
            wanted = _wanted(columns, fields)
            if fields.text in columns and not _is_text(table.schema_arrow.field(fields.text).type):
                wanted, reason = [], NOT_TEXT
            else:
                reason = NO_FIELD
            if not wanted:
                for number in range(1, total + 1):
                    yield FileRecord(
                        "", f"{file.name}#{number}", 0, _share(file, number, total), reason, tuple(columns)
                    )
                return
            passed = 0
            for batch in table.iter_batches(_batch_rows(table.metadata), columns=wanted):
                taken = range((file.first - passed) % file.every, len(batch), file.every)
                numbers = [passed + place + 1 for place in taken]
                passed += len(batch)
                batch = batch if file.every == 1 else batch.take(pa.array(taken, pa.int64()))
                for number, row in zip(numbers, _rows(batch, wanted, fields), strict=True):
                    found = _document(row, fields, f"{file.name}#{number}", _share(file, number, total))
                    yield replace(found, fields=tuple(columns)) if found.fields else found
            if file.every > 1:
                left = passed - len(range(file.first, passed, file.every))
                yield FileRecord("", f"{file.name}#others", _share(file, left, passed), file.size, SAMPLED_OUT)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        rest = file.size - _share(file, number, number + 1)
        hint = f"the file is damaged, and its rows from here on are not read: {str(error).splitlines()[0][:150]}"
        yield FileRecord("", f"{file.name}#{number + 1}", rest, file.size, UNDECODABLE, hint=hint)


def _expands(metadata: pq.FileMetaData, size: int) -> bool:
    """Whether a file says that it holds far more than text of its size does."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    claimed = sum(group.total_byte_size for group in groups)
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    return rows > max(MOST_ROWS, ROWS_PER_BYTE * size) or claimed > max(MOST_BYTES, TIMES * size)


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows at a time: a value of a dictionary may stand in every one of them, and be as long as the dictionary is."""
    longest = 1
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.has_dictionary_page:
                values = (column.data_page_offset - (column.dictionary_page_offset or 0)) * TIMES
                longest = max(longest, min(values, column.total_uncompressed_size))
    return max(1, min(BATCH_ROWS, BATCH_BYTES // longest))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _wanted(columns: list[str], fields: Fields) -> list[str]:
    """The columns that documents are made from; none where no row can be one."""
    wanted = [fields.text] if fields.text in columns else []
    if dialogue.looks_like_one(columns):
        wanted += [name for name in dialogue.FIELDS if name in columns and name not in wanted]
    if wanted and fields.label in columns and fields.label not in wanted:
        wanted.append(fields.label)
    return wanted


def _rows(batch: Any, wanted: list[str], fields: Fields) -> Iterator[Any]:
    """Each row as a dict; as its text alone where nothing else is wanted, which is several times faster."""
    return (value.as_py() for value in batch.column(0)) if wanted == [fields.text] else iter(batch.to_pylist())


def _document(row: Any, fields: Fields, parent: str, seen: int) -> FileRecord:
    if isinstance(row, dict):
        return from_row(row, fields, parent, 0, seen)
    return piece(row, parent, seen) if row is not None else FileRecord("", parent, 0, seen, NO_FIELD)


def _share(file: File, number: int, total: int) -> int:
    return file.size * number // max(1, total)
