"""CPU-seconds and peak memory of `curate` on 1.25 GB of text, before and after, and with five row-wise steps more.

    python benchmarks/curation.py --before TREE [--bytes 1250000000] [--folder FOLDER] [--repeats 1]

TREE is a checkout of the commit to compare with, such as `git worktree add ../before COMMIT` makes. The text is the
prose and code of the installed packages, over and over: copy k has the letters of k behind every third word, so that
copies share no long passages, while every fiftieth document is repeated as it is. Each side reads the text with its
own `ingest`, which is not measured. What is done is kept in FOLDER, and a second call goes on from there; FOLDER is
removed at the end, unless it was given.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
NAMES = ("embedded:prose-full", "embedded:code")
THIRD = re.compile(r"(\w+\W+\w+\W+\w+)")
CODE = """
import json, resource, sys, time
from pathlib import Path
from graft.core.store.artifact import Store
from graft.data.ingest import ingest
from graft.data.curate import Curate, curate
what, text, store, steps = sys.argv[1], sys.argv[2], Store(Path(sys.argv[3])), sys.argv[4]
docs = {"general": ingest([text], "general", store=store)}
settings = Curate()
if steps != "plain":
    from row_steps import FIVE
    settings = Curate(steps=(*FIVE[: {"one": 1, "five": 5}[steps]], *settings.steps))
if what == "alone":
    import pyarrow.parquet as pq
    from graft.data.steps.contract import Document
    cpu = 0.0
    for batch in pq.ParquetFile(docs["general"] / "docs.parquet").iter_batches(1024, columns=["text"]):
        some = [Document("", text, "general", len(text), {}) for text in batch.column(0).to_pylist()]
        begun = time.process_time()
        for step in FIVE:
            step.mark(some)
        cpu += time.process_time() - begun
    print(json.dumps({"cpu": cpu, "wall": cpu, "peak": 0, "fates": {}}))
if what == "curate":
    wall, cpu = time.perf_counter(), time.process_time()
    corpus = curate(docs, settings, store=store)
    told = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told["fates"] = {fate: vars(one) for _, fate, one in corpus.ledger.rows()}
    print(json.dumps(told))
"""
ROW_STEPS = '''
"""Five row-wise steps that read every character, for the benchmark alone."""

from collections import Counter
from dataclasses import dataclass

from graft.data.steps.contract import Mark, Reason


@dataclass(frozen=True)
class Short:
    """Under ten words."""
    reasons = (Reason("short", "fewer than ten words"),)
    def mark(self, documents):
        return [Mark("short") if len(one.text.split(None, 10)) < 10 else None for one in documents]


@dataclass(frozen=True)
class Symbols:
    """More hashes and dots than a text has."""
    reasons = (Reason("symbols", "many symbols"),)
    def mark(self, documents):
        return [Mark("symbols") if one.text.count("#") > 0.3 * len(one.text) else None for one in documents]


@dataclass(frozen=True)
class LongLines:
    """A line longer than any text has."""
    reasons = (Reason("long_lines", "a very long line"),)
    def mark(self, documents):
        return [Mark("long_lines") if max(map(len, one.text.split("\\n"))) > 500_000 else None for one in documents]


@dataclass(frozen=True)
class Repeated:
    """Most lines are one line."""
    reasons = (Reason("repeated", "one line over and over"),)
    def mark(self, documents):
        found = (one.text.split("\\n") for one in documents)
        return [Mark("repeated") if len(set(one)) < 0.05 * len(one) else None for one in found]


@dataclass(frozen=True)
class Noted:
    """Notes how much of a text is ASCII."""
    reasons = ()
    def mark(self, documents):
        sizes = ((len(one.text.encode("ascii", "ignore")), len(one.text)) for one in documents)
        return [Mark(notes={"ascii": list(one)}) for one in sizes]


FIVE = (Short(), Symbols(), LongLines(), Repeated(), Noted())
'''


def originals() -> list[str]:
    """The documents of the embedded texts."""
    from graft.embedded.text import Embedded

    return [one.text for name in NAMES for one in Embedded.named(name).pieces() if one.text]


def letters(number: int) -> str:
    """0 -> 'qa', 1 -> 'qb', ...: no two alike."""
    return "q" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def mutated(texts: list[str]) -> Iterator[str]:
    """The documents, and copies of them without end."""
    yield from texts
    copy = 0
    while True:
        for number, text in enumerate(texts):
            yield text if number % 50 == copy % 50 else THIRD.sub(r"\1" + letters(copy), text)
        copy += 1


def write_text(path: Path, num_bytes: int) -> None:
    """JSON Lines with so many bytes of text; whole or not there."""
    if path.exists():
        return
    left, part = num_bytes, path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as out:
        for text in mutated(originals()):
            out.write(json.dumps({"text": text}) + "\n")
            left -= len(text.encode())
            if left <= 0:
                break
    part.replace(path)


def ran(tree: Path, what: str, text: Path, store: Path, steps: str, steps_at: Path) -> str:
    env = os.environ | {"PYTHONPATH": f"{tree / 'src'}{os.pathsep}{steps_at}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, what, str(text), str(store), steps]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=steps_at).stdout


def measure(folder: Path, name: str, tree: Path, steps: str, text: Path) -> dict[str, Any]:
    """One run of curation in a process of its own; what was measured before is read."""
    known = folder / f"{name}.json"
    if not known.exists():
        store = folder / f"store-{tree.name}-{name.partition(' ')[0]}"
        ran(tree, "ingest", text, store, "plain", folder)
        told = (
            ran(tree, "alone" if name.startswith("the five") else "curate", text, store, steps, folder)
            .strip()
            .splitlines()[-1]
        )
        shutil.rmtree(store)
        known.write_text(told, encoding="utf-8")
    return json.loads(known.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--bytes", type=int, default=1_250_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="graft-curation-"))
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "row_steps.py").write_text(ROW_STEPS, encoding="utf-8")
    text = folder / "text.jsonl"
    write_text(text, asked.bytes)
    sides = [("before", asked.before.resolve(), "plain")] if asked.before else []
    sides += [("after", HERE, "plain"), ("after, one step more", HERE, "one"), ("after, five steps more", HERE, "five")]
    sides += [("the five steps alone", HERE, "five")]
    for repeat in range(asked.repeats):
        for name, tree, steps in sides:
            told = measure(folder, f"{name} {repeat}", tree, steps, text)
            print(f"{name:22} {told['cpu']:7.1f} CPU-s {told['wall']:7.1f} s {told['peak'] / 1e9:6.2f} GB", flush=True)
            for fate, amount in told["fates"].items():
                print(f"    {fate:40} {amount['documents']:>10,} documents {amount['bytes']:>15,} bytes")
    if not asked.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
