"""Scoring a corpus: nats per token by our packed rows, beside lm-eval's `loglikelihood_rolling`, on the same text.

    python benchmarks/scoring.py MODEL TEXT [TEXT ...] [--megabytes 0.5] [--rounds 3] [--json FILE]

MODEL is a Hugging Face folder, TEXT files .txt, .md, .py, .jsonl(.gz, .zst) or folders of them. Two corpora are cut
from them: `passages` (lines joined to paragraphs, all shorter than the window) and `long` (documents cut to a whole
number of windows).
Both sides get the texts as strings in memory. What is timed is encoding and scoring, not opening the model:

graft      stages.tokenize (Parquet to token shards) and graft.models.scoring.scoring.score_documents, as `graft
evaluate` runs
           it: packed rows of one window, 8,192 tokens at a time, the evidence gathered
lm-eval    HFLM(device="cpu").loglikelihood_rolling with a batch size of 1 (its default), 16, and "auto"

The rule of context is the same: the first token is predicted from the mark before the text, a window that does not
begin a document from the token before it. lm-eval gives the last window of a document more context where it is not
full, which is why `long` is cut; and it does not predict the end mark, so its target is left out of our sum (and of
our count of tokens, which is to our disadvantage). Sums are compared document by document in float32.
In bfloat16 lm-eval loads the weights in bfloat16; ours stay in float32 and the products run in bfloat16.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from encode import read, write_corpus
from turns import Clock, machine, median, ratio, row, say_machine, table, take_turns, verdict, write_json

PASSAGE = 300  # characters, at least: lines are joined until they have as many
SPEED_TARGET = 2.5  # lm-eval's processor seconds over ours, at least
SUM_TARGET = 1e-5  # relative difference of a document's sum in float32, at most


def cut(model: Path, texts: list[str]) -> dict[str, list[str]]:
    """The two corpora."""
    from graft.core.models.base_model import Base

    base = Base.find(str(model))
    tokenizer, window = base.tokenizer, base.window
    tokenizer.encode_special_tokens = True
    passages = [part for text in texts for part in _paragraphs(text)]
    sizes = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(passages, add_special_tokens=False)]
    return {
        "passages": [part for part, size in zip(passages, sizes, strict=True) if size < window],
        "long": list(_whole_windows(tokenizer, window, texts)),
    }


def _paragraphs(text: str) -> Iterator[str]:
    held = ""
    for line in text.splitlines():
        held = f"{held}\n{line}".strip()
        if len(held) >= PASSAGE:
            yield held
            held = ""


def _whole_windows(tokenizer: Any, window: int, texts: list[str]) -> Iterator[str]:
    """Texts cut to a whole number of windows, where what is left still reads as the same tokens."""
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        ids = ids[: len(ids) // window * window]
        again = tokenizer.decode(ids, skip_special_tokens=False)
        if ids and tokenizer.encode(again, add_special_tokens=False).ids == ids:
            yield again


def run_graft(model: Path, texts: list[str], precision: str, clock: Clock) -> list[float]:
    from graft.core.models.base_model import Base
    from graft.core.store.artifact import Store
    from graft.data.tokenize import sources, tokenize
    from graft.models.files.weights import open_model
    from graft.models.scoring.scoring import ROW_TOKENS, choose_documents, gather, score_documents

    base = Base.find(str(model))
    opened = open_model(base.folder, precision, frozen=True)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Store(Path(folder)), texts)  # all of it in the split "train"
        clock.tick()
        source = sources(tokenize(corpus, base, store=Store(Path(folder))))["text"]
        choice = choose_documents(source, "train", 0)
        scored = score_documents(opened, source, choice, window=base.window, rows=max(1, ROW_TOKENS // base.window))
        evidence = gather(source, choice, source.num_bytes_D[choice.documents_D], scored)
        bounds = zip(evidence.bounds_E[:-1], evidence.bounds_E[1:], strict=True)
        sums = [float(evidence.nats_N[first : last - 1].sum(dtype=np.float64)) for first, last in bounds]
        clock.tick()
    return sums


def run_lm_eval(model: Path, texts: list[str], precision: str, clock: Clock, batch_size: int | str) -> list[float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    dtype = {"bf16": "bfloat16", "fp32": "float32"}[precision]
    opened = HFLM(pretrained=str(model), device="cpu", dtype=dtype, batch_size=batch_size)
    requests = [Instance("loglikelihood_rolling", {}, (text,), idx) for idx, text in enumerate(texts)]
    clock.tick()
    sums = [-one for one in opened.loglikelihood_rolling(requests, disable_tqdm=True)]
    clock.tick()
    return sums


PEERS: dict[str, Callable[[Path, list[str], str, Clock], list[float]]] = {
    "graft": run_graft,
    "lm-eval, 1 at a time": functools.partial(run_lm_eval, batch_size=1),
    "lm-eval, 16 at a time": functools.partial(run_lm_eval, batch_size=16),
    "lm-eval, auto": functools.partial(run_lm_eval, batch_size="auto"),
}


def compare(asked: argparse.Namespace, corpora: dict[str, Path]) -> list[dict[str, Any]]:
    numbers = []
    for name, path in corpora.items():
        texts = json.loads(path.read_text())
        if not texts:
            print(f"\n{name}: no such text; give more of it (--megabytes)")
            continue
        for precision in asked.precisions:
            print(f"\n{name}, {precision}: {len(texts):,} documents, {sum(map(len, texts)) / 1e6:.2f} M characters\n")
            arguments = (str(asked.model), str(path), "--precisions", precision)
            seen = take_turns(__file__, asked.peers, asked.rounds, *arguments)
            table(("", "tokens", "CPU-s", "us per token", "wall s", "peak RSS, MiB", "CPU x graft's", "target",
                   "nats per token", "largest difference of a sum", "target"))  # fmt: skip
            ours = seen["graft"]
            expected = np.array(ours[0]["sums"])
            tokens = ours[0]["tokens"]
            for peer, runs in seen.items():
                slower, sums = ratio(runs, ours, "cpu"), np.array(runs[0]["sums"])
                apart = float((np.abs(sums - expected) / expected).max())
                row(peer, f"{tokens:,}", f"{median(runs, 'cpu'):.2f}", f"{median(runs, 'cpu') / tokens * 1e6:.1f}",
                    f"{median(runs, 'wall'):.2f}", f"{median(runs, 'peak_rss') / 2**20:.0f}", slower,
                    verdict(slower.median, at_least=SPEED_TARGET if peer != "graft" else None),
                    f"{sums.sum() / tokens:.5f}", f"{apart:.1e}",
                    verdict(apart, at_most=SUM_TARGET if precision == "fp32" and peer != "graft" else None),
                )  # fmt: skip
            numbers.append({"corpus": name, "precision": precision, "documents": len(texts), "peers": seen})
    return numbers


def count_tokens(model: Path, texts: list[str]) -> int:
    from graft.core.models.base_model import Base

    tokenizer = Base.find(str(model)).tokenizer
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--megabytes", type=float, default=0.5)
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "fp32"], default=["bf16", "fp32"])
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="processes per peer")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", choices=list(PEERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        texts, clock = json.loads(asked.texts[0].read_text()), Clock(warm_up=1)
        sums = PEERS[asked.one](asked.model, texts, asked.precisions[0], clock)
        tokens = count_tokens(asked.model, texts)
        print(json.dumps(clock.report() | {"sums": sums, "tokens": tokens}), file=sys.stdout)
        return
    if "graft" not in asked.peers:
        asked.peers = ["graft", *asked.peers]
    found = machine("lm-eval", "accelerate")
    say_machine(found)
    print(f"model {asked.model.name}")
    with tempfile.TemporaryDirectory() as folder:
        corpora = {}
        for name, texts in cut(asked.model, read(asked.texts, int(asked.megabytes * 1e6))).items():
            corpora[name] = Path(folder) / f"{name}.json"
            corpora[name].write_text(json.dumps(texts))
        numbers = compare(asked, corpora)
    write_json(asked.json, __file__, found, {"model": asked.model.name, "runs": numbers})


if __name__ == "__main__":
    main()
