"""CSV and TSV: the first row names the columns; every other row is a document, or a loss that is counted."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from graft.readers.encoded import Decoding
from graft.readers.file_record import NOT_CSV, RAGGED, SAMPLED_OUT, TWICE, UNDECODABLE, Fields, File, FileRecord
from graft.readers.open_compressed import DAMAGED, ROW, DocumentTooLarge, Opened, broken_off, opened
from graft.readers.row import from_row

DELIMITERS = (",", ";", "\t", "|")
NONE = "\x1f"  # the delimiter of a lone column: no text holds it
LONGEST = 1 << 24  # characters of a cell; an unclosed quote would else take in the rest of the file
SAMPLE = 1 << 16  # bytes by which the delimiter is told
BOM = "\ufeff"
LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Dialect:
    """quoted: whether cells may stand in double quotes, with delimiters and line ends in them."""

    delimiter: str = ","
    quoted: bool = True

    def rows(self, lines: Iterable[str]) -> Iterator[list[str] | None]:
        """The cells of each row, blank rows left out; None for a row that breaks the rules of quoting."""
        csv.field_size_limit(LONGEST)
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        reader = csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield None  # the reader begins anew at the next line
            else:
                if row:
                    yield row


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The document in every row, found as in a row of JSON (graft.readers.row); rows count from 1, without the header.

    A row with more or fewer cells than the header is one loss, since its text may be cut or in another column.
    Rows that a part of the file leaves out are one piece, the last.
    """
    with opened(file.path, fields.encoding) as stream:
        lines = Lines(stream, Decoding(fields.encoding))
        number = left = 0
        try:
            start = list(lines.start())
            found = dialect_of(start, file.suffix, whole=lines.ended)
            header: tuple[str, ...] | None = None
            lines.size = 0
            for row in found.rows(chain(lines.counted(start), lines)):
                size, lines.size = lines.size, 0
                if header is None:
                    header = tuple(name.strip() for name in row or ())
                    continue
                number += 1
                if (number - 1 - file.first) % file.every:
                    left += size
                    continue
                one = _document(row, header, fields, f"{file.name}#{number}", size, stream.seen)
                encoding = stream.wide or lines.decoding.label
                hint = lines.decoding.hint if one.dropped == UNDECODABLE else ""
                yield replace(one, encoding=encoding, hint=hint) if encoding or hint else one
        except DAMAGED as error:
            lost = max(0, file.size - stream.seen)
            yield broken_off(error, f"{file.name}#{number + 1}", lost, file.size)
        if left:
            yield FileRecord("", f"{file.name}#others", left, file.size, SAMPLED_OUT)


def _document(
    row: list[str] | None, header: tuple[str, ...], fields: Fields, parent: str, size: int, seen: int
) -> FileRecord:
    if row is None:
        return FileRecord("", parent, size, seen, NOT_CSV)
    if len(row) != len(header):
        return FileRecord("", parent, size, seen, RAGGED)
    if header.count(fields.text) > 1:
        return FileRecord("", parent, size, seen, TWICE)
    return from_row(dict(zip(header, row, strict=True)), fields, parent, size, seen)


class Lines:
    """Lines of a file as text, ends made "\\n". size: bytes given out since it was last set to 0.

    What cannot be decoded is kept as half surrogate pairs, so that only the document that holds it is lost.
    """

    def __init__(self, stream: Opened, decoding: Decoding) -> None:
        self.stream = stream
        self.decoding = decoding
        self.size = 0
        self.begun = False
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        while raw := self.stream.content.readline(LONGEST):
            self.size += len(raw)
            if self.size > ROW:  # cells in quotes may hold line ends, so that a row may go on for ever
                raise DocumentTooLarge
            yield from self._text(raw)
        self.ended = True

    def start(self) -> Iterator[str]:
        """The lines of the first SAMPLE bytes."""
        for line in self:
            yield line
            if self.size >= SAMPLE:
                return

    def counted(self, lines: Iterable[str]) -> Iterator[str]:
        """Lines that were read before, given out again."""
        for line in lines:
            self.size += len(line.encode("utf-8", "surrogateescape"))
            yield line

    def _text(self, raw: bytes) -> Iterator[str]:
        try:
            text = self.decoding.text(raw, lambda: self.stream.ahead)
        except UnicodeDecodeError:
            text = raw.decode("utf-8", "surrogateescape")
        if not self.begun:
            self.begun, text = True, text.removeprefix(BOM)
        if "\r" not in text:
            yield text
        else:
            yield from LINE.findall(text.replace("\r\n", "\n").replace("\r", "\n"))


def dialect_of(lines: list[str], suffix: str, *, whole: bool) -> Dialect:
    """The delimiter and quoting by which most rows have as many cells as the header, which has two or more.

    Of several alike the first of DELIMITERS, with quoting. A header that none of them parts is that of a lone column,
    in whose rows all of them are text. whole: the lines are the whole file.
    """
    delimiters = ("\t",) if suffix == ".tsv" else DELIMITERS
    best, most = None, 0.0
    for one in [Dialect(delimiter, quoted) for quoted in (True, False) for delimiter in delimiters]:
        rows = list(one.rows(lines))
        if not whole and len(rows) > 2:
            rows.pop()  # it may be cut
        width = len(rows[0] or ()) if rows else 0
        share = sum(row is not None and len(row) == width for row in rows) / len(rows) if width > 1 else 0.0
        if share > most:
            best, most = one, share
    if best is not None:
        return best
    broken = any(row is None for row in Dialect(NONE).rows(lines if whole else lines[:-1]))
    return Dialect(NONE, quoted=not broken)
