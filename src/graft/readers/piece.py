"""A piece of a file: one document, or one place where a document should have been and why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EMPTY = "dropped: empty"
UNDECODABLE = "dropped: undecodable"
NOT_JSON = "dropped: not json"
NO_FIELD = "dropped: no text field"
NOT_TEXT = "dropped: text field is not text"
NAME_NOT_TEXT = "dropped: file name is not UTF-8"

BOM = "\ufeff"


@dataclass(frozen=True)
class File:
    """A file to read.

    name: how documents name it as their parent, relative to what the user gave.
    suffix: decides the reader: ".jsonl"; compression stripped.
    limit: bytes to read of what has no rows (plain text); 0: all of it. Only a survey sets it.
    """

    path: Path
    name: str
    suffix: str
    size: int
    limit: int = 0


@dataclass(frozen=True)
class Piece:
    """One document or one loss.

    parent: "path" or "path#row", rows and lines from 1.
    num_bytes: UTF-8 bytes of the text; of what was there where it could not be used.
    seen: bytes of the file on disk that were read so far, for progress and for the share of a survey.
    fields: names of the fields that a row without the text field has.
    """

    text: str
    parent: str
    num_bytes: int
    seen: int
    dropped: str = ""
    fields: tuple[str, ...] = ()


def piece(text: str, parent: str, seen: int) -> Piece:
    """A document from text as it was found: byte order mark off, line ends made "\\n".

    Not usable, and marked so: nothing but white space; a NUL (binary) or half a surrogate pair (no UTF-8 has it).
    """
    if text.startswith(BOM):
        text = text[1:]
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    if "\0" in text or (num_bytes > len(text) and _has_surrogate(text)):
        return Piece("", parent, num_bytes, seen, UNDECODABLE)
    if not text.strip():
        return Piece("", parent, num_bytes, seen, EMPTY)
    return Piece(text, parent, num_bytes, seen)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def from_row(row: object, field: str, parent: str, raw_bytes: int, seen: int) -> Piece:
    """A document from a row of a JSON file: its `field`, which must be there and be text."""
    if not isinstance(row, dict):
        return Piece("", parent, raw_bytes, seen, NO_FIELD)
    if row.get(field) is None:
        return Piece("", parent, raw_bytes, seen, NO_FIELD, fields=tuple(map(str, row)))
    if not isinstance(row[field], str):
        return Piece("", parent, raw_bytes, seen, NOT_TEXT)
    return piece(row[field], parent, seen)
