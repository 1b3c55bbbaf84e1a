"""Checkpoints of one run stand for different token counts only while its learning rate does not fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graft.core.config.errors import UsageError
from graft.scaling.fitting.trials import Trials
from graft.scaling.tables.table import CellTable, number_of

FALLS = 0.01  # by how much of itself a rate may fall between two checkpoints and still be called constant
FALLING = ("cosine", "linear", "decay", "anneal", "polynomial", "inverse")
SCHEDULES = ("schedule", "lr_schedule", "scheduler", "lr_scheduler")


def require_no_decay(
    table: CellTable, schedule: str, reads: Sequence[str], used: Mapping[str, str], trials: Trials,
    label_T: Sequence[str], runs_told: bool,
) -> tuple[str, ...]:  # fmt: skip
    """Warnings where `schedule` is "accept". Errors: UsageError where a run's rate falls while its tokens serve as D.

    A run stopped on the way of its decay has not the loss of a shorter run. One checkpoint per run is fine whatever
    its schedule. Without a column of runs, rows that agree in all else that the law reads are taken for one run.
    """
    if "tokens" not in reads or "rate" in reads:
        return ()
    found = _falling_rate(table, reads, used, trials, label_T, runs_told) or _falling_word(table, trials)
    if not found:
        return ()
    if schedule == "accept":
        return (f"{found}: checkpoints of a decaying run are fitted as if they were shorter runs",)
    raise UsageError(
        f"{found}, so its checkpoints are not what shorter runs would have reached",
        where=table.name,
        allowed="several token counts from a run at constant rate, or the last checkpoint of each run",
        do="keep the last rows (--where), fit --form multi_power, name the runs (--run COL) where these are "
        "different ones, or take it as it is with --schedule accept",
    )


def _falling_rate(
    table: CellTable,
    reads: Sequence[str],
    used: Mapping[str, str],
    trials: Trials,
    label_T: Sequence[str],
    runs_told: bool,
) -> str:
    if "rate" not in used:
        return ""
    rates = [number_of(cell) for cell in table.find(used["rate"])]
    tokens_T = trials.column("tokens")
    last: dict[object, int] = {}
    for row in sorted(range(len(trials)), key=lambda t: tokens_T[t]):
        key = _run_of(row, reads, trials, label_T, runs_told)
        rate = rates[row]
        if rate is None:
            continue
        earlier = last.get(key)
        last[key] = row
        before = None if earlier is None else rates[earlier]
        if earlier is None or before is None or tokens_T[row] == tokens_T[earlier]:
            continue
        if rate < before * (1 - FALLS):
            return (
                f'{table.rows[row]}, column "{used["rate"]}": the rate of this run falls from {before:g} '
                f"({tokens_T[earlier]:.4g} tokens, {table.rows[earlier]}) to {rate:g} ({tokens_T[row]:.4g} tokens)"
            )
    return ""


def _run_of(row: int, reads: Sequence[str], trials: Trials, label_T: Sequence[str], runs_told: bool) -> object:
    if runs_told:
        return int(trials.run_T[row])
    beside = tuple(float(trials.columns[noun][row]) for noun in reads if noun in trials.columns and noun != "tokens")
    shares = () if trials.weights_TK is None else tuple(trials.weights_TK[row].tolist())
    return beside, shares, label_T[row] if label_T else ""


def _falling_word(table: CellTable, trials: Trials) -> str:
    """The same by a column that names schedules, where rows are taken for checkpoints of one run."""
    name = next((one for one in table.columns if one.lower() in SCHEDULES), "")
    if not name:
        return ""
    tokens_T, first = trials.column("tokens"), dict[int, int]()
    for row, cell in enumerate(table.columns[name]):
        run = int(trials.run_T[row])
        earlier = first.setdefault(run, row)
        if tokens_T[earlier] != tokens_T[row] and any(word in str(cell).lower() for word in FALLING):
            return (
                f'{table.rows[row]}, column "{name}": this run\'s schedule is {cell}, and it has several token counts'
            )
    return ""
