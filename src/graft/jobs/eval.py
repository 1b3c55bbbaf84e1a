"""eval: what a model answers to suites of questions, or how two models answer the same ones, item by item."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.models.context_length import check_windows
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.evaluation.benchmarks.run_benchmark import answer
from graft.evaluation.benchmarks.settings import Answer
from graft.jobs.adapt import Outcome
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.report.benchmark.items import Graded
from graft.report.benchmark.stage import Grade, grade, number_keys

PAGES = ("report.html", "summary.json", "items.parquet")


@dataclass(frozen=True)
class Eval:
    """Questions with known answers, asked of one model or of two; nothing is trained.

    Every item is kept, so that two models are compared on the same items: which went from right to wrong, which from
    wrong to right, and how many of these guessing alone would bring about.
    """

    model: str = "embedded"  # "embedded", a folder in Hugging Face form, or a hub id
    against: str = ""  # the same: the model that it is compared with; "": none
    suite: tuple[str, ...] = ()  # files or folders of questions, task files of lm-eval, or names of its tasks
    out: str = "answered"  # folder for report.html, summary.json and items.parquet
    answer: Answer = Answer()
    grade: Grade = Grade()

    def __post_init__(self) -> None:
        if not self.suite:
            raise UsageError(
                "suite names nothing", allowed="one or more files or folders of questions, or tasks of lm-eval"
            )

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json that does not depend on the names of its tasks."""
        return number_keys(bool(self.against))

    def __call__(self, store: Store) -> Outcome:
        """Run every stage that is not done yet, and lay the outcome into `out`.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        for model in filter(None, (self.model, self.against)):
            check_out(folder, PAGES, base=model, sources=self.suite)
        made = settle_precision(self, store).make(store)
        put_out(folder, {name: made[-1] / name for name in PAGES})
        return Outcome(folder, json.loads((made[-1] / "summary.json").read_text(encoding="utf-8")), made)

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made."""
        names = [self.model, *([self.against] if self.against else [])]
        bases = [find_base(name, store) for name in names]
        for base in bases:
            check_windows(self, base)
        window = self.answer.window or min(base.window for base in bases)  # the same for both
        asking = replace(self.answer, window=window)
        answers = [answer(base, self.suite, asking, store=store) for base in bases]
        graded = Graded(
            model=self.model,
            answers=answers[0],
            against=self.against,
            others=answers[1] if self.against else None,
            suites=self.suite,
        )
        return [*dict.fromkeys(answers), grade(graded, self.grade, store=store)]
