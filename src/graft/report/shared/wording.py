"""Numbers and texts as a reader wants to see them."""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import groupby

MINUS = "−"
THIN = "\u202f"  # narrow no-break space
NOT_TEXT = "∅"

# Characters that a reader could not see, or that would reorder what stands around them.
MARKS = {
    " ": "␣",
    "\n": "⏎",
    "\t": "⇥",
    "\r": "␍",
    "\u00a0": "⍽",
    "\u3000": "⬚",
    "\ufffd": "▯",
    "\u00ad": "[SHY]",
    "\u200b": "[ZWSP]",
    "\u200c": "[ZWNJ]",
    "\u200d": "[ZWJ]",
    "\u200e": "[LRM]",
    "\u200f": "[RLM]",
    "\u2028": "[LS]",
    "\u2029": "[PS]",
    "\u202a": "[LRE]",
    "\u202b": "[RLE]",
    "\u202c": "[PDF]",
    "\u202d": "[LRO]",
    "\u202e": "[RLO]",
    "\u2060": "[WJ]",
    "\u2066": "[LRI]",
    "\u2067": "[RLI]",
    "\u2068": "[FSI]",
    "\u2069": "[PDI]",
    "\ufeff": "[BOM]",
} | {chr(code): chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t\r"}
MARKS["\x7f"] = "␡"


def marked(text: str) -> list[tuple[str, bool]]:
    """`text` in pieces (shown, is a mark): whitespace and invisible characters become marks, long runs are counted."""
    pieces: list[tuple[str, bool]] = []
    for char, run in groupby(text):
        count = len(list(run))
        mark = MARKS.get(char)
        if mark is None and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co"):
            mark = f"[U+{ord(char):04X}]"
        if mark is None:
            pieces.append((char * count, False))
        else:
            pieces.append((mark * count if count <= 4 else f"{mark}×{count}", True))
    return _joined(pieces) or [(NOT_TEXT, True)]


def _joined(pieces: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Neighbours of one sort as one piece."""
    return [("".join(shown for shown, _ in run), sort) for sort, run in groupby(pieces, key=lambda piece: piece[1])]


def typeset(sentence: str) -> str:
    """A sentence with true minus signs, and a narrow space before every percent sign."""
    return re.sub(r"(\d)\s?%", rf"\1{THIN}%", re.sub(r"(?<![\w.\-])-(?=\d)", MINUS, sentence))


def signed(value: float, digits: int) -> str:
    """-2.1469, 4 -> '−2.1469'; a value that rounds to nothing has no sign."""
    text = f"{abs(value):,.{digits}f}"
    if not any(char in "123456789" for char in text):
        return text
    return (MINUS if value < 0 else "+") + text


def percent(share: float, digits: int = 1) -> str:
    """0.898 -> '89.8 %'; a small share never looks like none."""
    least = 10.0**-digits
    if 0 < share * 100 < least:
        return f"< {least:.{digits}f}{THIN}%"
    return f"{share * 100:.{digits}f}{THIN}%"


def change(share: float) -> str:
    """-0.3725 -> '−37.2 %'."""
    return f"{signed(share * 100, 1)}{THIN}%"


def number(value: float) -> str:
    """Three to four significant digits, with thousands separated: perplexities."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "not a number"
    if abs(value) >= 1e7:
        return scientific(value)
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f}"


def scientific(value: float) -> str:
    """0.001 -> '1 × 10⁻³'."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.removesuffix('.0')}{THIN}×{THIN}10{raised}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """400000 -> '400 k', as on an axis."""
    size, letter = next(
        ((size, letter) for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= size), (1, "")
    )
    return f"{value / size:.3g}{letter}"


def large(value: float) -> str:
    """3344064 -> '3.3 million'."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.1f} {word}"
    return count(value)


def memory(num_bytes: float) -> str:
    """1289990144 -> '1.29 GB'."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float) -> str:
    """41.4 -> '41 s', 3725 -> '1 h 2 min'."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
