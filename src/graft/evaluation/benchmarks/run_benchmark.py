"""answer: what a model answers to the questions of suites, every item kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.models.architectures import WORDS, kind_of
from graft.core.models.base_model import Base
from graft.core.process.notes import tell_notes
from graft.core.process.precision import computed
from graft.core.records.benchmark_answers import FILE
from graft.core.store.artifact import Artifact, Draft, Store
from graft.embedded import quiz
from graft.evaluation.benchmarks.find_suites import FoundSuites, find_suites
from graft.evaluation.benchmarks.partial_results import TaskPart, join_parts, notes_of
from graft.evaluation.benchmarks.settings import Answer
from graft.evaluation.benchmarks.suite import missing
from graft.models.runtime.settle_precision import recorded, settle_here

if TYPE_CHECKING:
    from graft.models.forward.model import Model


def answer(model: Base, suites: Sequence[str], settings: Answer = Answer(), *, store: Store) -> Artifact:
    """Kind "answers": answers.parquet, a row per item (graft.core.records.benchmark_answers), and totals by task.

    suites: files or folders of questions (see graft.evaluation.benchmarks.suite), task files of lm-eval (.yaml), or
    names of its tasks. Contents decide the identity. A file of a folder that nothing here can ask is named in the
    notes; one that was named itself is refused, and so is a row that is wrong anywhere. An item that cannot be scored
    is left out and counted. Tasks of one name are told apart by a number; what is named twice is asked once, with a
    note. What a killed run has answered is not asked again.
    """
    _check_model(model, settings)
    settings = settle_here(settings)
    asked = find_suites(suites, settings)
    inputs: dict[str, Artifact | str] = {"model": model.fingerprint(store.prints)}
    origins = {"model": model.origin}
    for number, file in enumerate(asked.files):
        inputs[f"suite {number}"] = f"{file.name} {store.prints.of([file.path])}"
        origins[f"suite {number}"] = str(file.path)
    if settings.shots_from:
        if not Path(settings.shots_from).is_file():
            raise missing(settings.shots_from)
        inputs["examples"] = store.prints.of([Path(settings.shots_from)])
    if asked.quiz:
        inputs["quiz"] = quiz.identity()
    for number, task in enumerate(asked.tasks):
        inputs[f"task {number}"] = f"{task.name} {task.identity}"
    if asked.notes:
        inputs["names"] = "; ".join(asked.notes)  # so that a run without them is not told them
    return store.make(
        "answers",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, model, asked, settings, suites),
        origins=origins,
    )


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


def _build(draft: Draft, base: Base, asked: FoundSuites, settings: Answer, suites: Sequence[str]) -> None:
    from graft.evaluation.benchmarks.ask_task import ask
    from graft.models.files.weights import open_model
    from graft.models.runtime.numeric_faults import enough_memory
    from graft.models.scoring.context_pairs import PairEncoder
    from graft.models.scoring.continuations import EndingScorer

    tasks, of_harness, refused = asked.read(settings.choosing, suites)
    model = open_model(base.folder, computed(settings.precision), frozen=True)
    window = settings.window or base.window
    encoder, scorer = PairEncoder(base, window), EndingScorer(model, window)
    _check_ids(model, base)
    parts = draft / "parts"
    parts.mkdir(exist_ok=True)
    files = (TaskPart(parts / f"{number:05}.parquet") for number in count())
    less = f"set answer.window to {window // 2} (it is {window})" if window > 128 else "take a smaller model"
    known: dict[str, dict[str, Any]] = {}
    with enough_memory("scoring", do=less):
        for task in tasks:
            put = partial(ask, task, scorer, base, encoder, settings.delimiter, settings.between, settings.tokens)
            facts = next(files).once(put).facts(task.name, task.form)
            left_out = Counter(task.left_out) + Counter(facts["left_out"])
            known[task.name] = facts | {
                "left_out": dict(left_out),
                "first": task.places | facts["first"],
                "shots": len(task.examples),
            }
        for task in of_harness:
            done = next(files).once(partial(task.ask, scorer, base, encoder))
            known[task.name] = done.facts(task.name, "lm-eval") | {"shots": task.shots}
    join_parts(parts, draft / FILE)
    notes = [*model.notes, *asked.notes, *notes_of(known, refused, asked.others)]
    tell_notes(notes)
    draft.facts |= {"runtime": recorded(computed(settings.precision))}
    draft.facts |= {"model": base.name, "window": window, "tasks": known, "refused": refused, "notes": notes}


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
