"""Text as a terminal or a log may show it: characters that would steer the terminal are written as escapes.

Names of files, cells of tables and words of models are anybody's, and may hold escape codes. All that is shown passes
here: errors, notes, progress and tables are made plain where they are put together, and whatever else is written to
standard output or error (tracebacks, libraries) where it leaves.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

# C0 without tab and newline, delete, C1, marks that turn the direction of text, halves of surrogate pairs.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What our own tables and progress, and those of libraries, steer a terminal with: colours, and one line drawn again.
OWN = re.compile("\x1b\\[[0-9;]*m|\x1b\\[[0-2]?[KA]|\r")


def plain(text: str) -> str:
    """`text` without anything that steers a terminal; lines and tabs stay."""
    return STEERING.sub(_escaped, text)


def plain_line(text: str) -> str:
    """The same on one line."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class TerminalStream:
    """A stream of text that lets colours and the drawing of one line through, and nothing else that steers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        places = [found.span() for found in OWN.finditer(text)]
        start, parts = 0, list[str]()
        for begin, end in places:
            parts += [plain(text[start:begin]), text[begin:end]]
            start = end
        self._stream.write("".join([*parts, plain(text[start:])]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Standard output and error pass through `Shown` from here on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, TerminalStream):
            setattr(sys, name, TerminalStream(stream))
