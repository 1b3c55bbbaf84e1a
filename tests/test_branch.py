"""Decay now: a branch off a stored checkpoint goes on exactly where its trunk stood, and ends as a whole model."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fork_server import Popen
from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.training.decay_branch import DecayNow
from graft.training.schedules.constant import Constant
from graft.training.schedules.warm_stable_decay import WarmStableDecay
from graft.training.settings import Train
from graft.training.train import train

MIXTURE = {"domain": 0.75, "general": 0.25}
TRUNK = Train(
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=1e-3,
    precision="fp32",
    evaluations=3,
    keep_every=3,
    schedule=WarmStableDecay(warmup=0.1, decay=0.25, floor=0.1),
)


@pytest.fixture(scope="module")
def trunk(world, tmp_path_factory):
    """A run of 12 steps that decays over its last 3, with a checkpoint after every third; and its store."""
    store = Store(tmp_path_factory.mktemp("trunk"))
    return train(world.base, world.tokens, MIXTURE, TRUNK, store=store), store


def branch(world, store, **settings) -> object:
    return train(world.base, world.tokens, MIXTURE, replace(TRUNK, decay_now=DecayNow(**settings)), store=store)


def curve(artifact) -> list[dict]:
    return json.loads((artifact / "curve.json").read_text())


def weights(artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact / "model" / "model.safetensors")


def test_a_branch_that_decays_as_its_trunk_does_ends_as_it_to_the_bit(world, trunk):
    run, store = trunk
    assert run.facts["kept"] == [3, 6, 9, 12]
    same = branch(world, store, at=9, over=3, floor=0.1)
    assert same.name != run.name and same.manifest["inputs"]["trunk"] == run.name
    losses = [[entry.get("loss") for entry in curve(one)] for one in (run, same)]
    assert losses[0] == losses[1] and len(losses[0]) == 13  # the trunk's curve is part of the branch's
    ours, theirs = weights(same), weights(run)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_trunk_gives_models_for_several_budgets(world, trunk):
    run, store = trunk
    short = branch(world, store, at=6, over=2)
    assert short.facts["tokens"] != run.facts["tokens"]
    assert sum(short.facts["tokens"].values()) == 8 * 4 * 64
    rates = [entry["rate"] for entry in curve(short)[1:]]
    assert rates[:6] == [entry["rate"] for entry in curve(run)[1:7]]
    assert rates[6:] == pytest.approx([1e-3 * (1 - 0.9 / 3), 1e-3 * (1 - 0.9 * 2 / 3)])
    first = [entry["loss"] for entry in curve(short)[1:8]]
    assert first == [entry["loss"] for entry in curve(run)[1:8]]  # step 7 starts from the trunk's weights


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"over": 4, "floor": 0.2}, [0.84, 0.68, 0.52, 0.36]),
        ({"over": 4, "floor": 0.0, "form": "one_minus_sqrt"}, [1 - (k / 5) ** 0.5 for k in (1, 2, 3, 4)]),
        ({}, [1 - 0.9 * k / 5 for k in (1, 2, 3, 4)]),  # a quarter of the 16 steps before
    ],
)
def test_how_the_rate_falls_by_hand(settings, expected):
    decay = DecayNow(at=16, **settings)
    rates = decay.rates(lambda step: 2.0)
    assert decay.steps == 20
    assert [rates(step) for step in range(14, 21)] == pytest.approx(
        [2, 2, *(2 * one for one in expected), 2 * expected[-1]]
    )


def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(world, trunk):
    _, store = trunk
    with pytest.raises(UsageError, match=r"no checkpoint after step 7[\s\S]*3, 6, 9, 12[\s\S]*every 3 steps"):
        branch(world, store, at=7)
    with pytest.raises(UsageError, match=r"decay_now.at is 12, and the trunk has 12 steps"):
        branch(world, store, at=12)
    with pytest.raises(UsageError, match=r"no checkpoint after step 6[\s\S]*keep_every is 0"):
        train(world.base, world.tokens, MIXTURE, replace(TRUNK, keep_every=0, decay_now=DecayNow(at=6)), store=store)


def test_keeping_none_for_asking_too_rarely_is_noted(world, tmp_path):
    rare = replace(TRUNK, tokens=64 * 4 * 4, keep_every=5)
    run = train(world.base, world.tokens, MIXTURE, rare, store=Store(tmp_path))
    assert "train.keep_every is 5 and the run has 4 steps: no checkpoint stays" in run.facts["notes"]
    assert run.facts["kept"] == []


def test_another_length_is_another_run_and_not_the_old_one_rescaled(world, trunk):
    """What a shorter run has done is not taken up under a schedule that is laid over more steps."""
    run, store = trunk
    longer = train(world.base, world.tokens, MIXTURE, replace(TRUNK, tokens=64 * 4 * 16, keep_every=4), store=store)
    assert longer.name != run.name and len(curve(longer)) == 17
    rates = [[entry["rate"] for entry in curve(one)[1:]] for one in (run, longer)]
    assert rates[0][9:] == pytest.approx([7.75e-4, 5.5e-4, 3.25e-4])
    assert rates[1][9:] == pytest.approx([1e-3] * 3 + [8.2e-4, 6.4e-4, 4.6e-4, 2.8e-4])


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, "at is 0"), ({"at": 3, "over": 0}, "over is 0"), ({"at": 3, "floor": 1.0}, "floor is 1.0")],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(UsageError, match=words):
        DecayNow(**settings)


ENDLESS = """
import sys
from graft.core.store.artifact import Store
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact
from graft.training.schedules.constant import Constant
from graft.training.settings import Train
from graft.training.train import train
from pathlib import Path
base, tokens, store = sys.argv[1:]
settings = Train(tokens=64 * 4 * 20000, sequence_length=64, batch_size=4, micro_batch_size=4, learning_rate=1e-3,
                 precision="fp32", evaluations=1,
                 keep_every=3, schedule=Constant())
mixture = {"domain": 0.75, "general": 0.25}
train(Base("tiny", Path(base)), Artifact(Path(tokens)), mixture, settings, store=Store(Path(store)))
"""


def test_a_trunk_that_was_killed_can_still_be_decayed(world, forks, tmp_path):
    """Nobody has to wait for the end of a long run: what it has stored so far is enough."""
    store = Store(tmp_path)
    child = Popen([sys.executable, "-c", ENDLESS, world.base.folder, world.tokens.path, tmp_path])
    try:
        while child.poll() is None and not list(tmp_path.glob("drafts/train-*/checkpoints/step-00000003/facts.json")):
            time.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    long = replace(TRUNK, tokens=64 * 4 * 20000, schedule=Constant(), evaluations=1)
    made = train(world.base, world.tokens, MIXTURE, replace(long, decay_now=DecayNow(at=3, over=2)), store=store)
    assert len(curve(made)) == 6 and not list(tmp_path.glob("train-*/checkpoints/step-00000005.partial"))
