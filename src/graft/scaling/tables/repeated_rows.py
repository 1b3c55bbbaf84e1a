"""Rows that measure one point twice: refused, kept, or put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.trials import Trials
from graft.scaling.tables.table import CellTable, number_of


def once_each(
    trials: Trials, table: CellTable, label_T: Sequence[str], how: str, reads: Sequence[str], runs_told: bool
) -> tuple[Trials, list[int], str]:
    """The trials, the rows that they are, and a note. Two rows repeat a point when all that the law reads is the same,
    and nothing says that they are of different runs or domains.

    how: "refuse", "keep", or "mean", which averages the losses. Errors: UsageError naming both rows.
    """
    nouns = ["step"] if "step" in reads else [noun for noun in reads if noun in trials.columns]
    columns = [trials.columns[noun].tolist() for noun in nouns]
    if trials.weights_TK is not None:
        columns.append([tuple(row) for row in trials.weights_TK.tolist()])
    if runs_told:
        columns.append(trials.run_T.tolist())
    if label_T:
        columns.append(list(label_T))
    places: dict[Any, list[int]] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        places.setdefault(key, []).append(row)
    again = sorted((row, rows[0]) for rows in places.values() for row in rows[1:])
    every = list(range(len(trials)))
    if not again:
        return trials, every, ""
    if how == "refuse":
        raise _refused(trials, table, nouns, again)
    if how == "keep":
        return trials, every, f"{len(again)} rows repeat a point of an earlier row, and all are kept"
    kept = [rows[0] for rows in places.values()]
    first = trials.rows(np.array(kept))
    loss_T = np.array([trials.loss_T[rows].mean() for rows in places.values()])
    averaged = Trials(loss_T, first.columns, first.weights_TK, first.domains, first.run_T)
    told = (
        f"{len(trials)} rows are {len(kept)} points: the losses of {len(again)} repeats are averaged with their first"
    )
    return averaged, kept, told


def _refused(trials: Trials, table: CellTable, nouns: Sequence[str], again: Sequence[tuple[int, int]]) -> UsageError:
    row, earlier = again[0]
    point = ", ".join(f"{noun} {trials.columns[noun][row]:.6g}" for noun in nouns) or "the same shares"
    more = f"; {len(again) - 1} more rows repeat a point" if len(again) > 1 else ""
    differs = next((name for name in table.columns if _tells_apart(table, name, again)), "")
    one = ""
    if differs and len(set(map(str, table.columns[differs]))) == len(table):
        one = f"if they are different runs, --run {differs}; "
    elif differs:
        one = f"take one {differs} at a time, --where {differs}={table.columns[differs][row]}; "
    return UsageError(
        f"{table.rows[row]} repeats {table.rows[earlier]}: {point}{more}",
        where=table.name,
        allowed="each point once, but for runs that a column tells apart (--run COL)",
        do=f"{one}--repeats mean averages them, --repeats keep counts each",
    )


def _tells_apart(table: CellTable, name: str, again: Sequence[tuple[int, int]]) -> bool:
    """Whether a column of text differs in every pair of rows that measure the same point."""
    pairs = [(table.columns[name][row], table.columns[name][earlier]) for row, earlier in again]
    return all(one is not None and number_of(one) is None and one != other for one, other in pairs)
