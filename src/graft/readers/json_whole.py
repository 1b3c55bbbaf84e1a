"""JSON files: an array of objects, one object, or one object per line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from graft.readers import json_lines
from graft.readers.encoded import Decoding
from graft.readers.file_record import NOT_JSON, UNDECODABLE, Fields, File, FileRecord
from graft.readers.open_compressed import DAMAGED, ROW, Opened, broken_off, opened
from graft.readers.row import from_row

CHUNK = 1 << 20
SPACE = " \t\r\n"


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The document in every object; which of the three layouts it is shows in the first characters."""
    layout = _layout(file, fields)
    if layout == "lines":
        yield from json_lines.read(file, fields)
        return
    decoding = Decoding(fields.encoding)
    with opened(file.path, fields.encoding) as stream:
        try:
            if layout == "array":
                pieces = _array(file, fields, stream, decoding)
            else:
                content = stream.whole(ROW).removeprefix(json_lines.UTF8_BOM)
                pieces = iter([json_lines.from_line(content, fields, file.name, file.size, decoding)])
            for one in pieces:
                encoding = stream.wide or decoding.label
                yield replace(one, encoding=encoding) if encoding else one
        except DAMAGED as error:
            yield broken_off(error, file.name, max(0, file.size - stream.seen), file.size)


def _layout(file: File, fields: Fields) -> str:
    """ "array", "object" (over several lines) or "lines"."""
    with opened(file.path, fields.encoding) as stream:
        try:
            first = b""
            while not first:
                line = stream.content.readline(CHUNK)
                if not line:
                    return "lines"
                first = line.removeprefix(json_lines.UTF8_BOM).strip()
        except DAMAGED:
            return "lines"
    if first.startswith(b"["):
        return "array"
    try:
        json.loads(Decoding(fields.encoding).text(first))
    except (ValueError, RecursionError):
        return "object" if first.startswith(b"{") and len(first) < CHUNK and first[1:].strip() == b"" else "lines"
    return "lines"


def _array(file: File, fields: Fields, stream: Opened, decoding: Decoding) -> Iterator[FileRecord]:
    """Elements one by one, without ever holding the whole array; what follows a broken element is one loss."""
    text = _Window(stream, decoding)
    number = 0
    try:
        text.skip(SPACE)
        text.take()  # the bracket by which the layout was known
        text.skip(SPACE)
        while text.peek() != "]":
            number += 1
            start = text.consumed
            row = text.value()
            yield from_row(row, fields, f"{file.name}#{number}", text.consumed - start, stream.seen)
            if text.skip("," + SPACE) == 0 and text.peek() != "]":
                raise ValueError("no comma between two elements")
        text.take()
        number += 1
        if text.rest().strip():
            raise ValueError("something stands behind the array")
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        dropped = UNDECODABLE if isinstance(error, UnicodeDecodeError) else NOT_JSON
        rest = text.remaining()
        yield FileRecord("", f"{file.name}#{max(1, number)}", rest, file.size, dropped, hint=decoding.hint)


class _Window:
    """A moving window of decoded text over a stream."""

    def __init__(self, stream: Opened, decoding: Decoding) -> None:
        self.stream = stream
        self.decoding = decoding
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.json = json.JSONDecoder()
        self.text = ""
        self.place = 0
        self.ended = False
        self.consumed = 0  # bytes of UTF-8 behind `place`

    def more(self) -> None:
        """Read on; doubles what is held, so that a long element is parsed a few times only."""
        chunk = self.stream.content.read(max(CHUNK, len(self.text) - self.place))
        self.ended = not chunk
        self.text = self.text[self.place :] + self._decoded(chunk)
        self.place = 0

    def _decoded(self, chunk: bytes) -> str:
        try:
            text = self.decoder.decode(chunk, final=self.ended)
        except UnicodeDecodeError:
            if self.decoding.used:
                raise
            raw = self.decoder.getstate()[0] + chunk  # it keeps what it could not decode
            self.decoder = codecs.getincrementaldecoder(self.decoding.instead(raw) or "utf-8")()
            return self.decoder.decode(raw, final=self.ended)
        self.decoding.beyond_ascii = self.decoding.beyond_ascii or not text.isascii()
        return text

    def peek(self) -> str:
        """The next character; ValueError at the end of the file."""
        while self.place >= len(self.text):
            if self.ended:
                raise ValueError("the array does not end")
            self.more()
        return self.text[self.place]

    def take(self) -> None:
        """Pass over the next character."""
        self._pass(self.place + 1)

    def rest(self) -> str:
        """What follows, up to the first chunk that is not white space alone."""
        while not self.text[self.place :].strip() and not self.ended:
            self._pass(len(self.text))
            self.more()
        return self.text[self.place :]

    def skip(self, characters: str) -> int:
        """Pass over any of `characters`; how many that were not white space."""
        marks = 0
        while (character := self.peek()) in characters:
            marks += character not in SPACE
            self._pass(self.place + 1)
        return marks

    def value(self) -> Any:
        """The JSON value that begins here."""
        while True:
            try:
                found, end = self.json.raw_decode(self.text, self.place)
                if end < len(self.text) or self.ended:  # a number may go on in the next chunk
                    self._pass(end)
                    return found
            except ValueError:
                if self.ended or len(self.text) - self.place > ROW:
                    raise
            self.more()

    def remaining(self) -> int:
        """Bytes from here to the end of the file."""
        behind = len(self.text[self.place :].encode())
        while chunk := self.stream.content.read(CHUNK):
            behind += len(chunk)
        return behind

    def _pass(self, end: int) -> None:
        self.consumed += len(self.text[self.place : end].encode("utf-8", "surrogatepass"))
        self.place = end
