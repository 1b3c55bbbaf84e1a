"""The document table: the one noun that text is before it becomes tokens.

Columns (Arrow schema `SCHEMA`, held in Daft data frames between stages and in Parquet on disk):
    id         128-bit hash of the canonical text, hexadecimal: equal texts have equal ids (see `canonical`)
    text       the text itself
    source     the name of the source it counts for ("domain", "general", ...)
    position   its place within its source, from 0: the order that every later stage keeps
    parents    what it was made from: "path#row" of a file, or the ids of other documents
    num_bytes  length of the text in UTF-8; for what could not be read, the bytes that were there
    split      "train", "validation" or "test"; empty before the split
    dropped    why it is not used, in the words of the ledger ("dropped: empty"); empty while it is used
    dropped_by who decided that: "reading", a curation step, "pool"; empty while it is used, as the next two
    reason     the code of it, which that one declares (see graft.core.text.drop_reasons)
    detail     what the code leaves open: a suffix, a source, a score
    notes      JSON object with whatever a step found worth keeping; of a row read: "dialogue", where it is one (its
               turns in the text and what was rejected, see graft.core.text.dialogue), and "label", where one was asked
               for
"""

from __future__ import annotations

import hashlib
import unicodedata

import pyarrow as pa

from graft.core.text.drop_reasons import READ, read_reason

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("position", pa.int64()),
        ("parents", pa.list_(pa.string())),
        ("num_bytes", pa.int64()),
        ("split", pa.string()),
        ("dropped", pa.string()),
        ("dropped_by", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("notes", pa.string()),
    ]
)

SPLITS = ("train", "validation", "test")


BOM = "\ufeff"


def canonical(text: str) -> str:
    """What a text is known by: in Unicode's normal form C, without byte order marks, with "\\n" as its line ends.

    Two files with the same words can differ in all three, by the system they were saved on. The text itself stays as
    it is. NFC joins only what Unicode calls canonically equivalent: "\u00b2" and "2" stay different.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text
    if BOM in text:
        text = text.replace(BOM, "")
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def doc_id(text: str) -> str:
    """The identity of a text: that of its canonical form."""
    return exact_id(canonical(text))


def exact_id(text: str) -> str:
    """BLAKE2b-128 of the UTF-8 bytes: for names and settings, where every character counts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def doc_row(
    text: str, *, source: str, position: int, parent: str, dropped: str = "", num_bytes: int = -1, notes: str = "{}"
) -> dict:
    """One row of the table as a dict, as reading makes it; num_bytes -1 takes the length of the text."""
    reason, detail = read_reason(dropped) if dropped else ("", "")
    size = len(text.encode("utf-8", "surrogatepass")) if num_bytes < 0 else num_bytes
    return {
        "id": doc_id(text) if text else exact_id(f"{parent}\0{dropped}"),
        "text": text,
        "source": source,
        "position": position,
        "parents": [parent],
        "num_bytes": size,
        "split": "",
        "dropped": dropped,
        "dropped_by": READ if dropped else "",
        "reason": reason,
        "detail": detail,
        "notes": notes,
    }
