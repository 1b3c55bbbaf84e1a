"""Schedules: what the peers got wrong, and the values worked out by hand."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, class_name
from graft.training.schedules.constant import Constant
from graft.training.schedules.cosine import Cosine
from graft.training.schedules.infinite import Infinite
from graft.training.schedules.warm_stable_decay import WarmStableDecay
from graft.training.settings import Train, TrainingShape

EVERY = [
    getattr(importlib.import_module(f"graft.training.schedules.{name}"), class_name(name))
    for name in Shelf("schedules").names()
]


@pytest.mark.parametrize("kind", EVERY)
@given(steps=st.integers(1, 500), beyond=st.integers(0, 1000))
def test_factors_stay_in_range_and_never_vanish(kind, steps, beyond):
    schedule = kind()
    factors = [schedule(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)  # a first or last step at rate 0 would be wasted
    assert schedule(steps + beyond, steps) == factors[-1]  # past the end the rate stays, it neither dies nor restarts


def test_warm_stable_decay_by_hand():
    schedule = WarmStableDecay(warmup=0.2, decay=0.4, floor=0.2)
    assert [round(schedule(step, 10), 6) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 0.84, 0.68, 0.52, 0.36]


def test_constant_by_hand():
    assert [Constant(warmup=0.5)(step, 4) for step in range(4)] == [0.5, 1, 1, 1]
    assert Constant(warmup=0.0)(0, 4) == 1


def test_cosine_is_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.1)
    for step in range(40):
        assert Cosine(warmup=0.0, floor=0.1)(step, 40) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("kind", EVERY)
def test_every_setting_changes_the_curve(kind):
    plain = [kind()(step, 100) for step in range(100)]
    for name in kind.__dataclass_fields__:
        assert [kind(**{name: 0.5})(step, 100) for step in range(100)] != plain, name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WarmStableDecay(warmup=0.7, decay=0.7), "sum to at most 1"),
        (lambda: WarmStableDecay(floor=1.5), "floor is 1.5"),
        (lambda: Cosine(warmup=1.0), "warmup is 1.0"),
        (lambda: Cosine(floor=-0.1), "floor is -0.1"),
        (lambda: Constant(warmup=-0.1), "warmup is -0.1"),
        (lambda: Infinite(cooldown=0.9, anneal=0.9), "cooldown 0.9 and anneal 0.9"),
        (lambda: Infinite(constant=0.1, floor=0.2), "floor 0.2"),
    ],
)
def test_bad_settings_are_named(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_infinite_by_hand():
    """Two steps up, four down by half a cosine from 1 to 0.5, two kept, two annealed from 0.5 towards 0.125."""
    schedule = Infinite(warmup=0.2, cooldown=0.4, constant=0.5, anneal=0.2, floor=0.125)
    annealed = 0.5 * 0.25 ** (1 / 3), 0.5 * 0.25 ** (2 / 3)
    expected = [0.5, 1, 1, 0.5 + 0.25 * (1 + 2**-0.5), 0.75, 0.5 + 0.25 * (1 - 2**-0.5), 0.5, 0.5, *annealed]
    assert [schedule(step, 10) for step in range(10)] == pytest.approx(expected)
    endless = Infinite(warmup=0.0, cooldown=0.0, constant=0.5, anneal=0.0)
    assert [endless(step, 10) for step in (0, 5, 9, 500)] == [0.5] * 4


def test_a_warm_up_climbs_from_the_rate_the_base_stopped_at():
    shape = TrainingShape(window=8, rows=1, micro_rows=1, steps=10, scheduled=10, rate=1.0, warm_from=0.2)
    rates = [shape.rates(WarmStableDecay(warmup=0.4, decay=0.2, floor=0.0))(step) for step in range(10)]
    assert rates == pytest.approx([0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])
    from_nothing = replace(shape, warm_from=0.0).rates(WarmStableDecay(warmup=0.4))
    assert [from_nothing(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])


def test_the_rate_the_base_stopped_at_is_read_from_its_notes():
    @dataclass(frozen=True)
    class Noted:
        window: int = 64
        num_parameters: int = 1000
        training_notes: dict = field(default_factory=lambda: {"peak_lr": 2e-3, "final_lr": 2e-4})

    assert Train().shape(Noted(), 10_000, 1.0).warm_from == 2e-4
    assert Train(warm_from=0.0).shape(Noted(), 10_000, 1.0).warm_from == 0.0
    assert Train().shape(Noted(training_notes={}), 10_000, 1.0).warm_from == 0.0
    assert Train(learning_rate=1e-5).shape(Noted(), 10_000, 1.0).warm_from == 1e-5  # no warm-up that falls
    with pytest.raises(UsageError, match="warm_from is -1"):
        Train(warm_from=-1)
