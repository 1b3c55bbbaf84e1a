"""answer: what a model answers to the questions of suites, every item kept."""

from __future__ import annotations

import json
import os.path
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core import answers, proportions
from graft.core.answers import CORRECT, FILE, MEASURES, write_answers
from graft.core.artifact import Artifact, Draft, Store
from graft.core.base import Base
from graft.core.errors import UsageError
from graft.core.files import whole
from graft.core.kind import WORDS, kind_of
from graft.core.proportions import wilson
from graft.core.settings import check_choices
from graft.embedded import quiz
from graft.embedded.text import SCHEME
from graft.readers import question, suite
from graft.readers.question import Refused
from graft.readers.suite import Choosing, SuiteFile, Task, missing, read_tasks, suite_files, tasks_of
from graft.stages.tell import tell_notes

if TYPE_CHECKING:
    from graft.stages.harness import HarnessTask
    from graft.tensors.model import Model

YAML = (".yaml", ".yml")
ASKED_FOR = (suite.BEYOND, suite.SHOWN)  # left out because the settings say so
MANY_NAMED = 5  # places that a note names


@dataclass(frozen=True)
class Answer:
    """How suites are asked: which items, what stands before them, and what is scored.

    Of every choice the nats are taken of `delimiter` and the choice after the query, by the rule of lm-eval 0.4 (see
    graft.tensors.pairs). acc: the choice with the least nats is the right one. acc_norm: with the least nats per
    character of the choice; acc_bytes: per UTF-8 byte. (Both are lm-eval's names and definitions; where several
    contexts stand before one ending all three are the same.) An ending without choices counts as right where each of
    its tokens is the likeliest. What the model writes itself, up to the end of the line, is right where it equals one
    of the accepted answers after lower case, without punctuation, articles and double spaces (Rajpurkar et al. 2016,
    arXiv 1606.05250).
    """

    limit: int = 0  # items of a task, spread over it; 0: all
    shots: int | None = None  # solved items before each; None: none, or what a task of lm-eval says itself
    shots_from: str = ""  # file whose first items they are; "": of another split, else the task's own first ones
    split: str = "test"  # asked, where rows name a split
    by: str = "subject"  # field that parts a file into tasks; "": none does
    delimiter: str = " "  # between query and choice
    between: str = "\n\n"  # after each solved item
    repeated: Literal["drop", "keep", "refuse"] = "drop"  # items of which two choices are the same
    ignore: tuple[str, ...] = ()  # fields that are read over
    tokens: int = 32  # written at most, where the model writes itself
    window: int | None = None  # tokens of context; None: the model's own
    precision: Literal["bf16", "fp32"] = "fp32"

    def __post_init__(self) -> None:
        check_choices(self)
        for name, least in (("limit", 0), ("shots", 0), ("tokens", 1), ("window", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}", allowed=f"{least} or more")

    @property
    def choosing(self) -> Choosing:
        return Choosing(
            self.limit, self.shots or 0, self.shots_from, self.split, self.by, self.repeated, tuple(self.ignore)
        )


@dataclass(frozen=True)
class Asked:
    """Suites as they were found: files of questions, tasks of lm-eval, files that are neither, the embedded quiz."""

    files: list[SuiteFile]
    tasks: list[HarnessTask]
    others: list[str]
    quiz: bool = False


def answer(model: Base, suites: Sequence[str], settings: Answer = Answer(), *, store: Store) -> Artifact:
    """Kind "answers": answers.parquet, a row per item (see graft.core.answers), and by task what it comes to.

    suites: files or folders of questions (see graft.readers.suite), task files of lm-eval (.yaml), or names of its
    tasks. Contents decide the identity. A file of a folder that nothing here can ask is named in the notes; one that
    was named itself is refused, and so is a row that is wrong anywhere. An item that cannot be scored is left out and
    counted. What a killed run has answered is not asked again.
    """
    _check_model(model, settings)
    asked = find_suites(suites, settings)
    inputs: dict[str, Artifact | str] = {"model": model.fingerprint(store.prints)}
    origins = {"model": model.origin}
    for number, file in enumerate(asked.files):
        inputs[f"suite {number}"] = f"{file.name} {store.prints.of([file.path])}"
        origins[f"suite {number}"] = str(file.path)
    if settings.shots_from and settings.shots:
        if not Path(settings.shots_from).is_file():
            raise missing(settings.shots_from)
        inputs["examples"] = store.prints.of([Path(settings.shots_from)])
    if asked.quiz:
        inputs["quiz"] = quiz.identity()
    for task in asked.tasks:
        inputs[f"task {task.name}"] = task.identity
    from graft.stages import ask, harness

    code = (sys.modules[__name__], ask, harness, answers, proportions, question, suite, quiz, "tensors")
    return store.make(
        "answers", settings, inputs, code, lambda draft: _build(draft, model, asked, settings, suites), origins=origins
    )


def find_suites(suites: Sequence[str], settings: Answer) -> Asked:
    """What the names stand for, no two files or tasks under one name. Errors: UsageError for what is nothing."""
    found = Asked([], [], [], quiz.NAME in suites)
    if not suites:
        raise UsageError("suite names nothing", allowed="one or more files, folders, or tasks of lm-eval")
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
        from graft.stages.harness import open_tasks

        found.tasks.extend(open_tasks(named, settings.limit, settings.shots))
    seen: dict[str, int] = {}
    for place, file in enumerate(found.files):
        seen[file.name] = seen.get(file.name, 0) + 1
        if seen[file.name] > 1:
            found.files[place] = SuiteFile(file.path, f"{file.name}_{seen[file.name]}")
    return found


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith(("~", ".")) or Path(name).suffix.lower() in (*suite.SUFFIXES, ".gz", ".zst")


def _check_model(model: Base, settings: Answer) -> None:
    kind = kind_of(model.config)
    if kind != "decoder":
        raise UsageError(
            f"{model.name} {WORDS[kind]}, and an ending after a context is asked of a decoder",
            where=str(model.folder / "config.json"),
            allowed=f"a model that {WORDS['decoder']}",
        )
    if settings.window is not None and settings.window > model.window:
        raise UsageError(
            f"window is {settings.window}, and the model reads at most {model.window} tokens",
            where=str(model.folder / "config.json"),
            allowed=f"2 to {model.window}",
        )


def _build(draft: Draft, base: Base, asked: Asked, settings: Answer, suites: Sequence[str]) -> None:
    from graft.stages.ask import ask
    from graft.tensors.endings import EndingScorer
    from graft.tensors.faults import enough_memory
    from graft.tensors.pairs import PairEncoder
    from graft.tensors.weights import open_model

    tasks, refused = _read(asked, settings, suites)
    model = open_model(base.folder, settings.precision, frozen=True)
    window = settings.window or base.window
    encoder, scorer = PairEncoder(base, window), EndingScorer(model, window)
    _check_ids(model, base)
    parts = draft / "parts"
    parts.mkdir(exist_ok=True)
    less = f"set answer.window to {window // 2} (it is {window})" if window > 128 else "take a smaller model"
    known: dict[str, dict[str, Any]] = {}
    with enough_memory("scoring", do=less):
        for number, task in enumerate(tasks):
            part = parts / f"{number:05}.parquet"
            if not part.exists():
                _keep(part, *ask(task, scorer, base, encoder, settings.delimiter, settings.between, settings.tokens))
            facts = _facts_of(task.name, task.form, part)
            left_out = Counter(task.left_out) + Counter(facts["left_out"])
            known[task.name] = facts | {
                "left_out": dict(left_out),
                "first": task.places | facts["first"],
                "shots": len(task.examples),
            }
        for number, task in enumerate(asked.tasks, len(tasks)):
            part = parts / f"{number:05}.parquet"
            if not part.exists():
                _keep(part, *task.ask(scorer, base, encoder))
            known[task.name] = _facts_of(task.name, "lm-eval", part) | {"shots": task.shots}
    _join(parts, draft / FILE)
    notes = [*model.notes, *_notes(known, refused, asked.others)]
    tell_notes(notes)
    draft.facts |= {"model": base.name, "window": window, "tasks": known, "refused": refused, "notes": notes}


def _read(asked: Asked, settings: Answer, suites: Sequence[str]) -> tuple[list[Task], dict[str, str]]:
    """The tasks of all files, and why some files are none. Errors: UsageError for a file that was named itself."""
    tasks: list[Task] = []
    refused: dict[str, str] = {}
    for file in asked.files:
        try:
            tasks += read_tasks(file, settings.choosing)
        except Refused as reason:
            if any(Path(name).expanduser() == file.path for name in suites):
                raise UsageError(
                    f"this file holds {reason}", where=str(file.path), allowed=question.ALLOWED
                ) from reason
            refused[file.name] = str(reason)
    if asked.quiz:
        rows = [question.question_of(row, f"{module}#{row['id']}", n) for n, (module, row) in enumerate(quiz.rows(), 1)]
        tasks += tasks_of(rows, "quiz", settings.choosing)
    for task in tasks:
        if not task.questions:
            raise UsageError(
                f"no question of {task.name} is left: {said(task.left_out)}",
                where=next(iter(task.places.values()), task.name),
                do="--set answer.repeated=keep asks questions of which two choices are the same",
            )
    if not tasks and not asked.tasks:
        words = "; ".join(f"{name} holds {why}" for name, why in refused.items())
        raise UsageError(f"nothing here can be asked: {words}", allowed=question.ALLOWED)
    return tasks, refused


def _check_ids(model: Model, base: Base) -> None:
    """Errors: UsageError where the tokenizer gives ids that the model has no embedding for."""
    known = len(model.hf.get_input_embeddings().weight)  # type: ignore[union-attr, arg-type]
    most = base.tokenizer.get_vocab_size(with_added_tokens=True)
    plain = base.tokenizer.get_vocab_size(with_added_tokens=False)
    if plain > known:  # added tokens beyond the embeddings are marks that no plain text has
        raise UsageError(
            f"the tokenizer has {most} tokens, and the model has embeddings for {known}",
            where=str(base.folder),
            do="enlarge the model (transformers: model.resize_token_embeddings(len(tokenizer))) and save it",
        )


def _keep(part: Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """What one task came to, for this run and for one that goes on after a kill; the rows are the mark."""
    with whole(part.with_suffix(".json")) as out:
        out.write(json.dumps(facts).encode())
    with whole(part) as out:
        write_answers(out, rows)


def _join(parts: Path, path: Path) -> None:
    found = sorted(parts.glob("*.parquet"))
    pq.write_table(pa.concat_tables([pq.read_table(one) for one in found]), path, compression="zstd")
    shutil.rmtree(parts)


def _facts_of(name: str, form: str, part: Path) -> dict[str, Any]:
    """items, chance (mean over items), and by measure hits, accuracy and its 95 % Wilson interval."""
    table = pq.read_table(part)
    items, more = len(table), json.loads(part.with_suffix(".json").read_bytes())
    if not items:
        raise UsageError(f"no item of {name} could be scored: {said(more['left_out'])}", do="give it a larger window")
    facts: dict[str, Any] = {"form": form, "items": items, "chance": float(np.mean(table["chance"].to_numpy()))}
    for measure in MEASURES:
        hits = int(table[CORRECT[measure]].to_numpy().sum())
        facts[measure] = {"hits": hits, "accuracy": hits / items, "interval": list(wilson(hits, items))}
    facts["cut"] = int((table["cut"].to_numpy() > 0).sum())
    return facts | more


def _notes(known: Mapping[str, Mapping[str, Any]], refused: Mapping[str, str], others: Sequence[str]) -> Iterator[str]:
    """What was not asked, and why; what was cut."""
    for why in dict.fromkeys(refused.values()):
        names = [name for name, reason in refused.items() if reason == why]
        yield f"not asked: {listed(names)} ({len(names)} file{'s' * (len(names) > 1)}): {why}"
    if others:
        yield f"not read, being no files of questions: {listed(list(others))}"
    why_places: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for facts in known.values():
        for why, count in facts["left_out"].items():
            counts[why] += count
            if why in facts["first"]:
                why_places.setdefault(why, []).append(facts["first"][why])
    for why, count in counts.items():
        if why in ASKED_FOR:
            continue
        first = f", first {why_places[why][0]}" if why in why_places else ""
        yield f"{count:,} item{'s' * (count > 1)} left out: {why}{first}"
    cut = sum(facts["cut"] for facts in known.values())
    if cut:
        yield (
            f"of {cut:,} item{'s' * (cut > 1)} the beginning of the context was cut off, because it is longer than "
            "the window"
        )


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY_NAMED} more" if len(names) > MANY_NAMED else ""
    return ", ".join(names[:MANY_NAMED]) + more


def said(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {why}" for why, count in counts.items())
