"""Open a file that may be compressed or of wide characters, and know how much of it on disk has been read."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from graft.core.errors import UsageError
from graft.core.files import require_file
from graft.readers.encoded import wide_encoding


class NotText(Exception):
    """What reading raises where UTF-16 or UTF-32 is broken."""


COMPRESSIONS = (".gz", ".zst")
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, NotText)  # what reading a broken file raises
CHUNK = 1 << 16
START = 512  # bytes by which wide characters are known


@dataclass(frozen=True)
class Opened:
    """A stream of a file's content, with `seen`, the bytes on disk behind it.

    wide: the encoding of wide characters that the file is in, and that `content` has turned into UTF-8; "" for none.
    """

    raw: BinaryIO
    content: io.BufferedReader | gzip.GzipFile
    wide: str = ""

    @property
    def seen(self) -> int:
        return self.raw.tell()

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


def _unpacked(path: Path, raw: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_Frames(raw), CHUNK)
    return raw


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


class _Transcoded(_Bytes):
    """Text of wide characters as UTF-8; NotText where it is broken."""

    def __init__(self, content: io.BufferedReader | gzip.GzipFile, encoding: str) -> None:
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


class _Frames(_Bytes):
    """The content of Zstandard frames, one after another; EOFError where the last one is cut off.

    The library's own reader takes a file that was cut off for one that ended (zstandard 0.25).
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.begun = False

    def more(self) -> bytes:
        while True:
            rest = b""
            if self.frame.eof:
                rest = self.frame.unused_data
                self.frame, self.begun = zstandard.ZstdDecompressor().decompressobj(), False
            compressed = rest or self.raw.read(CHUNK)
            if not compressed:
                if self.begun:
                    raise EOFError("compressed file ended before its last frame was complete")
                return b""
            self.begun = True
            if found := self.frame.decompress(compressed):
                return found
