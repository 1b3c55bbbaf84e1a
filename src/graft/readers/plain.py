"""Plain text and Markdown: one file is one document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graft.readers.encoded import Decoding, without_cut
from graft.readers.file_record import UNDECODABLE, Fields, File, FileRecord, piece
from graft.readers.open_compressed import DAMAGED, PACKED_DOCUMENT, broken_off, opened


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The file's text; of `fields` only the encoding is looked at."""
    decoding = Decoding(fields.encoding)
    with opened(file.path, fields.encoding) as stream:
        try:
            if file.limit:
                content = stream.content.read(file.limit)
            else:
                content = stream.whole(PACKED_DOCUMENT) if stream.packed else stream.content.read()
        except DAMAGED as error:
            yield broken_off(error, file.name, file.size, file.size)
            return
        seen = min(stream.seen, file.size)
    whole = not file.limit or len(content) < file.limit
    try:
        text = decoding.text(content if whole else without_cut(content))
    except UnicodeDecodeError:
        yield FileRecord("", file.name, len(content), seen, UNDECODABLE, hint=decoding.hint)
        return
    found = piece(text, file.name, file.size if whole else seen)
    encoding = stream.wide or decoding.label
    yield replace(found, encoding=encoding) if encoding else found
