"""Fitting a law from many starts: ours beside loops of SciPy's L-BFGS-B over the same starts, in time and optimum.

    python benchmarks/fitting.py [--rows 1000] [--starts 500] [--noise 0.003] [--rounds 3] [--json FILE]

The law is D-CPT's L3, nine constants, on a made-up table of three sizes, twenty counts of tokens and nine ratios, with
normal noise on the logarithm of the loss; the objective is the mean Huber loss of log residuals, delta 1e-3, in bounds,
and the starts are the same for all. The sign condition is only reported, because L-BFGS-B knows
bounds and no conditions.
Peers:

graft                 graft.scaling.fitting.fit.fit_form without intervals; "with 200 draws" adds the bootstrap
L-BFGS-B, differences scipy.optimize.minimize per start, gradients by differences, as the published fits are done
L-BFGS-B, gradients   the same with the analytic gradient, in NumPy by hand
Both loops minimise the same function in the same scale (logarithms of the constants), written by hand without graft.

Loops of 500 starts take minutes: `--share 0.1` gives them every tenth start and multiplies their time by ten (their
optimum is then that of fewer starts).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from turns import machine, median, ratio, row, say_machine, table, take_turns, verdict, write_json

TRUE = (1.5, 400.0, 0.34, 100.0, 0.28, 0.4, 0.3, 0.6, 0.2)  # E A alpha B beta eta C gamma eps
LOGS = np.array([False, *[True] * 8])
PEERS = ["graft", "graft with 200 draws", "L-BFGS-B, differences", "L-BFGS-B, gradients"]
DELTA = 1e-3


def made_up(rows: int, noise: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(columns, losses) with rows drawn from the grid of sizes, tokens and ratios."""
    draw = np.random.default_rng(0)
    columns = {
        "size": draw.choice([5e8, 1.8e9, 4e9], rows),
        "tokens": draw.choice(np.arange(1, 21) * 1.31e9, rows),
        "ratio": draw.choice([0.0, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0], rows),
    }
    parts = terms(np.array(TRUE), columns)
    return columns, sum(parts[:4]) * np.exp(noise * draw.standard_normal(rows))


def terms(theta: np.ndarray, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The four terms of L3, then log N, log D, log r (0 where r is 0), r + eps and its logarithm."""
    E, A, alpha, B, beta, eta, C, gamma, eps = theta
    ratio_T = columns["ratio"]
    log_N, log_D, log_r = np.log(columns["size"]), np.log(columns["tokens"]), np.log(np.where(ratio_T > 0, ratio_T, 1))
    by_tokens = B * np.exp(eta * log_r - beta * log_D) * (ratio_T > 0)
    shifted = ratio_T + eps
    log_s = np.log(shifted)
    return (
        E + 0 * log_N,
        A * np.exp(-alpha * log_N),
        by_tokens,
        C * np.exp(-gamma * log_s),
        log_N,
        log_D,
        log_r,
        shifted,
        log_s,
    )


def objective(z: np.ndarray, columns: dict[str, np.ndarray], log_loss: np.ndarray, slopes: bool) -> Any:
    from scipy.special import huber

    theta = np.where(LOGS, np.exp(np.where(LOGS, z, 0)), z)
    level, by_N, by_D, by_r, log_N, log_D, log_r, shifted, log_s = terms(theta, columns)
    loss = level + by_N + by_D + by_r
    residual = np.log(loss) - log_loss
    value = huber(DELTA, residual).mean()
    if not slopes:
        return value * 1e3
    pull = np.clip(residual, -DELTA, DELTA) / loss / len(loss)
    alpha, beta, eta, gamma, eps = theta[[2, 4, 5, 7, 8]]
    each = [np.ones_like(loss), by_N, -alpha * by_N * log_N, by_D, -beta * by_D * log_D, eta * by_D * log_r, by_r,
            -gamma * by_r * log_s, -gamma * eps * by_r / shifted]  # fmt: skip
    return value * 1e3, np.array([pull @ one for one in each]) * 1e3


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    import scipy.optimize

    from graft.scaling.fitting.descent import Problem
    from graft.scaling.fitting.fit import Fitting, fit_form, starting_points
    from graft.scaling.fitting.trials import Trials
    from graft.scaling.laws.d_cpt import DCpt

    columns, loss_T = made_up(asked.rows, asked.noise)
    trials, form = Trials(loss_T, columns), DCpt(signs="report").form
    settings = Fitting(starts=asked.starts, delta=DELTA, draws=200 if "draws" in asked.one else 0)
    if asked.one.startswith("graft"):
        fit_form(form, trials, Fitting(starts=2, polish=1, draws=1))  # imports and the first BLAS call
        cpu, wall = time.process_time(), time.perf_counter()
        fitted = fit_form(form, trials, settings)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu": cpu, "wall": wall, "best": fitted.objective, "starts": asked.starts}
    starts_SP = starting_points(form, trials, asked.starts, settings.seed)
    problem = Problem.of(form, trials, starts_SP, delta=DELTA, log=True)
    chosen_SP = problem.inward(starts_SP)[:: round(1 / asked.share)]
    limits = list(zip(problem.low_P, problem.high_P, strict=True))
    slopes = "gradients" in asked.one
    cpu, wall = time.process_time(), time.perf_counter()
    with np.errstate(all="ignore"):
        ends = [
            scipy.optimize.minimize(
                objective, z_P, (columns, np.log(loss_T), slopes), "L-BFGS-B", slopes or None, bounds=limits,
                options={"maxiter": 2000, "maxfun": 100_000},
            )
            for z_P in chosen_SP
        ]  # fmt: skip
    factor = asked.starts / len(chosen_SP)
    cpu, wall = (time.process_time() - cpu) * factor, (time.perf_counter() - wall) * factor
    best = min(end.fun for end in ends if np.isfinite(end.fun)) / 1e3
    return {"cpu": cpu, "wall": wall, "best": best, "starts": len(chosen_SP)}


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    sizes = [f"--{name}={getattr(asked, name)}" for name in ("rows", "starts", "noise", "share")]
    seen = take_turns(__file__, PEERS, asked.rounds, *sizes)
    print(f"\nD-CPT L3, 9 constants, {asked.rows} rows, {asked.starts} starts, noise {asked.noise:g}\n")
    table(
        (
            "",
            "CPU-s",
            "wall s",
            "target",
            "CPU-s over graft's",
            "target",
            "best objective",
            "over graft's - 1",
            "starts run",
        )
    )
    ours = seen["graft"]
    for peer, runs in seen.items():
        slower, worse = ratio(runs, ours, "cpu"), median(runs, "best") / median(ours, "best") - 1
        within = verdict(median(runs, "wall"), at_most=1) if peer == "graft" else ""
        target = verdict(slower.median, at_least=10) if "differences" in peer else ""
        row(peer, f"{median(runs, 'cpu'):.3f}", f"{median(runs, 'wall'):.3f}", within, slower, target,
            f"{median(runs, 'best'):.9g}", f"{worse:+.1e}", runs[0]["starts"])  # fmt: skip
    return {"peers": seen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--starts", type=int, default=500)
    parser.add_argument("--noise", type=float, default=3e-3)
    parser.add_argument("--rounds", type=int, default=3, help="processes per peer")
    parser.add_argument("--share", type=float, default=1.0, help="of the starts that the loops run")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", help="measure one peer in this process and print its numbers as JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked)))
        return
    found = machine("scipy")
    say_machine(found)
    write_json(asked.json, __file__, found, compare(asked))


if __name__ == "__main__":
    main()
