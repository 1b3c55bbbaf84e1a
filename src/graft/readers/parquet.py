"""Parquet, through Daft: every row is a document or is counted as one that could not be."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from graft.readers.piece import NAME_NOT_TEXT, NO_FIELD, NOT_TEXT, UNDECODABLE, File, Piece, piece


def read(file: File, field: str) -> Iterator[Piece]:
    """The text in column `field` of every row, in the file's order."""
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
        if field not in columns or not frame.schema()[field].dtype.is_string():
            reason = NOT_TEXT if field in columns else NO_FIELD
            for number in range(1, total + 1):
                yield Piece("", f"{file.name}#{number}", 0, _share(file, number, total), reason, tuple(columns))
            return
        for batch in frame.select(field).to_arrow_iter():
            for value in batch.column(0):
                number += 1
                parent, seen = f"{file.name}#{number}", _share(file, number, total)
                text = value.as_py()
                yield piece(text, parent, seen) if text is not None else Piece("", parent, 0, seen, NO_FIELD)
    except (DaftCoreException, pa.ArrowInvalid, UnicodeDecodeError):
        yield Piece(
            "", f"{file.name}#{number + 1}", file.size - _share(file, number, number + 1), file.size, UNDECODABLE
        )


def _share(file: File, number: int, total: int) -> int:
    return file.size * number // max(1, total)
