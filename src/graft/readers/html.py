"""HTML: the main text of a page, its title first."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import replace

from graft.readers.encoded import UTF_8, Decoding
from graft.readers.file_record import EMPTY, MARKUP, UNDECODABLE, Fields, File, FileRecord, piece
from graft.readers.open_compressed import DAMAGED, ROW, broken_off, opened

DECLARED = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
DECLARED_WITHIN = 2048  # bytes from the start; the HTML standard says 1024
# The parser compares each attribute of a tag with all others of it: some thousands are the most that pages have.
QUOTED, LONG_TAG = re.compile(r"=\s*(\"[^\"]*\"|'[^']*')"), re.compile(r"<[A-Za-z/!?][^<>]{50000}")
# The standard (encoding.spec.whatwg.org) has every reader take these labels for Windows-1252.
LATIN_1 = ("iso-8859-1", "latin-1", "latin1", "ascii", "us-ascii")


def read(file: File, fields: Fields) -> Iterator[FileRecord]:
    """The main text as trafilatura finds it, without comments; of `fields` only the encoding is looked at."""
    decoding = Decoding(fields.encoding)
    with opened(file.path, fields.encoding) as stream:
        try:
            content = stream.whole(ROW)
        except DAMAGED as error:
            yield broken_off(error, file.name, file.size, file.size)
            return
    try:
        page = content.decode() if stream.wide else decode(content, decoding)
    except (UnicodeDecodeError, LookupError):
        yield FileRecord("", file.name, len(content), file.size, UNDECODABLE, hint=decoding.hint)
        return
    if "\0" in page:
        yield FileRecord("", file.name, len(content), file.size, UNDECODABLE)
        return
    if LONG_TAG.search(QUOTED.sub("", page)):
        yield FileRecord("", file.name, len(content), file.size, MARKUP)
        return
    text = main_text(page)
    found = piece(text, file.name, file.size) if text else FileRecord("", file.name, len(content), file.size, EMPTY)
    yield replace(found, encoding=stream.wide or decoding.label)


def decode(content: bytes, decoding: Decoding) -> str:
    """By the declared character set, without one or where that is wrong as other text is. Errors: UnicodeDecodeError.

    A byte order mark counts before a declaration.
    """
    declared = DECLARED.search(content[:DECLARED_WITHIN])
    name = declared.group(1).decode().lower() if declared else ""
    if content.startswith(codecs.BOM_UTF8) or not name or name.startswith(("utf-16", "utf-32")):
        return decoding.text(content)  # a declaration that can be read as ASCII is in no wide characters
    try:
        encoding = codecs.lookup("windows-1252" if name in LATIN_1 else name).name
        page = content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return decoding.text(content)
    decoding.declared = "" if encoding in UTF_8 or content.isascii() else encoding
    return page


def main_text(page: str) -> str:
    """Title and main text of an HTML page; empty where there is no text."""
    import trafilatura

    tree = trafilatura.load_html(page)
    if tree is None:
        return ""
    found = trafilatura.bare_extraction(tree, include_comments=False, with_metadata=True)
    if found is None or isinstance(found, dict) or not found.text:
        return ""
    title, body = (found.title or "").strip(), found.text.strip()
    return body if not title or body.startswith(title) else f"{title}\n\n{body}"
