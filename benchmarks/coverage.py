"""How often the 95 % intervals that Graft prints hold the truth, where the truth is known.

    python benchmarks/coverage.py [--repeats 1000]

A large made-up population of documents (lengths lognormal, loss by document, longer documents easier, the change from
before to after correlated with the loss) is drawn from again and again; each time the interval is made as the stages
make it. Prints a Markdown table: share of the intervals that hold what the whole population says, with its own 95 %
interval (Wilson), and the share that lies wholly below and wholly above.
"""

from __future__ import annotations

import argparse
from functools import cache

import numpy as np

from graft.continual.metrics.backward_transfer import BackwardTransfer
from graft.continual.metrics.forgetting import Forgetting
from graft.continual.metrics.forward_transfer import ForwardTransfer
from graft.continual.metrics.fuar import Fuar
from graft.continual.metrics.general_change import GeneralChange
from graft.continual.metrics.learning_accuracy import LearningAccuracy
from graft.continual.metrics.overall_performance import OverallPerformance
from graft.continual.score_matrix import ScoreMatrix
from graft.core.stats.accuracy_tests import wilson
from graft.core.stats.bootstrap import levels, paired_change
from graft.core.stats.document_resamples import Sightings
from graft.core.stats.tally import Tally

POPULATION = 200_000  # documents
TURNS = 3
METRICS = (
    OverallPerformance(), LearningAccuracy(), BackwardTransfer(), ForwardTransfer(), Forgetting(), GeneralChange(),
    Fuar(),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    print("| interval of | documents | held the truth | below, above |")
    print("|---|--:|---|---|")
    for documents in (20, 50, 200):
        tell("relative change of a loss", documents, [change(documents, seed) for seed in range(repeats)])
    for documents in (20, 50, 200):
        found = [stream(documents, seed, 1000) for seed in range(repeats)]
        for number, metric in enumerate(METRICS):
            tell(type(metric).__name__, documents, [one[number] for one in found])


def tell(name: str, documents: int, found: list[tuple[float, float, float]]) -> None:
    """found: (low, truth, high)."""
    low, truth, high = np.array(found).T
    held = int(((low <= truth) & (truth <= high)).sum())
    least, most = wilson(held, len(found))
    sides = f"{(high < truth).mean():.1%}, {(low > truth).mean():.1%}"
    print(f"| {name} | {documents} | {held / len(found):.1%} ({least:.1%} to {most:.1%}) | {sides} |", flush=True)


@cache
def population(models: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Totals [models, documents] and counts: the first model is the one before."""
    draw = np.random.default_rng([seed, 77])
    count_D = np.round(draw.lognormal(5.5, 0.8, POPULATION)) + 5
    own_D = 4 + 0.5 * draw.normal(size=POPULATION) - 0.2 * (np.log(count_D) - 5.5)
    rows = [own_D]
    for _ in range(models - 1):
        shift = draw.uniform(-0.6, 0.3)
        rows.append(own_D * (1 + 0.05 * draw.normal()) + shift + 0.15 * draw.normal(size=POPULATION))
    return np.array(rows) * count_D, count_D


def change(documents: int, seed: int) -> tuple[float, float, float]:
    total_MD, count_D = population(2, 0)
    chosen = np.random.default_rng([seed, documents]).integers(0, POPULATION, documents)
    before, after = (Tally(row[chosen], count_D[chosen]) for row in total_MD)
    interval = paired_change(before, after, seed=seed).interval
    assert interval is not None
    return interval[0], float(total_MD[1].sum() / total_MD[0].sum() - 1), interval[1]


def stream(documents: int, seed: int, draws: int) -> list[tuple[float, float, float]]:
    names = [str(number) for number in range(TURNS + 1)]  # the last one is the general text
    whole = {name: population(TURNS + 1, int(name) + 1) for name in names}
    draw = np.random.default_rng([seed, documents])
    chosen = {name: draw.integers(0, POPULATION, documents) for name in names}
    seen = Sightings(
        {name: total[:, chosen[name]] for name, (total, _) in whole.items()},
        {name: count[chosen[name]] for name, (_, count) in whole.items()},
    )
    truth = table(np.stack([total.sum(1) / count.sum() for total, count in whole.values()], -1))
    again = table(np.stack([seen.drawn(name, draws, seed) for name in names], -1))
    found = []
    for metric in METRICS:
        values = metric(again)
        low, high = np.quantile(values[np.isfinite(values)], levels(documents))
        found.append((float(low), float(metric(truth)), float(high)))
    return found


def table(means: np.ndarray) -> ScoreMatrix:
    """means: [..., models, texts]; model 0 is the base."""
    after = means[..., 1:, :]
    return ScoreMatrix(after[..., :-1], means[..., 0, :-1], after[..., -1], means[..., 0, -1], True)


if __name__ == "__main__":
    main()
