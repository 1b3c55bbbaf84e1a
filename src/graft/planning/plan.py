"""The forecast of a job: exact where artifacts are there already or text is small, foretold from a look elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.process.progress import phase
from graft.core.stats.evaluation_size import SCORE_TO_TRAIN, TEST, ScoringPlan, documents_in
from graft.core.store.artifact import Artifact, DryStore, NotMade, Store
from graft.core.store.fingerprints import Unread
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.jobs.compare import Compare
from graft.jobs.continual import Continual
from graft.jobs.eval import Eval
from graft.jobs.extend import Extend
from graft.jobs.pretrain import Pretrain
from graft.jobs.report import Report
from graft.models.runtime.settle_precision import settle_precision
from graft.planning.cost import EVIDENCE_BYTES, disk, memory, scoring, train_flops, until_tokens
from graft.planning.stream_forecast import Itinerary
from graft.planning.text import SourceForecast, sources_of
from graft.report.shared.cautions import MANY_PASSES
from graft.training.measure_speed import Speed, fitting_tokens
from graft.training.objectives.contract import objective_needs
from graft.training.scored_text import Demand
from graft.training.settings import TrainingShape, most_tokens, readings_of

FEW_DOCUMENTS = 20  # tested on, below which an interval says little
OPENING = 2.0  # seconds to get a model ready, where none was measured
WRITING = 1.0  # and to write it


@dataclass(frozen=True)
class Forecast:
    """The whole answer; bytes and seconds are estimates."""

    base: str
    num_parameters: int
    sources: dict[str, SourceForecast]
    mixture: Mapping[str, float]
    shape: TrainingShape
    objective: str
    memory_bytes: float
    disk_bytes: float
    seconds: dict[str, float]  # by stage, of what is not done yet
    done: list[str] = field(default_factory=list)  # artifacts that are there
    complete: bool = False  # all of them are
    tested_steps: int = 0  # of a range test, which may find another peak rate than `shape` has
    pilots: int = 0  # short runs that come before, by which the mixture is chosen
    pilot_tokens: int = 0  # of all of them
    forget: float = 0.0  # largest rise of the general loss that is allowed; 0: no budget
    ratios: tuple[float, ...] = ()  # shares of domain text of the pilots
    itinerary: Itinerary | None = None  # of a stream, whose first training is that of `shape` and `mixture`
    demand: Demand | None = None  # what is trained and scored
    minutes: float | None = None  # that the job is to end in; the tokens are estimated, or those that were measured
    measured: bool = False  # they were

    @property
    def limits(self) -> dict[str, int]:
        """Tokens of a source in each reading."""
        return self.demand.limits(len(self.sources)) if self.demand else {}

    @property
    def tested(self) -> dict[str, tuple[float, float]]:
        """(documents, tokens) that each source is tested on; nothing where no model is scored."""
        if self.demand is None or "test" not in self.limits:
            return {}
        split, limit = self.demand.split, self.limits["test"]
        return {
            name: documents_in(source.split_documents.get(split, 0.0), source.splits[split], limit)
            for name, source in self.sources.items()
        }

    @property
    def scored(self) -> float:
        """Tokens that are scored in all."""
        if self.demand is None:
            return 0.0
        there = {
            split: [one.splits[split] for one in self.sources.values()] for split in ("train", "validation", "test")
        }
        return self.demand.scored_of(there)

    @property
    def measuring_share(self) -> float:
        """Compute of measuring over that of training."""
        return self.scored * SCORE_TO_TRAIN / max(1, self.demand.trained if self.demand else 1)

    @property
    def passes(self) -> dict[str, float]:
        """How often each source's training text is read."""
        if self.itinerary:
            return {}
        return {
            name: share * self.shape.tokens / max(1.0, self.sources[name].splits["train"])
            for name, share in self.mixture.items()
        }

    @property
    def warnings(self) -> list[str]:
        """What to think about before this is run."""
        few = [
            f"{name} is tested on {'' if self.sources[name].exact else 'about '}{documents:.0f} "
            f"document{'s' if round(documents) != 1 else ''}: intervals will be wide. Give more documents (or split "
            "long files), or a larger curate.split.test or evaluate.max_tokens."
            for name, (documents, _) in self.tested.items()
            if 0 < documents < FEW_DOCUMENTS
        ]
        many = [
            f"{name} is read {times:.1f} times: beyond {MANY_PASSES:g} passes more of them teach little. Give fewer "
            f"tokens{'' if name == next(iter(self.mixture)) else ', a smaller replay,'} or more text."
            for name, times in self.passes.items()
            if times > MANY_PASSES * 1.01
        ]
        lost = [
            f"{name}: {share:.0%} of its documents are not used."
            for name, one in self.sources.items()
            if (share := sum(one.dropped.values()) / max(1.0, one.documents)) >= 0.25
        ]
        return [*lost, *few, *many]


@dataclass(frozen=True)
class _Planned:
    """A base that is not made yet."""

    window: int
    num_parameters: int
    training_notes: Mapping[str, Any] = field(default_factory=dict)


def forecast(job: Adapt | Eval | Budget | Extend | Report | Pretrain | Continual | Compare, store: Store) -> Forecast:
    """Look at the inputs of a job for a moment. Errors: as the job's own, for what can be seen without running it."""
    if isinstance(job, Eval | Report | Compare):
        raise UsageError(
            "this recipe compares and trains nothing, and a plan is made of a training",
            allowed="adapt, budget, extend, pretrain or stream",
            do="run it: every stage that is done already is found",
        )
    job = settle_precision(job, DryStore(store.root))
    with phase("looking at the text"):
        there, complete = _look_for(job, store)
        if isinstance(job, Budget):
            return _with_pilots(job, there, complete, store)
        if isinstance(job, Continual):
            return _with_turns(job, there, complete, store)
        return _plain(job, there, complete, store)


def _look_for(job: Adapt | Budget | Extend | Pretrain | Continual, store: Store) -> tuple[list[Artifact], bool]:
    """The artifacts of this job that are there, up to the first that is not; and whether they are all of them."""
    found: list[Artifact] = []
    try:
        job.make(DryStore(store.root, on_made=lambda artifact, fresh: found.append(artifact)))
    except (NotMade, Unread):
        return found, False
    return found, True


def _plain(job: Adapt | Extend | Pretrain, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    base, name, size = _base_of(job)
    sources = sources_of(job, base, there)
    first = next(iter(job.mixture))
    domain = round(sources[first].splits["train"])
    pace = train_flops(store, job.train.precision) / (6 * base.num_parameters)

    def demand(tokens: int | None) -> Demand:
        training = replace(job.train, tokens=tokens, minutes=None)
        if not isinstance(job, Pretrain):
            return job.demand(base, training, domain)
        shape = training.shape(base, domain, 1.0)
        _, readings = readings_of(training, ScoringPlan.of(2, None, TEST), shape.laid_out, len(sources))
        return Demand({"": [shape]}, {"look": readings["look"]})

    tokens, measured = job.train.tokens, False
    if job.train.minutes is not None:
        most = most_tokens(job.train, domain, job.mixture[first])
        tokens, measured = _within(job.train.minutes, most, demand, sources, pace, there)
    asked = demand(tokens)
    [shape] = asked.shapes[""]
    done = Counter(artifact.kind for artifact in there)
    one = Forecast(
        base=name,
        num_parameters=base.num_parameters,
        sources=sources,
        mixture=job.mixture,
        shape=shape,
        objective=type(job.train.objective).__name__,
        memory_bytes=memory(
            base.num_parameters, shape, size, num_teachers=len(objective_needs(job.train.objective).teachers)
        ),
        disk_bytes=disk(base.num_parameters, sources),
        seconds={},
        done=[artifact.name for artifact in there],
        complete=complete,
        tested_steps=job.train.range_test.steps if job.train.range_test else 0,
        demand=asked,
        minutes=job.train.minutes,
        measured=measured,
    )
    return one if complete else replace(one, seconds=_seconds(job, one, done, pace))


def _base_of(job: Adapt | Extend | Pretrain) -> tuple[Any, str, Mapping[str, Any]]:
    """(base, its name, its configuration), also of one that is not made yet."""
    if isinstance(job, Adapt | Extend):
        found = Base.find(job.base, weights=False)
        return found, job.base, found.config
    size = {"hidden_size": job.initialize.width, "num_hidden_layers": job.initialize.layers}
    size |= {"num_attention_heads": job.initialize.heads}
    return _Planned(job.initialize.window, job.initialize.num_parameters), "new", size


def _seconds(job: Adapt | Extend | Pretrain, one: Forecast, done: Counter[str], pace: float) -> dict[str, float]:
    """By kind of artifact, of what is not done yet. done: how many of each kind are there, in the job's order."""
    looks = _looked(one, "look")
    seconds = until_tokens(one.sources, pace, done)
    seconds["train"] = one.shape.tokens / pace + looks / pace * SCORE_TO_TRAIN
    models = 3 if isinstance(job, Extend) else 2  # that are scored
    if isinstance(job, Adapt | Extend):
        each = sum(tokens for _, tokens in one.tested.values())
        seconds["evidence"] = scoring(
            (models - done["evidence"]) * each, pace, job.evaluate.precision, job.train.precision
        )
    needed = {"docs": len(one.sources), "evidence": models, "tokens": 2 if isinstance(job, Extend) else 1}
    return {kind: value for kind, value in seconds.items() if done[kind] < needed.get(kind, 1)}


def _looked(one: Forecast, name: str) -> float:
    """Tokens of validation text that are scored in a reading."""
    if one.demand is None:
        return 0.0
    only = replace(
        one.demand, readings={name: replace(one.demand.readings[name], least=one.limits[name], most=one.limits[name])}
    )
    return only.scored_of({"validation": [source.splits["validation"] for source in one.sources.values()]})


def _within(
    minutes: float,
    most: int,
    demand: Any,
    sources: Mapping[str, SourceForecast],
    pace: float,
    there: Sequence[Artifact],
) -> tuple[int, bool]:
    """(tokens of a job that is to end in so many minutes, whether they were measured). Errors: as the job's own."""
    known = next((one for one in there if one.kind == "speed"), None)
    if known is not None:
        return int(known.facts["tokens"]), True
    reading = sum(until_tokens(sources, pace, Counter()).values())

    def seconds(tokens: int) -> float:
        try:
            asked = demand(tokens)
        except UsageError:
            return float("inf")
        shapes = [shape for one in asked.shapes.values() for shape in one]
        rows = shapes[0].rows
        step = {label: [(rows, rows * shapes[0].window / pace)] for label in asked.shapes}
        speed = Speed(step, pace / SCORE_TO_TRAIN, OPENING, WRITING, reading)
        there = {split: [one.splits[split] for one in sources.values()] for split in ("train", "validation", "test")}
        return speed.seconds(asked, asked.scored_of(there))

    found = fitting_tokens(seconds, 60 * minutes - reading, most)
    if found is None:
        demand(most)  # its error says why
        raise UsageError(f"minutes is {minutes:g}, and no run can be made", do="give tokens instead")
    return found, False


def _with_pilots(job: Budget, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    """The final run, as if it were of domain text alone, and what comes before it."""
    base = Base.find(job.base, weights=False)
    sources = sources_of(job.adapt, base, there, 1 - min(job.pilots.ratios))
    domain = round(sources["domain"].splits["train"])
    pace = train_flops(store, job.train.precision) / (6 * base.num_parameters)
    final = replace(job.adapt.train, minutes=None)

    def demand(tokens: int | None) -> Demand:
        sized, shape = job._sized(replace(final, tokens=tokens), base, domain)
        return job.demand(sized, shape)

    tokens, measured = final.tokens, False
    if job.minutes is not None:
        tokens, measured = _within(
            job.minutes, most_tokens(final, domain, min(job.pilots.ratios)), demand, sources, pace, there
        )
    asked = demand(tokens)
    shape = next(iter(asked.shapes.values()))[0]
    pilots = len(job.pilots.ratios) * len(job.pilots.objectives)
    done = Counter(artifact.kind for artifact in there)
    one = Forecast(
        base=job.base,
        num_parameters=base.num_parameters,
        sources=sources,
        mixture={"domain": 1.0},
        shape=shape,
        objective=type(final.objective).__name__,
        memory_bytes=memory(
            base.num_parameters, shape, base.config, num_teachers=len(objective_needs(final.objective).teachers)
        ),
        disk_bytes=disk(base.num_parameters, sources),
        seconds={},
        done=[artifact.name for artifact in there],
        complete=complete,
        pilots=pilots,
        pilot_tokens=asked.trained - shape.tokens,
        forget=job.forget,
        ratios=job.pilots.ratios,
        demand=asked,
        minutes=job.minutes,
        measured=measured,
    )
    if complete:
        return one
    short = (asked.trained - shape.tokens) / pilots
    looked = (_looked(one, "look") + _looked(one, "pilot")) * SCORE_TO_TRAIN
    left = max(0, pilots - done["train"]) * short + shape.tokens + looked
    seconds = until_tokens(sources, pace, done) | {"train": left / pace}
    if done["evidence"] < 2:
        each = sum(count for _, count in one.tested.values())
        seconds["evidence"] = scoring(
            (2 - done["evidence"]) * each, pace, job.adapt.evaluate.precision, job.train.precision
        )
    if not done["walked"]:
        seconds["walked"] = scoring(_looked(one, "line"), pace, job.walk_back.precision, job.train.precision)
    return replace(one, seconds=seconds)


def _with_turns(job: Continual, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    """A stream: its trainings one after the other, and a look at every text after each."""
    base = Base.find(job.base, weights=False)
    sources = sources_of(job, base, there)
    size, config = base.num_parameters, base.config
    sizes = {name: round(source.splits["train"]) for name, source in sources.items()}
    pace = train_flops(store, job.train.precision) / (6 * size)
    minutes, measured = job.train.minutes, False
    if minutes is not None:
        most = max(most_tokens(job.train, sizes[name], 1.0) for name in job.turns)

        def demand(tokens: int) -> Demand:
            return replace(job, train=replace(job.train, tokens=tokens, minutes=None)).demand(base, sizes)

        tokens, measured = _within(minutes, most, demand, sources, pace, there)
        job = replace(job, train=replace(job.train, tokens=tokens, minutes=None))
    itinerary = Itinerary.of(job, base, sizes)
    trainings, first = itinerary.trainings, itinerary.trainings[0]
    names = {artifact.name: artifact.kind for artifact in there}  # each once: what methods share is found again
    done = Counter(names.values())
    models = 1 + len(trainings)
    one = Forecast(
        base=job.base,
        num_parameters=size,
        sources=sources,
        mixture={name: count / first.shape.tokens for name, count in first.tokens.items()},
        shape=first.shape,
        objective=type(job.train.objective).__name__,
        memory_bytes=max(memory(size, one.shape, config, num_teachers=one.num_teachers) for one in trainings),
        disk_bytes=0.0,
        seconds={},
        done=list(names),
        complete=complete,
        itinerary=itinerary,
        demand=job.demand(base, sizes),
        minutes=minutes,
        measured=measured,
    )
    each = sum(count for _, count in one.tested.values())
    assert one.demand is not None
    left = max(0, len(trainings) - done["train"]) / max(1, sum(map(len, one.demand.shapes.values())))
    looked = _looked(one, "look") * left * SCORE_TO_TRAIN
    seconds = {} if any(kind == "tokens" for kind in names.values()) else until_tokens(sources, pace, done)
    seconds |= {"train": (sum(one.shape.tokens for one in trainings[done["train"] :]) + looked) / pace}
    seconds |= {
        "evidence": scoring((models - done["evidence"]) * each, pace, job.evaluate.precision, job.train.precision)
    }
    space = disk(size, sources) + 2 * size * (len(trainings) - 2) + EVIDENCE_BYTES * each * models
    return replace(one, disk_bytes=space, seconds={} if complete else seconds)
