"""What is fuzzed: right inputs, how they are changed, the door they go in by, and what must then hold."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from mutate import changed_bytes, changed_json, changed_lines, changed_words

from graft.core.config.recipe import read_recipe
from graft.core.models.base_model import EMBEDDED
from graft.core.store.artifact import Store
from graft.evaluation.benchmarks.suite import Choosing, read_tasks, suite_files
from graft.models.checks.find_base import find_base
from graft.readers.file_record import Fields
from graft.readers.folder import listing, read
from graft.scaling.queries.words import open_law
from graft.scaling.tables.table_file import read_table
from graft.scaling.tables.trials import Columns, read_trials

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """name: of the file that a case is written to. tried: raises GraftError for what it refuses, AssertionError for
    what it should have refused."""

    file: str
    seeds: Callable[[], list[bytes]]
    changes: tuple[Change, ...]
    tried: Callable[[Path], object]


def rows(count: int) -> list[dict[str, object]]:
    return [{"text": f"row {number} of a text", "label": "a", "n": number} for number in range(count)]


CHATS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "It is this."}]},
    {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], "system": "Be brief."},
    {"prompt": "Say it.", "chosen": "It.", "rejected": "No."},
    {"instruction": "Add.", "input": "1 1", "output": "2", "tools": "[]"},
    {"messages": [
        {"role": "assistant", "content": None, "weight": 0, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "3"}]},
    ]},
]  # fmt: skip
QUESTIONS: list[dict[str, object]] = [
    {"question": "Which?", "choices": ["one", "two"], "answer": 1},
    {"query": "Which?", "choices": ["one", "two"], "gold": 0},
    {"passage": "It is two.", "question": "Which?", "answer": "two"},
]
RUNS = [
    {"size": 1e8 * (1 + i % 3), "tokens": 1e9 * (1 + i), "ratio": 0.1 * (1 + i % 8), "loss": 3 - 0.02 * i}
    for i in range(24)
]


def lines(found: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def parquet(found: list[dict[str, object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found), out, row_group_size=10)
    return out.getvalue()


def cells(found: list[dict[str, object]]) -> bytes:
    return "\n".join([",".join(found[0]), *(",".join(map(str, row.values())) for row in found)]).encode()


def packed(change: Change, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]) -> Change:
    """A change of what is inside a compressed file."""
    return lambda content, draw: pack(change(unpack(content), draw))


def text_of(path: Path) -> None:
    """Every piece is text that can be written, or has a reason; a file gives at least one, but for empty ones."""
    [file] = listing(path).files
    found = list(read(file, Fields(label="label")))
    for one in found:
        assert bool(one.text) != bool(one.dropped), one
        assert "\0" not in one.text and one.num_bytes >= 0 and one.seen >= 0
        one.text.encode()
        json.loads(one.notes)
    if path.suffix == ".jsonl":
        assert len(found) == sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    assert found or path.suffix not in (".txt", ".html", ".gz", ".zst", ".parquet") or path.stat().st_size < 40


def base_of(path: Path) -> None:
    base = find_base(str(path.parent), Store(path.parent.parent / "store"))
    assert base.num_parameters > 0 and base.window > 0
    ids = base.tokenizer.encode("The court may rule.").ids
    assert ids and max(ids) < base.config["vocab_size"], ids


def suite_of(path: Path) -> None:
    for file in suite_files(path)[0]:
        for task in read_tasks(file, Choosing()):
            for one in task.questions:
                assert 0 <= one.gold < max(1, len(one.endings)), one


def trials_of(path: Path) -> None:
    found = read_trials(read_table(path), Columns(), ("size", "tokens"), law="chinchilla").trials
    assert np.isfinite(found.loss_T).all() and (found.loss_T > 0).all()


def law_of(path: Path) -> None:
    law, _ = open_law(path)
    value_T = law.predict({"tokens": [1e9], "size": [1e8], "ratio": [0.5]}).value_T
    assert np.isfinite(value_T).all(), value_T


def saved_law() -> list[bytes]:
    """A law that the command fitted to a table."""
    with tempfile.TemporaryDirectory() as top:
        table, saved = Path(top) / "runs.csv", Path(top) / "law.json"
        table.write_bytes(cells(RUNS))
        words = ["law", "fit", table, "--json", saved]
        subprocess.run([sys.executable, "-m", "graft", *map(str, words)], check=True, capture_output=True)
        return [saved.read_bytes()]


def manifest_of(path: Path) -> None:
    store = Store(path.parent.parent)
    found = store.artifacts()
    assert {one.name for one in found} >= {"docs-0123456789ab"}
    for one in found:
        _ = one.kind, one.facts, one.origins, one.ledger


def base_file(name: str) -> Callable[[], list[bytes]]:
    return lambda: [(EMBEDDED["embedded"] / name).read_bytes()]


def header_changed(change: Change) -> Change:
    """The header of a safetensors file, its length put right."""

    def changed(content: bytes, draw: random.Random) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        new = change(content[8 : 8 + length], draw)
        return struct.pack("<Q", len(new)) + new + content[8 + length :]

    return changed


def near_start(content: bytes, draw: random.Random) -> bytes:
    return changed_bytes(content[:2000], draw) + content[2000:]


def beside(folder: Path, name: str) -> None:
    """What a target needs beside the file that is changed."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in BASE:
        for file in EMBEDDED["embedded"].iterdir():
            if file.name != name and not (folder / file.name).exists():
                shutil.copy(file, folder)
    if name == "manifest.json":
        whole = folder.parent / "docs-0123456789ab"
        whole.mkdir(exist_ok=True)
        (whole / name).write_bytes(MANIFEST)


BASE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
MANIFEST = json.dumps({
    "settings": {"text_field": "text"}, "inputs": {"source": "domain"}, "code": {"identity": "0", "modules": {}},
    "origins": {}, "ledger": {"domain": {"read": {"documents": 1, "bytes": 4, "tokens": 0},
                                         "fates": {"kept": {"documents": 1, "bytes": 4, "tokens": 0}}}},
    "facts": {"source": "domain"}, "versions": {}, "device": "cpu", "started": "2026-11-30T10:00:00Z", "seconds": 1.0,
}).encode()  # fmt: skip
gz, un_gz = (lambda content: gzip.compress(content, mtime=0)), gzip.decompress
zst, un_zst = zstandard.compress, zstandard.decompress
PAGE = (
    b"<!doctype html><html><head><title>A case</title></head><body><p>"
    + b"The court may rule on it. " * 20
    + b"</p></body></html>"
)

WORDS, BYTES = (changed_bytes, changed_words), (changed_bytes,)
JSON, LINES = (changed_json, changed_words), (changed_lines, changed_words)
HEADERS = (near_start, header_changed(changed_json), header_changed(changed_words))
GZ, ZST = (changed_bytes, packed(changed_words, gz, un_gz)), (changed_bytes, packed(changed_words, zst, un_zst))

TARGETS: dict[str, Target] = {
    "recipe": Target("recipe.yaml", lambda: [one.read_bytes() for one in RECIPES], WORDS, read_recipe),
    "jsonl": Target("a.jsonl", lambda: [lines(rows(20))], (*WORDS, changed_lines), text_of),
    "json": Target("a.json", lambda: [json.dumps(rows(20)).encode()], (*WORDS, changed_json), text_of),
    "chat": Target("a.jsonl", lambda: [lines(CHATS)], LINES, text_of),
    "parquet": Target("a.parquet", lambda: [parquet(rows(30)), parquet(CHATS[:1] * 9)], BYTES, text_of),
    "csv": Target("a.csv", lambda: [cells(rows(20))], WORDS, text_of),
    "html": Target("a.html", lambda: [PAGE], WORDS, text_of),
    "gz": Target("a.jsonl.gz", lambda: [gz(lines(rows(20)))], GZ, text_of),
    "zst": Target("a.txt.zst", lambda: [zst(PAGE)], ZST, text_of),
    "suite": Target("a.jsonl", lambda: [lines([one] * 4) for one in QUESTIONS], LINES, suite_of),
    "law table": Target("a.csv", lambda: [cells(RUNS)], WORDS, trials_of),
    "law table in JSON": Target("a.json", lambda: [json.dumps(RUNS).encode()], JSON, trials_of),
    "saved law": Target("law.json", saved_law, JSON, law_of),
    "config.json": Target("config.json", base_file("config.json"), JSON, base_of),
    "safetensors": Target("model.safetensors", base_file("model.safetensors"), HEADERS, base_of),
    "tokenizer.json": Target("tokenizer.json", base_file("tokenizer.json"), (near_start, changed_json), base_of),
    "tokenizer_config": Target("tokenizer_config.json", base_file("tokenizer_config.json"), JSON, base_of),
    "manifest": Target("manifest.json", lambda: [MANIFEST], (*JSON, changed_bytes), manifest_of),
}
