"""How well laws say losses that they were not fitted to, on the grid of runs that benchmarks/grid.py makes.

    python benchmarks/holdouts.py grid.csv [--least 20000] [--shape]

Per domain and loss (of domain text, of general text): the fit, and three hold-outs: every pair of ratios in turn (7 of
9 fitted, 36 folds; the mean over folds), the largest base, and all tokens beyond the first third. Only runs at a
constant rate count, and looks from --least tokens on: the D-CPT paper's first look was at a twentieth of its runs, too.
Prints a Markdown table. --shape: prints instead, for every (base, domain), the constants of a run's course as the other
pairs have them, which is what `head_start` and `replay` lend to short pilots; last those of all pairs, the defaults.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.chinchilla import Chinchilla
from graft.scaling.laws.d_cpt import DCpt
from graft.scaling.laws.d_cpt_l1 import DCptL1
from graft.scaling.laws.head_start import HeadStart
from graft.scaling.laws.replay import Replay
from graft.scaling.solving.holdout import hold_out, make_folds, without_draws

LAWS = {"domain": (DCpt(), DCptL1(), HeadStart()), "general": (DCpt(), DCptL1(), Replay())}
FLOOR = Chinchilla()  # knows nothing of ratios: what a law has to beat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--least", type=float, default=20_000)
    parser.add_argument("--shape", action="store_true")
    chosen = parser.parse_args()
    rows = read(chosen.grid)
    if chosen.shape:
        for pair, (learning, forgetting) in shapes(rows).items():
            said = [f"{name} {value:.3g}" for law in (learning, forgetting) for name, value in lent(law).items()]
            print(f"{' '.join(pair)}: {', '.join(said)}")
        return
    print("| domain | loss of | law | fit: R2, MRE | pairs of ratios | those inside | largest base | last two thirds |")
    print("|---|---|---|---|---|---|---|---|")
    for domain in dict.fromkeys(row["domain"] for row in rows):
        for source, laws in LAWS.items():
            table = trials([row for row in rows if row["domain"] == domain], source, chosen.least)
            for law in (*laws, FLOOR):
                print(line(domain, source, law, table), flush=True)


def read(path: Path) -> list[dict[str, str]]:
    """Looks at validation text in runs at a constant rate, those at the base included."""
    with path.open() as table:
        return [row for row in csv.DictReader(table) if row["split"] == "validation" and row["rate_now"] == "1"]


def trials(rows: list[dict[str, str]], source: str, least: float) -> Trials:
    """The losses of a source; the ratio is that of its own text."""
    start = {(row["base"], row["domain"]): float(row[f"{source}_loss"]) for row in rows if row["tokens"] == "0"}
    kept = [row for row in rows if float(row["tokens"]) >= max(least, 1)]
    ratio_T = np.array([float(row["ratio"]) for row in kept])
    columns = {
        "size": [float(row["size"]) for row in kept],
        "tokens": [float(row["tokens"]) for row in kept],
        "base_loss": [start[row["base"], row["domain"]] for row in kept],
    }
    runs = {key: number for number, key in enumerate(dict.fromkeys((r["base"], r["domain"], r["ratio"]) for r in kept))}
    return Trials(
        np.array([float(row[f"{source}_loss"]) for row in kept]),
        {name: np.array(values) for name, values in columns.items()}
        | {"ratio": ratio_T if source == "domain" else 1 - ratio_T},
        run_T=np.array([runs[row["base"], row["domain"], row["ratio"]] for row in kept]),
    )


def line(domain: str, source: str, law: object, table: Trials) -> str:
    """One row of the table."""
    quick = without_draws(law)
    fit = quick.fit(table).metrics(table)
    ratios = hold_out(law, table, "ratio", *make_folds("ratio", table))
    largest_T = table.column("size") == table.column("size").max()
    late_T = table.column("tokens") > table.column("tokens").max() / 3
    cells = [domain, source, type(law).__name__, words(fit), words(ratios.mean), words(ratios.mean_inside or {})]
    for test_T in (largest_T, late_T):
        cells.append(words(quick.fit(table.rows(~test_T)).metrics(table.rows(test_T))))
    return "| " + " | ".join(cells) + " |"


def words(metrics: dict[str, float]) -> str:
    return f"{metrics['r2']:.4f}, {metrics['mre']:.2%}" if metrics else "-"


def shapes(rows: list[dict[str, str]]) -> dict[tuple[str, str], tuple[HeadStart, Replay]]:
    """For every (base, domain), and for "all" without one: the two laws with constants that the other pairs give.

    Of the general law by one fit to all of them; of the domain law, whose other constants differ from domain to domain,
    by the mean of a fit to each.
    """
    pairs = list(dict.fromkeys((row["base"], row["domain"]) for row in rows))
    of = {pair: [row for row in rows if (row["base"], row["domain"]) == pair] for pair in pairs}
    learning = {pair: pooled(HeadStart(), trials(of[pair], "domain", 1)) for pair in pairs}
    found: dict[tuple[str, str], tuple[HeadStart, Replay]] = {}
    for left in [*pairs, ("all", "")]:
        others = [pair for pair in pairs if pair != left]
        means = {name: float(np.mean([learning[pair][name] for pair in others])) for name in lent(HeadStart())}
        whole = pooled(Replay(), trials([row for pair in others for row in of[pair]], "general", 1))
        found[left] = (
            replace(HeadStart(), **means),
            replace(Replay(), **{name: whole[name] for name in lent(Replay())}),
        )
    return found


def lent(law: object) -> dict[str, float]:
    """The constants that a law lends: all but those that no other run can tell."""
    own = ("d", "beta", "w", "z") if isinstance(law, HeadStart) else ("A", "w")
    return {name: getattr(law, name) for name in law.free if name not in own}


def pooled(law: object, table: Trials) -> dict[str, float]:
    fitted = without_draws(law).fit(table)
    return {name: one.value for name, one in fitted.constants.items()}


if __name__ == "__main__":
    main()
