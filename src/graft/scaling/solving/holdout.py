"""Hold-outs: a law is fitted again without some rows, as the D-CPT paper does it, and asked for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.metrics import all_metrics
from graft.scaling.fitting.trials import Trials
from graft.scaling.solving.quantity import amount, quantity

WAYS = ("ratio", "size", "tokens", "domains")
AT_ONCE = {"ratio": 2, "size": 1, "domains": 2}  # values left out together, as published
LAST = 1 / 3  # of the range of tokens


@dataclass(frozen=True, eq=False)
class Fold:
    """One split: `held` says what is left out, in words; test_T marks its rows, all others are fitted.

    inside: what is left out lies between values that are fitted.
    """

    held: str
    test_T: np.ndarray
    inside: bool = False


@dataclass(frozen=True)
class HoldOut:
    """What a law says of rows it was not fitted to.

    made: how the folds were made, in words. folds: held, inside, n_fit, and the metrics of each. mean: each metric
    averaged over the folds in which it is defined, as the D-CPT paper reports it. mean_inside: over those folds alone
    whose held-out values lie between fitted ones; None where there are none. pooled: over all held-out rows at once.
    """

    by: str
    made: str
    folds: tuple[Mapping[str, Any], ...]
    mean: Mapping[str, float]
    pooled: Mapping[str, float]
    mean_inside: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        folds = [dict(fold) for fold in self.folds]
        inside = None if self.mean_inside is None else dict(self.mean_inside)
        told = {"by": self.by, "made": self.made, "folds": folds, "mean": dict(self.mean)}
        return {**told, "mean_inside": inside, "pooled": dict(self.pooled)}


def make_folds(
    by: str, trials: Trials, label_T: Sequence[str] = (), leave: float | None = None
) -> tuple[str, list[Fold]]:
    """How the folds are made, in words, and the folds.

    by: "ratio" leaves every pair of ratios out, "size" every size, "tokens" the last third of the range of tokens,
    "domains" every pair of domains. leave: how many values at once instead; for tokens, the share of the range.
    Errors: UsageError where the table has too few values.
    """
    if by == "tokens":
        return _last_tokens(trials, LAST if leave is None else leave)
    at_once = AT_ONCE[by] if leave is None else int(leave)
    if at_once < 1 or (leave is not None and leave != at_once):
        raise UsageError(f"--leave is {leave:g}", allowed=f"how many values of {by} are left out at once: 1, 2 ...")
    if by == "domains":
        if not label_T:
            raise UsageError(
                "--holdout domains, and the table names no domains",
                allowed="a column of names",
                do="name it: --column domain=COL",
            )
        values: list[Any] = sorted(set(label_T))
        column = np.array(label_T)
    else:
        column = trials.column(by)
        values = sorted(set(column.tolist()))

    def short(value: Any) -> str:
        return value if isinstance(value, str) else quantity(by, value)

    if len(values) < at_once + 1:
        noun = by.rstrip("s")
        raise UsageError(
            f"--holdout {by} leaves {at_once} out, and the table has {len(values)} ({', '.join(map(short, values))})",
            allowed=f"more than {at_once}, so that something is fitted",
            do=f"--leave {len(values) - 1}" if len(values) > 1 else f"add runs with another {noun}",
        )
    folds = [
        Fold(
            f"{by.rstrip('s')} {', '.join(short(one) for one in out)}",
            np.isin(column, out),
            inside=by != "domains" and not {values[0], values[-1]} & set(out),
        )
        for out in itertools.combinations(values, at_once)
    ]
    each = "each in turn" if at_once == 1 else f"every {at_once} of them in turn"
    return (
        f"{by}: of {len(values)} values {each} left out and {len(values) - at_once} fitted, {len(folds)} folds",
        folds,
    )


def _last_tokens(trials: Trials, share: float) -> tuple[str, list[Fold]]:
    if not 0 < share < 1:
        raise UsageError(f"--leave is {share:g}", allowed="the share of the range of tokens, such as 1/3 or 0.667")
    tokens_T = trials.column("tokens")
    border = float(tokens_T.max()) * (1 - share)
    test_T = tokens_T > border
    if test_T.all() or not test_T.any():
        raise UsageError(
            f"--holdout tokens: no row has at most {amount(border)} tokens", allowed="token counts on both sides of it"
        )
    whole = f"0 to {amount(float(tokens_T.max()))}"
    made = f"tokens: rows beyond {amount(border)} left out, the last {share:.3g} of {whole}, 1 fold"
    return made, [Fold(f"tokens above {amount(border)}", test_T)]


def hold_out(
    law: Any,
    trials: Trials,
    by: str,
    made: str,
    folds: Sequence[Fold],
    on_fold: Callable[[int], None] = lambda done: None,
) -> HoldOut:
    """Fits the law once per fold, from its starts and without bootstrap. Errors: UsageError naming the fold."""
    quick = without_draws(law)
    told: list[dict[str, Any]] = []
    predicted: list[np.ndarray] = []
    for number, fold in enumerate(folds, 1):
        test = trials.rows(fold.test_T)
        try:
            fitted = quick.fit(trials.rows(~fold.test_T))
        except UsageError as error:
            raise UsageError(
                f"without {fold.held}: {error.what}", where=error.where, allowed=error.allowed, do=error.do
            ) from error
        predicted.append(fitted.predict(test))
        counted = {"held": fold.held, "inside": fold.inside, "n_fit": int((~fold.test_T).sum())}
        told.append({**counted, **all_metrics(predicted[-1], test.loss_T)})
        on_fold(number)
    measured = np.concatenate([trials.loss_T[fold.test_T] for fold in folds])
    pooled = all_metrics(np.concatenate(predicted), measured)
    inside = [fold for fold in told if fold["inside"]]
    return HoldOut(by, made, tuple(told), mean_of(told), pooled, mean_of(inside) if inside else None)


def score_tests(fitted: Any, tests: Trials, file_T: Sequence[str]) -> HoldOut:
    """Rows of other tables as the hold-out; every file is a fold."""
    files = list(dict.fromkeys(file_T))
    told: list[dict[str, Any]] = []
    for file in files:
        rows = tests.rows(np.array([one == file for one in file_T]))
        told.append({"held": file, "inside": False, "n_fit": 0, **fitted.metrics(rows)})
    return HoldOut(
        "test", f"test: {len(tests)} rows of {', '.join(files)}", tuple(told), mean_of(told), fitted.metrics(tests)
    )


def without_draws(law: Any) -> Any:
    """The law with the bootstrap of its fitting switched off, which a prediction does not need."""
    settings = {one.name: getattr(law, one.name) for one in fields(law)}
    return replace(law, fitting=replace(settings["fitting"], draws=0)) if "fitting" in settings else law


def mean_of(told: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean over folds of every metric where it is defined; `n` is the sum of held-out rows."""
    mean: dict[str, float] = {"n": sum(fold["n"] for fold in told)}
    for name in ("r2", "huber", "mre", "spearman"):
        there = [fold[name] for fold in told if math.isfinite(fold[name])]
        mean[name] = sum(there) / len(there) if there else math.nan
    return mean
