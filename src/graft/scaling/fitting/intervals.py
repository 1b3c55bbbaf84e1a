"""How sure the constants are: the fit again under random weights of the runs, and what the rows leave open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graft.core.stats.random_streams import stream
from graft.scaling.fitting.descent import Each, End, Problem, binds, descend, descend_within
from graft.scaling.fitting.fitted import Fitted

ALIKE = 0.995  # correlation of two constants from which they are named as trading off
WIDE = 10.0  # an interval over more than this factor says that a constant is not identified


def resample(
    problem: Problem, best: End, draws: int, confidence: float, seed: int
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """(constants found under `draws` random weightings, the factor by which deviations are widened, warnings).

    Weighted bootstrap (Rubin 1981): each run, with all its rows, weighs an exponential draw; unlike resampling with
    replacement no draw loses a run, so that few runs, ratios or sizes make no singular fits. Where runs have several
    rows, each row weighs a draw of its own besides: a law with about as many constants as there are runs meets every
    run, and only the rows within them say that it errs. That is on the safe side where rows err apart. Rows stand for
    themselves where there is one run. Directions that the rows leave open are drawn from the range of the start values:
    the pull that breaks ties goes elsewhere in each draw.
    Few runs make draws too alike: deviations are widened by sqrt(G / (G - 1) * (T - 1) / (T - P)), as cluster-robust
    variances are (Cameron and Miller 2015, eq. 12), and by Student's t over the normal at min(G - 1, T - P) degrees.
    """
    z_P = best.z_SP[0]
    if not draws:
        return np.zeros((0, len(z_P))), 1.0, ()
    num = len(problem.trials)
    words: tuple[str, ...] = ()
    runs, of_T = np.unique(problem.trials.run_T, return_inverse=True)
    if len(runs) == 1:
        of_T = np.arange(num)
        words = ("all rows are of one run: intervals know its noise, not what another run would give",)
    elif len(runs) < min(num, len(z_P)):
        words = (
            f"{len(runs)} runs for {len(z_P)} constants: how runs err is hardly known, and intervals may be too narrow",
        )
    groups = int(of_T.max()) + 1
    random = stream(seed, "bootstrap")
    weights_ST = random.exponential(size=(draws, groups))[:, of_T]
    if 1 < len(runs) < num:
        weights_ST *= random.exponential(size=(draws, num))
    weights_ST /= weights_ST.mean(1, keepdims=True)
    reach_P = problem.reach_P / 2
    middle_SP = problem.middle_P + random.uniform(-reach_P, reach_P, (draws, len(z_P)))
    open_SP = _along_the_open(problem, z_P, middle_SP - z_P)
    each = Each(weights_ST, np.clip(middle_SP, problem.low_P, problem.high_P))
    if binds(problem, best):  # what it is charged is known already
        each = replace(each, push_S=np.tile(best.push_S, draws), stiffness_S=np.tile(best.stiffness_S, draws))
    ends = descend_within(problem, z_P + open_SP, 300, 1e-9, each)
    z_SP = ends.z_SP[np.isfinite(ends.value_S)]
    degrees = max(1, min(groups - 1, num - len(z_P)))
    factor = groups / max(1, groups - 1) * (num - 1) / max(1, num - len(z_P))
    return problem.outward(z_SP), float(np.sqrt(factor) * _student_over_normal(degrees, confidence)), words


def _along_the_open(problem: Problem, z_P: np.ndarray, away_SP: np.ndarray) -> np.ndarray:
    """The part of a displacement along directions in which the objective hardly rises by its own noise."""
    value_S, _, curvature_SPP = problem.expand(z_P[None])
    scaled_PP = curvature_SPP[0] * problem.reach_P[:, None] * problem.reach_P
    size_P, axes_PP = np.linalg.eigh(scaled_PP)
    flat_P = size_P < 1e-2 * value_S[0] / len(problem.trials) + 1e-11
    along_PP = axes_PP[:, flat_P] @ axes_PP[:, flat_P].T
    return (away_SP / problem.reach_P) @ along_PP * problem.reach_P


def _student_over_normal(degrees: int, confidence: float) -> float:
    """Half an interval of Student's t over that of the normal distribution."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2) / ndtri((1 + confidence) / 2))


def doubts(problem: Problem, best: End, fitted: Fitted) -> tuple[str, ...]:
    """Constants at a bound, not identified, or trading off against each other, in words; a condition that binds too."""
    words: list[str] = []
    z_P = best.z_SP[0]
    if binds(problem, best):
        free_S = descend(problem, best.z_SP, 300, 1e-10)[1]
        words.append(
            f"a condition of the law binds: without it the mean Huber loss were {free_S[0]:.3g} in place of"
            f" {best.value_S[0]:.3g}"
        )
    edge_P = 1e-6 * (problem.high_P - problem.low_P)
    for p, (one, found) in enumerate(zip(problem.form.constants, fitted.constants.values(), strict=True)):
        if z_P[p] <= problem.low_P[p] + edge_P[p] or z_P[p] >= problem.high_P[p] - edge_P[p]:
            words.append(f"{one.name} is at its bound {found.value:.4g}")
        elif found.low <= one.low or found.high >= one.high:
            words.append(f"{one.name} is not identified: its interval reaches a bound of [{one.low:g}, {one.high:g}]")
        elif one.log and found.high > WIDE * found.low:
            words.append(f"{one.name} is not identified: anywhere in {found.low:.3g} to {found.high:.3g}")
    return (*words, *_trades(problem, z_P))


def _trades(problem: Problem, z_P: np.ndarray) -> tuple[str, ...]:
    """Pairs whose errors go together so much that the rows tell only a mixture of them."""
    curvature_PP = problem.expand(z_P[None])[2][0]
    unit_P = 1 / np.sqrt(np.diag(curvature_PP))
    size_P, axes_PP = np.linalg.eigh(curvature_PP * unit_P[:, None] * unit_P)
    covariance_PP = (axes_PP / np.maximum(size_P, 1e-15)) @ axes_PP.T
    root_P = np.sqrt(np.maximum(np.diag(covariance_PP), 1e-300))
    alike_PP = covariance_PP / (root_P[:, None] * root_P)
    names = problem.form.names
    pairs = [(abs(alike_PP[p, q]), p, q) for p in range(len(names)) for q in range(p) if abs(alike_PP[p, q]) > ALIKE]
    return tuple(
        f"{names[q]} and {names[p]} trade off (correlation {alike_PP[p, q]:+.4f}): the rows tell one of them, not both"
        for _, p, q in sorted(pairs, reverse=True)[:3]
    )
