"""Suites: files of questions, read whole or refused with the place that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from graft.core.config.errors import UsageError, nearest
from graft.core.stats.even_sample import golden_order
from graft.evaluation.benchmarks.question import Question, question_of
from graft.evaluation.benchmarks.roles import Fields
from graft.evaluation.benchmarks.suite_rows import ALLOWED, SUFFIXES, rows_of
from graft.readers.folder import listing

TWINS = "two of its choices are the same"
BEYOND, SHOWN = "beyond the limit", "shown as an example"


@dataclass(frozen=True)
class Choosing:
    """Which rows of a file are asked, and which are shown before them.

    limit: questions of a task, spread over it; 0: all. shots: solved questions before each. shots_from: a file that
    they are the first of; "": rows of another split, else the task's own first ones, which are then not asked.
    """

    limit: int = 0
    shots: int = 0
    shots_from: str = ""
    split: str = "test"
    part: str = "subject"
    repeated: Literal["drop", "keep", "refuse"] = "drop"
    ignore: tuple[str, ...] = ()
    fields: Fields = ()  # see graft.evaluation.benchmarks.roles
    first: int = 0  # number of the first choice


@dataclass(frozen=True)
class Task:
    """The questions of one task. examples: solved questions that stand before each. left_out: why, and how many."""

    name: str
    form: str
    questions: tuple[Question, ...]
    examples: tuple[Question, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    places: dict[str, str] = field(default_factory=dict)  # of what was left out, the first by reason


@dataclass(frozen=True)
class SuiteFile:
    """A file of a suite; name: of its task."""

    path: Path
    name: str


def suite_files(path: Path) -> tuple[list[SuiteFile], list[str]]:
    """The files of a suite, sorted, and what else lies in its folder; graft's own and hidden files are passed over.

    A task is called as its file is, with its folder where two would be called the same. Errors: UsageError where there
    is none.
    """
    there = listing(path)
    kept = [file for file in there.files if file.suffix in SUFFIXES]
    if not kept:
        what = "this is no file of questions" if path.is_file() else "no file of questions is in this folder"
        raise UsageError(what, where=str(path), allowed=ALLOWED)
    whole = [file.name[: file.name.lower().rindex(file.suffix)] for file in kept]
    short = [name.rpartition("/")[2] for name in whole]
    names = short if len(set(short)) == len(short) else whole
    others = [file.name for file in there.files if file.suffix not in SUFFIXES]
    others += [file.name for file in there.unread]
    return [SuiteFile(file.path, name) for file, name in zip(kept, names, strict=True)], others


def missing(name: str) -> UsageError:
    """The error for a path that is not there."""
    parent = Path(name).parent
    near = [one.name for one in parent.iterdir()] if parent.is_dir() else []
    return UsageError(
        "there is no such file or folder of questions",
        where=name,
        allowed=f"{ALLOWED}; a folder of such files; a task file of lm-eval (.yaml); or the name of one of its tasks",
        do=nearest(Path(name).name, near) or "check the path",
    )


def read_tasks(file: SuiteFile, choosing: Choosing) -> list[Task]:
    """The tasks of a file, in the order of their first questions.

    Errors: UsageError for a row that cannot be asked as it stands, and for a file that holds no questions; Refused
    for a file of a known form that nothing here asks.
    """
    rows = list(_questions(file.path, choosing))
    if not rows:
        raise UsageError("this file holds no questions", where=str(file.path), allowed=ALLOWED)
    return tasks_of(rows, file.name, choosing)


def tasks_of(rows: Sequence[Question], name: str, choosing: Choosing) -> list[Task]:
    """Questions of one file as tasks; see `read_tasks`."""
    for one in rows:
        if one.form != rows[0].form:
            raise UsageError(
                f"this row has the form {one.form}, and the first of its file is {rows[0].form}",
                where=one.place,
                allowed="one form in a file",
                do="put them into two files",
            )
    parts: dict[str, list[Question]] = {}
    for one in rows:
        parts.setdefault(one.part, []).append(one)
    given = _first_of(Path(choosing.shots_from), choosing) if choosing.shots_from and choosing.shots else None
    single = list(parts) == [""]
    return [
        _task(name if single else f"{name}/{part or 'other'}", some, choosing, given) for part, some in parts.items()
    ]


def _task(name: str, rows: list[Question], choosing: Choosing, given: Sequence[Question] | None) -> Task:
    left_out: Counter[str] = Counter()
    places: dict[str, str] = {}

    def leave(one: Question, why: str) -> None:
        left_out[why] += 1
        places.setdefault(why, one.place)

    splits = {one.split for one in rows}
    asked = [one for one in rows if not one.split or one.split == choosing.split]
    if not asked:
        raise UsageError(
            f'{name} has no rows of the split "{choosing.split}"',
            where=rows[0].place,
            allowed=", ".join(sorted(splits)),
            do=f"--set answer.split={sorted(splits)[0]}",
        )
    others = [one for one in rows if one.split and one.split != choosing.split]
    for one in others:
        leave(one, f"of another split than {choosing.split}")
    examples: Sequence[Question] = ()
    if choosing.shots:
        own = others or asked
        examples = (own if given is None else given)[: choosing.shots]
        if given is None and not others:
            for one in examples:
                leave(one, SHOWN)
            asked = asked[len(examples) :]
        if len(examples) < choosing.shots or not asked:
            raise UsageError(
                f"{name} has {len(rows)} rows, too few for {choosing.shots} examples before each question",
                where=rows[0].place,
                allowed=f"at most {len(own if given is None else given) - (given is None and not others)} shots",
            )
    kept: list[Question] = []
    for one in asked:
        if one.form != "continuation" and len(set(one.choices)) < len(one.choices) and choosing.repeated != "keep":
            if choosing.repeated == "refuse":
                raise _twins(one)
            leave(one, TWINS)
            continue
        kept.append(one)
    if choosing.limit and len(kept) > choosing.limit:
        chosen = sorted(golden_order(len(kept))[: choosing.limit].tolist())
        left_out[BEYOND] += len(kept) - len(chosen)
        kept = [kept[at] for at in chosen]
    return Task(name, rows[0].form, tuple(kept), tuple(examples), left_out, places)


def _twins(one: Question) -> UsageError:
    twin = next(choice for choice, count in Counter(one.choices).items() if count > 1)
    places = [at for at, choice in enumerate(one.choices) if choice == twin]
    return UsageError(
        f"choices {' and '.join(map(str, places))} are the same: {twin!r}",
        where=one.place,
        allowed="choices that differ",
        do="mend the row, or --set answer.repeated=drop (left out, and counted) or keep (asked all the same)",
    )


def _first_of(path: Path, choosing: Choosing) -> list[Question]:
    if not path.is_file():
        raise missing(str(path))
    return list(_questions(path, choosing))


def _questions(path: Path, choosing: Choosing) -> Iterator[Question]:
    for number, row in rows_of(path):
        try:
            yield question_of(
                row,
                f"{path.name}#{number}",
                number,
                part=choosing.part,
                ignore=choosing.ignore,
                fields=choosing.fields,
                first=choosing.first,
            )
        except UsageError as error:
            raise UsageError(error.what, where=f"{path}#{number}", allowed=error.allowed, do=error.do) from error
