"""budget: the best domain model inside what may be forgotten: predicted by pilots, trained, and held to its word."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from graft.budget.choose_mixture import Choose, choose
from graft.budget.pilot_runs import Pilot, Pilots, mixture_of, pilot
from graft.budget.walk_back import WalkBack, walk_back
from graft.core.config.errors import GateClosed, UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.settings import build_plugin, to_json
from graft.core.models.base_model import Base
from graft.core.models.context_length import check_windows
from graft.core.process.notes import tell_notes
from graft.core.records.evidence import read_evidence
from graft.core.stats.evaluation_size import LINE, PILOT_LOOK, TEST, ScoringPlan
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.tokenize import sources
from graft.evaluation.score_documents import evaluate
from graft.jobs.adapt import PAGES, Adapt, Outcome, Prepared, Text
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.report.adaptation.budgeted import Budgeted
from graft.report.adaptation.stage import BUDGET_NUMBERS
from graft.training.measure_speed import Limit
from graft.training.scored_text import Demand, settle_limits
from graft.training.settings import Train, TrainingShape, most_tokens, readings_of
from graft.training.train import fit_minutes, train
from graft.training.tunings.contract import tuning_needs

STEPS_WANTED = 8  # of a pilot, where the batch is chosen for it
WALKS = 4  # how often a model that breaks the budget on test text is walked back


@dataclass(frozen=True)
class Budget:
    """An adaptation that is told what may be forgotten, and finds out the rest.

    Pilots, laws fitted to them, the choice of ratio, objective and tokens, the training, a walk back towards the base
    as far as validation text asks for it, and the untouched test text. Where that is above the budget all the same,
    the model is walked back further (each further look at the test text is counted and said), so that the promise
    holds; where nothing inside the budget reads the domain better than the base, no model is left and the job ends
    with GateClosed, exit code 3.
    """

    forget: float = 0.02  # largest relative rise of the general loss; 2%
    hours: float | None = None  # of all of it: adapt.train.minutes by another unit; None: as many tokens as are given
    adapt: Adapt = Adapt()  # its replay is chosen here, and its objective among pilots.objectives
    pilots: Pilots = Pilots()
    choose: Choose = Choose()
    walk_back: WalkBack = WalkBack()

    def __post_init__(self) -> None:
        if not 0 < self.forget < 1:
            raise UsageError(f"forget is {self.forget}", allowed="a share of the general loss, such as 2% or 0.02")
        if self.hours is not None and not 0 < self.hours < float("inf"):
            raise UsageError(f"hours is {self.hours}", allowed="more than 0")
        if self.hours is not None and self.adapt.train.tokens is not None:
            raise UsageError(
                f"hours is {self.hours} and adapt.train.tokens {self.adapt.train.tokens}", allowed="one of the two"
            )
        if self.hours is not None and self.adapt.train.minutes is not None:
            raise UsageError(
                f"hours is {self.hours} and adapt.train.minutes {self.adapt.train.minutes}", allowed="one of the two"
            )
        if self.adapt.replay != Adapt.replay:
            raise UsageError(f"adapt.replay is {self.adapt.replay}", allowed="nothing: with a budget it is chosen")
        if self.adapt.train.objective != Train.objective and self.adapt.train.objective not in self.pilots.objectives:
            raise UsageError(
                f"adapt.train.objective is {plugin_name(self.adapt.train.objective)}, and the pilots try others",
                allowed="nothing there: the final run has the best of pilots.objectives",
                do="name it in pilots.objectives (on the command line --objective)",
            )
        if tuning_needs(self.adapt.train.tuning).reshapes:
            raise UsageError(
                f"adapt.train.tuning is {plugin_name(self.adapt.train.tuning)}, whose outcome has other weights than "
                "the base: there is no way back to it",
                allowed="a tuning that leaves the model's shape as it is",
            )
        for name in ("range_test", "decay_now"):
            if getattr(self.adapt.train, name) is not None:
                raise UsageError(
                    f"adapt.train.{name} is given",
                    allowed="nothing: pilots and final run share one peak rate, and the final run its own schedule",
                    do="give adapt.train.learning_rate, or leave it a share of the base's peak (adapt.train.rewarm)",
                )
        if self.adapt.evaluate.split != "test":
            raise UsageError(
                f"adapt.evaluate.split is {self.adapt.evaluate.split}",
                allowed="test: a budget is proven on text that no choice has seen",
            )

    @property
    def base(self) -> str:
        return self.adapt.base

    @property
    def out(self) -> str:
        return self.adapt.out

    @property
    def train(self) -> Train:
        return self.adapt.train

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        return self.adapt.sources

    def __call__(self, store: Store) -> Outcome:
        """Run every stage that is not done yet, and lay the outcome into `out`.

        Errors: GateClosed where no model inside the budget improves the domain; the report is written all the same.
        """
        folder = Path(self.adapt.out).expanduser()
        check_out(
            folder, ("model", "adapter", *PAGES), base=self.base, sources=(*self.adapt.domain, *self.adapt.general)
        )
        made, model = settle_precision(self, store).make(store)
        page = made[-1]
        contents = {name: page / name for name in PAGES}
        taken = {} if model is None else {"model": model.folder}
        put_out(folder, taken | contents, gone=("adapter",) if taken else ("model", "adapter"))
        summary = json.loads((page / "summary.json").read_text(encoding="utf-8"))
        if model is None:
            raise GateClosed(summary["verdict"], where=str(folder / "report.html"), do=summary["budget"]["advice"])
        return Outcome(folder, summary, made)

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json, known before it is there."""
        return [*self.adapt.number_keys(), *BUDGET_NUMBERS]

    def make(self, store: Store) -> tuple[list[Artifact], Base | None]:
        """Every artifact in the order in which it is made, the report last, and the model that is handed over."""
        began = time.monotonic()
        base = find_base(self.base, store)
        if self.adapt.train.tokens:  # what cannot work is said before any work
            self._sized(self.adapt.train, base, self.adapt.train.tokens)
        check_windows(self, base)
        text = self.adapt.read(store, replay=1 - min(self.pilots.ratios))
        job, shape, text = self.settled(text, store, began)
        return job._make(text, shape, self._available(text), store)

    @property
    def minutes(self) -> float | None:
        """How long all of it may take; None: as long as its tokens need."""
        return self.adapt.train.minutes if self.hours is None else 60 * self.hours

    def settled(self, text: Text, store: Store, began: float) -> tuple[Budget, TrainingShape, Text]:
        """This job with nothing left to choose but the ratio: its tokens, where minutes are given, and how much text is
        scored, and where. began: when the job did, on the monotonic clock."""
        available = self._available(text)
        final = replace(self.adapt.train, minutes=None)
        if self.minutes is not None:
            speed = self._fitting(text, available, self.minutes, store, began)
            final, text = replace(final, tokens=speed.facts["tokens"]), replace(text, speed=(speed,))
        final, shape = self._sized(final, text.base, available)
        demand = self.demand(final, shape)
        limits = settle_limits(text.tokens, demand)
        looks = demand.readings["look"].times - 1
        adapt = replace(
            self.adapt,
            train=replace(final, evaluations=looks, validation_tokens=limits["look"]),
            evaluate=replace(self.adapt.evaluate, max_tokens=limits["test"]),
        )
        pilots = replace(self.pilots, validation_tokens=limits["pilot"])
        walk_back = replace(self.walk_back, max_tokens=limits["line"])
        return replace(self, adapt=adapt, hours=None, pilots=pilots, walk_back=walk_back), shape, text

    def _fitting(self, text: Text, available: int, minutes: float, store: Store, began: float) -> Artifact:
        """Tokens of the final run such that the job ends in time, the final run taken to have the first objective."""
        final = replace(self.adapt.train, minutes=None)
        runs = {plugin_name(one): (mixture_of(1.0), replace(final, objective=one)) for one in self.pilots.objectives}
        known_by = {name: to_json(getattr(self, name)) for name in ("pilots", "choose", "walk_back")}
        known_by |= {name: to_json(getattr(self.adapt, name)) for name in ("train", "evaluate", "examine")}
        most = most_tokens(final, available, min(self.pilots.ratios))

        def demand(count: int) -> Demand:
            sized, shape = self._sized(replace(final, tokens=count), text.base, available)
            return self.demand(sized, shape)

        limit = Limit(minutes, began, most, known_by | {"forget": self.forget})
        return fit_minutes(text.base, text.tokens, runs, limit, demand, scoring=self.adapt.evaluate, store=store)

    def demand(self, final: Train, shape: TrainingShape) -> Demand:
        """What the job trains and scores: the pilots, the final run (taken to have the first objective), the line."""
        names = [plugin_name(one) for one in self.pilots.objectives]
        short = replace(shape, steps=self.pilots.steps(shape), scheduled=self.pilots.steps(shape))
        shapes: dict[str, list[TrainingShape]] = {names[0]: [shape]}
        for name in names:
            shapes.setdefault(name, []).extend([short] * len(self.pilots.ratios))
        pilots = len(self.pilots.ratios) * len(names)
        test = ScoringPlan.of(2, self.adapt.evaluate.max_tokens, TEST)  # base and outcome; further walks come on top
        _, readings = readings_of(final, test, shape.laid_out, len(self.sources))
        readings |= {
            "pilot": ScoringPlan.of(pilots * (self.pilots.looks + 1), self.pilots.validation_tokens, PILOT_LOOK),
            "line": ScoringPlan.of(self.walk_back.looks + 1, self.walk_back.max_tokens, LINE),
        }
        return Demand(shapes, readings, self.adapt.evaluate.split)

    def _make(
        self, text: Text, shape: TrainingShape, available: int, store: Store
    ) -> tuple[list[Artifact], Base | None]:
        """Of a settled job: everything after the text."""
        final = self.adapt.train
        ready = self.adapt.prepare(text, store)
        pilots = pilot(ready.base, ready.tokens, final, shape, self.pilots, store=store)
        choice = choose(pilots, self.forget, shape.tokens, available, self.choose, store=store)
        tell_notes([in_words(choice)])
        if not choice.facts["worth_it"]:
            return self._concluded(ready, pilots, choice, [], pilots[0].run, None, store)
        trained = self._train(ready, final, shape, choice, store)
        return self._hold(ready, pilots, choice, trained, store)

    def _train(self, ready: Prepared, final: Train, shape: TrainingShape, choice: Artifact, store: Store) -> Artifact:
        chosen = choice.facts["choice"]
        objective = build_plugin(Shelf("objectives"), chosen["settings"])
        settings = replace(
            final,
            objective=objective,
            tokens=chosen["tokens"],
            batch_size=shape.rows,
            sequence_length=shape.window,
            learning_rate=shape.rate,
        )
        return train(ready.base, ready.tokens, mixture_of(chosen["ratio"]), settings, store=store)

    def _hold(
        self, ready: Prepared, pilots: list[Pilot], choice: Artifact, trained: Artifact, store: Store
    ) -> tuple[list[Artifact], Base | None]:
        """Walk back as far as validation text asks for it, and further while test text breaks the budget."""
        walks: list[Artifact] = []
        aim = self.forget
        for _ in range(WALKS):
            walked = walk_back(ready.base, trained, ready.tokens, aim, self.walk_back, store=store)
            walks.append(walked)
            share = walked.facts["share"]
            if not share:
                break
            home = trained if share == 1 else walked
            model = Base(home.name, home / "model")
            gain, rise = self._on_test(ready, model, store)
            if rise <= self.forget:
                taken = model if gain > 0 else None  # validation text saw a gain that test text does not
                return self._concluded(ready, pilots, choice, walks, trained, taken, store)
            aim = further(aim, walked.facts["bound"], rise, self.forget)
        return self._concluded(ready, pilots, choice, walks, trained, None, store)

    def _on_test(self, ready: Prepared, model: Base, store: Store) -> tuple[float, float]:
        """(relative fall of the domain loss, relative rise of the general loss), on test text."""
        before = read_evidence(ready.before)
        after = read_evidence(evaluate(model, ready.tokens, self.adapt.evaluate, store=store))
        domain, general = (
            float(after[name].nats_N.sum(dtype=float) / before[name].nats_N.sum(dtype=float)) - 1
            for name in ("domain", "general")
        )
        return -domain, general

    def _concluded(
        self,
        ready: Prepared,
        pilots: list[Pilot],
        choice: Artifact,
        walks: list[Artifact],
        trained: Artifact,
        model: Base | None,
        store: Store,
    ) -> tuple[list[Artifact], Base | None]:
        """The report, also where no model is handed over: then it is on the base itself."""
        runs = [one.run for one in pilots]
        budgeted = Budgeted(runs, choice, walks, taken=model is not None)
        return self.adapt.conclude(ready, trained, model or ready.base, store, budgeted), model

    def _sized(self, final: Train, base: Base, available: int) -> tuple[Train, TrainingShape]:
        """The final run with its sizes; an automatic batch is small enough for pilots of several steps.

        Errors: UsageError where pilots would be too short all the same.
        """
        shape = final.shape(base, available, 1.0)
        while final.batch_size is None and shape.rows > 1 and self.pilots.steps(shape) < STEPS_WANTED:
            shape = replace(final, batch_size=shape.rows // 2).shape(base, available, 1.0)
        final = replace(final, batch_size=shape.rows)
        for objective in self.pilots.objectives:
            self.pilots.settings(final, shape, objective)
        return final, shape

    def _available(self, ready: Text) -> int:
        domain = sources(ready.tokens)["domain"]
        return int(domain.pairs_D[domain.documents("train")].sum())


def in_words(choice: Artifact) -> str:
    """What was chosen, in a sentence."""
    chosen, base = choice.facts["choice"], choice.facts["base"]
    domain, general = (chosen[source][0] / base[source] - 1 for source in ("domain", "general"))
    return (
        f"chosen: {chosen['ratio']:.0%} domain text, {chosen['objective']}, {chosen['tokens']:,} tokens; the whole run "
        f"is expected to change the domain loss by {domain:+.1%} and the general loss by {general:+.1%}"
    )


def further(aim: float, bound: float, rise: float, forget: float) -> float:
    """What validation text may rise by next, where test text rose by `rise` and may rise by `forget`.

    bound: what validation text said of the model that broke the budget, at most `aim`. It spoke too well of it by some
    factor, and is taken to do so again; a tenth more is taken off.
    """
    return 0.9 * (bound if 0 < bound < aim else aim) * forget / rise
