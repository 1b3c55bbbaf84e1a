"""Curation on disk gives what curation in plain lists gives, in parts of any size, and a kill leaves nothing."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation_reference import curated, prose, troubled
from graft.core.store.artifact import Artifact, Store
from graft.core.text import mark_table
from graft.core.text.documents import SCHEMA, doc_id, doc_row
from graft.core.text.mark_table import MarkTable, halves, hexadecimal
from graft.core.text.marked_text import MarkedText
from graft.core.text.split import Split
from graft.data.assign_splits import assign_splits, limit_held_out
from graft.data.curate import Curate, curate
from graft.data.ingest import ingest
from graft.data.steps.overlap import Overlap
from graft.embedded.text import Embedded

# Of the tables, the ledger and the notes, by the code of commit ee9eeb3, which held all marks in lists.
GOLDEN = {
    Split(): "a1c3b61f7a89d861894c9b02d2dcefa9",
    Split(test=0.2, validation=0.2, seed=3, most=2000): "9ccc34ad9ee04050b1be42ff5f450674",
}
BEFORE = ["id", "text", "num_bytes", "split", "dropped", "notes"]  # columns that there were then


def read(top: Path, store: Store, sources: Mapping[str, Sequence[str]]) -> dict[str, Artifact]:
    docs: dict[str, Artifact] = {}
    for name, texts in sources.items():
        (top / name).mkdir(parents=True)
        (top / name / "d.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        docs[name] = ingest([str(top / name)], name, store=store)
    return docs


def table(artifact: Artifact, name: str, columns: list[str] | None = None) -> list[dict]:
    return pq.read_table(artifact / f"{name}.parquet", columns=columns).to_pylist()


def agree(corpus: Artifact, docs: Mapping[str, Artifact], split: Split, **settings: float) -> None:
    """With the reference, document by document."""
    texts = {name: [row["text"] for row in table(one, "docs")] for name, one in docs.items()}
    expected = curated(texts, split, **settings)
    found = [row | {"overlap": json.loads(row["notes"]).get("overlap")} for name in docs for row in table(corpus, name)]
    for key in ("source", "text", "split", "dropped", "overlap"):
        assert [row[key] for row in found] == [row[key] for row in expected], key


@pytest.mark.parametrize("split", GOLDEN, ids=["plain", "limited"])
def test_the_corpus_is_that_of_the_code_before(tmp_path: Path, split: Split) -> None:
    store = Store(tmp_path / "store")
    docs = read(tmp_path, store, troubled())
    corpus = curate(docs, Curate(split=split), store=store)
    rows = [[list(row.values()) for row in table(corpus, name, BEFORE)] for name in docs]
    told = json.dumps([rows, corpus.ledger.to_json(), corpus.facts["notes"]])
    assert hashlib.blake2b(told.encode(), digest_size=16).hexdigest() == GOLDEN[split]
    agree(corpus, docs, split)


def test_on_real_text_it_is_that_of_the_reference(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    prose_texts = [one.text for one in Embedded("embedded:prose", every=25).pieces()]
    code = [one.text for one in Embedded("embedded:code", every=25).pieces() if one.text]
    spliced = [f"{a[:2000]}\n{b[:1500]}" for a, b in zip(prose_texts[:40], prose_texts[40:80], strict=False)]
    docs = read(tmp_path, store, {"code": [*code, *code[:7]], "prose": [*prose_texts, *spliced, *code[3:9]]})
    corpus = curate(docs, Curate(steps=(*Curate().steps[:1], Overlap(n=8))), store=store)
    agree(corpus, docs, Split(), n=8)
    fates = {fate for one in corpus.ledger.fates.values() for fate, amount in one.items() if amount.documents}
    assert {"dropped: duplicate", "dropped: duplicate of code", "dropped: overlaps train"} < fates


@given(
    st.lists(st.lists(st.integers(0, 25), min_size=3, max_size=40), min_size=1, max_size=3),
    st.sampled_from([Split(), Split(0.3, 0.3, 1, 400), Split(0.1, 0.6, 2)]),
    st.integers(1, 9), st.integers(2, 30),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_parts_of_any_size_give_the_same_splits(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[int]], split: Split, chunk: int, part: int
) -> None:
    """Against one part that holds everything; texts are few, so that sources share them and hold them twice."""
    top = tmp_path_factory.mktemp("parts")
    tables: dict[str, Path] = {}
    for number, source in enumerate(texts):
        rows = [doc_row(f"{one} " * 9, source="", position=i, parent="") for i, one in enumerate(source)]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), top / f"{number}.parquet")
        tables[f"s{number}"] = top / f"{number}.parquet"

    def split_up(name: str) -> tuple[list[int], list[int], list[int]]:
        marks = MarkTable.read(top / name, tables, split)
        marks.columns["drop"][::5] = 1
        limited = limit_held_out(marks, split)
        counts = assign_splits(marks, split)
        found = (marks.columns["split"].tolist(), marks.columns["beyond"].tolist(), [*counts, limited])
        marks.close()
        return found

    whole = split_up("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mark_table, "CHUNK", chunk)
        patch.setattr(mark_table, "PART", part)
        assert split_up("parts") == whole


def test_memory_does_not_grow_with_the_number_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of marks and splits, by what Python and numpy hold at most; what is mapped is the kernel's to let go of."""
    monkeypatch.setattr(mark_table, "CHUNK", 1 << 10)
    monkeypatch.setattr(mark_table, "PART", 1 << 11)

    def most_held(num: int) -> int:
        path = tmp_path / f"{num}.parquet"
        ids = [doc_id(str(i % (num - 100))) for i in range(num)]
        zeros = pa.array(np.zeros(num, np.int64))
        texts = [field for field in SCHEMA if field.name not in ("parents", "position", "num_bytes")]
        columns = {field.name: pa.array([""] * num, field.type) for field in texts}
        columns |= {"id": pa.array(ids), "position": pa.array(np.arange(num)), "num_bytes": zeros}
        columns["parents"] = pa.array([[]] * num, pa.list_(pa.string()))
        pq.write_table(pa.table(columns, schema=SCHEMA), path, row_group_size=4096)
        del ids, columns
        tracemalloc.start()
        marks = MarkTable.read(tmp_path / f"marks {num}", {"a": path}, Split())
        assert assign_splits(marks, Split()) == [num - 100]
        limit_held_out(marks, Split(most=10))
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        marks.close()
        return held

    most_held(5_000)  # what is made once
    small, large = most_held(10_000), most_held(80_000)
    assert large < 1.2 * small, (small, large)


def test_ids_survive_their_halves() -> None:
    ids = [doc_id(str(i)) for i in range(500)]
    assert hexadecimal(halves(ids)) == ids
    order = np.lexsort((halves(ids)[:, 1], halves(ids)[:, 0]))
    assert [ids[place] for place in order] == sorted(ids)


def test_the_plan_runs_on_daft_too(tmp_path: Path) -> None:
    """What a step applies to texts travels to another engine and gives the same there; so a cluster can do it."""
    from graft.core.text.daft_frames import col, daft, parquet

    store, step = Store(tmp_path / "store"), Overlap(n=5)
    docs = read(
        tmp_path, store, {"domain": [prose(i) for i in range(300)], "general": [prose(i) for i in range(900, 909)]}
    )
    tables = {name: one / "docs.parquet" for name, one in docs.items()}
    marks = MarkTable.read(tmp_path / "marks", tables, Split())
    assign_splits(marks, Split())
    here = list(MarkedText(tables, marks).apply(step._grams, "all"))

    @daft.func.batch(return_dtype=daft.DataType.binary(), batch_size=64)
    def apply(row: daft.Series, text: daft.Series) -> list[bytes]:
        found = step._grams(np.array(row.to_pylist()), text.to_pylist())
        return [pickle.dumps(found)] + [b""] * (len(row.to_pylist()) - 1)

    there = []
    for name, path in tables.items():
        frame = parquet(path).with_column("row", col("position") + daft.lit(marks.rows(name).start))
        told = frame.select(apply(col("row"), col("text")).alias("found")).to_pydict()["found"]
        there += [pickle.loads(one) for one in told if one]
    for a, b in zip(*(map(np.concatenate, zip(*some, strict=True)) for some in (here, there)), strict=True):
        assert np.array_equal(a, b)


KILLER = """
import os, signal
from dataclasses import dataclass
from typing import ClassVar

from graft.data.steps.contract import Mark, Reason

seen = 0


@dataclass(frozen=True)
class Killer:
    "Drops texts that begin with a word, and may kill its process."

    reasons: ClassVar = (Reason("begins", "left out: it begins so"),)

    def mark(self, documents):
        global seen
        seen += 1
        if os.environ.get("KILL_AT") == str(seen):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Mark("begins" * one.text.startswith("w1"), notes={"n": len(one.text)}) for one in documents]
"""
RUN = """
import sys
from pathlib import Path
from graft.core.store.artifact import Store
from graft.data.curate import Curate, curate
from killer import Killer
store = Store(Path(sys.argv[1]))
docs = {one.facts["source"]: one for one in store.artifacts() if one.kind == "docs"}
curate(docs, Curate(steps=(Killer(), *Curate().steps)), store=store)
"""


@pytest.mark.processor_seconds(40)
def test_a_kill_in_the_middle_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "killer.py").write_text(KILLER)
    contents: list[dict[str, bytes]] = []
    for kill_at in ("2", ""):
        top = tmp_path / f"killed {kill_at}"
        store = Store(top / "store")
        read(top, store, {"domain": [prose(i) for i in range(2500)], "general": [prose(i) for i in range(9000, 9060)]})
        env = os.environ | {"PYTHONPATH": f"{tmp_path / 'code'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

        def run(env: dict[str, str], root: Path = store.root) -> int:
            return subprocess.run([sys.executable, "-c", RUN, str(root)], env=env, capture_output=True).returncode

        if kill_at:
            assert run(env | {"KILL_AT": kill_at}) == -signal.SIGKILL
            assert not [one for one in store.artifacts() if one.kind == "corpus"]
            assert list(store.root.rglob("marks.partial"))
        assert run(env) == 0
        [corpus] = [one for one in store.artifacts() if one.kind == "corpus"]
        corpus.ledger.check()
        assert not list(store.root.rglob("*.partial"))
        contents.append({path.name: path.read_bytes() for path in corpus.path.glob("*.parquet")})
    assert contents[0] == contents[1] and len(contents[0]) == 2
