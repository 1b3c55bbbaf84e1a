"""Which characters of a document each of its tokens stands for, so that a document can be shown as it was written.

The text of a single token id is not enough: byte-level tokens may hold a part of a character (decoded alone they are
U+FFFD), and SentencePiece drops the space in front of a token that is decoded alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

BROKEN = "�"


def spelled(text: str, tokens: Sequence[tuple[str, float, float]]) -> list[list[Any]]:
    """Tokens (text alone, nats before, nats after) as rows (text, before, after, n) that read as `text`.

    Tokens that share a character become one row: their nats add, n is their number. n is 0 for a mark that stands for
    no text (the end of a document). Where the tokens do not spell the text, every token keeps the text it has alone.
    """
    data = text.encode("utf-8", "surrogatepass")
    ends = locate(data, [piece for piece, _, _ in tokens])
    if ends is None:
        return [[piece, before, after, 1] for piece, before, after in tokens]
    rows: list[list[Any]] = []
    start, held = 0, (0.0, 0.0, 0)
    for number, ((piece, before, after), end) in enumerate(zip(tokens, ends, strict=True), 1):
        if end == start and not held[2] and piece:
            rows.append([piece, before, after, 0])
            continue
        held = (held[0] + before, held[1] + after, held[2] + 1)
        if number == len(tokens) or _is_border(data, end):
            rows.append([data[start:end].decode("utf-8", "replace"), round(held[0], 3), round(held[1], 3), held[2]])
            start, held = end, (0.0, 0.0, 0)
    return rows


def locate(data: bytes, pieces: Sequence[str]) -> list[int] | None:
    """The byte of `data` at which each piece ends; None where the pieces do not spell a beginning of `data`.

    A last piece behind the end of the text stands for no bytes.
    """
    came_from: list[dict[int, int]] = []
    reached = {0: 0}
    for number, piece in enumerate(pieces):
        following: dict[int, int] = {}
        for at in reached:
            for length in _lengths(data, at, piece):
                following.setdefault(at + length, at)
        if not following and number == len(pieces) - 1 and len(data) in reached:
            following = {len(data): len(data)}
        if not following:
            return None
        came_from.append(following)
        reached = following
    end = max(reached)
    ends = []
    for following in reversed(came_from):
        ends.append(end)
        end = following[end]
    return ends[::-1]


def _lengths(data: bytes, at: int, piece: str) -> Iterator[int]:
    """How many bytes from `at` on can be what `piece` was decoded from."""
    if BROKEN in piece:
        for length in range(1, 4 * len(piece) + 1):
            if data[at : at + length].decode("utf-8", "replace") == piece and at + length <= len(data):
                yield length
        return
    alone = piece.encode("utf-8", "surrogatepass")
    if data[at : at + 1] == b" " and data.startswith(alone, at + 1) and not piece.startswith(" "):
        yield 1 + len(alone)
    if data.startswith(alone, at):
        yield len(alone)


def _is_border(data: bytes, at: int) -> bool:
    """Whether a character of UTF-8 begins, or the text ends, at this byte."""
    return at >= len(data) or data[at] & 0xC0 != 0x80
