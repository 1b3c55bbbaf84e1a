"""The multi-power law: the whole loss curve of a run from its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.stats.random_streams import stream
from graft.scaling.fitting.descent import Each, Problem, descend
from graft.scaling.fitting.early_stopping import stop_early
from graft.scaling.fitting.fit import Fitting, fit_form, mean_huber, starting_points
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

_NODES = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)  # Gauss-Legendre, each with half the weight
_WARMUP_PARTS = 8
_EXACT = 1e-10  # mean Huber loss of log residuals of about 1e-5
_CHUNK = 200_000  # starts x pairs computed at once: what fits the cache


@dataclass(frozen=True)
class MultiPower:
    """Loss at step t of a run, from the learning rates up to t.

    L(t) = L0 + A S_1(t)^-alpha - B sum_k (rate_(k-1) - rate_k) (1 - (C rate_k^-gamma S_k(t) + 1)^-beta), in nats per
    token, with S_k(t) the sum of the rates of steps k to t. Source: Luo et al. 2025 (arXiv 2503.12811). As in their fit
    the residuals are of log loss, delta is 1e-3, and the warm-up belongs to both sums: the rise to the peak counts as a
    negative fall. Curves share constants; each needs its own number in the column "run" (one curve may go without).

    procedure: "published" finds L0, A, alpha and B of L0 + A S_1^-alpha - B (peak - rate) first and goes on from there
    and C = 1, beta = gamma = 0.5 by AdamW (rates 0.05, and 0.005 for alpha, beta, gamma), stopped after 20 steps
    without progress. The optimum of the same objective, "optimum", is lower (`facts`) and predicted longer runs worse
    on the paper's curves. Curves that the law meets to 1e-5 leave nothing to be stopped for: their optimum is taken.

    Rates are read at the rows only, so the schedule between rows is a straight line, or, where a rate changes by more
    than `jump` of the greater, a jump at the later row. Sums over steps are integrals by Gauss-Legendre with two points
    between rows.
    """

    warmup: int | None = None  # steps of a linear rise from 0; none: every step before a run's first row
    jump: float = 0.3
    procedure: Literal["published", "optimum"] = "published"
    fitting: Fitting = Fitting(starts=64, polish=4, draws=40)

    def needs(self) -> Needs:
        return Needs(("step", "rate"))

    def __post_init__(self) -> None:
        check_choices(self)
        if self.warmup is not None and self.warmup < 0:
            raise UsageError(f"warmup is {self.warmup}", allowed="a number of steps, 0 or more, or none")
        if self.jump <= 0:
            raise UsageError(f"jump is {self.jump}", allowed="above 0; 1 and more: every change is gradual")

    @property
    def form(self) -> Form:
        def evaluate(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
            return _evaluate(theta_SP, _lay_out(trials, self.warmup, self.jump))

        return Form(_constants(3.0), evaluate, apart=False)

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for no losses, for steps that repeat within a run, for steps or rates below 0."""
        if not trials.measured:
            raise UsageError("the trials have no losses", do="fit to rows whose loss was measured")
        # Searching looks at some rows only, and a schedule is known from all of them: rows carry their number along.
        known = _Known(_lay_out(trials, self.warmup, self.jump))
        numbered = replace(trials, columns={**trials.columns, "row": np.arange(len(trials))})
        form = Form(_constants(float(trials.loss_T.min())), known.evaluate)
        optimum = replace(fit_form(form, numbered, self.fitting), form=self.form)
        if self.procedure == "optimum" or optimum.objective < _EXACT:
            return optimum
        theta_SP = _published(form, numbered, known.whole, self.fitting)
        stopped = replace(optimum, values_P=theta_SP[0], draws_SP=theta_SP[1:])
        reached = mean_huber(stopped.predict(trials), trials.loss_T, self.fitting)
        least = optimum.objective
        said = f"stopped early, as published, at a mean Huber loss of {reached:.3g}; the optimum has {least:.3g}"
        facts = {**optimum.facts, "objective_optimum": least}
        return replace(stopped, objective=reached, facts=facts, warnings=(*optimum.warnings, said))


def _published(form: Form, trials: Trials, at: _Schedules, fitting: Fitting) -> np.ndarray:
    """Constants by the published procedure: of all rows first, then of `draws` random weightings of the runs."""
    runs, of_T = np.unique(trials.run_T, return_inverse=True)
    weights_ST = stream(fitting.seed, "early_stopping").exponential(size=(fitting.draws, len(runs)))[:, of_T]
    weights_ST = np.concatenate([np.ones((1, len(trials))), weights_ST / weights_ST.mean(1, keepdims=True)])
    simple = _first_form(trials, at)
    first = fit_form(simple, trials, replace(fitting, draws=0))
    problem = Problem.of(
        simple, trials, starting_points(simple, trials, fitting.starts, fitting.seed), delta=fitting.delta, log=True
    )
    z_SP = np.tile(problem.inward(first.values_P[None]), (len(weights_ST), 1))
    begun_SP = problem.outward(descend(problem, z_SP, 100, 1e-9, Each(weights_ST))[0])
    begun_SP[0] = first.values_P
    begun_SP = np.concatenate([begun_SP, np.tile([1.0, 0.5, 0.5], (len(begun_SP), 1))], 1)
    rates_P = np.where(np.isin(form.names, ("alpha", "beta", "gamma")), 0.005, 0.05)
    return stop_early(form, trials, begun_SP, rates_P, weights_ST, fitting.delta)


def _first_form(trials: Trials, at: _Schedules) -> Form:
    """L0 + A S_1^-alpha - B (peak - rate), which the published procedure fits first."""
    peak = {run: trials.column("rate")[trials.run_T == run].max() for run in np.unique(trials.run_T)}
    below = np.array([peak[run] for run in trials.run_T]) - trials.column("rate")

    def evaluate(theta_SP: np.ndarray, some: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
        L0, A, alpha, B = theta_SP.T[:, :, None]
        rows = some.column("row").astype(np.int64)
        log_sum_T = np.log(at.sum_T[rows])
        by_sum = np.exp(-alpha * log_sum_T)
        loss = L0 + A * by_sum - B * below[rows]
        return loss, [np.ones_like(L0), by_sum, -A * by_sum * log_sum_T, -below[rows][None]]

    return Form(_constants(float(trials.loss_T.min()))[:4], evaluate)


def _constants(least: float) -> tuple[Constant, ...]:
    """least: the lowest loss, from which L0 starts."""
    return (
        Constant("L0", 1e-3, 20.0, tuple(min(19.0, max(2e-3, share * least)) for share in (0.75, 0.88, 0.96))),
        Constant("A", 1e-4, 100.0, (0.3, 0.6, 1.2)),
        Constant("alpha", 0.01, 3.0, (0.3, 0.5, 0.8)),
        Constant("B", 1e-2, 1e7, (30.0, 300.0, 3000.0)),
        Constant("C", 1e-4, 1e4, (0.3, 2.0, 10.0)),
        Constant("beta", 0.01, 5.0, (0.3, 0.6, 1.0)),
        Constant("gamma", 0.01, 3.0, (0.3, 0.6, 1.0)),
    )


@dataclass(frozen=True, eq=False)
class _Schedules:
    """What the law needs of T rows and of the N pairs (row, earlier change of the rate), the pairs of a row together.

    sum_T: S_1. first_T: the first pair of each row; every row has one. fall_N: by how much the rate falls, rate_N: to
    what, since_N: S_k.
    """

    sum_T: np.ndarray
    first_T: np.ndarray
    fall_N: np.ndarray
    log_rate_N: np.ndarray
    since_N: np.ndarray

    def rows(self, chosen_T: np.ndarray) -> _Schedules:
        ends_T = np.append(self.first_T[1:], len(self.fall_N))
        pairs = [np.arange(int(self.first_T[t]), int(ends_T[t])) for t in chosen_T]
        first_T = np.cumsum([0, *(len(one) for one in pairs[:-1])])
        kept_N = np.concatenate(pairs)
        return _Schedules(
            self.sum_T[chosen_T], first_T, self.fall_N[kept_N], self.log_rate_N[kept_N], self.since_N[kept_N]
        )


class _Known:
    """Evaluates at rows of one table, whose schedules are laid out once; the rows say which they are."""

    def __init__(self, whole: _Schedules) -> None:
        self.whole = whole
        self.parts: WeakKeyDictionary[Trials, _Schedules] = WeakKeyDictionary()

    def evaluate(self, theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
        if trials not in self.parts:
            self.parts[trials] = self.whole.rows(trials.column("row").astype(np.int64))
        return _evaluate(theta_SP, self.parts[trials])


def _evaluate(theta_SP: np.ndarray, at: _Schedules) -> tuple[np.ndarray, list[np.ndarray]]:
    L0, A, alpha, B, C, beta, gamma = theta_SP.T[:, :, None]
    log_sum_T = np.log(at.sum_T)
    by_sum = np.exp(-alpha * log_sum_T)
    drop_4ST = np.empty((4, len(theta_SP), len(at.sum_T)))  # the sum over k, and its slopes in C, beta, gamma
    block = max(1, _CHUNK // len(at.fall_N))
    for first in range(0, len(theta_SP), block):
        part = slice(first, first + block)
        drop_4ST[:, part] = _drop(C[part], beta[part], gamma[part], at)
    drop, by_C, by_beta, by_gamma = drop_4ST
    loss = L0 + A * by_sum - B * drop
    slopes = [np.ones_like(L0), by_sum, -A * by_sum * log_sum_T, -drop, -B * by_C, -B * by_beta, -B * by_gamma]
    return loss, slopes


def _drop(C: np.ndarray, beta: np.ndarray, gamma: np.ndarray, at: _Schedules) -> np.ndarray:
    """(sum over k and its three slopes, starts, rows)."""
    reach_SN = C * np.exp(-gamma * at.log_rate_N) * at.since_N
    log_SN = np.log1p(reach_SN)
    left_SN = at.fall_N * np.exp(-beta * log_SN)
    bend_SN = beta * left_SN * reach_SN / (1 + reach_SN)
    terms = (at.fall_N - left_SN, bend_SN / C, left_SN * log_SN, -bend_SN * at.log_rate_N)
    return np.stack([np.add.reduceat(term, at.first_T, axis=1) for term in terms])


def _lay_out(trials: Trials, warmup: int | None, jump: float) -> _Schedules:
    """Errors: UsageError for steps that repeat within a run, for steps or rates that are negative."""
    step_T, rate_T = trials.column("step"), trials.column("rate")
    for name, column_T in (("step", step_T), ("rate", rate_T)):
        if (column_T < 0).any():
            row = int(np.flatnonzero(column_T < 0)[0])
            raise UsageError(f"{name} is {column_T[row]:g} in row {row + 1}", allowed="0 or more")
    run_T = trials.run_T
    if len(np.unique(run_T)) == len(run_T):
        run_T = np.zeros(len(run_T), np.int64)  # no runs are named: the rows are one curve
    parts: list[tuple[np.ndarray, _Schedules]] = []
    for run in np.unique(run_T):
        rows = np.flatnonzero(run_T == run)
        rows = rows[np.argsort(step_T[rows], kind="stable")]
        again = np.flatnonzero(np.diff(step_T[rows]) == 0)
        if len(again):
            one, other = rows[again[0]], rows[again[0] + 1]
            raise UsageError(
                f"rows {one + 1} and {other + 1} are both step {step_T[one]:g} of one run",
                allowed="each step of a run once",
                do='tell curves apart by a column "run"',
            )
        parts.append((rows, _one_run(step_T[rows], rate_T[rows], warmup, jump)))
    return _joined(parts, len(trials))


def _one_run(step_M: np.ndarray, rate_M: np.ndarray, warmup: int | None, jump: float) -> _Schedules:
    """The schedules of M rows of one run, in the order of their steps."""
    steps_E, rates_E, sums_E, jumps_E = _edges(step_M, rate_M, step_M[0] if warmup is None else warmup, jump)
    sum_M = sums_E[len(steps_E) - len(step_M) :]
    edge = np.flatnonzero(np.diff(rates_E)) + 1  # where a stretch of changing rates ends
    start, end, jumps = rates_E[edge - 1, None], rates_E[edge, None], jumps_E[edge, None]
    along = (steps_E[edge] - steps_E[edge - 1])[:, None] * _NODES * (start + _NODES * (end - start) / 2)
    rate = np.where(jumps, end, start + _NODES * (end - start))
    # S_k counts step k itself: all of it at a jump; along a stretch, which stands for steps on both sides, half of it.
    until = np.where(jumps, sums_E[edge, None] - end, sums_E[edge - 1, None] + along - rate / 2).ravel()
    fall = np.broadcast_to((start - end) / 2, rate.shape).ravel()
    num_M = np.searchsorted(steps_E[edge], step_M, side="right") * len(_NODES)
    pairs = [np.arange(num) for num in num_M]
    # A row before which nothing changed gets one pair that counts nothing.
    every = np.concatenate([one if len(one) else [len(fall)] for one in pairs]).astype(np.int64)
    since_N = np.repeat(sum_M, np.maximum(num_M, 1)) - np.append(until, 0.0)[every]
    log_rate = np.append(np.log(np.maximum(rate.ravel(), 1e-12)), 0.0)
    first_M = np.cumsum([0, *np.maximum(num_M[:-1], 1)])
    return _Schedules(np.maximum(sum_M, 1e-12), first_M, np.append(fall, 0.0)[every], log_rate[every], since_N)


def _edges(
    step_M: np.ndarray, rate_M: np.ndarray, warmup: float, jump: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(steps, rates, sums of rates so far, whether the rate jumps there) of the warm-up's edges, then of the rows."""
    rise = min(float(warmup), step_M[0])
    part = np.linspace(0, 1, _WARMUP_PARTS + 1) if rise else np.ones(1)
    early = np.flatnonzero(rise * part < step_M[0])
    steps_E = np.append(rise * part[early], step_M) if rise else np.append(np.zeros(len(early)), step_M)
    rates_E = np.append(rate_M[0] * part[early], rate_M)
    span, before, after = np.diff(steps_E), rates_E[:-1], rates_E[1:]
    jumps = np.abs(after - before) > jump * np.maximum(before, after)
    jumps[: len(early)] = False  # the warm-up is gradual
    gained = span * np.where(jumps, before, (before + after) / 2)
    return steps_E, rates_E, np.append(0.0, np.cumsum(gained)), np.append(False, jumps)


def _joined(parts: list[tuple[np.ndarray, _Schedules]], num: int) -> _Schedules:
    """Runs put together in the order of the table's rows."""
    offset, sums, firsts = 0, [], []
    for _, one in parts:
        sums.append(one.sum_T)
        firsts.append(one.first_T + offset)
        offset += len(one.fall_N)
    whole = _Schedules(
        np.concatenate(sums),
        np.concatenate(firsts),
        *(np.concatenate([getattr(one, name) for _, one in parts]) for name in ("fall_N", "log_rate_N", "since_N")),
    )
    place_T = np.empty(num, np.int64)
    place_T[np.concatenate([rows for rows, _ in parts])] = np.arange(num)
    return whole.rows(place_T)
