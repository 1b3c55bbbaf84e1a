"""A plan counts what is small, never denies a loss it did not look for, and warns of what makes a run say little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conftest import OTHER, WORDS, write_texts
from graft.cli.app import app
from graft.core.config.settings import to_json
from graft.core.store.artifact import Store
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.steps.contract import Sample
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.jobs.adapt import Adapt
from graft.jobs.continual import Continual
from graft.planning import text
from graft.planning.plan import forecast
from graft.planning.screen import show_forecast
from graft.training.settings import Train


@pytest.fixture
def halved(tmp_path) -> Path:
    """A folder of which half are copies, one file is empty, and two are of kinds that nothing reads."""
    folder = write_texts(tmp_path / "halved", WORDS, 60, seed=5)
    for path in sorted(folder.glob("*.txt")):
        (folder / f"{path.stem}_copy.txt").write_text(path.read_text())
    (folder / "nothing.txt").write_text("")
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4")
    (folder / "sheet.xyz").write_bytes(b"PK")
    return folder


@pytest.fixture
def job(world, halved, tmp_path) -> Adapt:
    return Adapt(
        base=str(world.base.folder), domain=(str(halved),), general=(str(world.general),),
        out=str(tmp_path / "out"), train=Train(tokens=20_000, batch_size=4),
    )  # fmt: skip


def test_a_small_folder_is_counted_exactly_and_nothing_is_written(job, tmp_path, capsys):
    store = Store(tmp_path / "store")
    planned = forecast(job, store)
    domain = planned.sources["domain"]
    assert domain.exact and not list(store.root.glob("*-*"))
    text_read = job.read(store)
    ledger = text_read.tokens.ledger
    assert domain.documents == ledger.read["domain"].documents == 123
    assert domain.tokens == ledger.read["domain"].tokens
    fates = ledger.fates["domain"]
    assert domain.dropped == {fate: fates[fate].documents for fate in fates if fate.startswith("dropped")}
    assert domain.dropped["dropped: duplicate"] == 60 and domain.dropped["dropped: empty"] == 1
    assert domain.splits == {split: fates[split].tokens for split in ("train", "validation", "test")}
    show_forecast(planned)
    said = capsys.readouterr().out
    assert "60 dropped: duplicate" in said and "1 dropped: unread kind: .pdf" in said.replace("\n", " ")
    assert "domain: nothing to drop" not in said and "51% of its documents are not used" in said.replace("\n", " ")
    known = forecast(job, store)  # now by the artifacts that are there
    assert known.sources["domain"].splits == domain.splits and known.sources["domain"].dropped == domain.dropped


def test_a_large_folder_is_not_said_to_be_without_loss(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text, "SMALL_BYTES", 0)
    planned = forecast(job, Store(tmp_path / "store"))
    domain = planned.sources["domain"]
    assert not domain.exact and domain.dropped["dropped: duplicate"] == pytest.approx(60, abs=6)
    show_forecast(planned)
    said = capsys.readouterr().out
    assert "nothing to drop" not in said, said
    assert "found while running" in " ".join(said.split())


def test_copies_of_files_are_seen_though_hardly_anything_was_read(tmp_path):
    folder = write_texts(tmp_path / "many", OTHER, 200, seed=6)
    for path in sorted(folder.glob("*.txt")):
        (folder / f"z{path.stem}.txt").write_text(path.read_text())
    assert text._copies([str(folder)], 400) == pytest.approx(0.5, abs=0.1)
    plain = write_texts(tmp_path / "plain", OTHER, 200, seed=7)
    assert text._copies([str(plain)], 200) == 0  # of one size by chance


def test_repetitions_in_a_part_stand_for_more_in_the_whole():
    ids = [str(i % 95) for i in range(100)]  # 5 of 100 repeat one that was seen
    assert ExactDuplicates().expect(Sample(ids, 1.0, 0.0)) == {"duplicate": pytest.approx(0.05)}
    assert ExactDuplicates().expect(Sample(ids, 0.1, 0.0)) == {"duplicate": pytest.approx(0.5)}
    assert ExactDuplicates().expect(Sample(ids, 1.0, 0.7)) == {"duplicate": 0.7}
    assert not ExactDuplicates().expect(Sample(ids[:90], 1.0, 0.0)) and not ExactDuplicates().expect(Sample([], 1, 0))


def test_few_test_documents_and_many_passes_are_warned_of(job, world, tmp_path):
    few = forecast(job, Store(tmp_path / "store"))
    tested = f"{few.tested['domain'][0]:.0f} documents"
    assert any(words.startswith(f"domain is tested on {tested}") for words in few.warnings)
    assert any(words.startswith("domain is read ") and "passes" in words for words in forecast(
        replace(job, train=replace(job.train, tokens=400_000)), Store(tmp_path / "store")
    ).warnings)  # fmt: skip
    many = write_texts(tmp_path / "many", WORDS, 900, seed=8)
    enough = forecast(replace(job, domain=(str(many),)), Store(tmp_path / "store"))
    assert 20 < enough.tested["domain"][0] < 90 and not any("domain is" in words for words in enough.warnings)


def test_a_corpus_without_tokens_is_used(job, world, tmp_path):
    store = Store(tmp_path / "store")
    docs = {name: ingest(paths, name, job.ingest, store=store) for name, paths in job.sources.items()}
    corpus = curate(docs, job.curate, store=store)
    planned = forecast(job, store)
    fates = corpus.ledger.fates["domain"]
    assert (
        planned.sources["domain"].exact and planned.sources["domain"].split_documents["test"] == fates["test"].documents
    )


def test_what_is_scored_is_what_a_run_then_scores(job, world, tmp_path, capsys):
    store = Store(tmp_path / "store")
    planned = forecast(job, store)
    settled, _ = job.settled(job.read(store), store, 0.0)
    assert planned.limits["test"] == settled.evaluate.max_tokens
    assert planned.limits["look"] == settled.train.validation_tokens
    domain = planned.sources["domain"]
    assert planned.tested["domain"] == (domain.split_documents["test"], domain.splits["test"])
    show_forecast(planned)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"scoring 2 models on test text: domain {planned.tested['domain'][0]:.0f} documents" in said
        and "of the training's compute" in said
    )


def test_plan_of_a_command_is_the_plan_of_its_recipe(job, tmp_path, monkeypatch):
    """In 200 columns, so that lines are not cut where names are."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("graft.planning.plan.train_flops", lambda store, precision: 1e10)
    recipe = tmp_path / "recipe.yaml"
    settings = to_json(replace(job, train=replace(job.train, batch_size=None)))
    recipe.write_text(yaml.safe_dump({"adapt": settings}))
    store = str(tmp_path / "store")
    asked = ["adapt", job.base, "--domain", job.domain[0], "--general", job.general[0], "--tokens", "20k", "--plan"]
    said = [CliRunner().invoke(app, [*one, "--store", store]) for one in (asked, ["plan", str(recipe)])]
    assert [one.exit_code for one in said] == [0, 0], said
    assert said[0].stdout == said[1].stdout and "training  Causal" in said[0].stdout
    assert not Path(job.out).exists() and not list(Path(store).glob("*-*"))


def test_a_plan_for_minutes_has_more_tokens_for_more_of_them(job, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.planning.plan.train_flops", lambda store, precision: 1.5e8)
    timed = replace(job, train=Train(batch_size=4))
    short, long = (
        forecast(replace(timed, train=replace(timed.train, minutes=minutes)), Store(tmp_path / "store"))
        for minutes in (1.0, 2.0)
    )
    assert 1.5 < long.shape.tokens / short.shape.tokens < 4 and short.minutes == 1.0 and not short.measured
    assert 20 < sum(short.seconds.values()) < 60


def test_streams_are_counted_and_measured_too(job, world, tmp_path):
    stream = Continual(
        base=job.base, domains={"one": job.domain[0], "two": str(world.domain)}, general=job.general,
        out=job.out, train=Train(tokens=2000, batch_size=4, evaluations=1),
    )  # fmt: skip
    planned = forecast(stream, Store(tmp_path / "store"))
    assert all(source.exact for source in planned.sources.values())
    assert set(planned.tested) == {"one", "two", "general"} and planned.measuring_share > 0
    json.dumps(planned.limits)
