"""CPU-seconds of `ingest` on UTF-8 text: many files of plain text, and one file of JSON Lines.

    python benchmarks/intake.py [--repeats 7]

Run it with the PYTHONPATH of each of two source trees to compare them on the same made-up text.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from graft.core.store.artifact import Store
from graft.data.ingest import ingest

WORDS = "the court of law shall hear a case — “and” then judge may rule déjà vu every claim 法律".split()


def made(root: Path) -> dict[str, Path]:
    """About 15 MB of text files, and 45 MB of rows."""
    draw = random.Random(0)

    def text(count: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(count))

    paths = {kind: root / kind for kind in ("txt", "jsonl")}
    for path in paths.values():
        path.mkdir()
    for number in range(4000):
        (paths["txt"] / f"{number}.txt").write_text(text(800), encoding="utf-8")
    with (paths["jsonl"] / "rows.jsonl").open("w", encoding="utf-8") as out:
        for number in range(60_000):
            out.write(json.dumps({"text": text(150)}, ensure_ascii=number % 2 == 0) + "\n")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in made(Path(folder)).items():
            seconds = []
            for number in range(repeats):
                begun = time.process_time()
                ingest([str(path)], "domain", store=Store(Path(folder) / f"store-{kind}-{number}"))
                seconds.append(time.process_time() - begun)
            print(f"{kind:6} {min(seconds):.3f} CPU-s (least of {repeats})")


if __name__ == "__main__":
    main()
