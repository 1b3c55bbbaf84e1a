"""What a job scores: in proportion to what it trains, within bounds, the same for all its models, and foretold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from graft.budget.pilot_runs import Pilots
from graft.core.records.evidence import read_evidence
from graft.core.stats.evaluation_size import (
    LOOK,
    SCORE_TO_TRAIN,
    STANDALONE,
    TEST,
    ScoringPlan,
    half_of_all,
    larger,
    narrower,
    num_looks,
    scored_tokens,
    settle,
)
from graft.data import user_notes as tell
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.jobs.continual import Continual
from graft.jobs.extend import Extend
from graft.training import scored_text as measured
from graft.training.settings import Train
from graft.training.train import train


def adapted(trained: float, looks: int | None = None) -> dict[str, int]:
    looks = looks or num_looks(trained, 2)
    return settle(trained, 2, {"test": ScoringPlan(2, *TEST), "look": ScoringPlan(looks + 1, *LOOK)})


def compute(trained: float, limits: dict[str, int]) -> float:
    """What scoring takes, in tokens trained on."""
    return SCORE_TO_TRAIN * 2 * (2 * limits["test"] + (num_looks(trained, 2) + 1) * limits["look"])


@given(trained=st.integers(1, 10**10))
@budget(max_examples=200, deadline=None)
def test_measuring_takes_at_most_the_training_s_compute_or_the_least_there_is(trained):
    limits = adapted(trained)
    least = compute(trained, {"test": TEST[0], "look": LOOK[0]})
    assert compute(trained, limits) <= max(trained, least)
    assert TEST[0] <= limits["test"] <= TEST[1] and LOOK[0] <= limits["look"] <= LOOK[1]
    assert all(limit & (limit - 1) == 0 for limit in limits.values())  # powers of two


@given(trained=st.integers(1, 10**9), more=st.integers(0, 10**9))
@budget(max_examples=100, deadline=None)
def test_a_longer_run_is_never_measured_on_less(trained, more):
    one, two = adapted(trained, looks=8), adapted(trained + more, looks=8)
    assert all(one[name] <= two[name] for name in one)


def test_sixty_thousand_tokens_are_not_measured_on_nine_times_as_many():
    """The run that this began with: 270,000 tokens scored before it and as many after."""
    limits = adapted(60_000)
    assert limits == {"test": 16_384, "look": 2_048}
    assert compute(60_000, limits) <= 60_000
    assert adapted(600_000)["test"] >= 131_072 and adapted(10**9) == {"test": TEST[1], "look": LOOK[1]}


def test_near_runs_share_what_was_scored():
    assert adapted(400_000) == adapted(410_000)


def test_what_the_user_gave_stays_and_the_rest_makes_room():
    given_ = {"test": ScoringPlan.of(2, 100_000, TEST), "look": ScoringPlan.of(9, None, LOOK)}
    limits = settle(200_000, 2, given_)
    assert limits["test"] == 100_000 and limits["look"] < adapted(200_000, looks=8)["look"] * 2
    assert settle(200_000, 2, {"test": ScoringPlan.of(2, 0, TEST)}) == {"test": 0}  # all of it


def test_a_short_run_is_looked_at_less_often():
    looks = [num_looks(trained, 2) for trained in (1, 10_000, 30_000, 100_000, 10**9)]
    assert looks == sorted(looks) and looks[0] == 1 and looks[-1] == 8 and len(set(looks)) > 2


def test_a_limit_scores_what_there_is():
    assert scored_tokens(100, [30.0, 500.0]) == 130 and scored_tokens(0, [30.0, 500.0]) == 530


def test_the_estimate_for_all_documents_is_what_all_documents_give():
    """Against the real thing: the interval of a mean over n draws from 6,400 normal changes, and over all of them."""
    draw = np.random.default_rng(0).normal(size=6400)
    halves = {n: 1.96 * draw[:n].std() / np.sqrt(n) for n in (400, 6400)}
    assert half_of_all(halves[400], 400, 6400) == pytest.approx(halves[6400], rel=0.08)
    words = larger("domain", (-0.048, -0.012), 40, 212)
    assert words and "±1.8 % from 40 of 212 documents" in words and "±0.78 %" in words and "estimated" in words
    assert larger("domain", (-0.048, -0.012), 212, 212) is None and larger("domain", None, 1, 212) is None
    many = narrower({"law": (25, 100), "code": (8, 8)})
    assert many and "law 25 of 100" in many and "0.5 times" in many and "code" not in many
    assert narrower({"law": (8, 8)}) is None


@pytest.fixture
def job(world, tmp_path) -> Adapt:
    return Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),),
        out=str(tmp_path / "out"), train=Train(tokens=2000, batch_size=4, precision="fp32"),
    )  # fmt: skip


def bounded(monkeypatch, test: tuple[int, int], look: tuple[int, int]) -> None:
    """Smaller bounds, so that a small text feels them."""
    for module in ("graft.jobs.adapt", "graft.jobs.extend", "graft.jobs.continual", "graft.jobs.budget"):
        monkeypatch.setattr(f"{module}.TEST", test)
    monkeypatch.setattr("graft.training.settings.LOOK", look)


def test_before_and_after_are_scored_on_the_same_documents(job, world, monkeypatch, capsys):
    bounded(monkeypatch, (128, 1 << 18), (64, 1 << 15))
    tell.tell.cache_clear()
    made = {}
    for artifact in replace(job, evaluate=Evaluate(split="train")).make(world.store):  # a split of many documents
        made.setdefault(artifact.kind, []).append(artifact)
    before, after = (read_evidence(one)["domain"] for one in made["evidence"])
    assert np.array_equal(before.position_D, after.position_D) and np.array_equal(before.bounds_E, after.bounds_E)
    settings = [one.manifest["settings"]["max_tokens"] for one in made["evidence"]]
    assert settings[0] == settings[1] and len(before.nats_N) <= settings[0] < TEST[0]
    [trained] = made["train"]
    assert trained.manifest["settings"]["validation_tokens"] >= 64
    assert trained.manifest["settings"]["evaluations"] in (1, 2, 4, 8)
    said = capsys.readouterr().err
    assert f"up to {settings[0]:,} tokens of train text per source, 2 times" in said and "training's compute" in said
    summary = json.loads((made["report"][0] / "summary.json").read_text())
    row = summary["domain"]
    assert row["documents"] < row["documents_of_split"] and row["half_width_of_all"] < row["half_width"]
    assert any("All of them would give about" in note for note in summary["notes"])


def test_training_alone_settles_its_looks_as_the_job_does(job, world):
    """So that the run of a job is found again from Python."""
    trained = next(one for one in job.make(world.store) if one.kind == "train")
    assert train(world.base, world.tokens, job.mixture, job.train, store=world.store).name == trained.name


def test_a_model_scored_by_itself_has_a_fixed_limit(world):
    found = evaluate(world.base, world.tokens, store=world.store)
    assert found.manifest["settings"]["max_tokens"] == STANDALONE
    assert evaluate(world.base, world.tokens, Evaluate(max_tokens=STANDALONE), store=world.store).name == found.name


def test_other_jobs_settle_once_as_well(job, world, tmp_path, monkeypatch):
    bounded(monkeypatch, (128, 1 << 18), (64, 1 << 15))
    seen: list[dict[str, int]] = []
    plain = measured.settle
    monkeypatch.setattr(measured, "settle", lambda *asked: seen.append(plain(*asked)) or seen[-1])
    grown = Extend(base=job.base, domain=job.domain, general=job.general, out=job.out, train=job.train)
    found, _ = grown.settled(world.base, world.tokens, world.store, 0.0)
    assert found.evaluate.max_tokens == seen[-1]["test"] and found.train.validation_tokens == seen[-1]["look"]
    stream = Continual(
        base=job.base, domains={"domain": job.domain[0], "other": job.general[0]}, general=job.general,
        out=job.out, train=replace(job.train, evaluations=1),
    )  # fmt: skip
    turns = replace(stream, domains={"domain": job.domain[0], "general2": job.general[0]}, order=())
    monkeypatch.setattr(type(turns), "turns", property(lambda self: ("domain",)))
    limits, _ = turns.settled(world.base, world.tokens, world.store, 0.0)
    assert limits.evaluate.max_tokens == seen[-1]["test"] and limits.train.validation_tokens == seen[-1]["look"]
    asked = Budget(adapt=replace(job, train=replace(job.train, tokens=4000)), pilots=Pilots(share=1.0, looks=2))
    text = asked.adapt.read(world.store)
    done, shape, _ = asked.settled(text, world.store, 0.0)
    assert done.pilots.validation_tokens == seen[-1]["pilot"] and done.walk_back.max_tokens == seen[-1]["line"]
    assert done.adapt.evaluate.max_tokens == seen[-1]["test"] and done.adapt.train.validation_tokens == seen[-1]["look"]
    short = done.pilots.settings(done.adapt.train, shape, done.pilots.objectives[0])
    assert short.validation_tokens == seen[-1]["pilot"]


@pytest.mark.parametrize("tokens", [0, -5])
def test_zero_is_all_and_less_is_refused(tokens):
    from graft.core.config.errors import UsageError

    if tokens:
        with pytest.raises(UsageError, match="max_tokens is -5"):
            Evaluate(max_tokens=tokens)
        with pytest.raises(UsageError, match="validation_tokens is -5"):
            Train(validation_tokens=tokens)
    else:
        assert Evaluate(max_tokens=tokens).max_tokens == 0
