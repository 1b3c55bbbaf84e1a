"""One fitter for every formula: many starts at once, the best ones polished, intervals by bootstrap."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from graft.core.config.errors import FaultError, UsageError
from graft.core.stats.random_streams import stream
from graft.scaling.fitting.descent import Each, End, Problem, descend, descend_within
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Form
from graft.scaling.fitting.intervals import doubts, resample
from graft.scaling.fitting.metrics import huber_of
from graft.scaling.fitting.trials import Trials


@dataclass(frozen=True)
class Fitting:
    """How constants are found: the Huber loss of (log) residuals from many starts, and intervals by bootstrap."""

    delta: float = 1e-3  # where the Huber loss turns from square to linear
    log: bool = True  # residuals of log loss; false: of the loss itself
    starts: int = 500
    polish: int = 10  # starts that are brought to the optimum on all rows
    draws: int = 200  # bootstrap; 0: no intervals
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise UsageError(f"delta is {self.delta}", allowed="above 0")
        if self.starts < 1 or self.polish < 1 or self.draws < 0:
            raise UsageError(
                f"starts is {self.starts}, polish {self.polish}, draws {self.draws}", allowed="at least 1, 1 and 0"
            )
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}", allowed="a share between 0 and 1, such as 0.95")


def fit_form(form: Form, trials: Trials, settings: Fitting = Fitting(), warnings: tuple[str, ...] = ()) -> Fitted:
    """The constants of `form` with the least mean Huber loss on the trials; `warnings` of the law come first.

    Errors: UsageError for trials without losses, for fewer rows than constants, for losses that have no logarithm.
    """
    _check(form, trials, settings)
    starts_SP = starting_points(form, trials, settings.starts, settings.seed)
    problem = Problem.of(form, trials, starts_SP, delta=settings.delta, log=settings.log)
    ends = _search(problem, problem.inward(starts_SP), settings.polish)
    best = ends.rows(int(np.argmin(ends.value_S)))
    if not np.isfinite(best.value_S[0]):
        raise FaultError(
            "no start led to constants that give every row a loss",
            do="look for rows far from the others, and for values where the formula has none (a ratio of 0 ...)",
        )
    draws_SP, spread, words = resample(problem, best, settings.draws, settings.confidence, settings.seed)
    fitted = Fitted(
        form,
        problem.outward(best.z_SP)[0],
        draws_SP,
        warnings,
        settings.confidence,
        spread,
        trials.domains,
    )
    return replace(
        fitted,
        objective=mean_huber(fitted.predict(trials), trials.loss_T, settings),
        warnings=(*warnings, *words, *doubts(problem, best, fitted)),
    )


def mean_huber(predicted_T: np.ndarray, loss_T: np.ndarray, settings: Fitting) -> float:
    """The quantity that the fit makes least."""
    residual_T = np.log(predicted_T / loss_T) if settings.log else predicted_T - loss_T
    return float(huber_of(residual_T, settings.delta).mean())


def _search(problem: Problem, z_SP: np.ndarray, polish: int) -> End:
    """The ends of the polished starts; where the best breaks the form's condition, of a search that pays for it too."""
    ends = _halve(problem, z_SP, polish)
    best = int(np.argmin(ends.value_S))
    if problem.form.excess is None or (np.isfinite(ends.value_S[best]) and ends.push_S[best] == 0):
        return ends
    charge = max(10 * float(ends.stiffness_S.min()), 1e-6)
    paid = _halve(problem, z_SP, polish, charge)
    return End(*(np.concatenate(parts) for parts in zip(ends, paid, strict=True)))


def _halve(problem: Problem, z_SP: np.ndarray, polish: int, charge: float = 0.0) -> End:
    """Successive halving: all starts are tried on a few rows, the best on more, the last on all.

    charge: stiffness at which the form's condition is charged from the first step on; 0: at the end only.
    """

    def each() -> Each:
        nothing_S = np.zeros(len(z_SP))
        return Each(push_S=nothing_S, stiffness_S=nothing_S + charge) if charge else Each()

    num = len(problem.form.constants)
    for rows, steps, kept in ((8 * num, 30, 6 * polish), (40 * num, 15, polish)):
        few = problem.on(_thinned(problem.trials, rows)) if problem.form.apart else problem
        z_SP, value_S = descend(few, z_SP, steps, 1e-4, each())
        z_SP = z_SP[np.argsort(value_S, kind="stable")[:kept]]
    return descend_within(problem, z_SP, 300, 1e-13, each())


def starting_points(form: Form, trials: Trials, count: int, seed: int) -> np.ndarray:
    """`count` rows of constants: the grid of all start values, thinned at random, or filled up between its ends."""
    grid_SP = _grid(form, count, seed)
    low_P, high_P = (np.array([getattr(one, end) for one in form.constants]) for end in ("low", "high"))
    return np.clip(grid_SP if form.begin is None else form.begin(grid_SP, trials), low_P, high_P)


def _grid(form: Form, count: int, seed: int) -> np.ndarray:
    draw = stream(seed, "starts")
    sizes = [len(one.starts) for one in form.constants]
    whole = math.prod(sizes)
    if whole <= count:
        grid = np.array(list(itertools.product(*(one.starts for one in form.constants))), np.float64)
    else:
        chosen = (
            np.unravel_index(draw.choice(whole, count, replace=False), sizes)
            if whole < 1 << 31
            else [draw.integers(size, size=count) for size in sizes]
        )
        grid = np.stack([np.array(one.starts)[at] for one, at in zip(form.constants, chosen, strict=True)], 1)
    more = np.empty((count - len(grid), len(sizes)))
    for p, one in enumerate(form.constants):
        ends = [one.inward(min(one.starts)), one.inward(max(one.starts))]
        drawn = draw.uniform(ends[0], ends[1], len(more))
        more[:, p] = np.exp(drawn) if one.log else drawn
    return np.concatenate([grid, more])


def _thinned(trials: Trials, rows: int) -> Trials:
    """About `rows` rows, evenly spread over the order of the losses."""
    if len(trials) <= rows:
        return trials
    order = np.argsort(trials.loss_T, kind="stable")
    return trials.rows(np.sort(order[np.linspace(0, len(trials) - 1, rows).round().astype(int)]))


def _check(form: Form, trials: Trials, settings: Fitting) -> None:
    if not trials.measured:
        raise UsageError("the trials have no losses", do="fit to rows whose loss was measured")
    if len(trials) < len(form.constants):
        raise UsageError(
            f"{len(trials)} rows for {len(form.constants)} constants ({', '.join(form.names)})",
            allowed="at least as many rows as constants",
            do="add runs or checkpoints, or choose a law with fewer constants",
        )
    if settings.log and (trials.loss_T <= 0).any():
        row = int(np.flatnonzero(trials.loss_T <= 0)[0])
        raise UsageError(
            f"the loss in row {row + 1} is {trials.loss_T[row]:g}, which has no logarithm",
            allowed="losses above 0",
            do="set log to false in the settings of the fitting",
        )
