"""A stream of five domains by eight methods on a small real base: what each keeps, learns and costs, and how sure.

    python benchmarks/stream.py MODEL --data DATA [--tokens 100000] [--seeds 0 1 2] [--out streamed]

MODEL is a folder in Hugging Face form with held_out_books.json beside it; DATA as for odyssey.py. Domains in the order
of their turns: statutes, medical answers, python, chemistry, papers; general text: novels that the base has not read.
Prints the ranking as a Markdown table; the page lies in --out. Runs are kept in --store and never made twice, so
that --seeds 0 first and --seeds 0 1 2 later costs two seeds more.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

from odyssey import UNREAD, gather

from graft.cli.listing import Teller
from graft.continual.methods.anchor import Anchor
from graft.continual.methods.block_expansion import BlockExpansion
from graft.continual.methods.joint import Joint
from graft.continual.methods.lora import Lora
from graft.continual.methods.naive import Naive
from graft.continual.methods.o_lora import OLora
from graft.continual.methods.replay import Replay
from graft.continual.methods.stay_close import StayClose
from graft.core.store.artifact import Store
from graft.evaluation.score_documents import Evaluate
from graft.jobs.continual import Continual
from graft.training.settings import Train

DOMAINS = {
    "law": "statutes",
    "medicine": "medical answers",
    "code": "python",
    "chemistry": "chemistry",
    "papers": "papers",
}
METHODS = (Naive(), Replay(0.1), Anchor(), StayClose(), Lora(), OLora(), BlockExpansion(), Joint())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--seeds", nargs="*", type=int, default=(0,))
    parser.add_argument("--shares", nargs="*", type=float, default=(), help="further shares of replay")
    parser.add_argument("--out", type=Path, default=Path("streamed"))
    parser.add_argument("--store", type=Path, default=Path(".graft/stream"))
    chosen = parser.parse_args()
    texts = gather(chosen.data, chosen.model.parent / "held_out_books.json", chosen.store / "texts", False)
    job = Continual(
        base=str(chosen.model),
        domains={name: str(texts[text]) for name, text in DOMAINS.items()},
        general=(str(texts[UNREAD]),),
        methods=METHODS + tuple(Replay(share) for share in chosen.shares),
        seeds=tuple(chosen.seeds),
        train=Train(tokens=chosen.tokens, batch_size=4, evaluations=1, validation_tokens=2_000, checkpoint_minutes=60),
        evaluate=Evaluate(max_tokens=20_000),
        out=str(chosen.out),
    )
    began = time.monotonic()
    outcome = job(Store(chosen.store, on_made=Teller().made))
    print(f"\n{outcome.summary['verdict']}\n")
    table(outcome.summary)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\n{time.monotonic() - began:,.0f} s, {used.ru_utime + used.ru_stime:,.0f} CPU-seconds in this sitting")


def table(summary: dict[str, Any]) -> None:
    first = next(iter(summary["runs"].values()))["label"]
    head = ["method", "rank (seeds)", "mean domain loss", f"against {first}", "BWT", "forgetting, max", "FWT"]
    head += ["learned (diagonal)", "general loss", "FUAR", "training s", "peak GB"]
    print("| " + " | ".join(head) + " |\n|---" * 1 + "|---" * (len(head) - 1) + "|")
    for row in sorted(summary["runs"].values(), key=lambda row: row["rank"]):
        low, high = row["rank_of_seeds"]
        against = row["against"]
        cells = [
            row["label"],
            f"{row['rank']} ({low} to {high})",
            number(row, "overall_performance"),
            "" if against is None else f"{against['difference']:+.3f}{between(against['interval'])}",
            number(row, "backward_transfer-divisor-gem"),
            number(row, "forgetting-form-max"),
            number(row, "forward_transfer"),
            number(row, "learning_accuracy"),
            f"{row['general']['change']:+.1%}{between(row['general']['interval'], '+.1%')}",
            number(row, "fuar"),
            f"{row['cost']['seconds']:.0f}",
            f"{row['cost']['peak_memory_bytes'] / 1e9:.1f}",
        ]
        print("| " + " | ".join(cells) + " |")


def number(row: dict[str, Any], metric: str) -> str:
    """Value, interval over documents, and the seeds' lowest and highest."""
    value, spread = row["loss"].get(metric), row["loss_spreads"][metric]
    if value is None:
        return "not defined"
    seeds = f" [{spread[0]:.3f}, {spread[1]:.3f}]" if spread else ""
    return f"{value:.3f}{between(row['loss_intervals'][metric], '.3f')}{seeds}"


def between(interval: list[float] | None, form: str = "+.3f") -> str:
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"


if __name__ == "__main__":
    main()
