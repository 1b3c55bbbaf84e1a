"""Minutes in the place of tokens: the speed is measured, tokens follow, and the store remembers them."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from graft.budget.pilot_runs import Pilots
from graft.core.config.errors import UsageError
from graft.core.stats.evaluation_size import ScoringPlan
from graft.core.store.artifact import DryStore, NotMade, Store
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.jobs.continual import Continual
from graft.jobs.extend import Extend
from graft.training.measure_speed import LEAST_TOKENS, Speed, fitting_tokens
from graft.training.scored_text import Demand
from graft.training.settings import Train, TrainingShape
from graft.training.train import train


def shape(steps: int, rows: int = 4) -> TrainingShape:
    return TrainingShape(window=64, rows=rows, micro_rows=rows, steps=steps, scheduled=steps, rate=1e-3)


def test_a_step_takes_a_part_for_itself_and_one_for_every_row():
    speed = Speed({"": [(2, 0.3), (8, 0.9)]}, score=1000, opening=0, writing=0, spent=0)  # 0.1 + 0.1 a row
    assert speed.of_step("", 2) == pytest.approx(0.3) and speed.of_step("", 5) == pytest.approx(0.6)
    assert speed.of_step("", 80) == pytest.approx(8.1)
    single = Speed({"": [(4, 0.4)]}, score=1000, opening=0, writing=0, spent=0)
    assert single.of_step("", 8) == pytest.approx(0.8)
    noisy = Speed({"": [(2, 0.9), (8, 0.3)]}, score=1000, opening=0, writing=0, spent=0)
    assert noisy.of_step("", 80) > 0


def test_a_job_is_its_steps_its_scoring_and_its_models():
    speed = Speed({"a": [(4, 0.5)], "b": [(4, 2.0)]}, score=100, opening=3, writing=1, spent=0)
    demand = Demand({"a": [shape(10), shape(20)], "b": [shape(5)]}, {"test": ScoringPlan(2, 64, 64)})
    plain = speed.seconds(demand, scored=500)
    assert plain == pytest.approx(30 * 0.5 + 5 * 2 + 5 + (3 + 2) * 3 + 3 * 1 + 8)
    assert speed.seconds(demand, scored=1500) - plain == pytest.approx(10)


@given(rate=st.floats(1, 1e6), left=st.floats(0, 1e5), most=st.integers(1000, 10**9))
@budget(max_examples=200, deadline=None)
def test_the_tokens_fit_and_no_more_of_two_digits_would(rate, left, most):
    found = fitting_tokens(lambda tokens: tokens / rate, left, most)
    assert found is not None and found <= most
    if found / rate > left:  # the fewest take longer: a shorter training would teach nothing
        assert found == min(LEAST_TOKENS, most)
        return
    if found != most:
        assert len(str(found).rstrip("0")) <= 2
        assert found * 1.11 / rate > left or found * 1.11 > most


def test_where_no_number_of_tokens_makes_a_run_there_is_none():
    assert fitting_tokens(lambda tokens: float("inf"), 100.0, 10**6) is None
    assert fitting_tokens(lambda tokens: tokens if tokens > 50_000 else float("inf"), 1.0, 10**6) == 51_000


@pytest.fixture
def job(world, tmp_path) -> Adapt:
    training = Train(minutes=3.0, batch_size=4, precision="fp32")
    return Adapt(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),),
        out=str(tmp_path / "out"), train=training,
    )  # fmt: skip


def test_more_minutes_give_more_tokens_up_to_four_passes(job, world, tmp_path):
    """Of the time left when the text is ready; the measuring itself is real."""
    text = job.read(world.store)

    def settled(minutes: float, gone: float = 0.0) -> int:
        timed = replace(job, train=replace(job.train, minutes=minutes))
        training = timed.settled(text, world.store, time.monotonic() - 60 * gone)[0].train
        assert training.minutes is None and training.evaluations and training.validation_tokens
        return training.tokens

    longest = settled(300.0)
    assert longest == pytest.approx(
        4 * world.tokens.ledger.fates["domain"]["train"].tokens / (1 - job.replay), rel=0.01
    )
    assert settled(0.5) <= longest
    assert settled(30.0, gone=29.8) <= longest  # what was used up before counts
    late = [one for one in world.store.artifacts() if one.kind == "speed" and one.facts["spent"] > 60 * 29.8]
    assert len(late) == 1 and "ends in about" in late[0].facts["notes"][0]  # a third is kept for training


def test_a_second_run_finds_what_the_first_one_made(job, world):
    """Measured anew, it would have other tokens, and begin again."""
    limited = replace(job, train=replace(job.train, tokens=2000))
    seen: list[tuple[str, bool]] = []
    store = replace(world.store, on_made=lambda artifact, fresh: seen.append((artifact.name, fresh)))
    made = limited.make(store)
    assert any(name.startswith("speed-") and fresh for name, fresh in seen)
    trained = next(one for one in made if one.kind == "train")
    assert trained.facts["shape"]["steps"] * 4 * 64 <= 2000 + 4 * 64
    first = [name for name, _ in seen]
    seen.clear()
    limited.make(store)
    assert [name for name, _ in seen] == first and not any(fresh for _, fresh in seen)
    dry: list[str] = []
    limited.make(DryStore(world.store.root, on_made=lambda artifact, fresh: dry.append(artifact.name)))
    assert dry == first  # a plan finds them as well
    [speed] = [one for one in world.store.artifacts() if one.name == next(n for n in first if n.startswith("speed-"))]
    facts = speed.facts
    assert facts["tokens"] == 2000 and facts["training_tokens_per_second"][""] > 0
    assert facts["scoring_tokens_per_second"] > 0 and facts["seconds_foretold"] < 180
    with pytest.raises(NotMade):
        other = replace(limited, train=replace(limited.train, minutes=4.0))
        other.make(DryStore(world.store.root))


def test_too_few_minutes_get_the_shortest_training_and_say_how_long_it_takes(job, world, tmp_path):
    text = job.read(world.store)
    hurried = replace(job, train=replace(job.train, minutes=0.01))
    done, known = hurried.settled(text, world.store, time.monotonic())
    assert done.train.tokens == LEAST_TOKENS
    [speed] = known.speed
    assert "The least that is trained, 20,000 tokens, ends in about" in speed.facts["notes"][0]


def test_every_job_that_trains_takes_minutes(job, world, tmp_path):
    limited = replace(job.train, tokens=4000, minutes=60.0)
    grown = Extend(base=job.base, domain=job.domain, general=job.general, out=job.out, train=limited)
    assert grown.settled(world.base, world.tokens, world.store, time.monotonic())[0].train.tokens == 4000
    asked = Budget(adapt=replace(job, train=limited), pilots=Pilots(share=1.0, looks=2))
    done, sized, _ = asked.settled(asked.adapt.read(world.store), world.store, time.monotonic())
    assert done.adapt.train.tokens == 4000 and done.minutes is None and sized.tokens == pytest.approx(4000, rel=0.1)
    trained = train(world.base, world.tokens, job.mixture, replace(limited, tokens=2000), store=world.store)
    assert trained.manifest["settings"]["tokens"] == 2000 and trained.manifest["settings"]["minutes"] is None


def test_a_stream_measures_every_kind_of_training_it_has(job, world, tmp_path):
    from graft.continual.methods.lora import Lora
    from graft.continual.methods.naive import Naive

    stream = Continual(
        base=job.base, domains={"domain": job.domain[0], "general2": job.general[0]}, out=job.out,
        general=(str(world.domain),), methods=(Naive(), Lora()), train=replace(job.train, tokens=1500, minutes=60.0),
    )  # fmt: skip
    sizes = {"domain": 5000, "general2": 4000}
    assert set(stream.demand(world.base, sizes).shapes) == {"causal, full", "causal, lora"}
    assert stream.demand(world.base, sizes).trained == sum(
        one.tokens for shapes in stream.demand(world.base, sizes).shapes.values() for one in shapes
    )


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(UsageError, match="minutes is"):
        Train(minutes=minutes)


def test_where_it_is_written_down(job, world):
    limited = replace(job, train=replace(job.train, tokens=2000))
    made = limited.make(world.store)
    page = next(one for one in made if one.kind == "report")
    summary = json.loads((page / "summary.json").read_text())
    assert any("this machine trains" in note and "3 min" in note for note in summary["notes"])
    assert Store(world.store.root).get(next(one.name for one in made if one.kind == "speed")).kind == "speed"
