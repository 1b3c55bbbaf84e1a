"""Range test: the rates it tries, what it reads off them by hand, and that a run takes the rate it found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Store
from graft.training.lr_range import Point, RangeTest
from graft.training.schedules.constant import Constant
from graft.training.settings import Train
from graft.training.train import train

MIXTURE = {"domain": 0.75, "general": 0.25}
TESTED = Train(
    tokens=64 * 4 * 6,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    precision="fp32",
    evaluations=1,
    validation_tokens=500,
    range_test=RangeTest(steps=12, low=1e-4, high=3.0),
)


def points(gains: list[float], *, rate: float = 1.0) -> list[Point]:
    """One step per gain, at rates that double; the model's loss is the base's less the gain."""
    return [
        Point(rate * 2**k, {"domain": Tally(50.0, 10.0)}, {"domain": Tally(50.0 - 10 * gain, 10.0)})
        for k, gain in enumerate(gains)
    ]


def test_rates_rise_geometrically_between_what_is_known():
    assert RangeTest(steps=5, low=1.0, high=16.0).rates(0.5, 3.0) == pytest.approx([1, 2, 4, 8, 16])
    known = RangeTest(steps=7).rates(1e-4, 1e-3)
    assert (known[0], known[-1]) == pytest.approx((1e-4, 1e-2))
    unknown = RangeTest(steps=7).rates(0.0, 1e-3)
    assert (unknown[0], unknown[-1]) == pytest.approx((1e-4, 1e-2))


def test_the_peak_is_the_best_rate_by_the_margin():
    alone = RangeTest(steps=7, smoothing=0.01, margin=2.0)
    picked = alone.pick(points([0.1, 0.2, 0.5, 0.9, 0.6, 0.2, -3.0]), {"domain": 1.0})
    assert (picked.top, picked.rate, picked.notes) == (8.0, 4.0, [])
    assert replace(alone, margin=4.0).pick(points([0.1, 0.9, 0.6, 0, 0, 0, 0]), {"domain": 1.0}).rate == 0.5


def test_smoothing_does_not_fall_for_one_easy_batch():
    gains = [0.1, 0.2, 2.0, 0.2, 0.8, 0.9, 0.8, 0.1, 0.0, 0.0]
    assert RangeTest(steps=10, smoothing=0.01).pick(points(gains), {"domain": 1.0}).top == 4.0
    smooth = RangeTest(steps=10, smoothing=0.4).pick(points(gains), {"domain": 1.0})
    assert smooth.top == 8.0 and smooth.gains[3] == pytest.approx((2.0 + 0.2 + 0.8) / 3)


def test_sources_count_by_their_share_not_by_their_rows():
    """The base loses 1 nat on general text; one step happens to hold none of it, and is no better for that."""
    domain = {"domain": Tally(40.0, 10.0)}
    mixed = Point(
        1.0, {"domain": Tally(50.0, 10.0), "general": Tally(30.0, 10.0)}, domain | {"general": Tally(40.0, 10.0)}
    )
    lucky = Point(2.0, {"domain": Tally(50.0, 10.0)}, domain)
    [gain] = set(RangeTest(smoothing=1.0).pick([mixed, lucky], MIXTURE).gains)
    assert gain == pytest.approx(0.75 * 1 + 0.25 * -1)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], "still fell at the highest rate, 16"),
        ([0.5, 0.4, 0.3, 0.2, 0.1], "the lowest rate, 1, was the best already"),
        ([-0.5, -0.4, -0.6, -0.7, -0.8], "no rate made the loss fall"),
    ],
)
def test_what_the_test_could_not_see_is_said(gains, words):
    [note] = RangeTest(steps=5, smoothing=0.01).pick(points(gains), {"domain": 1.0}).notes
    assert words in note


def test_a_run_takes_the_rate_that_was_found(world, tmp_path):
    """Real steps to a rate far too high: the peak lies between, the artifact has every point, and is made once."""
    made: list[str] = []
    store = Store(tmp_path, on_made=lambda artifact, fresh: made.append(f"{artifact.kind} {fresh}"))
    run = train(world.base, world.tokens, MIXTURE, TESTED, store=store)
    tested = store.get(str(run.manifest["inputs"]["range test"]))
    rate = tested.facts["rate"]
    assert run.facts["shape"]["rate"] == rate == tested.facts["top"] / 2
    assert 1e-4 < tested.facts["top"] < 1.0
    tried = tested.facts["points"]
    assert len(tried) == 12 and tried[-1]["rate"] == pytest.approx(3.0)
    assert tried[-1]["gain"] < tried[0]["gain"]
    assert sorted(tried[0]["base"]) == ["domain", "general"]
    totals = [tried[0][of]["domain"][0] / tried[0][of]["domain"][1] for of in ("base", "model")]
    assert totals[0] != totals[1] and totals == pytest.approx([totals[0]] * 2, rel=0.01)  # after one low step
    fixed = train(world.base, world.tokens, MIXTURE, replace(TESTED, range_test=None, learning_rate=rate), store=store)
    assert (run / "curve.json").read_text() == (fixed / "curve.json").read_text()
    train(world.base, world.tokens, MIXTURE, replace(TESTED, schedule=Constant(), tokens=64 * 4 * 4), store=store)
    assert made == ["range-test True", "train True", "train True", "range-test False", "train True"]


def test_a_base_with_dropout_is_tested_alike_every_time(world, tmp_path):
    """Whatever the global generator stands at; and it stands there afterwards. Base and step draw the same masks."""
    folder = tmp_path / "dropping"
    shutil.copytree(world.base.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    still = replace(TESTED, range_test=RangeTest(steps=5, low=1e-12, high=2e-12))

    def tested(base: Base, place: str, begin: int) -> list[dict]:
        torch.manual_seed(begin)
        store = Store(tmp_path / place)
        run = train(base, world.tokens, MIXTURE, still, store=store)
        return store.get(str(run.manifest["inputs"]["range test"])).facts["points"]

    once, again = (tested(Base("dropping", folder), f"store {begin}", begin) for begin in (1, 2))
    assert once == again
    assert once[0]["base"] != tested(world.base, "plain", 1)[0]["base"]  # dropout does something here
    for point in once:  # nothing was learned at these rates, so what differs would be masks
        for source, (total, _) in point["base"].items():
            assert point["model"][source][0] == pytest.approx(total, rel=1e-6)


def test_a_loss_that_is_no_number_ends_the_test_early(world, tmp_path):
    wild = replace(TESTED, range_test=RangeTest(steps=8, low=1e-3, high=1e30), clip=0.0)
    run = train(world.base, world.tokens, MIXTURE, wild, store=Store(tmp_path))
    tested = Store(tmp_path).get(str(run.manifest["inputs"]["range test"]))
    assert len(tested.facts["points"]) < 8 and "loss not finite" in tested.facts["ended"]
    assert tested.facts["rate"] < 1.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RangeTest(steps=4), "steps is 4"),
        (lambda: RangeTest(low=0.0), "low is 0"),
        (lambda: RangeTest(low=1e-2, high=1e-3), "low is 0.01 and high 0.001"),
        (lambda: RangeTest(smoothing=0.0), "smoothing is 0"),
        (lambda: RangeTest(margin=0.5), "margin is 0.5"),
        (lambda: Train(learning_rate=1e-3, range_test=RangeTest()), "rate is 0.001, and range_test is to find one"),
    ],
)
def test_bad_settings_are_named(make, words):
    with pytest.raises(UsageError, match=words):
        make()
