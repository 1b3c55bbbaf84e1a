"""Choices and the right one among them, however a data set writes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graft.core.config.strict_json import parse_json

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LONGEST = 1 << 20  # characters of choices that a cell of a table writes as a list
LETTER = re.compile(r"\(?([A-Za-z])[).:]?")  # "A", "a", "(A)", "A.", "A)"
LABELLED = re.compile(r"\(?([A-Za-z])[).:]\s*(.+)", re.DOTALL)  # "(A) text", "A. text"


@dataclass(frozen=True)
class Options:
    """texts: of the choices, in their order. labels: what an answer may call them; none where they have no own."""

    texts: tuple[Any, ...]
    labels: tuple[str, ...] = ()


class NoKey(Exception):
    """An answer that is no choice, or might be several. hint: what may have been meant."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(hint)
        self.hint = hint


def options_of(value: Any) -> Options | None:
    """A list of texts; {"A": text, ...}; {"text": [...], "label": [...]}; [{"label": ..., "text": ...}, ...].

    Also any of these as the text of JSON or of Python, as tables hold them. None for anything else.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):  # of a text of Python, whose keys may be anything
            return None
        cells = cast("Mapping[str, Any]", value)
        texts, labels = cells.get("text"), cells.get("label", cells.get("labels"))
        if isinstance(texts, list):
            same = isinstance(labels, list) and len(labels) == len(texts)
            return Options(tuple(texts), tuple(map(str, labels)) if same and labels else ())
        keys = sorted(cells) if all(len(key) == 1 for key in cells) else list(cells)
        return Options(tuple(cells[key] for key in keys), tuple(keys))
    if not isinstance(value, list):
        return None
    if value and all(isinstance(one, Mapping) and "text" in one for one in value):
        named = [str(one["label"]) for one in value if "label" in one]
        return Options(tuple(one["text"] for one in value), tuple(named) if len(named) == len(value) else ())
    return Options(tuple(value))


def _parsed(text: str) -> Any:
    if len(text) > LONGEST or not text.strip().startswith(("[", "{")):
        return None
    for parse in (parse_json, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def without_letters(texts: Sequence[str]) -> tuple[str, ...]:
    """Choices that begin with their own letters ("(A) text") without these; others as they are."""
    found = [LABELLED.fullmatch(text.strip()) for text in texts]
    if all(one is not None and one[1].upper() == letter for one, letter in zip(found, LETTERS, strict=False)):
        return tuple(one[2].strip() for one in found if one is not None)
    return tuple(texts)


def right_one(value: Any, choices: Sequence[str], labels: Sequence[str] = (), first: int = 0) -> int:
    """The place of the right choice, from 0.

    value: its label, its letter ("B", "b", "(B)", "B."), its text, or its number. first: the number of the first
    choice. Errors: NoKey where that fits no choice, or several.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    found = _places(value, choices, labels, first)
    if len(found) == 1:
        return found.pop()
    if found:
        raise NoKey(f"it may be choice {' or '.join(str(one) for one in sorted(found))}: write its letter")
    number = _number(value)
    if number is not None and not first and number == len(choices):
        raise NoKey(f"did you mean {number - 1}? Where numbers count from 1: --set answer.first=1")
    raise NoKey


def _places(value: Any, choices: Sequence[str], labels: Sequence[str], first: int) -> set[int]:
    """Every place that the value may stand for."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if text is not None and labels:
        named = {at for at, label in enumerate(labels) if label.strip().lower() == text.lower()}
        if named:
            return named
    number = _number(value)
    found = {number - first} if number is not None and 0 <= number - first < len(choices) else set[int]()
    if isinstance(value, str) and text:
        found |= {at for at, choice in enumerate(choices) if choice.strip() == text}
        letter, labelled = LETTER.fullmatch(text), LABELLED.fullmatch(text)
        places = [LETTERS.index(one[1].upper()) for one in (letter, labelled) if one]
        if letter and places[0] < len(choices):
            found.add(places[0])
        elif labelled and places[-1] < len(choices) and choices[places[-1]].strip() == labelled[2].strip():
            found.add(places[-1])
    return found


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return (
        int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,3}(\.0)?\s*", value) and "." not in value
        else None
    )
