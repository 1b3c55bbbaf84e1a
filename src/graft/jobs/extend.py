"""extend: a base learns the words of a domain as tokens, and says what that gained before anything else is trained."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.models.context_length import check_windows
from graft.core.stats.evaluation_size import TEST, ScoringPlan
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.curate import Curate, curate
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.evaluation.compare.compare_extension import CompareExtension, compare_extension, number_keys
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.evaluation.settle_sizes import Open
from graft.jobs.adapt import STAND_IN, STAND_IN_NOTE, Outcome
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.readers.part import SourcePart
from graft.surgery.extend_vocabulary import Growth, extend
from graft.training.general_text_needed import Wanted, check_wanted, kept_bytes, longest, part_for
from graft.training.scored_text import Demand
from graft.training.settings import Sized, Train, readings_of
from graft.training.train import train
from graft.training.tunings.new_rows import NewRows


@dataclass(frozen=True)
class Extend:
    """A vocabulary extension: tokens chosen by what they save, rows begun as what they stand for and trained alone.

    The model that comes out is a base for `adapt`, which reads the domain in fewer tokens. It is compared with the
    base and with the extension before its rows were trained, in bits per byte of the same test documents.
    """

    base: str = "embedded"  # "embedded", a folder in Hugging Face form, or a hub id
    domain: tuple[str, ...] = ("embedded:code",)  # folders, files, hf://OWNER/NAME or embedded text
    general: tuple[str, ...] = ()  # the text whose loss is to stay; none: the embedded prose stands in
    replay: float = 0.2  # share of the training tokens that is general text: where new tokens are not to be expected
    # how much general text is read, of more: what replay and measuring need (auto), all of it, or so many tokens
    general_tokens: Wanted = "auto"
    out: str = "extended"  # folder for model/ and summary.json
    ingest: Ingest = Ingest()
    curate: Curate = Curate()
    growth: Growth = Growth()
    tokenize: Tokenize = Tokenize()
    train: Train = Train(tuning=NewRows(), tokens=400_000)
    evaluate: Evaluate = Evaluate()
    compare: CompareExtension = CompareExtension()

    def __post_init__(self) -> None:
        if not self.domain:
            raise UsageError("domain names no path", allowed="one or more folders or files")
        if not 0 <= self.replay < 1:
            raise UsageError(f"replay is {self.replay}", allowed="a share of the tokens, 0 or more and below 1")
        check_wanted("general_tokens", self.general_tokens)

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Paths by source name; the domain comes first."""
        return {"domain": self.domain, "general": self.general or (STAND_IN,)}

    @property
    def mixture(self) -> dict[str, float]:
        """Share of the training tokens by source."""
        return {"domain": 1 - self.replay} | ({"general": self.replay} if self.replay else {})

    def __call__(self, store: Store) -> Outcome:
        """Run every stage that is not done yet, and lay the model and its summary into `out`.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        check_out(folder, ("model", "summary.json"), base=self.base, sources=(*self.domain, *self.general))
        made = settle_precision(self, store).make(store)
        trained, comparison = (next(one for one in made if one.kind == kind) for kind in ("train", "comparison"))
        put_out(folder, {"model": trained / "model", "summary.json": comparison / "summary.json"})
        return Outcome(folder, json.loads((comparison / "summary.json").read_text(encoding="utf-8")), made)

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json, known before it is there."""
        return number_keys(list(self.sources))

    def part(self, kept: float, replay: float) -> SourcePart | None:
        """How much of the general text is read; None: all of it. kept: bytes of the domain's usable text."""
        trained = longest(self.train, kept, 1 - self.replay)
        return part_for(self.general_tokens, trained, trained * replay, self.curate.split)

    def settled(self, start: Base, tokens: Artifact, store: Store, began: float) -> tuple[Extend, list[Artifact]]:
        """This job with nothing left to choose: its tokens, where minutes are given, and how much text is scored; and
        the speed that was measured for it.

        start: the extended base, before its rows are trained. began: when the job did, on the monotonic clock.
        """
        left = Open(
            start,
            tokens,
            self.mixture,
            self.train,
            self.evaluate,
            partial(self.demand, start),
            began,
            {"models": 3},
        )
        training, scoring, speed = left.settled(store)
        return replace(self, train=training, evaluate=scoring), speed

    def demand(self, base: Sized | Base, training: Train, trainable: int) -> Demand:
        """What the job trains and scores, with `training`. trainable: tokens of the domain's training text."""
        shape = training.shape(base, trainable, next(iter(self.mixture.values())))
        test = ScoringPlan.of(3, self.evaluate.max_tokens, TEST)  # the base, and the extension before and after
        _, readings = readings_of(training, test, shape.laid_out, len(self.sources))
        return Demand({"": [shape]}, readings, self.evaluate.split)

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made: the base's own first."""
        began = time.monotonic()
        base = find_base(self.base, store)
        check_windows(self, base)
        docs = {"domain": ingest(self.domain, "domain", self.ingest, store=store)}
        part = self.part(kept_bytes(docs["domain"]), self.replay)
        docs["general"] = ingest(self.sources["general"], "general", self.ingest, part=part, store=store)
        corpus = curate(docs, self.curate, store=store)
        old_tokens = tokenize(corpus, base, self.tokenize, store=store)
        extended = extend(base, corpus, self.growth, store=store)
        start = Base(extended.name, extended / "model")
        tokens = tokenize(corpus, start, self.tokenize, store=store)
        job, speed = self.settled(start, tokens, store, began)
        seen = {"base": evaluate(base, old_tokens, job.evaluate, store=store)}
        seen["extended"] = evaluate(start, tokens, job.evaluate, store=store)
        trained = train(start, tokens, self.mixture, job.train, store=store)
        seen["trained"] = evaluate(Base(trained.name, trained / "model"), tokens, job.evaluate, store=store)
        line = [*docs.values(), corpus, old_tokens, extended, tokens, *speed, trained, *seen.values()]
        notes = [] if self.general else [STAND_IN_NOTE]
        notes += [note for one in docs.values() for note in one.facts["notes"]]
        notes += [note for one in speed for note in one.facts["notes"]]
        return [*line, compare_extension(seen, corpus, extended, trained, self.compare, notes=notes, store=store)]
