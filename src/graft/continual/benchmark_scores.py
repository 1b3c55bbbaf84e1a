"""What the models of a stream answered to a suite: the general axis that is no loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.records.benchmark_answers import read_answers
from graft.core.stats.bootstrap import levels
from graft.core.stats.document_resamples import Sightings
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact


@dataclass(frozen=True)
class Quizzed:
    """Right answers of M models by task, an item in the place of a document; model 0 is the base."""

    seen: Sightings
    draws: int
    seed: int

    @classmethod
    def of(cls, answered: Sequence[Artifact], draws: int, seed: int) -> Quizzed:
        return cls(Sightings.of([_by_task(one) for one in answered]), draws, seed)

    @property
    def tasks(self) -> list[str]:
        return list(self.seen.count_D)

    @property
    def level_M(self) -> np.ndarray:
        """Share of right answers, the mean over tasks."""
        return np.mean([self.seen.means(task) for task in self.tasks], 0)

    def asked(self) -> dict[str, Any]:
        """By task: items, and the share that the base answers right; the mean of these shares."""
        tasks = {
            task: {"items": len(self.seen.count_D[task]), "start": float(self.seen.means(task)[0])}
            for task in self.tasks
        }
        return {"tasks": tasks, "start": float(self.level_M[0])}

    def told(self, models: Sequence[Sequence[int | None]]) -> dict[str, Any]:
        """Of one method; models: after each turn, by seed. Means over seeds, each a mean over tasks.

        after: the share of right answers after each turn; change: from the base to the end, as the deltas of TRACE
        (arXiv 2310.06762), with a 95 % interval over items drawn within tasks; lost, found: shares of the items that
        went from right to wrong and from wrong to right. No part of these is taken off for guessing.
        """
        level_M = self.level_M
        after = [[math.nan if one is None else level_M[one] for one in each] for each in models]
        ends = [last(each) for each in models]
        drawn_RM = np.mean([self.seen.drawn(task, self.draws, self.seed) for task in self.tasks], 0)
        change_R = np.mean([drawn_RM[:, end] - drawn_RM[:, 0] for end in ends], 0)
        fewest = min(map(len, self.seen.count_D.values()))
        right = [self.seen.total_MD[task] > 0 for task in self.tasks]
        return {
            "after": [None if math.isnan(one) else float(one) for one in np.mean(after, 0)],
            "change": float(np.mean([level_M[end] - level_M[0] for end in ends])),
            "interval": [float(one) for one in np.quantile(change_R, levels(fewest))] if fewest > 1 else None,
            "lost": float(np.mean([(one[0] & ~one[end]).mean() for one in right for end in ends])),
            "found": float(np.mean([(~one[0] & one[end]).mean() for one in right for end in ends])),
        }


def last(models: Sequence[int | None]) -> int:
    """The model that a method ends with; models: after each turn, None where it waited."""
    return next(one for one in reversed(models) if one is not None)


def _by_task(answers: Artifact) -> dict[str, Tally[np.ndarray]]:
    """Right answers of each task, an entry per item."""
    found = read_answers(answers)
    right = {task: found.correct_I[found.task_I == number].astype(float) for number, task in enumerate(found.tasks)}
    return {task: Tally(right_I, np.ones_like(right_I)) for task, right_I in right.items()}
