"""Inputs that are nearly right: bytes, words and values of a right one changed, drawn by a seed."""

from __future__ import annotations

import json
import random
import re
from typing import Any

WORDS = re.compile(rb"\s+|[A-Za-z_]+|-?[0-9][0-9.]*|.", re.DOTALL)
# What parsers trip over, as it is written in a file.
ODD = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n\n", b"\t", b"\x1b[31m", b"\xe2\x80\xae",
    b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1", b"0", b"1e-320", b"9" * 400, b"9" * 5000,
    b"18446744073709551616", b"[]", b"{}", b'""', b'"', b"'", b"[" * 2000, b"{" * 300, b'{"a":' * 500, b"&a [*a, *a]",
    b"!!python/object:os.system", b"*x", b"<<: *x", b"---", b"- ", b": ", b"|", b">", b"#", b",", b";", b"%",
    b"a" * 70000,
    b"\\u0000", b"\\ud800", b"<p " + b"a " * 3000 + b">", b"<![CDATA[", b"<!--", b"&#x110000;", b"../", b"/etc/passwd",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "",
    " ", "text", "\0", "\ud800", "\x1b[31m", "a" * 5000, [], {}, [[]], [None], {"": None}, [1, "a", None],
    {"role": "user"},
    "null", "[]", "nan", "1e400", "../x", "\ufeff",
]  # fmt: skip


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut, doubled or put in."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        place, kind = draw.randrange(len(found) + 1), draw.randrange(5)
        end = min(len(found), place + draw.choice((1, 2, 4, 8, 64)))
        if kind == 0 and place < len(found):
            found[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[place:end] = bytes(draw.randrange(256) for _ in range(end - place))
        elif kind == 2:
            del found[place:end]
        elif kind == 3:
            found[place:place] = found[place:end] * draw.choice((1, 2, 50))
        else:
            found[place:place] = draw.choice(ODD)
    return bytes(found[: draw.randrange(len(found) + 1)] if draw.random() < 0.1 else found)


def changed_words(content: bytes, draw: random.Random) -> bytes:
    """Whole words and marks left out, doubled, put in other places, or replaced by odd ones."""
    words = WORDS.findall(content)
    for _ in range(draw.randint(1, 4)):
        if not words:
            break
        place, kind = draw.randrange(len(words)), draw.randrange(4)
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, words[draw.randrange(len(words))])
        elif kind == 2:
            words[place] = words[draw.randrange(len(words))]
        else:
            words[place] = draw.choice(ODD)
    return b"".join(words)


def changed_value(value: Any, draw: random.Random) -> Any:
    """A value of JSON with one or more of what it holds left out, replaced, or of another type."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.05:
        return draw.choice(VALUES)
    if isinstance(value, list):
        place, kind = draw.randrange(len(value)), draw.randrange(4)
        if kind == 0:
            return value[:place] + value[place + 1 :]
        if kind == 1:
            return [*value[:place], value[place], *value[place:]]
        return [*value[:place], changed_value(value[place], draw), *value[place + 1 :]]
    name, kind = draw.choice(list(value)), draw.randrange(5)
    if kind == 0:
        return {key: one for key, one in value.items() if key != name}
    if kind == 1:
        return {(str(draw.choice(VALUES)) if key == name else key): one for key, one in value.items()}
    return {key: (changed_value(one, draw) if key == name else one) for key, one in value.items()}


def changed_json(content: bytes, draw: random.Random) -> bytes:
    """A whole JSON document with values changed."""
    value = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        value = changed_value(value, draw)
    return written(value)


def changed_lines(content: bytes, draw: random.Random) -> bytes:
    """JSON lines, values of one of them changed."""
    lines = content.splitlines()
    place = draw.randrange(len(lines))
    lines[place] = changed_json(lines[place], draw).replace(b"\n", b" ")
    return b"\n".join(lines) + b"\n"


def written(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
