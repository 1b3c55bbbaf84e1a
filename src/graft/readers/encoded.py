"""Bytes as text: UTF-8 first, then the encoding that the user names, else a guess where it is safe."""

from __future__ import annotations

import codecs
import encodings.aliases
import re
from collections.abc import Callable
from dataclasses import dataclass

from graft.core.config.errors import UsageError, nearest

WESTERN = "cp1252"  # Windows-1252; Latin-1 text is the same bytes, since Latin-1 has no letters at 80 to 9F
WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
UTF_8 = ("utf-8", "utf-8-sig")
# These are not text, or consist of bytes below 80 alone, so that such a file is valid UTF-8 that says something else.
REFUSED = re.compile(r"iso2022.*|hz|utf-7|idna|punycode|(raw-)?unicode-escape|undefined|mbcs|oem|charmap|palmos")
ALLOWED = (
    "utf-8, utf-16, utf-16-le, utf-32, latin-1, cp1252, cp1251, koi8-r, shift_jis, euc-jp, gb18030, big5, euc-kr, and "
    "the other text encodings of Python"
)
SAMPLE = 8192  # bytes that a guess looks at
WINDOW = 40  # bytes on either side of a byte beyond ASCII that a guess looks at
PLACES = 60  # such bytes
ATTEMPTS = 3  # guesses per file
LETTER = re.compile(rb"[A-Za-z]")
RARE = b"\xff"  # a letter that hardly any text has, and many files that are no text
HIGH = re.compile(rb"[\x80-\xff]")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
INVALID = re.compile("[\udc80-\udcff]")
BEYOND_ASCII = re.compile("[^\x00-\x7f\udc80-\udcff]")


def encoding_of(name: str) -> str:
    """The name of an encoding as this module knows it. Errors: UsageError for an unknown one, with the nearest."""
    try:
        found = codecs.lookup(name)
    except (LookupError, UnicodeError, ValueError):
        found = None
    known = found.name.replace("_", "-") if found is not None else ""
    if not known or REFUSED.fullmatch(known) or not getattr(found, "_is_text_encoding", True):
        names = [*encodings.aliases.aliases, *encodings.aliases.aliases.values()]
        raise UsageError(
            f'encoding is "{name}"',
            allowed=ALLOWED,
            do=nearest(name.lower().replace("-", "_"), names) or "leave it empty: then it is guessed, file by file",
        )
    return known


@dataclass
class Decoding:
    """How the bytes of one file become text, as a whole or line by line.

    Valid UTF-8 is UTF-8, whatever was named. Else the bytes are in the encoding `named`; without one they may be taken
    for Windows-1252 (of which Latin-1 is a part), unless the file has valid UTF-8 beyond ASCII too: then it is UTF-8
    that is damaged, and a guess would turn damage into wrong letters.

    used: the encoding that the text so far needed beside UTF-8; "" where it needed none. declared: one that the text
    itself names. suspected: what a text that could not be decoded looks like, for advice.
    """

    named: str = ""
    used: str = ""
    declared: str = ""
    suspected: str = ""
    beyond_ascii: bool = False
    attempts: int = ATTEMPTS

    @property
    def label(self) -> str:
        """For counts of files: "" for UTF-8."""
        return f"{self.used} (guessed)" if self.used and not self.named else self.used or self.declared

    def text(self, raw: bytes, more: Callable[[], bytes] = bytes) -> str:
        """The text of `raw`. more: gives what follows it in the file, which a guess may look at.

        Errors: UnicodeDecodeError.
        """
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode(self.instead(raw, more) or "utf-8")
        if not self.beyond_ascii:
            self.beyond_ascii = not text.isascii()
        return text

    def instead(self, raw: bytes, more: Callable[[], bytes] = bytes) -> str:
        """The encoding of bytes that are not UTF-8; "" where they are damaged or no encoding can be told."""
        if self.used or self.named in UTF_8:
            return self.used
        if self.named:
            self.used = self.named
        elif not self.beyond_ascii and self.attempts:
            self.attempts -= 1
            self.used, self.suspected = guessed(raw + more())
        return self.used

    @property
    def hint(self) -> str:
        """What may help with text that could not be decoded; "" where nothing is known."""
        return f"it looks like {self.suspected}: --encoding {self.suspected}" if self.suspected else ""


def guessed(content: bytes) -> tuple[str, str]:
    """(the encoding of bytes that are not UTF-8, "") where that is safe to say, else ("", what it may be)."""
    start = HIGH.search(content)
    sample = content[max(0, start.start() - WINDOW) :][:SAMPLE] if start else b""
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(sample)
    valid, invalid = len(BEYOND_ASCII.findall(text)), len(INVALID.findall(text))
    if not invalid or valid >= invalid or CONTROL.search(sample):
        return "", ""  # damaged UTF-8, or no text
    from charset_normalizer import from_bytes

    places = _places(BEYOND_ASCII.sub("", text).encode("utf-8", "surrogateescape"))
    high = HIGH.findall(places)
    plausible = len(LETTER.findall(places)) >= len(high) >= 10 * high.count(RARE)  # Western text is mostly ASCII
    if plausible and from_bytes(places, cp_isolation=[WESTERN]).best() is not None:
        return WESTERN, ""
    best = from_bytes(places).best()
    return "", best.encoding.replace("_", "-") if best is not None and best.coherence else ""


def _places(sample: bytes) -> bytes:
    """The neighbourhoods of bytes beyond ASCII: all that tells encodings apart, and quick to look at."""
    found: list[bytes] = []
    end = 0
    for place in HIGH.finditer(sample):
        if place.start() < end:
            continue
        first, end = max(end, place.start() - WINDOW), place.end() + WINDOW
        found.append(sample[first:end])
        if len(found) == PLACES:
            break
    return b" ".join(found)


def wide_encoding(start: bytes, named: str = "") -> str:
    """The encoding of text whose characters take two or four bytes, by how it starts; "" for any other.

    By its byte order mark, by the one that is named, or by every other byte of ASCII letters being 0.
    """
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if start.startswith(mark):
            return name
    if b"\0" not in start:
        return ""
    if named in WIDE:
        return f"{named}-le" if named in ("utf-16", "utf-32") else named  # without a mark: as Windows writes it
    even, odd = start[0::2].count(0), start[1::2].count(0)
    most, least, half = max(even, odd), min(even, odd), len(start) // 2
    if half < 2 or least or most * 2 < half:  # a zero on both sides is no text; UTF-16 of other scripts has few
        return ""
    return "utf-16-be" if even else "utf-16-le"


def without_cut(raw: bytes) -> bytes:
    """The beginning of a text, without the character of UTF-8 at its end that is cut."""
    for size in range(1, min(4, len(raw) + 1)):
        first = raw[-size]
        if first >= 0xC0:  # of a character of two, three or four bytes
            needed = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            return raw[:-size] if needed > size else raw
        if first < 0x80:
            break
    return raw
