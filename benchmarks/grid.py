"""Losses over base size, tokens and ratio: the table that mixture laws are fitted to and that a choice is judged by.

    python benchmarks/grid.py MODELS --data DATA --out grid.csv [--tokens 400000] [--bases NAME ..] [--domains NAME ..]

For every base under MODELS, domain and share of domain text: one run at a constant rate, watched at thinning steps, and
a branch of it that decays over the last fifth. Each row of the table is one look:

    base, size (parameters), domain, ratio (of domain text), tokens, rate_now (share of the peak), split, domain_loss,
    general_loss (nats per token), domain_base, general_base (of the base on the same validation text)

split "validation": what training watched; "test": the decayed model on all test documents that `evaluate` takes.
General text: novels that the bases have not read (as in acceptance.py). Runs are kept in --store and never made twice.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

from acceptance import DOMAINS, held_out_novels

from graft.core.models.base_model import Base
from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Artifact, Store
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import tokenize
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.training.decay_branch import DecayNow
from graft.training.schedules.constant import Constant
from graft.training.settings import Train
from graft.training.train import train

BASES = ("prose-2m", "prose-3m", "prose-7m")
RATIOS = (0.0, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0)
COLUMNS = (
    "base",
    "size",
    "domain",
    "ratio",
    "tokens",
    "rate_now",
    "split",
    "domain_loss",
    "general_loss",
    "domain_base",
    "general_base",
)
SCORED = Evaluate(max_tokens=60_000)


def trunk_settings(tokens: int) -> Train:
    """A run of `tokens` at a constant rate, with a checkpoint where the decay of the last fifth begins."""
    settings = Train(
        tokens=tokens,
        batch_size=4,
        rewarm=0.3,
        schedule=Constant(warmup=0.02),
        evaluations=10,
        spacing="thinning",
        validation_tokens=15_000,
        checkpoint_minutes=60.0,
    )
    return replace(settings, keep_every=round(0.8 * (tokens // (4 * 512))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--bases", nargs="*", default=BASES)
    parser.add_argument("--domains", nargs="*", default=("law", "medicine"))
    parser.add_argument("--store", type=Path, default=Path(".graft/grid"))
    chosen = parser.parse_args()
    store = Store(chosen.store)
    general = held_out_novels(chosen.data, chosen.models / BASES[0], chosen.store)
    rows: list[dict[str, object]] = []
    for name in chosen.bases:
        base = Base.find(str(chosen.models / name))
        for domain in chosen.domains:
            tokens = corpus(base, chosen.data / DOMAINS[domain], general, store)
            for ratio in RATIOS:
                at = {"base": name, "size": base.num_parameters, "domain": domain, "ratio": ratio}
                rows += [at | seen for seen in look(base, tokens, ratio, chosen.tokens, store)]
                write(chosen.out, rows)


def corpus(base: Base, domain: Path, general: Path, store: Store) -> Artifact:
    docs = {name: ingest((str(path),), name, store=store) for name, path in (("domain", domain), ("general", general))}
    return tokenize(curate(docs, store=store), base, store=store)


def look(base: Base, tokens: Artifact, ratio: float, length: int, store: Store) -> list[dict[str, object]]:
    """The rows of one base, domain and ratio."""
    mixture = {name: share for name, share in (("domain", ratio), ("general", 1 - ratio)) if share}
    settings = trunk_settings(length)
    trunk = train(base, tokens, mixture, settings, store=store)
    steps = trunk.facts["shape"]["steps"]
    decay = DecayNow(at=settings.keep_every, over=steps - settings.keep_every)
    branch = train(base, tokens, mixture, replace(settings, decay_now=decay), store=store)
    per_step = trunk.facts["shape"]["rows"] * trunk.facts["shape"]["window"]
    rows = [row(entry, per_step, 1.0) for entry in curve(trunk)]
    rows.append(row(curve(branch)[-1], per_step, decay.floor))
    starts = {f"{name}_base": rows[0][f"{name}_loss"] for name in ("domain", "general")}
    rows = [one | starts for one in rows]
    seen = read_evidence(evaluate(Base(branch.name, branch / "model"), tokens, SCORED, store=store))
    losses = {f"{name}_loss": float(one.nats_N.mean(dtype=float)) for name, one in seen.items()}
    return [*rows, {"tokens": steps * per_step, "rate_now": decay.floor, "split": "test"} | losses]


def curve(trained: Artifact) -> list[dict[str, object]]:
    return [entry for entry in json.loads((trained / "curve.json").read_text()) if "validation" in entry]


def row(entry: dict[str, object], per_step: int, rate_now: float) -> dict[str, object]:
    losses = {f"{name}_loss": total / count for name, (total, count) in entry["validation"].items()}
    return {"tokens": entry["step"] * per_step, "rate_now": rate_now, "split": "validation"} | losses


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(
            {key: f"{one:.6g}" if isinstance(one, float) else one for key, one in row.items()} for row in rows
        )


if __name__ == "__main__":
    main()
