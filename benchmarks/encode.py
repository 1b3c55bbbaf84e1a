"""Text to token shards: the whole tokenize stage against `encode_batch_fast` alone on the same texts in memory.

    python benchmarks/encode.py [PATH ...]                    .txt .py .md .jsonl(.gz .zst) files, or folders of them
    python benchmarks/encode.py PATH ... --tokenizer FILE ... these tokenizer.json(.gz), not small ones trained on it

The stage reads Parquet, encodes, writes shards and counts every token; the bare call only encodes, and its ids stay in
Rust. Each measurement is a fresh process and the two take turns. Processor seconds (all threads and children) are what
is compared first: on a shared machine wall time says more about the neighbours. Ids are compared one by one.
Without a path the text is $GRAFT_DATA, or else the source code of Python's standard library.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ledger import Amount
from graft.core.text.documents import SCHEMA, doc_row
from graft.core.tokens.safe_cuts import PATTERNS
from graft.data.tokenize import sources, tokenize

SUFFIXES = (".txt", ".py", ".md", ".jsonl", ".jsonl.gz", ".jsonl.zst")
VOCABULARY, TRAINED_ON = 8192, 2_000_000  # tokens; characters


def read(paths: list[Path], num_bytes: int) -> list[str]:
    """Texts, file by file, until there are about so many bytes."""
    texts: list[str] = []
    size = 0
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.name.endswith(SUFFIXES):
                for text in read_file(file):
                    texts.append(text)
                    size += len(text.encode())
                    if size >= num_bytes:
                        return texts
    return texts


def read_file(file: Path) -> Iterator[str]:
    if ".jsonl" not in file.name:
        yield file.read_text("utf-8", "replace")
        return
    with file.open("rb") as raw:
        opened: Any = raw
        if file.suffix == ".gz":
            opened = gzip.GzipFile(fileobj=raw)
        elif file.suffix == ".zst":
            import zstandard

            opened = zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(opened, "utf-8"):
            row = json.loads(line)
            yield row["text"] if isinstance(row.get("text"), str) else json.dumps(row, ensure_ascii=False)


def trained(texts: list[str]) -> dict[str, Tokenizer]:
    """Small tokenizers of the usual kinds; the last is one whose texts the stage must hand over whole."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    steps = {
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "digits + gpt-2": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)],
        "llama-3": [pre_tokenizers.Split(Regex(PATTERNS["llama-3"]), "isolated"), plain],
        "metaspace (whole)": [pre_tokenizers.Metaspace()],
    }
    found = {}
    for kind, parts in steps.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
        every = max(1, sum(map(len, texts)) // TRAINED_ON)
        tokenizer.train_from_iterator(texts[::every], trainer)
        found[kind] = tokenizer
    return found


def write_corpus(store: Store, texts: list[str]) -> Artifact:
    def build(draft):
        rows = [doc_row(text, source="text", position=i, parent=f"#{i}") for i, text in enumerate(texts)]
        rows = [row | {"split": "train"} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), draft / "text.parquet")
        amount = Amount(len(rows), sum(row["num_bytes"] for row in rows))
        draft.facts["sources"] = ["text"]
        draft.ledger.enter("text", amount)
        draft.ledger.settle("text", "train", amount)

    return store.make("corpus", None, {}, (), build)


def spent() -> dict[str, float]:
    """So far: processor seconds of this process and its children, time, the most memory ever held in MB."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {"cpu": cpu, "wall": time.perf_counter(), "peak": own.ru_maxrss / 1024}


def one(subject: str, folder: Path, corpus: Artifact) -> dict[str, float]:
    """One measurement, in this process; the ids are left in the folder."""
    base = Base("measured", folder)
    base.tokenizer.encode_special_tokens = True
    bare = subject == "bare"
    texts = pq.read_table(corpus / "text.parquet", columns=["text"])["text"].to_pylist() if bare else []
    began = spent()
    if bare:
        encodings = base.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ended = spent()
        ids = np.array([token for encoding in encodings for token in encoding.ids], np.uint32)
    else:
        tokens = tokenize(corpus, base, store=Store(folder / f"store-{os.getpid()}"))
        ended = spent()
        kind = json.loads((tokens / "tokens.json").read_text())["dtype"]
        ids = np.concatenate([np.fromfile(shard, kind) for shard in sources(tokens)["text"].shards])
    np.save(folder / f"{subject}.npy", ids)
    return {
        "cpu": ended["cpu"] - began["cpu"],
        "wall": ended["wall"] - began["wall"],
        "peak": ended["peak"],
        "tokens": len(ids),
    }


def measure(folder: Path, corpus: Artifact, times: int) -> dict[str, dict[str, float]]:
    """Medians of both subjects, taken in turns."""
    runs: dict[str, list[dict[str, float]]] = {"bare": [], "stage": []}
    for _ in range(times):
        for subject, measured in runs.items():
            command = [sys.executable, __file__, "--one", subject, str(folder), str(corpus.path)]
            measured.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        assert np.array_equal(np.load(folder / "bare.npy"), np.load(folder / "stage.npy")), "the ids are not the same"
    return {
        subject: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        for subject, measured in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--tokenizer", nargs="+", type=Path, default=[])
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], Path(asked.one[1]), Artifact(Path(asked.one[2])))))
        return
    default = os.environ.get("GRAFT_DATA") or sysconfig.get_path("stdlib")
    texts = read(asked.paths or [Path(default)], int(asked.megabytes * 1e6))
    found = trained(texts) if not asked.tokenizer else {}
    for path in asked.tokenizer:
        opened = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found[path.parent.name] = Tokenizer.from_str(opened.decode())
    size = sum(len(text.encode()) for text in texts) / 1e6
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("tokenizers", "numpy", "pyarrow"))
    print(f"{size:.1f} MB in {len(texts):,} texts; {platform.machine()}, {os.cpu_count()} cores; "
          f"Python {platform.python_version()}, {libraries}; median of {asked.times}")  # fmt: skip
    heads = [f"{unit}: {side}" for unit in ("cpu s", "wall s") for side in ("bare", "stage", "ratio")]
    print(f"{'tokenizer':20}{'tokens':>11}" + "".join(f"{head:>15}" for head in [*heads, "MB: bare", "MB: stage"]))
    with tempfile.TemporaryDirectory() as root:
        corpus = write_corpus(Store(Path(root)), texts)
        for number, (name, tokenizer) in enumerate(found.items()):
            folder = Path(root) / str(number)
            folder.mkdir()
            tokenizer.save(str(folder / "tokenizer.json"))
            (folder / "config.json").write_text("{}")
            bare, stage = measure(folder, corpus, asked.times).values()
            cells = [cell for unit in ("cpu", "wall") for cell in (bare[unit], stage[unit], stage[unit] / bare[unit])]
            line = "".join(f"{cell:>15.2f}" for cell in cells) + f"{bare['peak']:>15.0f}{stage['peak']:>15.0f}"
            print(f"{name:20}{bare['tokens']:>11,.0f}{line}")


if __name__ == "__main__":
    main()
