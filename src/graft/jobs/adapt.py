"""adapt: a base and a folder of text become a domain model, with what it gained and what it forgot."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf
from graft.core.config.settings import build_plugin
from graft.core.models.base_model import Base
from graft.core.models.context_length import check_windows
from graft.core.stats.evaluation_size import TEST, ScoringPlan
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.curate import Curate, curate
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.evaluation.run_probes import Examine, examine
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.evaluation.settle_sizes import Open
from graft.lineage.seen_text import heritage, read_before
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.readers.part import SourcePart
from graft.report.adaptation.budgeted import Budgeted
from graft.report.adaptation.facts import Materials
from graft.report.adaptation.stage import AdaptationReport, number_keys, write_adaptation_report
from graft.synthesis.sample_base import SAMPLED, Recall, check_sampled, recall
from graft.training.general_text_needed import Wanted, check_wanted, kept_bytes, longest, part_for
from graft.training.objectives.contract import check_objective, objective_needs
from graft.training.scored_text import Demand
from graft.training.settings import Sized, Train, readings_of
from graft.training.train import train

STAND_IN = "embedded:prose"
PAGES = ("report.html", "summary.json")
STAND_IN_NOTE = (
    "No general text was given: prose from the docstrings of installed Python packages stands in for it, so what is "
    "said of general text is said of that."
)
ANSWERS_NOTE = "Of dialogues and pairs only the answers count, in training and in every loss here."
PAIRS_NOTE = (
    "Trained on pairs of answers: the losses here are those of the better answers alone, which may rise while those of "
    "the worse ones rise more, so the verdict on such text is not one on preference."
)


@dataclass(frozen=True)
class Adapt:
    """An adaptation: which base, to which text, and what may not be forgotten."""

    base: str = "embedded"  # "embedded", a folder in Hugging Face form, or a hub id
    domain: tuple[str, ...] = ("embedded:code",)  # folders, files, hf://OWNER/NAME or embedded text
    # the text whose loss is to stay: as domain, or "sampled:base", text from the base itself; none: the embedded prose
    general: tuple[str, ...] = ()
    replay: float = 0.1  # share of the training tokens that is general text
    # how much general text is read, of more: what replay and measuring need (auto), all of it, or so many tokens
    general_tokens: Wanted = "auto"
    out: str = "adapted"  # folder for model/, report.html and summary.json
    ingest: Ingest = Ingest()
    recall: Recall = Recall()  # read where general is sampled:base
    curate: Curate = Curate()
    tokenize: Tokenize = Tokenize()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    examine: Examine = Examine()
    report: AdaptationReport = AdaptationReport()

    def __post_init__(self) -> None:
        if not self.domain:
            raise UsageError("domain names no path", allowed="one or more folders or files")
        check_sampled("domain", self.domain, allowed=False)
        check_sampled("general", self.general)
        check_wanted("general_tokens", self.general_tokens)
        if not 0 <= self.replay < 1:
            hint = f"; {self.replay:g} % is {self.replay / 100:g}" if self.replay >= 1 else ""
            raise UsageError(f"replay is {self.replay}", allowed=f"a share of the tokens, 0 or more and below 1{hint}")

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Paths by source name; the domain comes first."""
        return {"domain": self.domain, "general": self.general or (STAND_IN,)}

    @property
    def mixture(self) -> dict[str, float]:
        """Share of the training tokens by source."""
        return {"domain": 1 - self.replay} | ({"general": self.replay} if self.replay else {})

    @property
    def notes(self) -> list[str]:
        of_answers = self.tokenize.count == "answers" or self.tokenize.pairs
        said = {STAND_IN_NOTE: not self.general, ANSWERS_NOTE: of_answers, PAIRS_NOTE: self.tokenize.pairs}
        return [note for note, holds in said.items() if holds]

    def __call__(self, store: Store) -> Outcome:
        """Run every stage that is not done yet, and lay the outcome into `out`.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        check_out(folder, ("model", "adapter", *PAGES), base=self.base, sources=(*self.domain, *self.general))
        made = settle_precision(self, store).make(store)
        trained, page = (next(one for one in made if one.kind == kind) for kind in ("train", "report"))
        adapter = {"adapter": trained / "adapter"} if (trained / "adapter").is_dir() else {}
        contents = {"model": trained / "model"} | adapter | {name: page / name for name in PAGES}
        put_out(folder, contents, gone=() if adapter else ("adapter",))
        return Outcome(folder, json.loads((page / "summary.json").read_text(encoding="utf-8")), made)

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json, known before it is there."""
        return number_keys(list(self.sources))

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made."""
        began = time.monotonic()
        text = self.read(store)
        job, text = self.settled(text, store, began)
        ready = job.prepare(text, store)
        trained = train(ready.base, ready.tokens, job.mixture, job.train, store=store)
        return job.conclude(ready, trained, Base(trained.name, trained / "model"), store)

    def read(self, store: Store, replay: float | None = None) -> Text:
        """The base found, and the text read, curated and turned into tokens.

        replay: largest share of general text among the trainings; None: that of the settings.
        """
        base = find_base(self.base, store)
        check_objective(base, self.train.objective)
        check_windows(self, base)
        for name in filter(
            None, objective_needs(self.train.objective).teachers
        ):  # one that is not there is said before any work
            find_base(name, store)
        domain = ingest(self.domain, "domain", self.ingest, store=store)
        part = self.part(kept_bytes(domain), self.replay if replay is None else replay)
        docs = {"domain": domain, "general": self._general(base, part, store)}
        corpus = curate(docs, self.curate, store=store)
        return Text(base, docs, corpus, tokenize(corpus, base, self.tokenize, store=store))

    def settled(self, text: Text, store: Store, began: float) -> tuple[Adapt, Text]:
        """This job with nothing left to choose: its tokens, where minutes are given, and how much text is scored; and
        the text with the speed that was measured for it.

        began: when the job did, on the monotonic clock.
        """
        left = Open(
            text.base,
            text.tokens,
            self.mixture,
            self.train,
            self.evaluate,
            partial(self.demand, text.base),
            began,
            {"models": 2},
        )
        training, scoring, speed = left.settled(store)
        return replace(self, train=training, evaluate=scoring), replace(text, speed=tuple(speed))

    def demand(self, base: Sized | Base, training: Train, trainable: int) -> Demand:
        """What the job trains and scores, with `training`. trainable: tokens of the domain's training text."""
        shape = training.shape(base, trainable, next(iter(self.mixture.values())))
        test = ScoringPlan.of(2, self.evaluate.max_tokens, TEST)  # the base and the outcome
        _, readings = readings_of(training, test, shape.laid_out, len(self.sources))
        return Demand({"": [shape]}, readings, self.evaluate.split)

    def prepare(self, text: Text, store: Store) -> Prepared:
        """Everything before the training: what the base makes of the text."""
        return Prepared(**vars(text), before=evaluate(text.base, text.tokens, self.evaluate, store=store))

    def conclude(
        self, ready: Prepared, trained: Artifact, model: Base, store: Store, budgeted: Budgeted | None = None
    ) -> list[Artifact]:
        """Score and examine `model`, which `trained` led to, and write the report: every artifact in its order."""
        after = evaluate(model, ready.tokens, self.evaluate, store=store)
        findings = examine(ready.before, after, self.examine, store=store)
        between = budgeted.line if budgeted else []
        line = [
            *ready.docs.values(),
            ready.corpus,
            ready.tokens,
            *ready.speed,
            ready.before,
            *between,
            trained,
            after,
            findings,
        ]
        materials = Materials(
            corpus=ready.corpus,
            tokens=ready.tokens,
            trained=trained,
            before=ready.before,
            after=after,
            findings=findings,
            base=self.base,
            paths={name: list(paths) for name, paths in self.sources.items()},
            lineage=line,
            notes=[
                *self.notes,
                *(note for one in (*ready.docs.values(), *ready.speed) for note in one.facts.get("notes", ())),
                *read_before(ready.corpus, heritage(ready.base, store), self.evaluate.split),
            ],
            budgeted=budgeted,
        )
        return [*line, write_adaptation_report(materials, self.report, store=store)]

    def part(self, kept: float, replay: float) -> SourcePart | None:
        """How much of the general text is read; None: all of it. kept: bytes of the domain's usable text."""
        trained = longest(self.train, kept, 1 - self.replay)
        return part_for(self.general_tokens, trained, trained * replay, self.curate.split)

    def _general(self, base: Base, part: SourcePart | None, store: Store) -> Artifact:
        """The documents of the general text: of its files, or of the base."""
        paths = self.sources["general"]
        if paths == (SAMPLED,):
            return recall(base, self.recall, "general", store=store)
        return ingest(paths, "general", self.ingest, part=part, store=store)


@dataclass(frozen=True)
class Text:
    """A base, and what it is to read. speed: measured where the job has minutes."""

    base: Base
    docs: dict[str, Artifact]
    corpus: Artifact
    tokens: Artifact
    speed: tuple[Artifact, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Prepared(Text):
    """What every training of a job begins with. before: what the base makes of the test text."""

    before: Artifact


@dataclass(frozen=True)
class Outcome:
    """What an adaptation left: the folder, the summary, and every artifact in the order it was made."""

    out: Path
    summary: dict[str, Any]
    artifacts: list[Artifact]


def adapt(
    base: str = "embedded",
    *,
    domain: str | Sequence[str] = ("embedded:code",),
    general: str | Sequence[str] = (),
    tokens: int | None = None,
    objective: Any = "causal",
    replay: float = 0.1,
    out: str | Path = "adapted",
    seed: int = 0,
    store: Store | None = None,
    settings: Adapt = Adapt(),
) -> Outcome:
    """Adapt `base` to the text under `domain`; `settings` holds everything that has no argument of its own.

    objective: a plug-in, its name, or {name: {settings}}. Errors: UsageError, FaultError (see
    graft.core.config.errors).
    """
    training = replace(settings.train, tokens=tokens, objective=build_plugin(Shelf("objectives"), objective), seed=seed)
    job = replace(
        settings,
        base=str(base),
        domain=(domain,) if isinstance(domain, str) else tuple(map(str, domain)),
        general=(general,) if isinstance(general, str) else tuple(map(str, general)),
        replay=replay,
        out=str(out),
        train=training,
    )
    return job(store or Store.default())
