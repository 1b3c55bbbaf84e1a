"""A table of runs as Trials: which column is which, every cell checked, and nothing left out without being counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.core.config.settings import check_choices
from graft.scaling.fitting.trials import Trials
from graft.scaling.tables.cells import domains_of, value_of, weights_of
from graft.scaling.tables.constant_rate_check import require_no_decay
from graft.scaling.tables.repeated_rows import once_each
from graft.scaling.tables.table import CellTable, number_of

NOUNS = ("size", "tokens", "ratio", "unique", "step", "rate", "injected", "learnability", "domain", "base_loss", "run")
ALSO_CALLED = {
    "loss": "val_loss validation_loss eval_loss nats",
    "size": "n_params num_params params parameters model_size N",
    "tokens": "train_tokens D_tokens num_tokens n_tokens D",
    "ratio": "r_d r_domain domain_ratio ratio_domain share mixture r",
    "rate": "lr learning_rate",
    "unique": "unique_tokens",
    "step": "steps iteration",
}
FLAGS = ("loss", "size", "tokens", "ratio", "weights", "run")


@dataclass(frozen=True)
class Columns:
    """Which column of a table is which, and how its rows are read.

    named: column by noun ("size": "n_params"); a column called like its noun is found by itself. weights: names or
    patterns of the columns of shares. run: the column that says which run a row is a checkpoint of, "row" (each its
    own) or "file"; nothing: a column called run, else what the law reads decides, and the notes say it.
    ratio_of: "own", the ratio is the share of the text whose loss is fitted; "other", it is that of the rest, and
    1 - ratio is fitted. repeats: what happens to rows that measure the same point twice. schedule: "refuse" takes no
    token counts from runs whose learning rate falls between them.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    run: str = ""
    ratio_of: Literal["own", "other"] = "own"
    where: tuple[str, ...] = ()
    repeats: Literal["refuse", "keep", "mean"] = "refuse"
    schedule: Literal["refuse", "accept"] = "refuse"

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True, eq=False)
class TableReading:
    """Trials, and what people need to know of where they came from.

    places: where each row stands. label_T: its domain, where the table has such a column. file_T: its file.
    used: the column of the table by noun. base_loss: loss of the base by its size in parameters (0: no size said).
    notes: what was taken, left out or put together, in words. warnings: what may be wrong all the same.
    """

    trials: Trials
    places: tuple[str, ...]
    file_T: tuple[str, ...]
    used: Mapping[str, str]
    label_T: tuple[str, ...] = ()
    base_loss: Mapping[float, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_trials(
    table: CellTable,
    columns: Columns,
    reads: Sequence[str],
    *,
    law: str,
    may_read: Sequence[str] = (),
    measured: bool = True,
    known: Sequence[str] = (),
) -> TableReading:
    """The rows of a table as trials of a law that reads the columns `reads`, and of `may_read` those that there are.

    measured: False where only predictions are wanted: there need be no losses, and the same point may stand twice.
    known: the domains of a law that is fitted, in its order. Errors: UsageError naming file, row, column and value.
    """
    whole = len(table)
    for condition in columns.where:
        table = table.where(condition)
    notes = [f"{len(table)} of {whole} rows are taken ({', '.join(columns.where)})"] * bool(columns.where)
    used = _found(table, columns, reads, may_read, law, measured)
    reads = (*reads, *(noun for noun in may_read if noun in used))
    domains = domains_of(table, columns.weights, law, known) if "weights" in reads else ()
    weights_TK = weights_of(table, domains) if domains else None
    cells = {
        noun: np.array([value_of(noun, cell, table, row, name) for row, cell in enumerate(table.find(name))])
        for noun, name in used.items()
        if noun in (*reads, "loss", "base_loss")
    }
    if columns.ratio_of == "other":
        if "ratio" not in cells:
            raise UsageError(f"--ratio-of is other, and {law} reads no ratio", allowed="it with a law that reads ratio")
        cells["ratio"] = np.round(1 - cells["ratio"], 12)
        notes.append(f"the law is fitted against 1 - {used['ratio']}")
    label_T = tuple(str(cell) for cell in table.find(used["domain"])) if "domain" in used else ()
    own = {noun: values for noun, values in cells.items() if noun in reads}
    run_T, guessed = _runs(table, columns, used, reads, own, weights_TK, label_T)
    loss_T = cells["loss"] if measured else np.full(len(table), np.nan)
    trials = Trials(loss_T, own, weights_TK, domains, run_T)
    base_loss = _base_losses(table, cells, required="base_loss" not in reads)
    warnings = _odd_units(cells)
    kept = list(range(len(table)))
    if measured:
        runs_told = "run" in used or columns.run == "file" or "step" in reads
        warnings += require_no_decay(table, columns.schedule, reads, used, trials, label_T, runs_told)
        trials, kept, repeated = once_each(trials, table, label_T, columns.repeats, reads, runs_told)
        notes += filter(None, [guessed, repeated])
    rows, files = tuple(table.rows[row] for row in kept), tuple(table.file_T[row] for row in kept)
    labels = tuple(label_T[row] for row in kept) if label_T else ()
    return TableReading(trials, rows, files, used, labels, base_loss, tuple(notes), warnings)


def _found(
    table: CellTable, columns: Columns, reads: Sequence[str], may_read: Sequence[str], law: str, measured: bool
) -> dict[str, str]:
    """The column of every noun that is read, or said, or that other checks look at."""
    for noun in columns.named:
        if noun not in (*NOUNS, *reads, *may_read, "loss"):
            allowed = list(dict.fromkeys([*reads, *may_read, *NOUNS]))
            raise UsageError(
                f'--column names "{noun}", which nothing reads', allowed=", ".join(allowed), do=nearest(noun, allowed)
            )
        if noun in ("size", "tokens", "ratio", "unique", "injected", "learnability") and noun not in (
            *reads,
            *may_read,
        ):
            raise UsageError(
                f"{_flag(noun)} {columns.named[noun]}: {law} does not read {noun}",
                allowed=f"what it reads: {', '.join(reads)}",
                do="leave it out, or choose another --form",
            )
    if columns.weights and "weights" not in reads:
        raise UsageError(
            f"--weights: {law} does not read shares of domains", allowed=f"what it reads: {', '.join(reads)}"
        )
    wanted = [noun for noun in reads if noun != "weights"]
    used = {noun: _column(table, noun, columns, law) for noun in (*["loss"] * measured, *wanted)}
    for noun in dict.fromkeys(("domain", "base_loss", "rate", "run", *may_read)):
        name = columns.named.get(noun) or _unread(table, noun, used)
        if noun == "run" and columns.run:
            name = "" if columns.run in ("row", "file") else columns.run
        if name:
            table.find(name, f"--{noun}" if noun == "run" else f"--column {noun}={name}")
            used.setdefault(noun, name)
    return used


def _flag(noun: str) -> str:
    return f"--{noun}" if noun in FLAGS else f"--column {noun}="


def _called(table: CellTable, noun: str, *, also: bool = False) -> str:
    """The column called like the noun (or, with `also`, like one of its other names), in any case of letters."""
    names = [noun, *(ALSO_CALLED.get(noun, "").split() if also else [])]
    by_lower = {name.lower(): name for name in reversed(list(table.columns))}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), "")


def _unread(table: CellTable, noun: str, used: Mapping[str, str]) -> str:
    """The column called like the noun that nothing else is read from; one of domains' names holds no numbers."""
    name = _called(table, noun, also=noun == "rate")
    if name in used.values() or (
        noun == "domain" and name and any(number_of(one) is not None for one in table.find(name))
    ):
        return ""
    return name


def _column(table: CellTable, noun: str, columns: Columns, law: str) -> str:
    """Errors: UsageError when no column is said or called so, with the likeliest one."""
    said = columns.named.get(noun)
    if said:
        table.find(said, f"{_flag(noun)}{' ' * (noun in FLAGS)}{said}")
        return said
    found = _called(table, noun)
    if not found:
        likely = _called(table, noun, also=True)
        near = nearest(noun, table.columns)
        raise UsageError(
            f'{law} reads "{noun}", and no column is called so',
            where=table.name,
            allowed=", ".join(name for name in table.columns if name),
            do=f"name it: {_flag(noun)}{' ' * (noun in FLAGS)}{likely or 'COL'}"
            + (f"; {near}" if near and not likely else ""),
        )
    return found


def _base_losses(table: CellTable, cells: Mapping[str, np.ndarray], *, required: bool) -> dict[float, float]:
    """Loss of the base by size (0 where none is said).

    Errors: UsageError where one size has two; not `required`: then it is not known by size, and every row has its own.
    """
    if "base_loss" not in cells:
        return {}
    size_T = cells.get("size", np.zeros(len(table)))
    found: dict[float, float] = {}
    for row, (size, loss) in enumerate(zip(size_T.tolist(), cells["base_loss"].tolist(), strict=True)):
        if found.setdefault(size, loss) != loss:
            if not required:
                return {}
            raise UsageError(
                f"{table.rows[row]}: the base's loss is {loss:g}, and {found[size]:g} in an earlier row of this size",
                where=table.name,
                allowed="one base per size",
                do="fit one base at a time (--where)",
            )
    return found


def _runs(
    table: CellTable, columns: Columns, used: Mapping[str, str], reads: Sequence[str], own: Mapping[str, np.ndarray],
    weights_TK: np.ndarray | None, label_T: Sequence[str],
) -> tuple[np.ndarray, str]:  # fmt: skip
    """Which run a row is a checkpoint of, and a note where that is a guess."""
    if columns.run == "row":
        return np.arange(len(table)), ""
    if "run" in used:
        return _numbered([str(cell) for cell in table.find(used["run"])]), ""
    if columns.run == "file" or "step" in reads:
        return _numbered(list(table.file_T)), ""
    if "tokens" not in reads or not {"ratio", "weights"} & set(reads):
        return np.arange(len(table)), ""
    beside = [noun for noun in reads if noun in own and noun != "tokens"]
    keys = [own[noun].tolist() for noun in beside]
    keys += [[tuple(row) for row in weights_TK.tolist()]] if weights_TK is not None else []
    run_T = _numbered(list(zip(*keys, label_T or [""] * len(table), strict=True)))
    count = int(run_T.max()) + 1
    if count == len(table):
        return run_T, ""
    told = " and ".join([*beside, *["mixture"] * (weights_TK is not None)])
    return run_T, (
        f"{len(table)} rows are taken for checkpoints of {count} runs, those of one {told} for one; "
        "--run COL names the runs, --run row makes each row its own"
    )


def _numbered(keys: Sequence[Any]) -> np.ndarray:
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys], np.int64)


def _odd_units(cells: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """A warning for sizes and tokens that look like millions or billions."""
    said: list[str] = []
    for noun, words in (("size", "parameters"), ("tokens", "tokens")):
        if noun in cells and cells[noun].max() < 1000:
            most = f"{cells[noun].max():g}"
            said.append(
                f"{noun} is at most {most}, read as {most} {words}: write {most}B or {most}M if those are meant"
            )
    return tuple(said)
