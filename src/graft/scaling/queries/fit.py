"""`graft law fit`, as an answer in plain values; nothing is printed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import Shelf
from graft.core.config.recipe import build_changed
from graft.core.config.settings import build
from graft.core.process.progress import Progress
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import law_needs
from graft.scaling.queries.words import flag_of, listed, named, number
from graft.scaling.solving.holdout import WAYS, HoldOut, hold_out, make_folds, score_tests, without_draws
from graft.scaling.solving.law_file import LawFile
from graft.scaling.tables.table import stack
from graft.scaling.tables.table_file import read_table
from graft.scaling.tables.trials import Columns, TableReading, read_trials

BETTER = 1.5  # by which factor a law must err less against 1 - ratio before that is said


@dataclass(frozen=True)
class FitRequest:
    """`graft law fit`: options as they were given; calling it fits, and gives what the JSON holds."""

    tables: tuple[Path, ...]
    form: str = "d_cpt"
    named: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""
    run: str = ""
    column: tuple[str, ...] = ()
    ratio_of: str = "own"
    where: tuple[str, ...] = ()
    join: Path | None = None
    repeats: str = "refuse"
    schedule: str = "refuse"
    holdout: str = ""
    leave: str = ""
    test: tuple[Path, ...] = ()
    test_join: Path | None = None
    base_loss: float | None = None
    predictions: bool = False
    changes: tuple[str, ...] = ()

    def __call__(self) -> dict[str, Any]:
        self._check()
        law = build_changed(Shelf("laws").load(self.form, where="--form"), {}, self.changes)
        columns = self._columns()
        needs = law_needs(law)
        reading = read(self.tables, self.join, columns, needs.columns, self.form, may_read=needs.optional)
        tests = None
        if self.test:
            also = [noun for noun in reading.trials.columns if noun not in needs.columns]
            known = reading.trials.domains
            tests = read(self.test, self.test_join, columns, (*needs.columns, *also), self.form, known=known)
        fitted = law.fit(reading.trials)
        kept = LawFile.of(law, fitted, reading.trials, columns.ratio_of, self._base_loss(reading))
        held = self._held(law, reading)
        if tests is not None:
            held = score_tests(fitted, tests.trials, tests.file_T)
        told = _fit_told(kept, reading, tests, held, self.tables)
        if self.predictions:
            told["predictions"] = _points(kept, reading, "fit") + (_points(kept, tests, "test") if tests else [])
        return told

    def _check(self) -> None:
        if self.holdout and self.holdout not in WAYS:
            raise UsageError(f"--holdout is {self.holdout}", allowed=", ".join(WAYS), do=nearest(self.holdout, WAYS))
        if self.holdout and self.test:
            raise UsageError("--holdout and --test are both given", allowed="one of them", do="run the command twice")
        if self.leave and not self.holdout:
            raise UsageError("--leave is given without --holdout", allowed=f"--holdout {', '.join(WAYS)} with it")
        if self.test_join and not self.test:
            raise UsageError("--test-join is given without --test", allowed="--test TABLE with it")

    def _columns(self) -> Columns:
        given = {
            "named": named(self.column, **self.named), "weights": listed(self.weights), "run": self.run,
            "ratio_of": self.ratio_of, "where": self.where, "repeats": self.repeats, "schedule": self.schedule,
        }  # fmt: skip
        return build(Columns, given, place=flag_of)

    def _base_loss(self, reading: TableReading) -> dict[float, float]:
        if self.base_loss is None:
            return dict(reading.base_loss)
        sizes = sorted(set(reading.trials.columns["size"].tolist())) if "size" in reading.trials.columns else []
        if len(sizes) > 1:
            raise UsageError(
                f"--base-loss is one loss, and the table has {len(sizes)} sizes",
                allowed="one base per size",
                do="put the bases' losses in a column, --column base_loss=COL",
            )
        if self.base_loss <= 0:
            raise UsageError(f"--base-loss is {self.base_loss:g}", allowed="a loss in nats, above 0")
        return {sizes[0] if sizes else 0.0: self.base_loss}

    def _held(self, law: Any, reading: TableReading) -> HoldOut | None:
        if not self.holdout:
            return None
        leave = number(self.leave, "--leave") if self.leave else None
        made, folds = make_folds(self.holdout, reading.trials, reading.label_T, leave)
        progress = Progress("held out", len(folds))
        held = hold_out(law, reading.trials, self.holdout, made, folds, lambda _: progress.advance())
        progress.close()
        return held


def read(
    tables: Sequence[Path], join: Path | None, columns: Columns, reads: Sequence[str], form: str, *,
    may_read: Sequence[str] = (), measured: bool = True, known: Sequence[str] = (),
) -> TableReading:  # fmt: skip
    """The tables, joined, as trials. Errors: UsageError."""
    table = stack([read_table(path) for path in tables])
    if join is not None:
        table = table.join(read_table(join))
    return read_trials(table, columns, reads, law=form, may_read=may_read, measured=measured, known=known)


def _fit_told(
    kept: LawFile, reading: TableReading, tests: TableReading | None, held: HoldOut | None, tables: Sequence[Path]
) -> dict[str, Any]:
    fitted, trials = kept.fitted, reading.trials
    warnings = [*reading.warnings, *fitted.warnings, *_wrong_way(kept, trials)]
    notes = list(reading.notes)
    if tests is not None:
        warnings += [one for one in tests.warnings if one not in warnings]
        notes += [f"test: {note}" for note in tests.notes]
        beyond = sum(bool(row) for row in kept.of_trials(tests.trials).beyond)
        notes += [f"{beyond} of {len(tests.trials)} test rows lie beyond the data that were fitted"] * bool(beyond)
    told = kept.to_json()
    saved = told.pop("fitted")
    holdout = None if held is None else held.to_json()
    scored = None if held is None else (held.pooled if held.by == "test" else held.mean)
    return {
        **told,
        "constants": {name: one._asdict() for name, one in fitted.constants.items()},
        "held": dict(getattr(getattr(fitted, "form", None), "held", {})),
        "facts": dict(getattr(fitted, "facts", {})),
        "confidence": kept.tails[1] - kept.tails[0],
        "metrics": {"fit": fitted.metrics(trials), "holdout": scored},
        "holdout": holdout,
        "warnings": warnings,
        "notes": notes,
        "table": {
            "name": ", ".join(path.name for path in tables), "points": len(trials), "columns": dict(reading.used),
            "domains": list(trials.domains),
        },
        "fitted": saved,
    }  # fmt: skip


def _wrong_way(kept: LawFile, trials: Trials) -> list[str]:
    """A warning where losses rise with the ratio and the law does much better on 1 - ratio: it is the other text's."""
    if "ratio" not in trials.columns or _trend(trials) <= 0:
        return []
    turned = Trials(
        trials.loss_T, {**trials.columns, "ratio": 1 - trials.columns["ratio"]}, trials.weights_TK, trials.domains,
        trials.run_T,
    )  # fmt: skip
    try:
        there = without_draws(kept.law).fit(turned).metrics(turned)["mre"]
    except UsageError:  # a law that has no loss for such ratios is not the wrong way round
        return []
    here = kept.fitted.metrics(trials)["mre"]
    if there * BETTER > here:
        return []
    other = "own" if kept.ratio_of == "other" else "other"
    return [
        f"the losses rise with the ratio, and {kept.form} errs by {here:.3%}; against 1 - ratio it errs by "
        f"{there:.3%}: if the ratio is the share of another text than the losses are of, fit with --ratio-of {other}"
    ]


def _trend(trials: Trials) -> float:
    """Among rows alike in all else: in how many groups losses rise with the ratio, less those in which they fall."""
    beside = [values for name, values in trials.columns.items() if name != "ratio"]
    groups: dict[tuple[float, ...], list[int]] = {}
    for row in range(len(trials)):
        groups.setdefault(tuple(float(values[row]) for values in beside), []).append(row)
    ratio_T = trials.column("ratio")
    return sum(float(np.sign((ratio_T[rows] - ratio_T[rows].mean()) @ trials.loss_T[rows])) for rows in groups.values())


def _points(kept: LawFile, reading: TableReading, part: str) -> list[dict[str, Any]]:
    found = kept.of_trials(reading.trials)
    return [
        {
            "set": part,
            "place": f"{file}, {where}" if not where.startswith(file) else where,
            "loss": float(loss),
            **found.row(t),
        }
        for t, (file, where, loss) in enumerate(zip(reading.file_T, reading.places, reading.trials.loss_T, strict=True))
    ]
