"""The promise of a budget, tried: is it kept on test text, and is the domain read as well as a full grid would have it?

    python benchmarks/choice.py MODELS --data DATA --grid grid.csv [--budgets 0.01 0.02 0.05] [--tokens 400000]

For every (base, domain) of the grid that benchmarks/grid.py made, and every budget: one run of the job `budget`,
against the best of the grid's nine ratios that keep the budget on the same test text (decayed runs of the same length).
What the laws lend of a run's course is taken from the other pairs of the grid alone (bases of other sizes on the same
domain among them; the form of the laws was found on all). Prints a Markdown table; every run is resumable and kept in
--store.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

from acceptance import DOMAINS, held_out_novels
from grid import SCORED, trunk_settings
from holdouts import read, shapes

from graft.budget.choose_mixture import Choose
from graft.core.config.errors import GateClosed
from graft.core.store.artifact import Store
from graft.jobs.adapt import Adapt, Outcome
from graft.jobs.budget import Budget
from graft.training.schedules.warm_stable_decay import WarmStableDecay

HEADINGS = (
    *("base", "domain", "budget", "share of domain text", "general change, test (95 %)", "domain loss, test"),
    *("best of the grid", "against it", "way along the line", "looks at test", "pilots"),
    *("general change of the whole run: expected, measured", "domain change: expected, measured"),
)
CHANGES = ("general", "domain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--budgets", type=float, nargs="*", default=(0.01, 0.02, 0.05))
    parser.add_argument("--bases", nargs="*", default=())
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--store", type=Path, default=Path(".graft/choice"))
    chosen = parser.parse_args()
    general = held_out_novels(chosen.data, chosen.models / "any", chosen.store)
    with chosen.grid.open() as table:
        tested = [row for row in csv.DictReader(table) if row["split"] == "test"]
    print("| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS))
    for (base, domain), (learning, forgetting) in shapes(read(chosen.grid)).items():
        if base == "all" or (chosen.bases and base not in chosen.bases):
            continue
        choose = Choose(domain_law=replace(learning, free=("d", "beta")), general_law=replace(forgetting, free=("A",)))
        grid = [row for row in tested if (row["base"], row["domain"]) == (base, domain)]
        for forget in chosen.budgets:
            adapt = Adapt(
                base=str(chosen.models / base),
                domain=(str(chosen.data / DOMAINS[domain]),),
                general=(str(general),),
                out=str(chosen.store / "out" / f"{base} {domain} {forget:g}"),
                train=final_settings(chosen.tokens),
                evaluate=SCORED,
            )
            job = Budget(forget=forget, adapt=adapt, choose=choose)
            try:
                print(row(base, domain, forget, job(Store(chosen.store)), grid), flush=True)
            except GateClosed as closed:
                print(f"| {base} | {domain} | {forget:.0%} | {closed.what} |", flush=True)


def final_settings(tokens: int) -> object:
    """The grid's runs with their decay, as one run."""
    return replace(
        trunk_settings(tokens), schedule=WarmStableDecay(warmup=0.02, decay=0.2), keep_every=0, evaluations=2
    )


def row(base: str, domain: str, forget: float, outcome: Outcome, grid: list[dict[str, str]]) -> str:
    """One line of the table."""
    summary = outcome.summary
    budget, general = summary["budget"], summary["general"]
    inside = [one for one in grid if float(one["general_loss"]) / general["before"] - 1 <= forget]
    best = min(inside, key=lambda one: float(one["domain_loss"]), default=None)
    low, high = general["interval"]
    cells = [
        *(base, domain, f"{forget:.0%}", f"{budget['ratio']:.2f}"),
        f"{general['change']:+.2%} ({low:+.2%} to {high:+.2%})",
        f"{summary['domain']['before']:.3f} → {summary['domain']['after']:.3f}",
        f"{float(best['domain_loss']):.3f} at {best['ratio']}" if best else "none keeps it",
        f"{summary['domain']['after'] / float(best['domain_loss']) - 1:+.2%}" if best else "-",
        f"{budget['share']:.0%}",
        f"{budget['looks']}",
        f"{budget['pilots']['of_final']:.1%}",
        *(f"{budget['predicted_change'][name]:+.1%}, {budget['result_change'][name]:+.1%}" for name in CHANGES),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
