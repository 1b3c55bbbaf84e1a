"""The words of `graft law`: numbers, places and columns as people write them, and JSON as programs read it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError, nearest
from graft.core.config.regular_file import require_file
from graft.core.config.strict_json import parse_json
from graft.scaling.solving.law_file import LawFile, as_json
from graft.scaling.tables.table import number_of

LONG = ("fitted", "predictions", "candidates")  # keys of many numbers, each on a line of its own


def number(text: str, flag: str) -> float:
    """'1.8B' -> 1.8e9, '1/3' -> 0.333. Errors: UsageError for what is no finite number."""
    top, slash, bottom = text.partition("/")
    values = [number_of(part.strip()) for part in ([top, bottom] if slash else [top])]
    found = [value for value in values if value is not None]
    if len(found) < len(values) or not all(map(math.isfinite, found)) or (slash and found[1] == 0):
        percent = number_of(text.strip().rstrip("%")) if text.strip().endswith("%") else None
        raise UsageError(
            f'{flag} is "{text}"',
            allowed="a number: 0.3, 1e9, 400M, 1.8B",
            do="" if percent is None else f"write {percent / 100:g}",
        )
    return found[0] / found[1] if slash else found[0]


def percent(text: str) -> float:
    """'3%' -> 0.03, '0.03' -> 0.03. Errors: UsageError, also for 3, which may mean either."""
    bare = text.strip()
    value = number_of(bare.removesuffix("%"))
    if value is None or not math.isfinite(value) or (not bare.endswith("%") and abs(value) >= 1):
        do = f"write {bare}% or {value / 100:g}" if value is not None and math.isfinite(value) else ""
        raise UsageError(f'--forget is "{text}"', allowed="a share of the base's general loss: 3% or 0.03", do=do)
    return value / 100 if bare.endswith("%") else value


def one_of(**given: str) -> str:
    """The one that is given. Errors: UsageError for none or several."""
    names = [name for name, text in given.items() if text]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if len(names) != 1:
        told = "none" if not names else " and ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(f"{told} of {flags} is given" if not names else f"{told} are given", allowed=f"one of {flags}")
    return names[0]


def place(at: str, **given: str) -> dict[str, float]:
    """'size=1.8B,tokens=10B' and the same as single options. Errors: UsageError."""
    found: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in at.split(","))):
        name, sign, text = part.partition("=")
        if not sign or not name.strip():
            raise UsageError(f'--at "{part}" is no place', allowed="NAME=VALUE,NAME=VALUE: size=1.8B,tokens=10B")
        if name.strip() in found:
            raise UsageError(f"--at names {name.strip()} twice", allowed="each name once")
        found[name.strip()] = number(text.strip(), f"--at {name.strip()}")
    for name, text in given.items():
        if text:
            if name in found:
                raise UsageError(f"--at and --{name} both name {name}", allowed="one of them")
            found[name] = number(text, f"--{name}")
    return found


def axes(**given: Sequence[str] | None) -> dict[str, list[float]]:
    """The values of every option that is given."""
    return {name: [number(text, f"--{name}") for text in texts] for name, texts in given.items() if texts}


def named(column: Sequence[str], **given: str) -> dict[str, str]:
    """Column by noun, from NAME=COL pairs and from options. Errors: UsageError for a noun named twice."""
    found = {name: text for name, text in given.items() if text}
    for pair in column:
        name, sign, col = (part.strip() for part in pair.partition("="))
        if not sign or not name or not col:
            raise UsageError(f'--column "{pair}" names nothing', allowed="NAME=COL, such as unique=unique_tokens")
        if name in found:
            raise UsageError(f"{name} is named twice: {found[name]} and {col}", allowed="one column")
        found[name] = col
    return found


def flag_of(path: tuple[str | int, ...]) -> str:
    """('ratio_of',) -> '--ratio-of': the place of a setting that was given as an option."""
    return f"--{str(path[0]).replace('_', '-')}" if path else ""


def listed(text: str) -> tuple[str, ...]:
    """'a,b' -> ('a', 'b')."""
    return tuple(filter(None, (one.strip() for one in text.split(","))))


def open_law(path: Path) -> tuple[LawFile, Mapping[str, Any]]:
    """A fitted law, and the whole of its file. Errors: UsageError for what is none."""
    try:
        require_file(path)
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = nearest(path.name, [one.name for one in path.parent.glob("*.json")] if path.parent.is_dir() else [])
        raise UsageError(
            "there is no such file", where=str(path), do=near or "graft law fit ... --json FILE"
        ) from error
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise UsageError(
            f"this is no fitted law: {error}", where=str(path), allowed="a file that `graft law fit --json` wrote"
        ) from error
    return LawFile.from_json(content, str(path)), content


def json_text(told: Mapping[str, Any]) -> str:
    """An answer as JSON: null for what is not defined, indented but for the long lists."""
    lines: list[str] = []
    for key, value in as_json(told).items():
        if key in LONG and isinstance(value, list):
            text = (
                "[" + "".join(f"\n  {json.dumps(row)}," for row in value).removesuffix(",") + ("\n ]" if value else "]")
            )
        else:
            text = json.dumps(value) if key in LONG else json.dumps(value, indent=1).replace("\n", "\n ")
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
