"""Parquet, through Daft: every row is a document or is counted as one that could not be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from graft.readers import dialogue
from graft.readers.piece import NAME_NOT_TEXT, NO_FIELD, NOT_TEXT, SAMPLED_OUT, UNDECODABLE, Fields, File, Piece, piece
from graft.readers.row import from_row


def read(file: File, fields: Fields) -> Iterator[Piece]:
    """The document in every row, in the file's order; rows that a part leaves out are one piece at the end."""
    from daft.exceptions import DaftCoreException

    from graft.core.frames import parquet

    try:
        str(file.path).encode()
    except UnicodeEncodeError:  # Daft opens no such file
        yield Piece("", file.name, file.size, file.size, NAME_NOT_TEXT)
        return
    number = 0
    try:
        frame = parquet(file.path)
        columns = frame.column_names
        total = frame.count_rows()
        wanted = _wanted(columns, fields)
        if fields.text in columns and not frame.schema()[fields.text].dtype.is_string():
            wanted, reason = [], NOT_TEXT
        else:
            reason = NO_FIELD
        if not wanted:
            for number in range(1, total + 1):
                yield Piece("", f"{file.name}#{number}", 0, _share(file, number, total), reason, tuple(columns))
            return
        passed = 0
        for batch in frame.select(*wanted).to_arrow_iter():
            taken = range((file.first - passed) % file.every, len(batch), file.every)
            numbers = [passed + place + 1 for place in taken]
            passed += len(batch)
            batch = batch if file.every == 1 else batch.take(pa.array(taken, pa.int64()))
            for number, row in zip(numbers, _rows(batch, wanted, fields), strict=True):
                found = _document(row, fields, f"{file.name}#{number}", _share(file, number, total))
                yield replace(found, fields=tuple(columns)) if found.fields else found
        if file.every > 1:
            left = passed - len(range(file.first, passed, file.every))
            yield Piece("", f"{file.name}#others", _share(file, left, passed), file.size, SAMPLED_OUT)
    except (DaftCoreException, pa.ArrowInvalid, UnicodeDecodeError):
        yield Piece(
            "", f"{file.name}#{number + 1}", file.size - _share(file, number, number + 1), file.size, UNDECODABLE
        )


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


def _document(row: Any, fields: Fields, parent: str, seen: int) -> Piece:
    if isinstance(row, dict):
        return from_row(row, fields, parent, 0, seen)
    return piece(row, parent, seen) if row is not None else Piece("", parent, 0, seen, NO_FIELD)


def _share(file: File, number: int, total: int) -> int:
    return file.size * number // max(1, total)
