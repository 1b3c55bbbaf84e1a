"""forecast: what a plan says before, between and after the work; how near it comes is measured in test_cli.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import OTHER, WORDS, write_texts
from graft.core.store.artifact import Store
from graft.core.text.split import Split
from graft.data.curate import Curate, curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.jobs.adapt import Adapt
from graft.jobs.pretrain import Pretrain
from graft.planning import text
from graft.planning.plan import forecast
from graft.planning.screen import show_forecast
from graft.surgery.initialize import Initialize
from graft.training.objectives.contract import Needs
from graft.training.objectives.stay_close import StayClose
from graft.training.settings import Train

TINY = Initialize(vocabulary=320, width=32, layers=2, heads=2, feed_forward=64, window=64)


@dataclass(frozen=True)
class Compare:
    """An objective of a user's own, which holds two frozen models beside the trained one."""

    def needs(self) -> Needs:
        return Needs(teachers=("", "embedded"))

    def bind(self, start, load): ...


@pytest.fixture
def job(world, tmp_path) -> Adapt:
    return Adapt(
        base=str(world.base.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        out=str(tmp_path / "out"),
        train=Train(tokens=1000, batch_size=4),
    )


def test_what_is_done_costs_no_more_time(world, job, tmp_path, capsys):
    """Stage after stage the plan gets shorter; evidence counts once per model that was not scored yet."""
    blind = forecast(job, Store(tmp_path / "empty"))
    assert set(blind.seconds) == {"docs", "corpus", "tokens", "train", "evidence"} and not blind.complete
    store = Store(tmp_path / "store")
    for name, paths in list(job.sources.items())[:1]:
        ingest(paths, name, job.ingest, store=store)
    begun = forecast(job, store)
    assert 0 < begun.seconds["docs"] < blind.seconds["docs"]  # one source of two
    seen: list[tuple[str, dict[str, float]]] = []

    def look(artifact, fresh):
        if fresh:
            seen.append((artifact.kind, forecast(job, Store(store.root)).seconds))

    job.make(replace(store, on_made=look))
    after = dict(seen[:-1])
    assert "docs" not in after["corpus"] and "tokens" in after["corpus"]
    evidence = [seconds.get("evidence", 0.0) for kind, seconds in seen if kind == "evidence"]
    assert evidence[0] > 0 and evidence[1] == 0.0
    assert "train" in seen[3][1] and "train" not in after["train"] and "evidence" in after["train"]
    done = forecast(job, store)
    assert done.complete and done.seconds == {} and len(done.done) == 9
    show_forecast(done)
    said = capsys.readouterr().out
    assert "nothing is left to do" in said and "time" not in said and "about" not in said
    show_forecast(blind)
    said = capsys.readouterr().out
    assert "nothing is left to do" not in said and "time      about" in said and "nothing yet" in said


def test_an_objective_says_how_many_models_it_holds(world, job, tmp_path):
    store = Store(tmp_path)
    memory = {
        name: forecast(replace(job, train=replace(job.train, objective=objective)), store).memory_bytes
        for name, objective in (
            ("plain", job.train.objective),
            ("kl_weight", StayClose(0.1)),
            ("no kl_weight", StayClose(0.0)),
            ("own", Compare()),
        )
    }
    weights = 4 * world.base.num_parameters
    assert memory["no kl_weight"] == memory["plain"]
    assert memory["kl_weight"] - memory["plain"] == pytest.approx(weights)
    assert memory["own"] - memory["plain"] == pytest.approx(2 * weights)


def test_held_out_text_is_foretold_up_to_its_limit(world, job, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "SMALL_BYTES", 0)  # so that nothing is counted
    free = forecast(job, Store(tmp_path)).sources["domain"]
    capped = replace(job, curate=Curate(split=Split(most=500)))
    small = forecast(capped, Store(tmp_path)).sources["domain"]
    per_byte = free.tokens / free.text_bytes
    assert small.splits["test"] == small.splits["validation"] == pytest.approx(500 * per_byte)
    assert sum(small.splits.values()) == pytest.approx(sum(free.splits.values()))
    assert small.splits["train"] > free.splits["train"]


def test_a_new_base_is_foretold(tmp_path, capsys):
    written = write_texts(tmp_path / "text", WORDS, 60, seed=3)
    words = write_texts(tmp_path / "words", OTHER, 60, seed=4)
    job = Pretrain(
        text=(str(written),), vocabulary_text=(str(words),), out=str(tmp_path / "out"), initialize=TINY,
        train=Train(tokens=64 * 4 * 3, batch_size=4, learning_rate=1e-3),
    )  # fmt: skip
    store = Store(tmp_path / "store")
    blind = forecast(job, store)
    assert blind.base == "new" and blind.num_parameters == TINY.num_parameters
    assert list(blind.sources) == ["general", "vocabulary"] and dict(blind.mixture) == {"general": 1.0}
    assert blind.shape.tokens == 64 * 4 * 3 and blind.shape.rate == 1e-3
    assert blind.sources["general"].exact and blind.sources["general"].documents == 60
    assert set(blind.seconds) == {"docs", "corpus", "tokens", "train"} and blind.memory_bytes > 0.6e9
    assert not Path(job.out).exists() and not list(store.root.glob("*-*"))
    job(store)
    known = forecast(job, store)
    assert known.complete and known.seconds == {} and known.sources["general"].exact
    assert known.shape == blind.shape
    assert blind.sources["general"].text_bytes == known.sources["general"].text_bytes
    show_forecast(known)
    assert "nothing is left to do" in capsys.readouterr().out


def test_both_answers_of_a_pair_are_foretold_where_both_are_stored(world, job, tmp_path):
    """Against what the run then counts; where only the better one is stored, the plan is half as long."""
    rows = [
        {"prompt": f"Question number {i}?", "chosen": f"{word} is right", "rejected": f"{word} is surely wrong"}
        for i, word in enumerate(WORDS * 10)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = replace(job, domain=(str(tmp_path / "pairs.jsonl"),), replay=0.0)
    both = replace(alone, tokenize=Tokenize(pairs=True))
    one, two = (forecast(each, Store(tmp_path / "store")).sources["domain"].tokens for each in (alone, both))
    assert 1.9 < two / one < 2.2
    docs = {name: ingest(paths, name, store=world.store) for name, paths in both.sources.items()}
    tokens = tokenize(curate(docs, store=world.store), world.base, both.tokenize, store=world.store)
    assert two == pytest.approx(tokens.ledger.read["domain"].tokens, rel=0.05)
