"""Graded: whose answers are looked at, and the table of their items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core.config.errors import UsageError
from graft.core.records.benchmark_answers import CHOSEN, CORRECT, FILE
from graft.core.stats.even_sample import golden_order
from graft.core.store.artifact import Artifact

LOST, GAINED = "1 -> 0", "0 -> 1"
FLIPS = {(True, True): "right", (True, False): LOST, (False, True): GAINED, (False, False): "wrong"}  # before, after


@dataclass(frozen=True)
class Graded:
    """The answers of one model, or of two to the same suites, and the words its user gave."""

    model: str
    answers: Artifact
    against: str = ""
    others: Artifact | None = None
    suites: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def each(self) -> list[Artifact]:
        return [self.answers, *([self.others] if self.others else [])]


def items_of(graded: Graded, measure: str) -> tuple[pa.Table, int]:
    """A row per item: what was asked, and of each model what it chose; how many were answered by one model alone."""
    kept = ["task", "item", "id", "place", "form", "query", "choices", "gold", "chance"]
    renamed = {CHOSEN[measure]: "chosen", CORRECT[measure]: "correct", "nats": "nats", "written": "written"}
    tables = [pq.read_table(one / FILE) for one in graded.each]
    keys = [list(zip(one["task"].to_pylist(), one["item"].to_pylist(), strict=True)) for one in tables]
    if len(tables) == 1:
        columns = {name: tables[0][name] for name in kept}
        columns |= {f"{new}_model": tables[0][old] for old, new in renamed.items()}
        return pa.table(columns), 0
    place = {key: at for at, key in enumerate(keys[1])}
    pairs = [(at, place[key]) for at, key in enumerate(keys[0]) if key in place]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    if not len(both):
        raise UsageError(
            "the two models have answered no item in common", do="ask both the same suites, with the same settings"
        )
    rows = [tables[side].take(both[:, side]) for side in (0, 1)]
    columns = {name: rows[0][name] for name in kept}
    for side, table in zip(("model", "against"), rows, strict=True):
        columns |= {f"{new}_{side}": table[old] for old, new in renamed.items()}
    was, now = columns["correct_against"].to_pylist(), columns["correct_model"].to_pylist()
    columns["flip"] = pa.array([FLIPS[pair] for pair in zip(was, now, strict=True)])
    return pa.table(columns), len(keys[0]) + len(keys[1]) - 2 * len(both)


def changed(table: pa.Table) -> NDArray[np.bool_]:
    return np.array([flip in (LOST, GAINED) for flip in table["flip"].to_pylist()])


def shown_items(table: pa.Table, most: int) -> list[dict[str, Any]]:
    """Of two models the items that changed, of one model any: at most so many, spread over them in their order."""
    places = np.flatnonzero(changed(table)) if "flip" in table.column_names else np.arange(len(table))
    if len(places) > most:
        places = np.sort(places[golden_order(len(places))[:most]])
    return table.take(places).to_pylist()
