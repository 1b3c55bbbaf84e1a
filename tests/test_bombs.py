"""Files that are damaged, or made to fill the memory: they cost what they hold, and only themselves."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from fork_server import run
from graft.core.store.artifact import Artifact, Store
from graft.data.ingest import ingest
from graft.readers import folder as reading

GIGABYTE = 1 << 30
PARAGRAPH = (
    "The court held that the statute, as amended, applies to every contract made after the day it came into force. Two "
    "judges dissented, and their opinion is the one that later courts have quoted at greater length ever since."
)
TOO_LARGE, EXPANDS, MARKUP = (
    "too large for one document",
    "expands to far more than its file",
    "markup too large to be read",
)


def zst(chunk: bytes, times: int) -> bytes:
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as packed:
        for _ in range(times):
            packed.write(chunk)
    return out.getvalue()


def gz(chunk: bytes, times: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as packed:
        for _ in range(times):
            packed.write(chunk)
    return out.getvalue()


def parquet(rows: int, value: str, **options: object) -> bytes:
    """One value in every row, stored once."""
    out = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    pq.write_table(pa.table({"text": column}), out, row_group_size=rows, store_schema=False, **options)
    return out.getvalue()


MEGABYTE = b"x" * (1 << 20)
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zst of one letter": ("a.txt.zst", lambda: zst(MEGABYTE, 5000), EXPANDS),
    "zst of one line of JSON": ("a.jsonl.zst", lambda: zst(MEGABYTE, 5000), EXPANDS),
    "zst of a page": ("a.html.zst", lambda: zst(b"<b>" * (1 << 18), 5000), EXPANDS),
    "gz of one cell": ("a.csv.gz", lambda: gz(MEGABYTE, 600), EXPANDS),
    "gz of a row that never ends": ("a.csv.gz", lambda: gz(b'a,b\n"', 1) + gz(b"x" * 200 + b"\n", 1 << 19), EXPANDS),
    "gz of one element": ("a.json.gz", lambda: gz(b"[[", 1) + gz(b"[]," * (1 << 18), 200), EXPANDS),
    "gz of one object": ("a.json.gz", lambda: gz(b"{\n", 1) + gz(b'"a": 1,' * (1 << 18), 50), EXPANDS),
    "a line of JSON": ("a.jsonl", lambda: b'{"text": "' + MEGABYTE * 40 + b'"}\n', TOO_LARGE),
    "rows of Parquet": ("a.parquet", lambda: parquet(100_000_000, "one"), EXPANDS),
    "a value of Parquet": ("a.parquet", lambda: parquet(1000, "x" * (100 << 20), compression="zstd"), EXPANDS),
    "attributes": ("a.html", lambda: b"<p " + b" ".join(b"a%d=1" % i for i in range(300_000)) + b">text</p>", MARKUP),
    "attributes alone": ("a.html", lambda: b"<p " + b" ".join(b"a%d" % i for i in range(300_000)) + b">", MARKUP),
    "markup without end": ("a.html", lambda: b"<div>" * 300_000, "empty"),
    "brackets": ("a.jsonl", lambda: b"[" * 1_000_000, "not json"),
    "brackets in an array": ("a.json", lambda: b"[" * 1_000_000, "not json"),
}  # fmt: skip
READ = """
import json, resource, sys, time
from pathlib import Path
from graft.core.store.artifact import Store
from graft.data.ingest import ingest
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
import pyarrow, trafilatura
before = peak()
docs = ingest([sys.argv[1]], "domain", store=Store(Path(sys.argv[2])))
print(json.dumps([peak() - before, time.process_time(), docs.manifest["ledger"]]))
"""


def kept(docs: Artifact) -> list[str]:
    return [row["text"] for row in pq.read_table(docs / "docs.parquet").to_pylist() if not row["dropped"]]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_a_loss_with_its_reason(forks, tmp_path, bomb):
    """In a process of its own, which may not take a gigabyte more for it, nor ten seconds."""
    name, content, reason = BOMBS[bomb]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / name).write_bytes(content())
    (folder / "good.txt").write_text("good")
    ended = run(
        [sys.executable, "-c", READ, str(folder), str(tmp_path / "store")], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    taken, used, ledger = json.loads(ended.stdout)
    assert taken < GIGABYTE and used < 10
    fates = ledger["domain"]["fates"] if "fates" in ledger["domain"] else ledger["domain"]
    assert any(reason in fate for fate in fates), fates


def test_large_files_that_are_what_they_seem_are_read(tmp_path):
    """Three megabytes of one line repeated take 11 kB; rows of one value are many for their bytes."""
    folder = tmp_path / "texts"
    folder.mkdir()
    line = json.dumps({"text": "the court may rule on every claim " * 30}).encode() + b"\n"
    (folder / "a.jsonl.gz").write_bytes(gz(line, 3000))
    (folder / "b.parquet").write_bytes(parquet(8000, "the court may rule"))
    (folder / "c.txt").write_text("the court may rule\n" * 100_000)
    image = f'<img src="data:{"x" * 200_000}">'
    (folder / "d.html").write_text(f"<html><body>{image}<article><p>{PARAGRAPH}</p></article></body></html>")
    docs = ingest([str(folder)], "domain", store=Store(tmp_path / "store"))
    assert len(kept(docs)) == 3000 + 8000 + 2


def damaged(content: bytes, seed: int) -> bytes:
    """Some bytes changed, and some of the end cut off."""
    draw = np.random.default_rng(seed)
    changed = bytearray(content)
    for place in draw.integers(0, len(changed), int(draw.integers(1, 20))):
        changed[place] = int(draw.integers(0, 256))
    return bytes(changed[: int(draw.integers(1, len(changed) + 1))] if draw.random() < 0.3 else changed)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.json", "a.html"])
def test_a_damaged_file_breaks_only_itself(tmp_path, name):
    rows = [{"text": f"row {number}", "messages": [{"role": "user", "content": "a"}]} for number in range(300)]
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table, row_group_size=100)
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    cells = io.StringIO()
    csv.writer(cells).writerows([["text"], *([row["text"]] for row in rows)])
    whole = {
        "a.parquet": table.getvalue(), "a.jsonl.gz": gzip.compress(lines), "a.jsonl.zst": zstandard.compress(lines),
        "a.csv.gz": gzip.compress(cells.getvalue().encode()), "a.json": json.dumps(rows).encode(),
        "a.html": b"<html><body>" + b"<p>A row of text that is long enough to be kept.</p>" * 50 + b"</body></html>",
    }[name]  # fmt: skip
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / name).write_bytes(damaged(whole, seed))
        (folder / "good.txt").write_text("good")
        docs = ingest([str(folder)], "domain", store=Store(tmp_path / "store"))
        assert kept(docs)[-1] == "good", seed


def test_a_reader_that_fails_costs_the_rest_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    (tmp_path / "b.txt").write_text("good")
    from graft.readers import json_lines

    def broken(line: bytes, *rest: object) -> object:
        if b"two" in line:
            raise ZeroDivisionError("no such thing")
        return from_line(line, *rest)

    from_line = json_lines.from_line
    monkeypatch.setattr(json_lines, "from_line", broken)
    [path] = [one for one in reading.listing(tmp_path).files if one.suffix == ".jsonl"]
    one, rest = list(reading.read(path, reading.Fields()))
    assert one.text == "one" and rest.dropped and "no such thing" in rest.hint
    assert one.seen + rest.num_bytes == path.size


@pytest.mark.parametrize(
    ("content", "lost"),
    [
        ("[[1], [2]]", 2),
        ('[{"text": "one"}] more', 1),
        ("[]", 0),
        ("[] []", 1),
        ('[{"text": "one"}]\n\n', 0),
        ("[[[", 1),
    ],
)
def test_nothing_of_an_array_is_passed_over(tmp_path, content, lost):
    (tmp_path / "a.json").write_text(content)
    [path] = reading.listing(tmp_path).files
    found = list(reading.read(path, reading.Fields()))
    assert sum(bool(one.dropped) for one in found) == lost and len(found) - lost == content.count("text")


def test_a_suite_may_be_larger_than_a_row(tmp_path, monkeypatch):
    """What is bounded is a row, not the file."""
    from graft.evaluation.benchmarks.suite_rows import rows_of
    from graft.readers import csv_rows

    monkeypatch.setattr(csv_rows, "ROW", 1 << 17)
    lines = ["query,a", *(f"{'what is law ' * 50} {number},one" for number in range(1000))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert len(list(rows_of(tmp_path / "a.csv"))) == 1000
