"""habits: whether a model answers in the same place to nearly everything, whatever is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graft.evaluation.benchmarks.answer_key import LETTERS

KEYS = ("position", "share", "right_there", "items")
FEWEST = 20  # items: of fewer nothing is said
BEYOND = 0.15  # points of share by which it must be chosen more often than the right answer is there
NAMED = 5  # tasks that a note names


@dataclass(frozen=True)
class Habits:
    """I items that offer choices. task_I: a number; lettered_I: letters are offered; chosen: by model."""

    task_I: NDArray[np.int64]
    gold_I: NDArray[np.int64]
    lettered_I: NDArray[np.bool_]
    chosen: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, table: pa.Table) -> Habits:
        """table: see `items_of`. An ending without choices, and what a model writes, are no items."""
        names = list(dict.fromkeys(table["task"].to_pylist()))
        offers = np.array([chance > 0 for chance in table["chance"].to_pylist()], bool)
        task_I = np.array([names.index(task) for task in table["task"].to_pylist()], np.int64)
        sides = [side for side in ("model", "against") if f"chosen_{side}" in table.column_names]
        return cls(
            task_I[offers],
            np.array(table["gold"].to_pylist(), np.int64)[offers],
            np.array([form == "lettered" for form in table["form"].to_pylist()], bool)[offers],
            {side: np.array(table[f"chosen_{side}"].to_pylist(), np.int64)[offers] for side in sides},
        )

    def told(self, task: int | None = None) -> dict[str, dict[str, Any] | None]:
        """By model, of all items or of those of a task: position (from 0) that it chooses most; share: how often it
        does; right_there: how often the right answer is there; items. None where no item offers choices."""
        mine_I = np.ones(len(self.task_I), bool) if task is None else self.task_I == task
        return {side: _most(chosen_I[mine_I], self.gold_I[mine_I]) for side, chosen_I in self.chosen.items()}

    def notes(self, tasks: Sequence[str], same: float) -> list[str]:
        """A sentence for each model that answers so, over all items or else in some tasks. tasks: their names."""
        found: list[str] = []
        for side in self.chosen:
            which = "The model" if side == "model" else "The model that it is compared with"
            whole = self.told()[side]
            if _is_habit(whole, same):
                found.append(f"{which} answers {self._words(whole)}; {_means(same)}")
                continue
            each = {name: self.told(number)[side] for number, name in enumerate(tasks)}
            habits = {name: one for name, one in each.items() if _is_habit(one, same)}
            if habits:
                words = [f"{name} {self._words(one)}" for name, one in list(habits.items())[:NAMED]]
                more = f" and {len(habits) - NAMED} more tasks" if len(habits) > NAMED else ""
                found.append(f"{which} answers to {'; '.join(words)}{more}; {_means(same)}")
        return found

    def _words(self, one: dict[str, Any] | None) -> str:
        assert one is not None
        number = one["position"]
        place = f'"{LETTERS[number]}"' if self.lettered_I.all() else f"with choice number {number + 1}"
        return (
            f"{place} to {one['share']:.0%} of {one['items']:,} items, where {one['right_there']:.0%} have it as right"
        )


def _most(chosen_I: NDArray[np.int64], gold_I: NDArray[np.int64]) -> dict[str, Any] | None:
    chosen_I, gold_I = chosen_I[chosen_I >= 0], gold_I[chosen_I >= 0]
    if not len(chosen_I):
        return None
    counts = np.bincount(chosen_I)
    position = int(counts.argmax())
    share, right = float(counts[position] / len(chosen_I)), float((gold_I == position).mean())
    return {"position": position, "share": share, "right_there": right, "items": len(chosen_I)}


def _is_habit(one: dict[str, Any] | None, same: float) -> bool:
    return (
        one is not None and same < 1 and one["items"] >= FEWEST and one["share"] >= same
        and one["share"] - one["right_there"] >= BEYOND
    )  # fmt: skip


def _means(same: float) -> str:
    return (
        f"from {same:.0%} on that is nearly everything, so its accuracy says where the right answers are rather than "
        "what it knows."
    )
