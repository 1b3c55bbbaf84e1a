"""Which run would narrow an answer's interval most per FLOP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.solving.law_file import LawFile

FLOPS = 6  # per weight and token


@dataclass(frozen=True)
class CandidateRun:
    """A run that could be made next.

    cost: in what `cost_in` says. low, high: the answer's interval after it. narrowing: by which share of itself the
    interval shrinks.
    """

    columns: Mapping[str, float]
    cost: float
    low: float
    high: float
    narrowing: float

    @property
    def per_cost(self) -> float:
        return self.narrowing / self.cost

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"columns": dict(self.columns), "cost": self.cost}
        return told | {"low": self.low, "high": self.high, "narrowing": self.narrowing, "per_cost": self.per_cost}


def rank(law: LawFile, answer: float, answer_S: np.ndarray, columns: Mapping[str, Any]) -> list[CandidateRun]:
    """The candidate runs, best narrowing per cost first.

    answer_S: the answer by every bootstrap draw of `law`. columns: candidates, T each, in the table's units.
    The draws are taken for a joint normal distribution of the answer g and of the log loss y of a run; measuring y with
    noise of variance s^2 (the law's residuals) leaves var(g) - cov(g, y)^2 / (var(y) + s^2). So a run counts as one
    point, whatever checkpoints it could give, and what it says of the law's form is not counted.
    Errors: UsageError for a law without draws, and for an answer that no draw moves.
    """
    loss_ST = law.draw(columns)
    if len(loss_ST) < 2 or len(answer_S) != len(loss_ST):
        raise UsageError(
            "the law was fitted without bootstrap draws, so it has no intervals", do="fit it with fitting.draws above 1"
        )
    whole = law.complete(columns)
    log_ST = np.log(loss_ST)
    answers = answer_S - answer_S.mean()
    spread = float(answers @ answers) / (len(answers) - 1)
    if spread <= 0:
        raise UsageError(
            "every bootstrap draw gives the same answer, so no run narrows it", do="ask at another budget or place"
        )
    centred_ST = log_ST - log_ST.mean(0)
    with_answer_T = answers @ centred_ST / (len(answers) - 1)
    own_T = np.square(centred_ST).sum(0) / (len(answers) - 1)
    left_T = 1 - np.square(with_answer_T) / ((own_T + law.noise**2) * spread + 1e-300)
    kept_T = np.sqrt(np.clip(left_T, 0, 1))
    low, high = np.quantile(answer_S, law.tails)
    cost_T = cost_of(whole)
    found = [
        CandidateRun(
            {name: float(values[t]) for name, values in whole.items()},
            float(cost_T[t]),
            answer - (answer - low) * kept,
            answer + (high - answer) * kept,
            1 - kept,
        )
        for t, kept in enumerate(kept_T.tolist())
    ]
    return sorted(found, key=lambda one: -one.per_cost)


def cost_in(law: LawFile) -> str:
    """What runs are paid in: FLOPs, 6 * size * tokens; tokens where the law reads no size; else runs."""
    return ("FLOPs" if "size" in law.reads else "tokens") if "tokens" in law.reads else "runs"


def cost_of(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """What every run costs, in what `cost_in` says."""
    count = len(next(iter(columns.values())))
    cost_T = np.ones(count)
    if "tokens" in columns:
        cost_T = cost_T * columns["tokens"]
    return cost_T * FLOPS * columns["size"] if {"size", "tokens"} <= set(columns) else cost_T


def candidates(law: LawFile, given: Mapping[str, list[float]], most: float | None = None) -> dict[str, np.ndarray]:
    """Every combination of the given values; of a column that is not given, some within its data: the sizes there are,
    seven token counts, eleven ratios. Errors: UsageError when none costs at most `most`.
    """
    follows = "base_loss" in law.reads and "base_loss" not in given and bool(law.base_loss)
    free = [name for name in law.reads if not (follows and name == "base_loss")]
    axes = {name: np.array(given[name]) if given.get(name) else _axis(law, name) for name in free}
    grids = np.meshgrid(*axes.values(), indexing="ij")
    columns = {name: grid.reshape(-1) for name, grid in zip(axes, grids, strict=True)}
    if follows:  # a size has one base, and that one loss
        columns = law.complete(columns)
    if most is None:
        return columns
    cost_T = cost_of(columns)
    cheap = cost_T <= most
    if not cheap.any():
        raise UsageError(
            f"no run costs at most {most:.3g} {cost_in(law)}",
            allowed=f"{cost_T.min():.3g} or more for these candidates",
        )
    return {name: values[cheap] for name, values in columns.items()}


def _axis(law: LawFile, name: str) -> np.ndarray:
    low, high = law.reach.ranges[name]
    if name == "ratio":
        return np.round(np.linspace(0, 1, 11), 3)
    if name == "tokens" and low < high:
        return np.geomspace(low, high, 7)
    return np.array(law.reach.values.get(name) or (low, high))
