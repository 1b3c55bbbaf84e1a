"""What a stream of domains would train, turn by turn, told from its settings and the sizes of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from graft.core.models.base_model import Base
from graft.jobs.continual import Continual
from graft.training.objectives.contract import objective_needs
from graft.training.settings import Sized, TrainingShape


@dataclass(frozen=True)
class TurnForecast:
    """One turn of one method and seed. tokens: by source, the turn's own domain first."""

    shape: TrainingShape
    tokens: Mapping[str, float]
    num_teachers: int


@dataclass(frozen=True)
class Itinerary:
    """Every turn of every method, and the trainings that they come to.

    turns: by method and turn the tokens of one seed by source, None where it waits. trainings: of all seeds, each
    once where methods share it, in the order in which they are made.
    """

    domains: tuple[str, ...]
    seeds: int
    turns: Mapping[str, list[Mapping[str, float] | None]]
    trainings: list[TurnForecast]

    @classmethod
    def of(cls, job: Continual, base: Sized | Base, trainable: Mapping[str, int]) -> Itinerary:
        """trainable: training tokens of every source. Errors: as those of the settings' own shape."""
        turns: dict[str, list[Mapping[str, float] | None]] = {}
        trainings: dict[Any, TurnForecast] = {}
        for label, method in job.labels.items():
            turns[label] = []
            for place, seed in enumerate(job.seeds):
                before: Any = "base"
                for number in range(1, len(job.turns) + 1):
                    lesson = method(job.turn(number, trainable))
                    if lesson is None:
                        turns[label] += [None] if place == 0 else []
                        continue
                    settings = job.settings(lesson, seed)
                    domain, share = next(iter(lesson.mixture.items()))
                    shape = settings.shape(base, trainable[domain], share)
                    tokens = {name: part * shape.tokens for name, part in lesson.mixture.items()}
                    before = ("base" if lesson.fresh else before, tuple(lesson.mixture.items()), repr(settings))
                    trainings[before] = TurnForecast(shape, tokens, len(objective_needs(settings.objective).teachers))
                    turns[label] += [tokens] if place == 0 else []
        return cls(job.turns, len(job.seeds), turns, list(trainings.values()))

    @property
    def tokens(self) -> int:
        """Of all trainings."""
        return sum(one.shape.tokens for one in self.trainings)

    def show(self, console: Console) -> None:
        """Tokens by method and turn, and how much that is in all."""
        heads = (Column(f"{number} {name}", justify="right") for number, name in enumerate(self.domains, 1))
        table = Table(Column("method", no_wrap=True), *heads, box=None)
        for label, turns in self.turns.items():
            table.add_row(escape(label), *map(_cell, turns))
        console.print(table)
        console.print("[dim]Tokens of the turn's own domain, and of other text. –: it waits.[/dim]")
        one = self.trainings[0].shape
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        console.print(
            f"training  {len(self.turns)} methods, {len(self.domains)} turns, {seeds}: {len(self.trainings)} trainings "
            f"of {self.tokens:,} tokens in all; what methods share is trained once"
        )
        console.print(
            f"          the first: {one.steps:,} steps of {one.rows} rows of {one.window}, {one.micro_rows} at once, "
            f"peak rate {one.rate:.2g}"
        )


def _cell(tokens: Mapping[str, float] | None) -> str:
    if tokens is None:
        return "–"
    own, *earlier = tokens.values()
    return f"{own:,.0f}" + (f" + {sum(earlier):,.0f}" if earlier else "")
