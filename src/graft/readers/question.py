"""One row of a benchmark as a question: which of several things follows what, or what follows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graft.core.errors import UsageError, nearest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What a row must have, by form; no two forms can be taken for each other.
FORMS = {
    "choices": ("query", "choices", "gold"),
    "lettered": ("question", "choices", "answer"),
    "contexts": ("context_options", "continuation", "gold"),
    "continuation": ("context", "continuation"),
    "written": ("context", "answer"),
}
MEANINGS = {
    "choices": "one query, several endings, the number of the right one",
    "lettered": "as in MMLU: the answers stand in the prompt, and their letters are the endings",
    "contexts": "several contexts before one ending (a schema), the number of the right one",
    "continuation": "one ending, which is to be the likeliest at every token",
    "written": "the model writes, and what it wrote is compared with answer and aliases",
}
OPTIONAL = {"written": ("aliases",)}
KEPT = ("id", "source", "split", "subject", "category")  # any row may have them
REFUSED = {
    ("chain_of_thought",): "answers after a chain of thought, which nothing here reads off a text",
    ("prompt", "test", "entry_point"): "programs that would have to be run against tests",
}
ALLOWED = "; ".join(f"{' + '.join(names)} ({MEANINGS[form]})" for form, names in FORMS.items())


class Refused(Exception):
    """A row of a known form that cannot be asked; its words say what it holds."""


@dataclass(frozen=True)
class Question:
    """contexts, endings: one of each per choice (of a context that all share, the same); gold: the right one, from 0.

    opening: stands before everything, also before examples. choices: what differs, as a reader wants to see it.
    accepted: of what the model writes itself, all that is right; there are then no endings.
    place: file#line. number: its line. chance: of a guess to be right, 0 where there is nothing to choose from.
    """

    form: str
    place: str
    number: int
    id: str
    contexts: tuple[str, ...]
    endings: tuple[str, ...]
    gold: int
    choices: tuple[str, ...]
    opening: str = ""
    accepted: tuple[str, ...] = ()
    split: str = ""
    part: str = ""  # which task of its file it belongs to

    @property
    def chance(self) -> float:
        return 1 / len(self.choices) if len(self.choices) > 1 else 0.0

    @property
    def solved(self) -> tuple[str, str]:
        """Context and right ending, as an example before other questions has them."""
        if self.accepted:
            return self.contexts[0], self.accepted[0]
        return self.contexts[self.gold], self.endings[self.gold]

    def after(self, examples: Sequence[Question], delimiter: str, between: str) -> Question:
        """The same question with solved ones before it, and `delimiter` before what is scored."""
        shown = self.opening + "".join(f"{delimiter.join(one.solved)}{between}" for one in examples)
        return replace(
            self,
            contexts=tuple(shown + context for context in self.contexts),
            endings=tuple(delimiter + ending for ending in self.endings),
        )


def question_of(row: Any, place: str, number: int, *, part: str = "subject", ignore: Sequence[str] = ()) -> Question:
    """A row as a question. part: the field that says which task of its file a row is of. ignore: fields read over.

    Errors: UsageError naming the place, what was found, what is allowed and the nearest name; Refused.
    """
    form = _form_of(row, place, part, ignore)
    made = {
        "choices": _choices,
        "lettered": _lettered,
        "contexts": _contexts,
        "continuation": _continuation,
        "written": _written,
    }[form](row, place)
    return replace(
        made,
        form=form,
        place=place,
        number=number,
        id=str(row.get("id", number)),
        split=str(row.get("split") or ""),
        part=str(row.get(part) or "") if part else "",
    )


def _form_of(row: Any, place: str, part: str, ignore: Sequence[str]) -> str:
    if not isinstance(row, Mapping):
        raise UsageError(f"this row is {_said(row)}", where=place, allowed=f"an object with the fields {ALLOWED}")
    names = [name for name in row if name not in ignore]
    for fields, words in REFUSED.items():
        if set(fields) <= set(names):
            raise Refused(words)
    fitting = [form for form, needed in FORMS.items() if set(needed) <= set(names)]
    if not fitting:
        raise _unfitting(names, place)
    form = fitting[0]
    known = [*FORMS[form], *OPTIONAL.get(form, ()), *KEPT, *([part] if part else [])]
    strange = [name for name in names if name not in known]
    if strange:
        raise UsageError(
            f'unknown field "{strange[0]}" (the row has {", ".join(names)})',
            where=place,
            allowed=", ".join(dict.fromkeys(known)),
            do=nearest(strange[0], known)
            or f"if it may be read over, say so: --set answer.ignore=[{', '.join(strange)}]",
        )
    return form


def _unfitting(names: Sequence[str], place: str) -> UsageError:
    """No form has all its fields: the nearest form, what it lacks, and which name may have been meant."""
    form = max(FORMS, key=lambda one: sum(_alike(name, names) for name in FORMS[one]))
    lacking = [name for name in FORMS[form] if name not in names]
    meant = [f'"{name}": {close}' for name in names if name not in KEPT and (close := nearest(name, lacking))]
    return UsageError(
        f"no form of question has the fields {', '.join(names) or 'of an empty row'}; nearest is "
        f"{' + '.join(FORMS[form])}, without {' and '.join(lacking)}",
        where=place,
        allowed=ALLOWED,
        do="; ".join(meant) or "rename the fields to one of these forms",
    )


def _alike(name: str, names: Sequence[str]) -> float:
    return 1.0 if name in names else 0.7 if nearest(name, names) else 0.0


def _choices(row: Mapping[str, Any], place: str) -> Question:
    query, choices = _text(row, "query", place, empty=True), _texts(row, "choices", place)
    gold = _gold(row, "gold", choices, place)
    return _question((query,) * len(choices), choices, gold, choices)


def _lettered(row: Mapping[str, Any], place: str) -> Question:
    """The prompt of lm-eval's MMLU (tasks/mmlu/default), after Hendrycks et al. 2021 (arXiv 2009.03300)."""
    asked, choices = _text(row, "question", place), _texts(row, "choices", place)
    if len(choices) > len(LETTERS):
        raise UsageError(f"choices has {len(choices)} entries", where=place, allowed=f"2 to {len(LETTERS)}")
    gold = _gold(row, "answer", choices, place)
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    subject = re.sub("_", " ", str(row.get("subject") or ""))
    about = f" about {subject}" if subject else ""
    opening = f"The following are multiple choice questions (with answers){about}.\n\n"
    prompt = f"{asked.strip()}\n{listed}\nAnswer:"
    made = _question((prompt,) * len(choices), tuple(LETTERS[: len(choices)]), gold, choices)
    return replace(made, opening=opening)


def _contexts(row: Mapping[str, Any], place: str) -> Question:
    contexts = _texts(row, "context_options", place)
    ending = _text(row, "continuation", place)
    return _question(contexts, (ending,) * len(contexts), _gold(row, "gold", contexts, place), contexts)


def _continuation(row: Mapping[str, Any], place: str) -> Question:
    ending = _text(row, "continuation", place)
    return _question((_text(row, "context", place, empty=True),), (ending,), 0, (ending,))


def _written(row: Mapping[str, Any], place: str) -> Question:
    answer = _text(row, "answer", place)
    aliases = _texts(row, "aliases", place, least=0) if "aliases" in row else ()
    accepted = tuple(dict.fromkeys([answer, *aliases]))
    return replace(_question((_text(row, "context", place),), (), 0, (answer,)), accepted=accepted)


def _question(contexts: tuple[str, ...], endings: tuple[str, ...], gold: int, choices: tuple[str, ...]) -> Question:
    return Question("", "", 0, "", contexts, endings, gold, choices)


def _text(row: Mapping[str, Any], name: str, place: str, *, empty: bool = False) -> str:
    value = row[name]
    if not isinstance(value, str) or not (empty or value.strip()):
        raise UsageError(
            f"{name} is {_said(value)}", where=place, allowed="text" if empty else "text that is not empty"
        )
    return value


def _texts(row: Mapping[str, Any], name: str, place: str, *, least: int = 2) -> tuple[str, ...]:
    values = row[name]
    if not isinstance(values, list) or len(values) < least:
        found = f"has {len(values)} entries" if isinstance(values, list) else f"is {_said(values)}"
        raise UsageError(f"{name} {found}", where=place, allowed=f"a list of {least} or more texts")
    for at, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{name}[{at}] is {_said(value)}", where=place, allowed="texts that are not empty")
    return tuple(values)


def _gold(row: Mapping[str, Any], name: str, choices: Sequence[str], place: str) -> int:
    """Errors: UsageError for what is no number of a choice; a choice written out, and a letter, are told theirs."""
    value = row[name]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return value
    meant = None
    if isinstance(value, str):
        texts = [choice.strip() for choice in choices]
        letters = list(LETTERS[: len(choices)])
        meant = next((group.index(value.strip()) for group in (texts, letters) if value.strip() in group), None)
        if meant is None and value.strip().isdigit() and int(value) < len(choices):
            meant = int(value)
    if isinstance(value, int) and value == len(choices):
        meant = value - 1  # counted from 1
    raise UsageError(
        f"{name} is {_said(value)}",
        where=place,
        allowed=f"the number of the right choice, counted from 0: 0 to {len(choices) - 1}",
        do="" if meant is None else f"did you mean {meant}?",
    )


def _said(value: Any) -> str:
    """A value as an error shows it, short."""
    if value is None:
        return "nothing (null)"
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}..."
