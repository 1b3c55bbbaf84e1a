"""Of much general text a part is read: enough, spread over all of it, the same every time, and counted."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import OTHER, write_texts
from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.core.text.split import Split
from graft.data.curate import Curate
from graft.data.ingest import ingest
from graft.jobs.adapt import Adapt
from graft.jobs.continual import Continual
from graft.jobs.extend import Extend
from graft.planning.plan import forecast
from graft.readers.file_record import SAMPLED_OUT, Fields
from graft.readers.folder import listing
from graft.readers.part import SourcePart
from graft.training.general_text_needed import part_for
from graft.training.settings import Train

SPLIT = Split()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return write_texts(tmp_path_factory.mktemp("many") / "text", OTHER, 800, seed=11)


def rows_file(path: Path, count: int) -> Path:
    lines = [json.dumps({"text": f"row number {i} of a long file " * 6}) + "\n" for i in range(1, count + 1)]
    data = "".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def kept(docs) -> list[dict]:
    return [row for row in pq.read_table(docs / "docs.parquet").to_pylist() if not row["dropped"]]


def test_of_many_files_some_are_read_and_the_rest_is_counted(many, tmp_path):
    store = Store(tmp_path)
    sizes = {path.name: path.stat().st_size for path in many.iterdir()}
    docs = ingest([str(many)], "general", part=SourcePart(100_000, 40), store=store)
    taken = kept(docs)
    assert 100_000 <= sum(row["num_bytes"] for row in taken) < 130_000
    fates = docs.ledger.fates["general"]
    assert set(fates) == {"kept", SAMPLED_OUT}
    assert docs.ledger.read["general"].documents == len(sizes) and docs.ledger.read["general"].bytes == sum(
        sizes.values()
    )
    assert fates[SAMPLED_OUT].documents == len(sizes) - len(taken) == docs.facts["part"]["files_left"]
    assert any("general_tokens" in note and "not read" in note for note in docs.facts["notes"])
    names = sorted(row["parents"][0] for row in taken)
    places = np.array([sorted(sizes).index(name) for name in names]) / len(sizes)
    assert np.abs(np.quantile(places, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.2  # all over the folder


def test_the_seed_decides_and_nothing_else(many, tmp_path):
    one, again = (
        ingest([str(many)], "general", part=SourcePart(100_000, 40), store=Store(tmp_path / side)) for side in "ab"
    )
    assert one.name == again.name
    other = ingest([str(many)], "general", part=SourcePart(100_000, 40, seed=1), store=Store(tmp_path / "a"))
    assert {row["id"] for row in kept(one)} != {row["id"] for row in kept(other)}
    whole = ingest([str(many)], "general", store=Store(tmp_path / "a"))
    assert len(kept(whole)) == 800 and whole.name != one.name
    enough = ingest([str(many)], "general", part=SourcePart(10_000_000, 40), store=Store(tmp_path / "a"))
    assert enough.name == whole.name  # where all of it is wanted, nothing is drawn


def test_files_that_are_not_read_are_not_opened(many, tmp_path, monkeypatch):
    """Neither for their text nor for their fingerprint, which on a large folder takes as long."""
    opened: set[str] = set()
    plain = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *asked, **how: (opened.add(self.name), plain(self, *asked, **how))[1]
    )
    docs = ingest([str(many)], "general", part=SourcePart(100_000, 40), store=Store(tmp_path))
    texts = {name for name in opened if name.endswith(".txt")}
    assert texts == {row["parents"][0] for row in kept(docs)} and len(texts) < 200


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_of_one_large_file_rows_all_over_it_are_taken(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".parquet"):
        texts = [f"row number {i} of a long file " * 6 for i in range(1, 4001)]
        pq.write_table(pa.table({"text": texts}), path, row_group_size=700)
    else:
        rows_file(path, 4000)
    docs = ingest([str(path)], "general", part=SourcePart(20_000, 10), store=Store(tmp_path / "store"))
    taken = kept(docs)
    numbers = [int(row["parents"][0].rpartition("#")[2]) for row in taken]
    assert all(f"row number {number} of" in row["text"] for number, row in zip(numbers, taken, strict=True))
    assert 20 < len(taken) < 2000 and len(set(np.diff(numbers))) == 1  # every so many-th
    assert numbers[0] < 200 and numbers[-1] > 3800
    [rest] = [row for row in pq.read_table(docs / "docs.parquet").to_pylist() if row["dropped"]]
    assert rest["dropped"] == SAMPLED_OUT and rest["num_bytes"] > 0
    docs.ledger.check()


def test_long_documents_are_read_in_larger_parts_so_that_enough_can_be_tested_on(tmp_path):
    rows = [json.dumps({"text": f"{i} " + "long document " * 500}) + "\n" for i in range(2000)]
    (tmp_path / "long.jsonl").write_text("".join(rows))
    found = listing(tmp_path / "long.jsonl")
    short, many = (SourcePart(200_000, documents).of(found, Fields()) for documents in (5, 200))
    assert short and many
    assert many[0].files[0].every < short[0].files[0].every
    taken = ingest(
        [str(tmp_path / "long.jsonl")], "general", part=SourcePart(200_000, 200), store=Store(tmp_path / "s")
    )
    assert 190 <= len(kept(taken)) <= 260


def test_what_is_needed_follows_from_what_is_trained():
    near, far = part_for("auto", 400_000, 40_000, SPLIT), part_for("auto", 410_000, 41_000, SPLIT)
    assert near == far and near and near.num_bytes & (near.num_bytes - 1) == 0
    more = part_for("auto", 40_000_000, 20_000_000, SPLIT)
    assert more and more.num_bytes > 20_000_000 * 4
    assert part_for("all", 400_000, 40_000, SPLIT) is None
    own = part_for(1_000_000, 400_000, 40_000, SPLIT)
    assert own and own.num_bytes == 1 << 23 and own.documents == 640


@pytest.fixture
def job(world, many, tmp_path) -> Adapt:
    return Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(many),), general_tokens=20_000,
        out=str(tmp_path / "out"), train=Train(tokens=2000, batch_size=4, precision="fp32"),
        curate=Curate(split=Split(test=0.2)),
    )  # fmt: skip


def test_an_adaptation_reads_a_part_and_says_so(job, tmp_path):
    store = Store(tmp_path / "store")
    made = job.make(store)
    docs = [one for one in made if one.kind == "docs"]
    assert "part" not in docs[0].facts and docs[1].facts["part"]["files_left"] > 300
    tokens = next(one for one in made if one.kind == "tokens")
    assert SAMPLED_OUT in tokens.ledger.fates["general"]
    summary = json.loads((made[-1] / "summary.json").read_text())
    assert any("text is a part, drawn by a seed" in note for note in summary["notes"])
    planned = forecast(job, Store(tmp_path / "other"))
    assert planned.sources["general"].splits == forecast(job, store).sources["general"].splits


def test_all_of_it_where_that_is_wanted(job, tmp_path):
    text = replace(job, general_tokens="all").read(Store(tmp_path / "store"))
    assert (
        text.corpus.ledger.read["general"].documents == 800 and SAMPLED_OUT not in text.corpus.ledger.fates["general"]
    )


def test_a_plan_of_large_text_is_of_the_part_that_is_read(job, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.planning.text.SMALL_BYTES", 0)
    planned = forecast(job, Store(tmp_path / "store")).sources["general"]
    text = job.read(Store(tmp_path / "store"))
    kept_there = text.docs["general"].ledger.fates["general"]["kept"]
    assert planned.needed < 0.5
    assert planned.text_bytes == pytest.approx(kept_there.bytes, rel=0.2)
    assert planned.documents == pytest.approx(kept_there.documents, rel=0.2)


@pytest.mark.parametrize("kind", [Adapt, Extend, Continual])
def test_a_number_that_is_none_is_refused(kind, tmp_path):
    more = {"domains": {"one": "a", "two": "b"}} if kind is Continual else {}
    with pytest.raises(UsageError, match="general_tokens is 0"):
        kind(general_tokens=0, **more)
