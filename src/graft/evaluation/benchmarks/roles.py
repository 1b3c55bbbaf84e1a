"""Which field of a row is the question, which the choices and which the answer: as the user says, or by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from graft.core.config.errors import UsageError, nearest
from graft.evaluation.benchmarks.answer_key import LETTERS

ROLES = ("question", "query", "choices", "answer", "context", "aliases")
# Names that data sets give them; of several the first that a row has.
NAMES = {
    "context": ("passage", "context", "article", "paragraph", "background", "support"),
    "question": ("question", "prompt", "stem", "problem", "input", "goal", "ctx", "premise"),
    "choices": ("choices", "options", "endings", "candidates", "answer_choices"),
    "answer": (
        *("answer", "label", "answerkey", "answer_key", "answer_idx", "answer_index", "correct", "correct_answer"),
        *("correct_option", "correct_choice", "cop", "gold", "target", "answers"),
    ),
}
ENDINGS = ("ctx", "premise", "goal")  # texts that the choices go on from
# Choices in columns of their own: what stands before the letter or the number.
COLUMNS = re.compile(
    r"(?:(option|opt|op|choice|answer|ending|sol|solution|hypothesis|c)[_ ]?)?([a-z]|\d)", re.IGNORECASE
)
# What a row may hold beside: it says nothing that a question is asked with.
ASIDE = (
    *("explanation", "exp", "rationale", "solution", "other", "topic", "topic_name", "subject_name", "difficulty"),
    *(
        "url",
        "meta",
        "metadata",
        "meta_info",
        "choice_type",
        "source_id",
        "ind",
        "activity_label",
        "split_type",
        "title",
        "type",
    ),
    *(
        "ctx_a",
        "ctx_b",
        "idx",
        "index",
        "qid",
        "question_id",
        "level",
        "hint",
        "lecture",
        "distractor",
        "question_type",
    ),
)
Fields = tuple[tuple[str, str], ...]


def read_fields(words: Sequence[str]) -> Fields:
    """ "question=q", "choices=a+b" ... as pairs; one text may hold several, parted by commas. Errors: UsageError."""
    allowed = (
        "question=NAME or query=NAME (choices go on from a query, and are listed after a question), answer=NAME, and "
        "where there are any choices=NAME, context=NAME, aliases=NAME; NAME may be nested by dots, choices=A+B+C+D are "
        "columns"
    )
    found: dict[str, str] = {}
    for word in (part for one in words for part in one.split(",")):
        role, equals, path = (part.strip() for part in word.partition("="))
        if not equals or not path or role not in ROLES or role in found:
            twice = " twice" if role in found else ""
            raise UsageError(f'fields has "{word}"{twice}', allowed=allowed, do=nearest(role, ROLES))
        found[role] = path
    if found and ("question" in found) == ("query" in found):
        raise UsageError(f"fields names {', '.join(found)}", allowed=allowed, do="name one of question and query")
    if found and "answer" not in found:
        raise UsageError(f"fields names {', '.join(found)}, and no answer", allowed=allowed)
    return tuple(found.items())


def by_fields(row: Mapping[str, Any], fields: Fields, place: str) -> dict[str, Any]:
    """What a row has in each role that the user named a field for. Errors: UsageError for a field that is not there."""
    return {
        role: [_at(row, part, place) for part in path.split("+")] if "+" in path else _at(row, path, place)
        for role, path in fields
    }


def _at(row: Mapping[str, Any], path: str, place: str) -> Any:
    """A field by its name, or by names inside of it, parted by dots."""
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = cast("Mapping[str, Any]", value)[step]
        elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):
            value = value[int(step)]
        else:
            names = list(map(str, value)) if isinstance(value, Mapping) else []
            raise UsageError(
                f'this row has no field "{path}"',
                where=place,
                allowed=", ".join(names) or f"what {path.rpartition('.')[0] or 'the row'} holds",
                do=nearest(step, names) or "correct --fields (answer.fields)",
            )
    return value


def by_names(row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(what a row has in each role, the field of each), told by the names of its fields; nothing where that is not
    clear: a question and an answer are needed, and choices or a context."""
    lower = {name.lower(): name for name in row}
    used = {role: lower[name] for role, names in NAMES.items() for name in names[::-1] if name in lower}
    inner = row.get(used.get("question", ""))
    nested = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else None
    values = {role: row[name] for role, name in used.items() if row[name] not in (None, "")}
    if nested is not None and "stem" in nested:  # as ARC was first published
        values |= {"question": nested["stem"]} | ({"choices": nested["choices"]} if "choices" in nested else {})
    if "choices" not in values:
        columns = _columns([name for name in row if name not in used.values()])
        if columns:
            values["choices"] = [row[name] for name in columns if row[name] not in (None, "")]
            used["choices"] = "+".join(columns)
    used = {role: name for role, name in used.items() if role in values}
    boolean = isinstance(values.get("answer"), bool)
    if not {"question", "answer"} <= set(values) or not (boolean or {"choices", "context"} & set(values)):
        return {}, used
    if used["question"].lower() in ENDINGS and "choices" in values:
        values["query"] = values.pop("question")
    return values, used


def strange(row: Mapping[str, Any], used: Mapping[str, str], known: Sequence[str]) -> list[str]:
    """Fields of a row that nothing is known of; none are those that say the answer once more, or are empty."""
    taken = {part for name in used.values() for part in name.split("+")}
    aside = {*ASIDE, *NAMES["answer"]}
    return [
        name
        for name, value in row.items()
        if name not in taken and name not in known and name.lower() not in aside and value not in (None, "")
    ]


def _columns(names: Sequence[str]) -> list[str]:
    """Names that count up from the same beginning: option_a, option_b ...; A, B ...; ending0, ending1 ..."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        if found := COLUMNS.fullmatch(name):
            groups.setdefault((found[1] or "").lower(), {})[found[2].upper()] = name
    for group in groups.values():
        marks = sorted(group)
        series = LETTERS if marks[0].isalpha() else "0123456789"[int(marks[0]) :] if marks[0] in "01" else ""
        if len(marks) > 1 and series.startswith("".join(marks)):
            return [group[mark] for mark in marks]
    return []
