"""measured: how much text of a job is scored, settled once, so that all its models are scored on the same documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graft.core.process.notes import tell_notes
from graft.core.process.precision import Precision
from graft.core.stats.evaluation_size import SCORE_TO_TRAIN, ScoringPlan, in_words, scored_tokens, settle
from graft.core.store.artifact import Artifact
from graft.core.tokens.token_shards import TokenSource
from graft.data.tokenize import sources
from graft.training.settings import TrainingShape

WORDS = {
    "test": "{split} text",
    "look": "validation text while training",
    "pilot": "validation text in pilots",
    "line": "validation text on the way back",
}


class Scoring(Protocol):
    """What of the settings of scoring decides how fast it is."""

    @property
    def window(self) -> int | None: ...
    @property
    def precision(self) -> Precision: ...


@dataclass(frozen=True)
class Demand:
    """What a job trains and scores. shapes: of all trainings, by kind; split: which text the reading "test" is of."""

    shapes: Mapping[str, Sequence[TrainingShape]]
    readings: Mapping[str, ScoringPlan]
    split: str = "test"

    @property
    def trained(self) -> int:
        """Tokens by which measuring goes; of a branch those of its trunk, so that both are measured alike."""
        return sum(shape.laid_out for shapes in self.shapes.values() for shape in shapes)

    def limits(self, num_sources: int) -> dict[str, int]:
        """Tokens of a source in each reading."""
        return settle(self.trained, num_sources, self.readings)

    def scored(self, named: Mapping[str, TokenSource]) -> float:
        """Tokens that are scored in all."""
        there = {
            split: [float(one.pairs_D[one.documents(split)].sum()) for one in named.values()]
            for split in {self.split, "validation"}
        }
        return self.scored_of(there)

    def scored_of(self, there: Mapping[str, Sequence[float]]) -> float:
        """The same. there: tokens of every source, by split."""
        num_sources = len(next(iter(there.values())))
        return sum(
            self.readings[name].times * scored_tokens(limit, there[self._split_of(name)])
            for name, limit in self.limits(num_sources).items()
        )

    def _split_of(self, name: str) -> str:
        return self.split if name == "test" else "validation"

    def in_words(self, scored: float, num_sources: int) -> str:
        """One line for the screen."""
        limits = self.limits(num_sources)
        counts = {
            WORDS[name].format(split=self.split): (limits[name], one.times) for name, one in self.readings.items()
        }
        return in_words(scored * SCORE_TO_TRAIN / max(1, self.trained), counts)


def settle_limits(tokens: Artifact, demand: Demand) -> dict[str, int]:
    """The limit of each reading, and one line on the screen that says them."""
    named = sources(tokens)
    tell_notes([demand.in_words(demand.scored(named), len(named))])
    return demand.limits(len(named))
