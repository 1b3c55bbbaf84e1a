"""A piece of a file: one document, or one place where a document should have been and why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graft.core.text.drop_reasons import read_fate

EMPTY = read_fate("empty")
UNDECODABLE = read_fate("undecodable")
NOT_JSON = read_fate("not_json")
NOT_CSV = read_fate("not_csv")
RAGGED = read_fate("ragged_row")
TWICE = read_fate("column_twice")
UNREAD_KIND = read_fate("unread_kind")  # and the suffix
NO_FIELD = read_fate("no_text_field")
NOT_TEXT = read_fate("not_text")
TOO_LARGE = read_fate("too_large")
EXPANDS = read_fate("expands")
MARKUP = read_fate("markup")
NO_MEMORY = read_fate("no_memory")
SAMPLED_OUT = read_fate("sampled_out")

BOM = "\ufeff"


@dataclass(frozen=True)
class File:
    """A file to read.

    name: how documents name it as their parent, relative to what the user gave.
    suffix: decides the reader: ".jsonl"; compression stripped.
    limit: bytes to read of what has no rows (plain text); 0: all of it. Only a survey sets it.
    every, first: of rows, only those whose number is `first` + 1 and every so many-th after it (see readers.part).
    """

    path: Path
    name: str
    suffix: str
    size: int
    limit: int = 0
    every: int = 1
    first: int = 0


@dataclass(frozen=True)
class Fields:
    """What is looked for in files: fields of rows, and an encoding.

    text: holds the text; a row without it may be a dialogue (see graft.readers.dialogue).
    label: is kept in the notes, where the row has it; "": none is.
    encoding: of text that is neither UTF-8 nor has a byte order mark; "": guessed (see graft.readers.encoded).
    """

    text: str = "text"
    label: str = ""
    encoding: str = ""


@dataclass(frozen=True)
class FileRecord:
    """One document or one loss.

    parent: "path" or "path#row", rows and lines from 1.
    num_bytes: UTF-8 bytes of the text; of what was there where it could not be used.
    seen: bytes of the file on disk that were read so far, for progress and for the share of a survey.
    fields: names of the fields that a row without the text field has.
    notes: what the document table keeps of it besides the text (JSON; see graft.core.text.documents).
    encoding: of its file, as far as it was read; "" for UTF-8. hint: of a loss, what may help.
    """

    text: str
    parent: str
    num_bytes: int
    seen: int
    dropped: str = ""
    fields: tuple[str, ...] = ()
    notes: str = "{}"
    encoding: str = ""
    hint: str = ""


def clean(text: str) -> str:
    """Byte order mark off, line ends made "\\n"."""
    if text.startswith(BOM):
        text = text[1:]
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def piece(text: str, parent: str, seen: int) -> FileRecord:
    """A document from text as it was found, made `clean`.

    Not usable, and marked so: nothing but white space; a NUL (binary) or half a surrogate pair (no UTF-8 has it).
    """
    text = clean(text)
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    if "\0" in text or (num_bytes > len(text) and has_surrogate(text)):
        return FileRecord("", parent, num_bytes, seen, UNDECODABLE)
    if not text.strip():
        return FileRecord("", parent, num_bytes, seen, EMPTY)
    return FileRecord(text, parent, num_bytes, seen)


def has_surrogate(text: str) -> bool:
    """Whether there is half a surrogate pair in it, which no UTF-8 can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
