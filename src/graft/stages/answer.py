"""answer: what a model answers to the questions of suites, every item kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graft.core.answers import FILE
from graft.core.artifact import Artifact, Draft, Store
from graft.core.base import Base
from graft.core.errors import UsageError
from graft.core.kind import WORDS, kind_of
from graft.core.notes import tell_notes
from graft.core.runtime import Precision, computed
from graft.core.settings import check_choices
from graft.embedded import quiz
from graft.readers.roles import read_fields
from graft.readers.suite import Choosing, missing
from graft.stages.asked import Asked, find_suites
from graft.stages.part import Part, join_parts, notes_of
from graft.stages.settle_precision import recorded, settle_here

if TYPE_CHECKING:
    from graft.tensors.model import Model


@dataclass(frozen=True)
class Answer:
    """How suites are asked: which items, what stands before them, and what is scored.

    Of every choice the nats are taken of `delimiter` and the choice after the query, by the rule of lm-eval 0.4 (see
    graft.tensors.pairs). acc: the choice with the least nats is the right one. acc_norm: with the least nats per
    character of the choice; acc_bytes: per UTF-8 byte. (Both are lm-eval's names and definitions; where several
    contexts stand before one ending all three are the same.) An ending without choices counts as right where each of
    its tokens is the likeliest. What the model writes itself, up to the end of the line, is right where it equals one
    of the accepted answers after lower case, without punctuation, articles and double spaces (Rajpurkar et al. 2016,
    arXiv 1606.05250); an accepted answer of which that leaves nothing is compared as it stands. Tasks of lm-eval heed
    limit, shots, window and precision alone.
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
    # question=NAME or query=NAME, choices=NAME, answer=NAME, context=NAME: all other fields are then read over
    fields: tuple[str, ...] = ()
    first: Literal[0, 1] = 0  # number of the first choice, where answers are numbers
    tokens: int = 32  # written at most, where the model writes itself
    window: int | None = None  # tokens of context; None: the model's own
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32

    def __post_init__(self) -> None:
        check_choices(self)
        for name, least in (("limit", 0), ("shots", 0), ("tokens", 1), ("window", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}", allowed=f"{least} or more")
        read_fields(self.fields)
        if self.shots_from and not self.shots:
            raise UsageError(
                f"shots_from is {self.shots_from}, and no example is shown: shots is {self.shots or 0}",
                do="say how many of its first items stand before each question (shots), or leave it out",
            )

    @property
    def choosing(self) -> Choosing:
        return Choosing(
            self.limit,
            self.shots or 0,
            self.shots_from,
            self.split,
            self.by,
            self.repeated,
            tuple(self.ignore),
            read_fields(self.fields),
            self.first,
        )


def answer(model: Base, suites: Sequence[str], settings: Answer = Answer(), *, store: Store) -> Artifact:
    """Kind "answers": answers.parquet, a row per item (see graft.core.answers), and by task what it comes to.

    suites: files or folders of questions (see graft.readers.suite), task files of lm-eval (.yaml), or names of its
    tasks. Contents decide the identity. A file of a folder that nothing here can ask is named in the notes; one that
    was named itself is refused, and so is a row that is wrong anywhere. An item that cannot be scored is left out and
    counted. Tasks of one name are told apart by a number; what is named twice is asked once, with a note. What a killed
    run has answered is not asked again.
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


def _build(draft: Draft, base: Base, asked: Asked, settings: Answer, suites: Sequence[str]) -> None:
    from graft.stages.ask import ask
    from graft.tensors.endings import EndingScorer
    from graft.tensors.faults import enough_memory
    from graft.tensors.pairs import PairEncoder
    from graft.tensors.weights import open_model

    tasks, of_harness, refused = asked.read(settings.choosing, suites)
    model = open_model(base.folder, computed(settings.precision), frozen=True)
    window = settings.window or base.window
    encoder, scorer = PairEncoder(base, window), EndingScorer(model, window)
    _check_ids(model, base)
    parts = draft / "parts"
    parts.mkdir(exist_ok=True)
    files = (Part(parts / f"{number:05}.parquet") for number in count())
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
