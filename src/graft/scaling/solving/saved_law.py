"""What a saved law must look like before anything is built of it: every number a number, every list long enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graft.core.config.errors import said

ANY = "?"  # what is in something that may hold null
MAY_BE_NULL = ("low", "high", "objective", "facts", "critical", ANY)  # not defined, and so null in JSON
TEXTS = ("warnings", "domains", "also", "names")
SINGLE = ("value", "low", "high", "confidence", "spread", "objective", "bend", "tokens")
LISTS, OBJECTS = ("draws", "curves", "critical", "tails"), ("constants", "held", "facts")
COUNTS, SHARES = ("size", "tokens", "unique", "base_loss"), ("ratio", "injected")
DEPTH = 12  # of what is in a fitted law; a tree of gradient boosting is text


class BadLaw(ValueError):
    """A saved law that cannot be one. Its words say where and why."""


def check_saved(saved: Mapping[str, Any]) -> None:
    """Raises: BadLaw for the first thing that no fitted law has."""
    _require("settings", saved, Mapping, "an object")
    _require("fitted", saved, Mapping, "an object")
    if saved.get("ratio_of") not in ("own", "other"):
        raise BadLaw(f"ratio_of is {said(saved.get('ratio_of'))}, and not own or other")
    _number("noise", saved.get("noise"), least=0.0)
    _texts("also", _require("also", saved, list, "a list"))
    for size, loss in _require("base_loss", saved, Mapping, "an object").items():
        try:
            finite = math.isfinite(float(size))
        except ValueError:
            finite = False
        if not finite:
            raise BadLaw(f"base_loss has the size {said(size)}, no number")
        _number(f"base_loss.{size}", loss, least=0.0)
    _check_ranges(_require("ranges", saved, Mapping, "an object"))
    fitted = saved["fitted"]
    if list(saved["settings"]) != [saved.get("form")]:
        raise BadLaw(f"form is {said(saved.get('form'))}, and the settings are of {said(list(saved['settings']))}")
    _number("fitted.confidence", fitted.get("confidence"), least=0.0, most=1.0)
    for name, one in _require("constants", fitted, Mapping, "an object").items():
        if not isinstance(one, Mapping) or set(one) != {"value", "low", "high"}:
            raise BadLaw(f"fitted.constants.{name} is {said(one)}, and not value, low and high")
    _check_numbers("fitted", fitted, 0)


def _check_ranges(ranges: Mapping[str, Any]) -> None:
    for key in ("columns", "shares"):
        for name, ends in _require(key, ranges, Mapping, "an object").items():
            if not isinstance(ends, list) or len(ends) != 2:
                raise BadLaw(f"ranges.{key}.{name} is {said(ends)}, and not a least and a greatest number")
            most = 1.0 if key == "shares" or name in SHARES else math.inf
            least = 0.0 if most == 1.0 or name in COUNTS else -math.inf
            low, high = (_number(f"ranges.{key}.{name}", one, least=least, most=most) for one in ends)
            if low > high:
                raise BadLaw(f"ranges.{key}.{name} is {said(ends)}, the least above the greatest")
    for name, few in _require("values", ranges, Mapping, "an object").items():
        if not isinstance(few, list):
            raise BadLaw(f"ranges.values.{name} is {said(few)}, and not a list of numbers")
        for one in few:
            _number(f"ranges.values.{name}", one)


def _check_numbers(path: str, value: Any, depth: int, key: str = "") -> None:
    """Every leaf of a fitted law is a finite number, null where that may be, or one of the texts."""
    if depth > DEPTH:
        raise BadLaw(f"{path} is nested too deeply")
    if key in TEXTS:
        _texts(path, value)
    elif key in SINGLE and isinstance(value, Mapping | list):
        raise BadLaw(f"{path} is {said(value)}, and not a number")
    elif key in LISTS and not isinstance(value, list):
        raise BadLaw(f"{path} is {said(value)}, and not a list")
    elif key in OBJECTS and not isinstance(value, Mapping):
        raise BadLaw(f"{path} is {said(value)}, and not an object")
    elif isinstance(value, Mapping):
        for name, one in value.items():
            below = "objective" if key == "facts" else ANY if key in MAY_BE_NULL else str(name)
            _check_numbers(f"{path}.{name}", one, depth + 1, below)
    elif isinstance(value, list):
        for one in value:
            _check_numbers(path, one, depth + 1, ANY if key in MAY_BE_NULL else "")
    elif value is None:
        if key not in (*MAY_BE_NULL, "growth", "model"):
            raise BadLaw(f"{path} is nothing (null)")
    elif not (isinstance(value, str) and key in ("model", "unit")):
        _number(path, value)


def _require(key: str, saved: Mapping[str, Any], kind: type | tuple[type, ...], words: str) -> Any:
    if key not in saved:
        raise BadLaw(f"{key} is missing")
    if not isinstance(saved[key], kind):
        raise BadLaw(f"{key} is {said(saved[key])}, and not {words}")
    return saved[key]


def _texts(path: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadLaw(f"{path} is {said(value)}, and not a list of texts")


def _number(path: str, value: Any, *, least: float = -math.inf, most: float = math.inf) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number) or not least <= number <= most:
        raise BadLaw(f"{path} is {said(value)}, and not a number that it can be")
    return number
