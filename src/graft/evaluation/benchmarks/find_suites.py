"""Asked: what the names of suites stand for, each thing once and under a name of its own."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from graft.core.config.errors import UsageError
from graft.core.text.phrases import listed, said
from graft.embedded import quiz
from graft.embedded.text import SCHEME
from graft.evaluation.benchmarks import question, suite
from graft.evaluation.benchmarks.question import BadQuestion
from graft.evaluation.benchmarks.settings import Answer
from graft.evaluation.benchmarks.suite import Choosing, SuiteFile, Task, missing, read_tasks, suite_files, tasks_of

if TYPE_CHECKING:
    from graft.evaluation.benchmarks.lm_eval_tasks import HarnessTask

YAML = (".yaml", ".yml")
T = TypeVar("T")
TO_ALL = ("limit", "shots", "window", "precision")  # settings that tasks of lm-eval heed too


@dataclass
class FoundSuites:
    """Suites as they were found: files of questions, tasks of lm-eval, the embedded quiz.

    others: files that are none of these. notes: what else was to be said of the names.
    """

    files: list[SuiteFile] = field(default_factory=list)
    tasks: list[HarnessTask] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quiz: bool = False

    def read(self, choosing: Choosing, suites: Sequence[str]) -> tuple[list[Task], list[HarnessTask], dict[str, str]]:
        """The tasks of all files and of the quiz, those of lm-eval, and why some files are none.

        No two tasks have one name: a later one is told apart by a number. Errors: UsageError for a file that was named
        itself and cannot be asked, and where nothing is left to ask.
        """
        tasks, refused = self._read_files(choosing, suites)
        if self.quiz:
            rows = [
                question.question_of(row, f"{module}#{row['id']}", n) for n, (module, row) in enumerate(quiz.rows(), 1)
            ]
            tasks += tasks_of(rows, "quiz", choosing)
        for task in tasks:
            if not task.questions:
                raise UsageError(
                    f"no question of {task.name} is left: {said(task.left_out)}",
                    where=next(iter(task.places.values()), task.name),
                    do="--set answer.repeated=keep asks questions of which two choices are the same",
                )
        if not tasks and not self.tasks:
            words = "; ".join(f"{name} holds {why}" for name, why in refused.items())
            raise UsageError(f"nothing here can be asked: {words}", allowed=question.ALLOWED)
        names = apart([*(one.name for one in tasks), *(one.name for one in self.tasks)])
        tasks = [replace(one, name=next(names)) for one in tasks]
        return tasks, [replace(one, name=next(names)) for one in self.tasks], refused

    def _read_files(self, choosing: Choosing, suites: Sequence[str]) -> tuple[list[Task], dict[str, str]]:
        named = {Path(name).expanduser().resolve() for name in suites if not name.startswith(SCHEME)}
        tasks: list[Task] = []
        refused: dict[str, str] = {}
        for file in self.files:
            try:
                tasks += read_tasks(file, choosing)
            except BadQuestion as reason:
                if file.path.resolve() in named:
                    raise UsageError(
                        f"this file holds {reason}", where=str(file.path), allowed=question.ALLOWED
                    ) from reason
                refused[file.name] = str(reason)
        return tasks, refused


def find_suites(suites: Sequence[str], settings: Answer) -> FoundSuites:
    """What the names stand for; what is named more than once is there once, with a note.

    Errors: UsageError for what is nothing, and for a setting that nothing of what was found heeds.
    """
    if not suites:
        raise UsageError("suite names nothing", allowed="one or more files, folders, or tasks of lm-eval")
    found = FoundSuites(quiz=quiz.NAME in suites)
    again = [quiz.NAME] * (list(suites).count(quiz.NAME) > 1)
    named: list[str] = []
    for name in suites:
        if name == quiz.NAME:
            continue
        if name.startswith(SCHEME):
            raise UsageError(f'no embedded suite is called "{name}"', allowed=quiz.NAME)
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's raises where there is no such user
        if os.path.exists(path) and path.suffix.lower() not in YAML:  # noqa: PTH110 - False where Path would raise
            files, others = suite_files(path)
            found.files.extend(files)
            found.others.extend(others)
        elif _is_path(name) and not os.path.exists(path):  # noqa: PTH110
            raise missing(name)
        else:
            named.append(name)
    if named:
        from graft.evaluation.benchmarks.lm_eval_tasks import open_tasks

        again += [Path(name).name for name in dict.fromkeys(named) if named.count(name) > 1]
        opened = open_tasks(list(dict.fromkeys(named)), settings.limit, settings.shots)
        found.tasks, twice = _once(opened, [one.identity for one in opened])
        again += [one.label for one in twice]
    kept, twice = _once(found.files, [file.path.resolve() for file in found.files])
    again += [file.path.name for file in twice]
    found.files = [replace(file, name=name) for file, name in zip(kept, apart(one.name for one in kept), strict=True)]
    found.others = list(dict.fromkeys(found.others))
    if again:
        found.notes.append(f"named more than once, and asked once: {listed(list(dict.fromkeys(again)))}")
    _check_heeded(found, settings)
    return found


def _check_heeded(asked: FoundSuites, settings: Answer) -> None:
    """Errors: UsageError for a setting that nothing reads, where every suite is a task of lm-eval."""
    if asked.files or asked.quiz:
        return
    for one in fields(settings):
        value = getattr(settings, one.name)
        if one.name not in TO_ALL and value != one.default:
            raise UsageError(
                f"answer.{one.name} is {value!r}, and all that is asked are tasks of lm-eval, which do not heed it",
                allowed=f"of tasks of lm-eval {', '.join(TO_ALL)}",
                do="leave it out; what a task says of this stands in its own file",
            )


def apart(names: Iterable[str]) -> Iterator[str]:
    """The same names, with a number behind one that was there before: law, law_2."""
    taken: set[str] = set()
    for name in names:
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free)
        yield free


def _once(found: Sequence[T], keys: Sequence[object]) -> tuple[list[T], list[T]]:
    """Those whose key is new, and those whose key was there before."""
    fresh = [key not in keys[:place] for place, key in enumerate(keys)]
    split = [[one for one, new in zip(found, fresh, strict=True) if new == wanted] for wanted in (True, False)]
    return split[0], split[1]


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith(("~", ".")) or Path(name).suffix.lower() in (*suite.SUFFIXES, ".gz", ".zst")
