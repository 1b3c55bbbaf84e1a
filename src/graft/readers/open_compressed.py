"""Open a file that may be compressed or of wide characters, and know how much of it on disk has been read."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import zstandard

from graft.core.config.errors import UsageError
from graft.core.config.regular_file import require_file
from graft.readers.encoded import wide_encoding
from graft.readers.file_record import EXPANDS, TOO_LARGE, UNDECODABLE, FileRecord


class NotText(Exception):
    """What reading raises where UTF-16 or UTF-32 is broken."""


class Expands(Exception):
    """What reading raises where a compressed file gives more than text that was compressed can."""


class DocumentTooLarge(Exception):
    """What reading raises where one document is larger than a reader takes."""


COMPRESSIONS = (".gz", ".zst")
# What reading a broken file raises, or one that was made to take all memory.
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, NotText, Expands, DocumentTooLarge)
CHUNK = 1 << 16
PACKED_CHUNK = 1 << 13  # of Zstandard: three bytes may stand for 128 kB, and all that a chunk gives comes at once
# A compressed file may give MOST bytes, and beyond them so many times its own: real text gives 2 to 20 times, and what
# is made to fill the memory thousands.
MOST, TIMES = 1 << 24, 100
PACKED_DOCUMENT = 1 << 27  # bytes of a document that is a whole compressed file; of one that is not, its size is seen
ROW = 1 << 25  # bytes of one row of JSON, CSV or of one page; parsed, it takes some twenty times that
START = 512  # bytes by which wide characters are known


@dataclass(frozen=True)
class Opened:
    """A stream of a file's content, with `seen`, the bytes on disk behind it.

    wide: the encoding of wide characters that the file is in, and that `content` has turned into UTF-8; "" for none.
    """

    raw: BinaryIO
    content: io.BufferedReader
    wide: str = ""

    @property
    def seen(self) -> int:
        return self.raw.tell()

    @property
    def packed(self) -> bool:
        """Whether the file's size on disk does not tell how large its content is."""
        return self.content is not self.raw

    def whole(self, most: int) -> bytes:
        """All that is left of it. Raises: TooLarge where it is more than `most` bytes."""
        found = self.content.read(most + 1)
        if len(found) > most:
            raise DocumentTooLarge
        return found

    def lines(self, most: int) -> Iterator[bytes | int]:
        """Its lines; of one of more than `most` bytes only how many they are."""
        while line := self.content.readline(most + 1):
            if len(line) <= most:
                yield line
                continue
            size = len(line)
            while not line.endswith(b"\n") and (line := self.content.readline(CHUNK)):
                size += len(line)
            yield size

    @property
    def ahead(self) -> bytes:
        """Some of what comes next, or nothing where that cannot be read."""
        try:
            return self.content.peek(1)
        except DAMAGED:
            return b""


@contextmanager
def opened(path: Path, encoding: str = "") -> Generator[Opened]:
    """The content of `path`, .gz and .zst taken off while it is read, and UTF-16 and UTF-32 turned into UTF-8.

    encoding: what the user named; one of wide characters is used where there is no byte order mark.
    """
    require_file(path)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read this file: {error.strerror}", where=str(path)) from error
    with raw:
        try:
            content = _unpacked(path, raw)
            wide = wide_encoding(content.peek(1)[:START], encoding)
        except DAMAGED:  # is raised again where it is read
            raw.seek(0)
            content, wide = _unpacked(path, raw), ""
        yield Opened(raw, io.BufferedReader(_Transcoded(content, wide), CHUNK) if wide else content, wide)


def broken_off(error: Exception, parent: str, num_bytes: int, size: int) -> FileRecord:
    """The loss of what one of DAMAGED stood in the way of. size: of the file, all of which counts as read."""
    if isinstance(error, Expands | DocumentTooLarge):
        return FileRecord("", parent, num_bytes, size, EXPANDS if isinstance(error, Expands) else TOO_LARGE)
    hint = f"the file is damaged, and is not read from here on: {type(error).__name__} {error}"[:200].strip()
    return FileRecord("", parent, num_bytes, size, UNDECODABLE, hint=hint)


def _unpacked(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    suffix = path.suffix.lower()
    if suffix not in COMPRESSIONS:
        return raw
    more = partial(gzip.GzipFile(fileobj=raw).read, CHUNK) if suffix == ".gz" else _Frames(raw).more
    return io.BufferedReader(_Bounded(raw, more), CHUNK)


class _Bytes(io.RawIOBase):
    """A stream of what `more` returns, up to the first time that it is nothing."""

    def __init__(self) -> None:
        self.ready = memoryview(b"")

    def more(self) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self.ready:
            self.ready = memoryview(self.more())
        amount = min(len(buffer), len(self.ready))
        buffer[:amount] = self.ready[:amount]
        self.ready = self.ready[amount:]
        return amount


class _Bounded(_Bytes):
    """What a compressed file holds; Expands where it is more than text gives."""

    def __init__(self, raw: BinaryIO, unpack: Callable[[], bytes]) -> None:
        super().__init__()
        self.raw, self.unpack, self.given = raw, unpack, 0

    def more(self) -> bytes:
        found = self.unpack()
        self.given += len(found)
        if self.given > MOST and self.given > TIMES * self.raw.tell():
            raise Expands
        return found


class _Transcoded(_Bytes):
    """Text of wide characters as UTF-8; NotText where it is broken."""

    def __init__(self, content: io.BufferedReader, encoding: str) -> None:
        super().__init__()
        self.content = content
        self.decoder = codecs.getincrementaldecoder(encoding)()

    def more(self) -> bytes:
        while chunk := self.content.read(CHUNK):
            if text := self._decoded(chunk):
                return text.encode()
        return self._decoded(b"", final=True).encode()

    def _decoded(self, chunk: bytes, *, final: bool = False) -> str:
        try:
            return self.decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            raise NotText(str(error)) from error


class _Frames:
    """The content of Zstandard frames, one after another; EOFError where the last one is cut off.

    The library's own reader takes a file that was cut off for one that ended (zstandard 0.25).
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.begun = False

    def more(self) -> bytes:
        """The next of it, or nothing at the end."""
        while True:
            rest = b""
            if self.frame.eof:
                rest = self.frame.unused_data
                self.frame, self.begun = zstandard.ZstdDecompressor().decompressobj(), False
            compressed = rest or self.raw.read(PACKED_CHUNK)
            if not compressed:
                if self.begun:
                    raise EOFError("compressed file ended before its last frame was complete")
                return b""
            self.begun = True
            if found := self.frame.decompress(compressed):
                return found
