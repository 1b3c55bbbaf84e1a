"""The acceptance run: one small real base adapted to law, medicine and code, with its price on text it knew before.

    python benchmarks/acceptance.py MODEL --data DATA [--tokens 2000000]

MODEL is a Hugging Face folder; DATA holds law_en/, medicine/medquad.jsonl.zst, code_python/cpython_stdlib.jsonl.zst and
english_prose/ (JSON lines with `text`; the novels with `book`). General text: the novels named in held_out_books.json
beside MODEL, which it has not read. Prints a Markdown table; every run is resumable and kept in --store.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
from pathlib import Path

import zstandard

import graft
from graft.core.store.artifact import Store

DOMAINS = {
    "law": "law_en/dc_code.jsonl.zst",
    "medicine": "medicine/medquad.jsonl.zst",
    "code": "code_python/cpython_stdlib.jsonl.zst",
}
WAYS = {
    "causal, no replay": {"objective": "causal", "replay": 0.0},
    "causal, replay 10 %": {"objective": "causal", "replay": 0.1},
    "stay_close 0.5, no replay": {"objective": {"stay_close": {"kl_weight": 0.5}}, "replay": 0.0},
}


def held_out_novels(data: Path, model: Path, place: Path) -> Path:
    """The novels that the base has not read, as one JSONL file."""
    books = set(json.loads((model.parent / "held_out_books.json").read_text()))
    path = place / "held_out_novels.jsonl"
    place.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for source in sorted((data / "english_prose").glob("*.jsonl.zst")):
            with source.open("rb") as packed:
                for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8"):
                    if json.loads(line).get("book") in books:
                        out.write(line)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, default=Path(".graft/acceptance"))
    chosen = parser.parse_args()
    general = held_out_novels(chosen.data, chosen.model, chosen.store)
    print(f"{platform.machine()}, base {chosen.model.name}, {chosen.tokens:,} tokens each\n")
    print("| domain | way | domain loss | change (95 %) | general loss | change (95 %) | bits/byte | tokens/s |")
    print("|---|---|---|---|---|---|---|--:|")
    for name, file in DOMAINS.items():
        for way, settings in WAYS.items():
            outcome = graft.adapt(
                str(chosen.model),
                domain=str(chosen.data / file),
                general=str(general),
                tokens=chosen.tokens,
                out=chosen.store / "out" / f"{name} {way}",
                store=Store(chosen.store),
                **settings,
            )
            print(row(name, way, outcome), flush=True)


def row(name: str, way: str, outcome: graft.Outcome) -> str:
    """One line of the table: nats per token on the test split, relative changes with their intervals."""
    cells = [name, way]
    for source in ("domain", "general"):
        one = outcome.summary[source]
        low, high = one["interval"]
        cells += [f"{one['before']:.3f} → {one['after']:.3f}", f"{one['change']:+.1%} ({low:+.1%} to {high:+.1%})"]
    bits = outcome.summary["domain"]["bits_per_byte"]
    speed = next(a for a in outcome.artifacts if a.kind == "train").facts["tokens_per_second"]
    return "| " + " | ".join([*cells, f"{bits['before']:.3f} → {bits['after']:.3f}", f"{speed:,.0f}"]) + " |"


if __name__ == "__main__":
    main()
