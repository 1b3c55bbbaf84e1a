"""Multiple choice: our scoring of suites beside lm-eval's own reader of the same model, on the same items.

    python benchmarks/eval.py MODEL FILE [FILE ...] [--items 300] [--shots 0] [--rounds 3] [--json FILE]

MODEL is a Hugging Face folder, FILE a file of questions with choices (`graft eval` reads it; .jsonl, also .gz, .zst).
The same (context, choice) pairs of the same items are put to both as strings in memory. What is timed is encoding and
scoring, not opening the model:

graft      tensors.pairs and tensors.endings, as `graft eval` runs them: texts that begin alike are read once
packed     the same without that: every text by itself, in packed rows
lm-eval    HFLM(device="cpu").loglikelihood with a batch size of 1 (its default), 16, and "auto"

Both are in float32, one thread or as many as the environment says. Sums of every pair are compared, and so is which
choice of each item comes out best.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns import Clock, machine, median, ratio, row, say_machine, table, take_turns, verdict, write_json

SPEED_TARGET = 1.0  # lm-eval's processor seconds over ours, at least
SUM_TARGET = 1e-3  # nats, largest difference of a sum; a sum is of a hundred nats or so
Scored = list[float]


def items(path: Path, count: int, shots: int) -> list[list[tuple[str, str]]]:
    """Of each item its pairs of context and choice."""
    from graft.evaluation.benchmarks.suite import Choosing, read_tasks, suite_files

    found = []
    for task in read_tasks(suite_files(path)[0][0], Choosing(limit=count, shots=shots)):
        for one in task.questions:
            asked = one.after(task.examples, " ", "\n\n")
            found.append(list(zip(asked.contexts, asked.endings, strict=True)))
    return found[:count] if count else found


def run_graft(model: Path, pairs: list[tuple[str, str]], clock: Clock, *, shared: bool) -> Scored:
    from graft.core.models.base_model import Base
    from graft.models.files.weights import open_model
    from graft.models.scoring.context_pairs import PairEncoder
    from graft.models.scoring.continuations import EndingScorer

    base = Base.find(str(model))
    opened = open_model(base.folder, "fp32", frozen=True)
    clock.tick()
    encoded = PairEncoder(base, base.window).encode(pairs, [("", n) for n in range(len(pairs))])
    scorer = EndingScorer(opened, base.window)
    scorer.takes_masks = None if shared else False
    sums = scorer([pair.ending for pair in encoded if pair.ending is not None]).nats_E.tolist()
    clock.tick()
    assert len(sums) == len(pairs), "a pair could not be scored"
    return sums


def run_lm_eval(model: Path, pairs: list[tuple[str, str]], clock: Clock, *, batch_size: int | str) -> Scored:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    opened = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=batch_size)
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    clock.tick()
    sums = [-nats for nats, _ in opened.loglikelihood(requests, disable_tqdm=True)]
    clock.tick()
    return sums


PEERS: dict[str, Callable[[Path, list[tuple[str, str]], Clock], Scored]] = {
    "graft": functools.partial(run_graft, shared=True),
    "graft, packed": functools.partial(run_graft, shared=False),
    "lm-eval, 1 at a time": functools.partial(run_lm_eval, batch_size=1),
    "lm-eval, 16 at a time": functools.partial(run_lm_eval, batch_size=16),
    "lm-eval, auto": functools.partial(run_lm_eval, batch_size="auto"),
}


def compare(asked: argparse.Namespace, path: Path, asked_items: list[list[tuple[str, str]]]) -> dict[str, Any]:
    """One file: a table of the peers."""
    sizes = [len(one) for one in asked_items]
    print(f"\n{path.name}: {len(sizes):,} items, {sum(sizes):,} pairs, {asked.shots} shots\n")
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "pairs.json"
        given.write_text(json.dumps([pair for one in asked_items for pair in one]))
        seen = take_turns(__file__, asked.peers, asked.rounds, str(asked.model), str(given))
    table(("", "CPU-s", "wall s", "peak RSS, MiB", "CPU x graft's", "target", "largest difference, nats", "target",
           "items chosen otherwise"))  # fmt: skip
    ours = seen["graft"]
    expected = np.array(ours[0]["sums"])
    best = chosen(expected, sizes)
    for peer, runs in seen.items():
        slower, sums = ratio(runs, ours, "cpu"), np.array(runs[0]["sums"])
        apart, theirs = float(np.abs(sums - expected).max()), peer.startswith("lm-eval")
        row(peer, f"{median(runs, 'cpu'):.2f}", f"{median(runs, 'wall'):.2f}",
            f"{median(runs, 'peak_rss') / 2**20:.0f}", slower,
            verdict(slower.median, at_least=SPEED_TARGET if theirs else None), f"{apart:.1e}",
            verdict(apart, at_most=SUM_TARGET if theirs else None),
            sum(a != b for a, b in zip(best, chosen(sums, sizes), strict=True)),
        )  # fmt: skip
    return {"file": path.name, "items": len(sizes), "pairs": sum(sizes), "shots": asked.shots, "peers": seen}


def chosen(sums: np.ndarray, sizes: list[int]) -> list[int]:
    return [int(part.argmin()) for part in np.split(sums, np.cumsum(sizes)[:-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--items", type=int, default=300, help="items of each file, spread over it; 0: all")
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes per peer")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", choices=list(PEERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        pairs, clock = [tuple(pair) for pair in json.loads(asked.files[0].read_text())], Clock(warm_up=1)
        sums = PEERS[asked.one](asked.model, pairs, clock)
        print(json.dumps(clock.report() | {"sums": sums}), file=sys.stdout)
        return
    if "graft" not in asked.peers:
        asked.peers = ["graft", *asked.peers]
    found = machine("lm_eval", "accelerate")
    say_machine(found)
    print(f"model {asked.model.name}")
    numbers = [compare(asked, path, items(path, asked.items, asked.shots)) for path in asked.files]
    write_json(asked.json, __file__, found, {"model": asked.model.name, "runs": numbers})


if __name__ == "__main__":
    main()
