"""Batched descent: many starts of one fit at once, by damped Gauss-Newton steps on the Huber loss, inside bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from graft.scaling.fitting.form import Form
from graft.scaling.fitting.metrics import huber_of
from graft.scaling.fitting.trials import Trials

BLOCK = 12_288  # starts x rows computed at once: what fits the cache
TIE = 1e-13  # pull to the middle of the start values: it decides only where the rows say nothing
INSIDE = 1e-4  # by how much the condition of a form is met where it binds


@dataclass(frozen=True, eq=False)
class Each:
    """What differs from start to start of one batch.

    weights_ST: weights of the rows, mean 1; none: all 1. middle_SP: where the pull goes; none: the problem's middle.
    push_S, stiffness_S: the form's condition is charged as stiffness / 2 max(0, excess + push / stiffness)^2 (augmented
    Lagrangian); none: it is left alone.
    """

    weights_ST: np.ndarray | None = None
    middle_SP: np.ndarray | None = None
    push_S: np.ndarray | None = None
    stiffness_S: np.ndarray | None = None

    def rows(self, chosen: np.ndarray | slice) -> Each:
        parts = (self.weights_ST, self.middle_SP, self.push_S, self.stiffness_S)
        return Each(*(None if part is None else part[chosen] for part in parts))


@dataclass(frozen=True, eq=False)
class Problem:
    """Mean Huber loss of the residuals, as a function of the constants in the scale they are fitted in (z).

    delta: where the Huber loss turns linear; log: residuals are differences of logarithms.
    """

    form: Form
    trials: Trials
    delta: float
    log: bool
    low_P: np.ndarray
    high_P: np.ndarray
    middle_P: np.ndarray  # of the start values
    reach_P: np.ndarray  # their spread, a constant's natural unit
    logs_P: np.ndarray
    target_T: np.ndarray

    @classmethod
    def of(cls, form: Form, trials: Trials, starts_SP: np.ndarray, *, delta: float, log: bool) -> Problem:
        """starts_SP: where descent will start, in natural scale."""
        ends_P2 = np.array([one.inward(np.array([one.low, one.high])) for one in form.constants])
        logs_P = np.array([one.log for one in form.constants])
        inner_SP = np.array(starts_SP)
        inner_SP[:, logs_P] = np.log(inner_SP[:, logs_P])
        reach_P = np.maximum(2 * inner_SP.std(0), 1e-3 * np.minimum(ends_P2[:, 1] - ends_P2[:, 0], 1e3))
        target_T = np.log(trials.loss_T) if log else trials.loss_T
        low_P, high_P = ends_P2.T
        return cls(form, trials, delta, log, low_P, high_P, inner_SP.mean(0), reach_P, logs_P, target_T)

    def on(self, trials: Trials) -> Problem:
        """The same with other rows."""
        return replace(self, trials=trials, target_T=np.log(trials.loss_T) if self.log else trials.loss_T)

    def inward(self, theta_SP: np.ndarray) -> np.ndarray:
        """Constants in natural scale -> z."""
        z_SP = np.array(theta_SP, np.float64)
        z_SP[:, self.logs_P] = np.log(z_SP[:, self.logs_P])
        return z_SP

    def outward(self, z_SP: np.ndarray) -> np.ndarray:
        """z -> constants in natural scale."""
        theta_SP = np.array(z_SP)
        theta_SP[:, self.logs_P] = np.exp(theta_SP[:, self.logs_P])
        return theta_SP

    def excess(self, z_SP: np.ndarray) -> np.ndarray:
        """By how much the form's condition is broken (S); 0 and less: it is met."""
        if self.form.excess is None:
            return np.full(len(z_SP), -np.inf)
        return self.form.excess(self.outward(z_SP), self.trials)[0]

    def expand(self, z_SP: np.ndarray, each: Each = Each()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value_S, gradient_SP, curvature_SPP) of the objective; where it cannot be formed, (inf, 0, 0).

        The curvature is Gauss-Newton's with residuals weighted as in IRLS, min(1, delta / |r|): a quadratic with it
        lies above the Huber loss, so that damped steps go down.
        """
        theta_SP = self.outward(z_SP)
        with np.errstate(all="ignore"):
            loss_ST, slopes = self.form.evaluate(theta_SP, self.trials)
            residual_ST = (np.log(loss_ST) if self.log else loss_ST) - self.target_T
            huber_ST = huber_of(residual_ST, self.delta)
            root_ST = self.delta / np.maximum(np.abs(residual_ST), self.delta)
            if each.weights_ST is not None:
                huber_ST *= each.weights_ST
                root_ST *= each.weights_ST
            root_ST = np.sqrt(root_ST / len(self.trials))
            scale_ST = root_ST / loss_ST if self.log else root_ST
            jacobian_SPT = np.empty((len(z_SP), len(slopes), len(self.trials)))
            for p, slope in enumerate(slopes):
                np.multiply(slope, scale_ST, out=jacobian_SPT[:, p])
            chain_SP = np.where(self.logs_P, theta_SP, 1.0)
            value_S = huber_ST.mean(1)
            gradient_SP = chain_SP * np.matmul(jacobian_SPT, (root_ST * residual_ST)[:, :, None])[:, :, 0]
            curvature_SPP = np.matmul(jacobian_SPT, jacobian_SPT.transpose(0, 2, 1))
            curvature_SPP *= chain_SP[:, :, None] * chain_SP[:, None, :]
        self._pull(z_SP, each, value_S, gradient_SP, curvature_SPP)
        if each.push_S is not None:
            self._charge(theta_SP, chain_SP, each, value_S, gradient_SP, curvature_SPP)
        bad_S = ~(np.isfinite(value_S) & np.isfinite(gradient_SP).all(1) & np.isfinite(curvature_SPP).all((1, 2)))
        value_S[bad_S], gradient_SP[bad_S], curvature_SPP[bad_S] = np.inf, 0.0, 0.0
        return value_S, gradient_SP, curvature_SPP

    def _pull(
        self, z_SP: np.ndarray, each: Each, value_S: np.ndarray, gradient_SP: np.ndarray, curvature_SPP: np.ndarray
    ) -> None:
        """Adds the pull to the middle, which makes the optimum unique where the rows leave it open."""
        away_SP = (z_SP - (self.middle_P if each.middle_SP is None else each.middle_SP)) / self.reach_P
        value_S += TIE / 2 * np.square(away_SP).sum(1)
        gradient_SP += TIE * away_SP / self.reach_P
        np.einsum("spp->sp", curvature_SPP)[...] += TIE / np.square(self.reach_P)

    def _charge(
        self, theta_SP: np.ndarray, chain_SP: np.ndarray, each: Each,
        value_S: np.ndarray, gradient_SP: np.ndarray, curvature_SPP: np.ndarray,
    ) -> None:  # fmt: skip
        """Adds the toll and its slopes where the condition is broken, or nearly so."""
        assert self.form.excess is not None and each.push_S is not None and each.stiffness_S is not None
        excess_S, slopes_SP = self.form.excess(theta_SP, self.trials)
        slopes_SP = slopes_SP * chain_SP
        over_S = np.maximum(0.0, excess_S + INSIDE + each.push_S / each.stiffness_S)
        value_S += each.stiffness_S / 2 * np.square(over_S)
        gradient_SP += (each.stiffness_S * over_S)[:, None] * slopes_SP
        active_SP = slopes_SP * (np.sqrt(each.stiffness_S) * (over_S > 0))[:, None]
        curvature_SPP += active_SP[:, :, None] * active_SP[:, None, :]


def descend(
    problem: Problem, z_SP: np.ndarray, steps: int, tolerance: float, each: Each = Each()
) -> tuple[np.ndarray, np.ndarray]:
    """(z_SP, value_S) after at most `steps` steps from each start.

    A start is done when a step promises less than `tolerance` of its value.
    """
    z_SP = np.clip(z_SP, problem.low_P, problem.high_P)
    value_S = np.empty(len(z_SP))
    rows = max(1, BLOCK // max(1, len(problem.trials)))
    for first in range(0, len(z_SP), rows):
        block = slice(first, first + rows)
        z_SP[block], value_S[block] = _descend_block(problem, z_SP[block], steps, tolerance, each.rows(block))
    return z_SP, value_S


def _descend_block(
    problem: Problem, z_SP: np.ndarray, steps: int, tolerance: float, each: Each
) -> tuple[np.ndarray, np.ndarray]:
    z_SP = z_SP.copy()
    value_S, gradient_SP, curvature_SPP = problem.expand(z_SP, each)
    damping_S = np.full(len(z_SP), 1e-2)
    alive_S = np.flatnonzero(np.isfinite(value_S))
    for _ in range(steps):
        if not len(alive_S):
            break
        moved_SP, promise_S = _step(
            problem, z_SP[alive_S], gradient_SP[alive_S], curvature_SPP[alive_S], damping_S[alive_S]
        )
        new = problem.expand(moved_SP, each.rows(alive_S))
        better = new[0] < value_S[alive_S]
        done = (promise_S <= tolerance * value_S[alive_S]) & (damping_S[alive_S] < 1)
        done |= damping_S[alive_S] > 1e9
        taken_S = alive_S[better]
        z_SP[taken_S], value_S[taken_S] = moved_SP[better], new[0][better]
        gradient_SP[taken_S], curvature_SPP[taken_S] = new[1][better], new[2][better]
        damping_S[alive_S] = np.maximum(damping_S[alive_S] * np.where(better, 1 / 3, 6.0), 1e-12)
        alive_S = alive_S[~done]
    return z_SP, value_S


def _step(
    problem: Problem, z_SP: np.ndarray, gradient_SP: np.ndarray, curvature_SPP: np.ndarray, damping_S: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(z_SP after a damped step, inside the bounds; the decrease it promises). What a bound stops stays where it is."""
    low, high = z_SP <= problem.low_P, z_SP >= problem.high_P
    free_SP = ~((low & (gradient_SP > 0)) | (high & (gradient_SP < 0)))
    slope_SP = np.where(free_SP, gradient_SP, 0.0)
    diagonal_SP = np.einsum("spp->sp", curvature_SPP)
    # In units of the diagonal the matrix is well scaled whatever the constants' units are.
    unit_SP = 1 / np.sqrt(np.maximum(diagonal_SP, 1e-10 * diagonal_SP.max(1, keepdims=True) + 1e-300))
    matrix_SPP = curvature_SPP * unit_SP[:, :, None] * unit_SP[:, None, :]
    matrix_SPP *= free_SP[:, :, None] & free_SP[:, None, :]
    np.einsum("spp->sp", matrix_SPP)[...] += np.where(free_SP, damping_S[:, None] + 1e-14, 1.0)
    step_SP = unit_SP * np.linalg.solve(matrix_SPP, (-unit_SP * slope_SP)[:, :, None])[:, :, 0]
    # No constant may leave the region where the linear picture can hold: e^3 in a step.
    longest_S = np.abs(step_SP / np.maximum(problem.reach_P, 3.0)).max(1)
    step_SP /= np.maximum(longest_S, 1.0)[:, None]
    moved_SP = np.clip(z_SP + step_SP, problem.low_P, problem.high_P)
    went_SP = moved_SP - z_SP
    promise_S = -(slope_SP * went_SP).sum(1) / 2
    return moved_SP, promise_S


class End(NamedTuple):
    """Where descents ended, and what their form's condition was charged (push 0: it did not bind)."""

    z_SP: np.ndarray
    value_S: np.ndarray
    push_S: np.ndarray
    stiffness_S: np.ndarray

    def rows(self, start: int) -> End:
        """One of them, still as a batch."""
        return End(*(part[start : start + 1] for part in self))


def binds(problem: Problem, end: End) -> bool:
    """Whether the form's condition stops the (one) end."""
    return bool(problem.excess(end.z_SP)[0] > -2 * INSIDE)


def descend_within(problem: Problem, z_SP: np.ndarray, steps: int, tolerance: float, each: Each = Each()) -> End:
    """`descend`, and where the end breaks the form's condition, again to the optimum that meets it.

    An end that cannot be brought inside has the value inf. `each` may hold a first push and stiffness.
    Source: augmented Lagrangian, Nocedal and Wright 2006, ch. 17.
    """
    z_SP, value_S = descend(problem, z_SP, steps, tolerance, each)
    push_S = np.zeros(len(z_SP)) if each.push_S is None else each.push_S.copy()
    stiffness_S = np.maximum(1e2 * value_S, 1e-9) if each.stiffness_S is None else each.stiffness_S.copy()
    open_S = np.flatnonzero((problem.excess(z_SP) > 0) | (push_S > 0))
    if not len(open_S):
        return End(z_SP, value_S, push_S, stiffness_S)
    before_S = np.full(len(z_SP), np.inf)
    for turn in range(30):
        if turn or each.push_S is not None:
            over_S = problem.excess(z_SP[open_S]) + INSIDE
            fine_S = (np.abs(over_S) <= INSIDE / 2) | ((over_S <= 0) & (push_S[open_S] == 0))
            open_S, over_S = open_S[~fine_S], over_S[~fine_S]
            stiffness_S[open_S] *= np.where(np.abs(over_S) > before_S[open_S] / 4, 10.0, 1.0)
            before_S[open_S] = np.abs(over_S)
            push_S[open_S] = np.maximum(0.0, push_S[open_S] + stiffness_S[open_S] * over_S)
        if not len(open_S):
            break
        charged = replace(each.rows(open_S), push_S=push_S[open_S], stiffness_S=stiffness_S[open_S])
        z_SP[open_S], _ = descend(problem, z_SP[open_S], steps, tolerance, charged)
    z_SP, value_S = descend(problem, z_SP, 0, tolerance, replace(each, push_S=None, stiffness_S=None))
    value_S[problem.excess(z_SP) > 0] = np.inf
    return End(z_SP, value_S, push_S, stiffness_S)
