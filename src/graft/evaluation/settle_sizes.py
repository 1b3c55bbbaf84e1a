"""settle job: what a job with one training leaves to be chosen: its tokens, and how much text is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from graft.core.config.settings import to_json
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.data.tokenize import sources
from graft.evaluation.score_documents import Evaluate
from graft.training.measure_speed import Limit
from graft.training.scored_text import Demand, settle_limits
from graft.training.settings import Train, most_tokens, trainable_tokens
from graft.training.train import fit_minutes


@dataclass(frozen=True)
class Open:
    """A job before it is settled. demand: what it needs of (training, tokens of the domain's training text).

    began: when the job did, on the monotonic clock. known_by: settings beyond these that decide how long it takes.
    """

    base: Base
    tokens: Artifact
    mixture: Mapping[str, float]
    training: Train
    evaluate: Evaluate
    demand: Callable[[Train, int], Demand]
    began: float
    known_by: Mapping[str, Any]

    def settled(self, store: Store) -> tuple[Train, Evaluate, list[Artifact]]:
        """Training and scoring with nothing left open, and the measured speed where it was asked for."""
        speed: list[Artifact] = []
        domain, share = next(iter(self.mixture.items()))
        training = self.training
        trainable = trainable_tokens(self.base, sources(self.tokens)[domain], training)
        if training.minutes is not None:
            known_by = {"train": to_json(training), "evaluate": to_json(self.evaluate), "mixture": dict(self.mixture)}
            most = most_tokens(training, trainable, share)
            found = fit_minutes(
                self.base,
                self.tokens,
                {"": (self.mixture, training)},
                Limit(training.minutes, self.began, most, known_by | dict(self.known_by)),
                lambda count: self.demand(replace(training, tokens=count), trainable),
                scoring=self.evaluate,
                store=store,
            )
            speed.append(found)
            training = replace(training, tokens=found.facts["tokens"], minutes=None)
        demand = self.demand(training, trainable)
        limits = settle_limits(self.tokens, demand)
        looks = demand.readings["look"].times - 1  # the first is before training
        return (
            replace(training, evaluations=looks, validation_tokens=limits["look"]),
            replace(self.evaluate, max_tokens=limits["test"]),
            speed,
        )
