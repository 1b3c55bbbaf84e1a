"""continual: domains one after the other, by several methods, and what each keeps, learns and costs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from graft.continual.methods.anchor import Anchor
from graft.continual.methods.block_expansion import BlockExpansion
from graft.continual.methods.joint import Joint
from graft.continual.methods.lora import Lora
from graft.continual.methods.naive import Naive
from graft.continual.methods.o_lora import OLora
from graft.continual.methods.replay import Replay
from graft.continual.methods.stay_close import StayClose
from graft.continual.results import MethodRun, TurnResult
from graft.continual.settings import Judge
from graft.continual.turn import Turn, TurnPlan
from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugin_labels import labelled
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.settings import to_json
from graft.core.models.base_model import Base
from graft.core.models.context_length import check_windows
from graft.core.stats.evaluation_size import LOOK, TEST, ScoringPlan, num_looks
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.curate import Curate, curate
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import Tokenize, sources, tokenize
from graft.evaluation.benchmarks.find_suites import find_suites
from graft.evaluation.benchmarks.run_benchmark import answer
from graft.evaluation.benchmarks.settings import Answer
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.jobs.adapt import PAGES, STAND_IN, STAND_IN_NOTE, Outcome
from graft.lineage.seen_text import heritage, read_before
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.readers.part import SourcePart
from graft.report.continual.stage import judge, stream_keys
from graft.training.general_text_needed import Wanted, check_wanted, kept_bytes, longest, part_for
from graft.training.measure_speed import Limit
from graft.training.objectives.contract import check_objective
from graft.training.scored_text import Demand, settle_limits
from graft.training.settings import Sized, Train, TrainingShape, most_tokens, trainable_tokens
from graft.training.train import fit_minutes, train

GENERAL = "general"
NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class Continual:
    """A stream of domains, learned by each method from the same base, and scored on every domain after every turn.

    train.tokens are those of one turn; without them a turn has as many as one pass over its domain. Every number is on
    held-out test documents, the same for all models.
    """

    base: str = "embedded"  # "embedded", a folder in Hugging Face form, or a hub id
    domains: dict[str, str | list[str]] = field(default_factory=dict)  # by name: folders, files, hf://OWNER/NAME
    order: tuple[str, ...] = ()  # names of the domains in the order of their turns; none: as listed
    general: tuple[str, ...] = ()  # text in no domain that is not to be forgotten; none: the embedded prose
    # how much general text is read, of more: what methods and measuring need (auto), all of it, or so many tokens
    general_tokens: Wanted = "auto"
    suite: tuple[str, ...] = ()  # questions that are asked after every turn, as `graft eval` has them; none: no suite
    methods: Annotated[tuple[Any, ...], Shelf("methods")] = (
        Naive(), Replay(0.01), Replay(0.05), Replay(0.1), Replay(0.25), Anchor(), StayClose(), Lora(), OLora(),
        BlockExpansion(), Joint(),
    )  # fmt: skip
    seeds: tuple[int, ...] = (0,)  # of training; each method runs once with each, in the place of train.seed
    out: str = "streamed"  # folder for report.html and summary.json
    ingest: Ingest = Ingest()
    curate: Curate = field(default_factory=Curate)
    tokenize: Tokenize = Tokenize()
    train: Train = Train(evaluations=1)  # every look is at the text of all domains
    evaluate: Evaluate = Evaluate()
    answer: Answer = Answer()  # how the suite is asked
    judge: Judge = Judge()

    def __post_init__(self) -> None:
        if len(self.domains) < 2:
            raise UsageError(
                f"domains names {len(self.domains)}",
                allowed="two or more, each a name and its paths",
                do="law: my/law/",
            )
        for name in self.domains:
            if not NAME.fullmatch(name) or name == GENERAL:
                raise UsageError(f'a domain is called "{name}"', allowed=f"letters, digits, _ and -, and not {GENERAL}")
        if self.order and sorted(self.order) != sorted(self.domains):
            strange = next((name for name in self.order if name not in self.domains), "")
            raise UsageError(
                f"order is {', '.join(self.order)}",
                allowed=f"each of {', '.join(self.domains)} once",
                do=nearest(strange, self.domains),
            )
        check_wanted("general_tokens", self.general_tokens)
        if not self.methods or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(
                f"{len(self.methods)} methods and the seeds {list(self.seeds)}",
                allowed="one method or more, and one seed or more, each once",
            )
        assert self.labels  # its errors are ours

    @property
    def labels(self) -> dict[str, Any]:
        """The methods by a label each."""
        return labelled(self.methods, "methods")

    @property
    def turns(self) -> tuple[str, ...]:
        """The domains in the order of their turns."""
        return self.order or tuple(self.domains)

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Paths by source name; the domains in the order of their turns, and the general text last."""
        paths = {name: self.domains[name] for name in self.turns}
        found = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in paths.items()}
        return found | {GENERAL: self.general or (STAND_IN,)}

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json that a gate may name."""
        return stream_keys(list(self.labels), self.judge, suite=bool(self.suite))

    def __call__(self, store: Store) -> Outcome:
        """Run whatever is not done yet, and lay the page and the summary into `out`.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        texts = [path for paths in self.sources.values() for path in paths]
        check_out(folder, PAGES, base=self.base, sources=[*texts, *self.suite])
        made = settle_precision(self, store).make(store)
        put_out(folder, {name: made[-1] / name for name in PAGES})
        return Outcome(folder, json.loads((made[-1] / "summary.json").read_text(encoding="utf-8")), made)

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made."""
        began = time.monotonic()
        base = find_base(self.base, store)
        check_windows(self, base)
        for method in self.methods:
            lesson = method(self.turn(len(self.turns), dict.fromkeys(self.turns, 1)))
            check_objective(base, (lesson and lesson.objective) or self.train.objective)
        if self.suite:
            find_suites(self.suite, self.answer)  # its errors before any work
        domains = {name: paths for name, paths in self.sources.items() if name != GENERAL}
        docs = {name: ingest(paths, name, self.ingest, store=store) for name, paths in domains.items()}
        part = self.part({name: kept_bytes(one) for name, one in docs.items()})
        docs[GENERAL] = ingest(self.sources[GENERAL], GENERAL, self.ingest, part=part, store=store)
        corpus = curate(docs, self.curate, store=store)
        tokens = tokenize(corpus, base, self.tokenize, store=store)
        job, speed = self.settled(base, tokens, store, began)
        start = evaluate(base, tokens, job.evaluate, store=store)
        quizzed = self.ask(base, store)
        learned = [
            job.learn(label, method, seed, base, tokens, store)
            for label, method in self.labels.items()
            for seed in self.seeds
        ]
        line = [
            *docs.values(),
            corpus,
            tokens,
            *speed,
            start,
            *filter(None, [quizzed]),
            *(one for each in learned for one in each.artifacts),
        ]
        notes = [*self.notes, *(note for one in (*docs.values(), *speed) for note in one.facts.get("notes", ()))]
        notes += read_before(corpus, heritage(base, store))
        paths = {name: list(paths) for name, paths in self.sources.items()}
        judged = judge(
            start, learned, self.judge, quizzed=quizzed, base=self.base, paths=paths, notes=notes, store=store
        )
        return [*{one.name: one for one in line}.values(), judged]

    def settled(self, base: Base, tokens: Artifact, store: Store, began: float) -> tuple[Continual, list[Artifact]]:
        """This job with nothing left to choose: a turn's tokens, where minutes are given, and how much text is scored;
        and the speed that was measured for it.

        began: when the job did, on the monotonic clock.
        """
        named = sources(tokens)
        sizes = {name: trainable_tokens(base, named[name], self.train) for name in self.turns}
        job, speed = self, list[Artifact]()
        if self.train.minutes is not None:
            speed.append(self._fitting(base, tokens, sizes, store, began))
            job = replace(self, train=replace(self.train, tokens=speed[0].facts["tokens"], minutes=None))
        demand = job.demand(base, sizes)
        limits = settle_limits(tokens, demand)
        looks = demand.readings["look"].times // sum(map(len, demand.shapes.values())) - 1
        job = replace(
            job,
            train=replace(job.train, evaluations=looks, validation_tokens=limits["look"]),
            evaluate=replace(job.evaluate, max_tokens=limits["test"]),
        )
        return job, speed

    def _fitting(self, base: Base, tokens: Artifact, sizes: Mapping[str, int], store: Store, began: float) -> Artifact:
        """Tokens of a turn such that all turns of all methods end in time; every kind of training is measured."""
        runs: dict[str, tuple[Mapping[str, float], Train]] = {}
        for lesson, seed in self._lessons(sizes):
            training = self.settings(lesson, seed)
            runs.setdefault(_kind(training), (lesson.mixture, replace(training, minutes=None)))
        assert self.train.minutes is not None
        read = ("methods", "seeds", "train", "evaluate", "judge")
        known_by = {name: to_json(self)[name] for name in (*read, "suite")} | {"turns": list(self.turns)}
        most = max(most_tokens(self.train, size, 1.0) for size in sizes.values())

        def demand(count: int) -> Demand:
            return replace(self, train=replace(self.train, tokens=count, minutes=None)).demand(base, sizes)

        limit = Limit(self.train.minutes, began, most, known_by)
        return fit_minutes(base, tokens, runs, limit, demand, scoring=self.evaluate, store=store)

    def demand(self, base: Sized | Base, sizes: Mapping[str, int]) -> Demand:
        """What the job trains and scores: every turn of every method and seed. sizes: training tokens by domain."""
        shapes: dict[str, list[TrainingShape]] = {}
        for lesson, seed in self._lessons(sizes):
            training = replace(self.settings(lesson, seed), minutes=None)
            domain, share = next(iter(lesson.mixture.items()))
            shapes.setdefault(_kind(training), []).append(training.shape(base, sizes[domain], share))
        every = [shape.tokens for one in shapes.values() for shape in one]
        looks = self.train.evaluations or num_looks(sum(every) / len(every), len(self.sources))
        readings = {
            "test": ScoringPlan.of(1 + len(every), self.evaluate.max_tokens, TEST),
            "look": ScoringPlan.of(len(every) * (looks + 1), self.train.validation_tokens, LOOK),
        }
        return Demand(shapes, readings, self.evaluate.split)

    def _lessons(self, sizes: Mapping[str, int]) -> list[tuple[TurnPlan, int]]:
        """Every lesson with its seed; what methods share stands here more than once."""
        return [
            (lesson, seed)
            for method in self.methods
            for seed in self.seeds
            for number in range(1, len(self.turns) + 1)
            if (lesson := method(self.turn(number, sizes))) is not None
        ]

    def part(self, kept: Mapping[str, float]) -> SourcePart | None:
        """How much general text is read; None: all of it. kept: bytes of usable text by domain."""
        sizes = {name: max(1, round(longest(self.train, size, 1.0))) for name, size in kept.items()}
        lessons = [lesson for lesson, _ in self._lessons(sizes)]
        replayed = max((one.mixture.get(GENERAL, 0.0) * (one.tokens or 0) for one in lessons), default=0.0)
        trained = sum(one.tokens or 0 for one in lessons) / max(1, len(lessons))
        return part_for(self.general_tokens, max(1.0, trained), replayed, self.curate.split)

    def learn(self, label: str, method: Any, seed: int, base: Base, tokens: Artifact, store: Store) -> MethodRun:
        """Every turn of one method: the model that it leaves, and what that makes of all texts."""
        now, found = base, MethodRun(label, to_json(method), seed)
        adapters: list[str] = []
        named = sources(tokens)
        sizes = {name: trainable_tokens(base, named[name], self.train) for name in self.turns}
        for number in range(1, len(self.turns) + 1):
            lesson = method(self.turn(number, sizes, adapters))
            if lesson is None:
                found.turns.append(None)
                continue
            start = base if lesson.fresh else now
            trained = train(start, tokens, lesson.mixture, self.settings(lesson, seed), store=store)
            now = Base(trained.name, trained / "model")
            if (trained / "adapter").is_dir():
                adapters.append(str(trained / "adapter"))
            seen = evaluate(now, tokens, self.evaluate, store=store)
            found.turns.append(TurnResult(trained, seen, self.ask(now, store)))
        return found

    def ask(self, model: Base, store: Store) -> Artifact | None:
        """What a model answers to the suite; None without one."""
        return answer(model, self.suite, self.answer, store=store) if self.suite else None

    def turn(self, number: int, sizes: Mapping[str, int], adapters: Sequence[str] = ()) -> Turn:
        """The turn of this number, from 1. sizes: training tokens of each domain, which a turn has where the recipe
        does not say how many."""
        domains = self.turns[:number]
        tokens = tuple(self.train.tokens or sizes[name] for name in domains)
        return Turn(domains, tokens, len(self.turns), GENERAL, tuple(adapters))

    def settings(self, lesson: TurnPlan, seed: int) -> Train:
        """The recipe's training as a lesson has it."""
        one = self.train
        rate = (
            {"rewarm": one.rewarm * lesson.rate}
            if one.learning_rate is None
            else {"learning_rate": one.learning_rate * lesson.rate}
        )
        return replace(
            one,
            objective=lesson.objective or one.objective,
            tuning=lesson.tuning or one.tuning,
            tokens=lesson.tokens,
            seed=seed,
            **rate,
        )

    @property
    def notes(self) -> list[str]:
        """What to know of the stream before quoting a number of it."""
        said = [] if self.general else [STAND_IN_NOTE]
        there = {type(method) for method in self.methods}
        missing = [plugin_name(kind()) for kind in (Naive, Joint) if kind not in there]
        missing += [] if Replay in there else ["replay"]
        if missing:
            said.append(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among the methods: a method is worth "
                "what it gains over plain training, over some replay, and falls short of learning all at once."
            )
        return said


def _kind(training: Train) -> str:
    """Trainings of one kind take equally long for a token."""
    return f"{plugin_name(training.objective)}, {plugin_name(training.tuning)}"
