"""Open a file that may be compressed, and know how much of it on disk has been read."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

COMPRESSIONS = (".gz", ".zst")
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)  # what reading broken compression raises
CHUNK = 1 << 16


@dataclass(frozen=True)
class Opened:
    """A stream of a file's content, with `seen`, the bytes on disk behind it."""

    raw: BinaryIO
    content: io.BufferedIOBase | BinaryIO

    @property
    def seen(self) -> int:
        return self.raw.tell()


@contextmanager
def opened(path: Path) -> Generator[Opened]:
    """The content of `path`, .gz and .zst taken off while it is read."""
    with path.open("rb") as raw:
        if path.suffix.lower() == ".gz":
            yield Opened(raw, gzip.GzipFile(fileobj=raw))
        elif path.suffix.lower() == ".zst":
            yield Opened(raw, io.BufferedReader(_Frames(raw), CHUNK))
        else:
            yield Opened(raw, raw)


class _Frames(io.RawIOBase):
    """The content of Zstandard frames, one after another; EOFError where the last one is cut off.

    The library's own reader takes a file that was cut off for one that ended (zstandard 0.25).
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.begun = False
        self.ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.ready:
            if self.frame.eof:
                rest, self.frame, self.begun = (
                    self.frame.unused_data,
                    zstandard.ZstdDecompressor().decompressobj(),
                    False,
                )
            else:
                rest = b""
            compressed = rest or self.raw.read(CHUNK)
            if not compressed:
                if self.begun:
                    raise EOFError("compressed file ended before its last frame was complete")
                return 0
            self.begun = True
            self.ready = memoryview(self.frame.decompress(compressed))
        amount = min(len(buffer), len(self.ready))
        buffer[:amount] = self.ready[:amount]
        self.ready = self.ready[amount:]
        return amount
