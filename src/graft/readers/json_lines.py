"""JSON, one object per line: every line is a document or is counted, by number, as one that could not be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from graft.readers.encoded import Decoding
from graft.readers.file_record import NOT_JSON, SAMPLED_OUT, TOO_LARGE, UNDECODABLE, Fields, File, FileRecord
from graft.readers.open_compressed import DAMAGED, ROW, broken_off, opened
from graft.readers.row import from_row

UTF8_BOM = b"\xef\xbb\xbf"


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The document in every line; blank lines are no rows. Where compression
    breaks off, the rest of the file is one loss, of as many bytes as were not read from disk. Of rows that a part of
    the file leaves out there is one piece, the last."""
    decoding = Decoding(fields.encoding)
    with opened(file.path, fields.encoding) as stream:
        number = left = 0

        def ahead() -> bytes:
            return stream.ahead

        try:
            for number, line in enumerate(stream.lines(ROW), 1):
                if isinstance(line, int):
                    yield FileRecord("", f"{file.name}#{number}", line, stream.seen, TOO_LARGE)
                    continue
                if number == 1 and line.startswith(UTF8_BOM):
                    line = line[len(UTF8_BOM) :]
                line = line.strip()
                if line and (number - 1 - file.first) % file.every:
                    left += len(line)
                elif line:
                    found = from_line(line, fields, f"{file.name}#{number}", stream.seen, decoding, ahead)
                    if stream.wide or decoding.used:
                        found = replace(found, encoding=stream.wide or decoding.label)
                    yield found
        except DAMAGED as error:
            yield broken_off(error, f"{file.name}#{number + 1}", max(0, file.size - stream.seen), file.size)
        if left:
            yield FileRecord("", f"{file.name}#others", left, file.size, SAMPLED_OUT)


def from_line(
    line: bytes, fields: Fields, parent: str, seen: int, decoding: Decoding, more: Callable[[], bytes] = bytes
) -> FileRecord:
    """The piece in one line of JSON. more: gives what follows the line in its file."""
    try:
        text = decoding.text(line, more)
    except UnicodeDecodeError:
        return FileRecord("", parent, len(line), seen, UNDECODABLE, hint=decoding.hint)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return FileRecord("", parent, len(line), seen, NOT_JSON)
    return from_row(row, fields, parent, len(line), seen)
