"""One row of a benchmark as a question: which of several things follows what, or what follows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graft.core.config.errors import UsageError, nearest, said
from graft.evaluation.benchmarks import roles
from graft.evaluation.benchmarks.answer_key import LETTERS, NoKey, Options, options_of, right_one, without_letters
from graft.evaluation.benchmarks.roles import Fields

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
    ("chain_of_thought",): "answers after a chain of thought, which nothing here reads off a text (--fields "
    "question=context,answer=answer asks for the answer alone)",
    ("prompt", "test", "entry_point"): "programs that would have to be run against tests (take a tool that runs them)",
}
OTHERS = "; or rows with other names, which --fields question=...,choices=...,answer=...[,context=...] tells apart"
ALLOWED = "; ".join(f"{' + '.join(names)} ({MEANINGS[form]})" for form, names in FORMS.items()) + OTHERS


class BadQuestion(Exception):
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


def question_of(
    row: Any,
    place: str,
    number: int,
    *,
    part: str = "subject",
    ignore: Sequence[str] = (),
    fields: Fields = (),
    first: int = 0,
) -> Question:
    """A row as a question. part: the field that says which task of its file a row is of. ignore: fields read over.

    fields: which field has which role (see graft.evaluation.benchmarks.roles); all others are read over. Without them a
    row of none of the forms is read by the names of its fields. first: the number of the first choice, where answers
    are numbers. Errors: UsageError naming the place, what was found, what is allowed and the nearest name; Refused.
    """
    if not isinstance(row, Mapping):
        raise UsageError(f"this row is {_said(row)}", where=place, allowed=f"an object with the fields {ALLOWED}")
    row = row if not fields else _kept(row, part) | _canonical(roles.by_fields(row, fields, place), place)
    form, row = _form_of(row, place, part, ignore)
    row = {**row, "first": first}
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


def _kept(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    """What any row may have beside its question."""
    return {name: row[name] for name in (*KEPT, part) if name in row}


def _form_of(row: Mapping[str, Any], place: str, part: str, ignore: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """The form of a row, and the row with the names of that form."""
    names = [name for name in row if name not in ignore]
    for fields, words in REFUSED.items():
        if set(fields) <= set(names):
            raise BadQuestion(words)
    fitting = [form for form, needed in FORMS.items() if set(needed) <= set(names)]
    form = fitting[0] if fitting else ""
    known = [*FORMS.get(form, ()), *OPTIONAL.get(form, ()), *KEPT, *([part] if part else [])]
    strange = [name for name in names if name not in known]
    if not form or strange:
        values, used = roles.by_names({name: row[name] for name in names})
        unclear = roles.strange({name: row[name] for name in names}, used, [*KEPT, part])
        if values and not unclear:
            found = _kept(row, part) | _canonical(values, place)
            return next(one for one in FORMS if set(FORMS[one]) <= set(found)), found
        if values and not form:
            raise _unclear(unclear, values, used, names, place)
    if not form:
        raise _unfitting(names, place)
    if strange:
        raise UsageError(
            f'unknown field "{strange[0]}" (the row has {", ".join(names)})',
            where=place,
            allowed=", ".join(dict.fromkeys(known)),
            do=nearest(strange[0], known)
            or f"if it may be read over, say so: --set answer.ignore=[{', '.join(strange)}]",
        )
    return form, row


def _unclear(
    unclear: Sequence[str], values: Mapping[str, Any], used: Mapping[str, str], names: Sequence[str], place: str
) -> UsageError:
    """A row whose roles are known, with fields of which nothing is."""
    said = ",".join(f"{role}={used[role if role in used else 'question']}" for role in values)
    return UsageError(
        f'unknown field "{unclear[0]}" (the row has {", ".join(names)})',
        where=place,
        allowed=", ".join(dict.fromkeys(part for name in used.values() for part in name.split("+"))),
        do=f"if it may be read over, say which fields count: --fields {said}",
    )


def _canonical(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Values by role as a row of one of the forms: query + choices + gold, question + choices + answer, or written."""
    asked = values.get("question", values.get("query"))
    context = values.get("context")
    answer, choices = values["answer"], values.get("choices")
    if choices is None and isinstance(answer, bool):
        choices, answer = ["no", "yes"], int(answer)
    if isinstance(context, list) and all(isinstance(one, str) for one in context):
        context = "\n".join(context)
    if context is not None and not isinstance(context, str):
        raise UsageError(f"context is {_said(context)}", where=place, allowed="text, or a list of texts")
    if choices is None:
        given = options_of(answer)
        accepted = [str(one) for one in (given.texts if given else [answer]) if one is not None]
        more = values.get("aliases", [])
        if not isinstance(more, list):
            raise UsageError(f"aliases is {_said(more)}", where=place, allowed="a list of texts")
        if not accepted:
            raise UsageError(f"answer is {_said(answer)}", where=place, allowed="text, or a list of accepted texts")
        whole = "\n".join(filter(None, (context, str(asked))))
        return {"context": whole, "answer": accepted[0], "aliases": [*accepted[1:], *more]}
    whole = f"{context.strip()}\n\n{asked}" if context and isinstance(asked, str) else asked
    if "query" in values:
        return {"query": whole, "choices": choices, "gold": answer}
    return {"question": whole, "choices": choices, "answer": answer}


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
    query, given = _text(row, "query", place, empty=True), _options(row, "choices", place)
    choices = given.texts
    gold = _gold(row, "gold", given, place)
    return _question((query,) * len(choices), choices, gold, choices)


def _lettered(row: Mapping[str, Any], place: str) -> Question:
    """The prompt of lm-eval's MMLU (tasks/mmlu/default), after Hendrycks et al. 2021 (arXiv 2009.03300)."""
    asked, given = _text(row, "question", place), _options(row, "choices", place)
    choices = without_letters(given.texts)
    if len(choices) > len(LETTERS):
        raise UsageError(f"choices has {len(choices)} entries", where=place, allowed=f"2 to {len(LETTERS)}")
    gold = _gold(row, "answer", given, place)
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
    return _question(contexts, (ending,) * len(contexts), _gold(row, "gold", Options(contexts), place), contexts)


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


COLUMNS = "where each stands in a column of its own, name them: --fields choices=A+B+C+D"


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
        raise UsageError(f"{name} {found}", where=place, allowed=f"a list of {least} or more texts", do=COLUMNS)
    for at, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{name}[{at}] is {_said(value)}", where=place, allowed="texts that are not empty")
    return tuple(values)


def _options(row: Mapping[str, Any], name: str, place: str) -> Options:
    """The choices of a row, numbers among them as text."""
    given = options_of(row[name])
    if given is None:
        raise UsageError(f"{name} is {_said(row[name])}", where=place, allowed="a list of 2 or more texts", do=COLUMNS)
    plain = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in given.texts]
    return Options(_texts({name: plain}, name, place), given.labels)


def _gold(row: Mapping[str, Any], name: str, given: Options, place: str) -> int:
    """Errors: UsageError for what is no choice, or may be several."""
    bare, first = without_letters(given.texts), row["first"]
    try:
        return right_one(row[name], bare, given.labels, first)
    except NoKey as error:
        called = f"label ({', '.join(given.labels)})" if given.labels else "letter (B, b, (B))"
        raise UsageError(
            f"{name} is {_said(row[name])}",
            where=place,
            allowed=f"the number of the right choice, counted from {first}: {first} to {len(bare) - 1 + first}; its "
            f"{called}; or its text",
            do=error.hint,
        ) from error


def _said(value: Any) -> str:
    """A value as an error shows it, short."""
    if value is None:
        return "nothing (null)"
    return said(value)
