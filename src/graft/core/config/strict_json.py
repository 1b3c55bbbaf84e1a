"""JSON from anybody's file: refused where it is nested so deeply that whoever reads on would run out of stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

DEEPEST = 100


class NotStrict(ValueError):
    """JSON that is well-formed for Python and not what a file may hold."""


def parse_json(text: str, *, finite: bool = True, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a text. finite: NaN and Infinity, which are no JSON, are refused. pairs: what makes objects.

    Raises: ValueError, and no other class.
    """
    try:
        found = json.loads(text, parse_constant=_refuse if finite else None, object_pairs_hook=pairs)
    except RecursionError as error:
        raise NotStrict(f"it is nested more than {DEEPEST} deep") from error
    waiting = [(found, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > DEEPEST:
                raise NotStrict(f"it is nested more than {DEEPEST} deep")
            waiting += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]
    return found


def _refuse(constant: str) -> Any:
    raise NotStrict(f"it holds {constant}, which is no number of JSON")
