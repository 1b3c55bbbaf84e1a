"""Anchors: the penalty is its formula, importance is the Fisher information, and a run of runs hands it on."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Store
from graft.data.tokenize import sources
from graft.models.edit.fisher import Anchored, Anchors, drawn, fisher
from graft.models.files.weights import open_model
from graft.packing.sampler import Sampler, rows_of
from graft.training.loop import Pace, run
from graft.training.objectives.anchor import Anchor
from graft.training.objectives.causal import Causal
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train
from graft.training.tunings.block_expansion import BlockExpansion
from graft.training.tunings.freeze import Freeze
from graft.training.tunings.ia3 import Ia3
from graft.training.tunings.lora import Lora
from graft.training.tunings.new_rows import NewRows

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    tokens=64 * 4 * 6,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=2,
    learning_rate=1e-3,
    precision="fp32",
    evaluations=1,
)
QUICK = Anchor(penalty_weight=100.0, fisher_rows=4)
IMPORTANCE = "importance.safetensors"


@pytest.fixture(scope="module")
def moved(world):
    """The tiny model a few steps from its start."""
    return loop(world, Causal(), steps=4)[0]


def loop(world, objective, *, micro_rows=4, steps=3):
    model = open_model(world.base.folder, "fp32")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0)
    optimizer = adamw(model, rate=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    pace = Pace(rate=lambda step: 3e-3, micro_rows=micro_rows, clip=1.0, seed=0)
    return model, list(run(model, world.bind(objective), sampler, optimizer, pace, 0, steps))


def batch_of(world, k=7):
    return Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0).batch(k)


def general_rows(world, count):
    return rows_of(sources(world.tokens)["general"], range(count), source=1, window=64, seed=0)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.hf.parameters(), b.hf.parameters(), strict=True))


class Two:
    """Two weights and nothing of a model around them."""

    def __init__(self, first: float, second: float) -> None:
        self.hf = torch.nn.Module()
        self.hf.a = torch.nn.Parameter(torch.tensor([first]))
        self.hf.b = torch.nn.Parameter(torch.tensor([second]))


def test_two_weights_by_hand():
    """0.5 / 2 * (2 * (3 - 1)^2 + 4 * (1 - 2)^2) = 3; gradients 0.5 * 2 * 2 = 2 and 0.5 * 4 * -1 = -2."""
    model = Two(3.0, 1.0)
    stars = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    importance = {"a": torch.tensor([2.0]), "b": torch.tensor([4.0])}
    anchors = Anchors(stars, importance, 0.5)
    loss = Anchored(lambda *_: Tally(torch.tensor([10.0, 0.0]), torch.tensor([5.0, 3.0])), anchors)
    tally = loss(model, None)  # type: ignore[arg-type]
    assert tally.total.tolist() == [10.0 + 3 * 5, 3 * 3] and tally.count.tolist() == [5.0, 3.0]
    tally.total.sum().backward()
    assert model.hf.a.grad.tolist() == [2.0 * 8] and model.hf.b.grad.tolist() == [-2.0 * 8]
    plain = Anchors(stars, None, 0.5).penalty(model)  # type: ignore[arg-type]
    assert float(plain.detach()) == 0.25 * (4 + 1)


@pytest.mark.parametrize("form", ["l2", "ewc"])
def test_the_loss_is_its_formula(world, moved, form):
    """Golden: autograd of the formula in plain torch, on a model that has left its start."""
    batch, start = batch_of(world), open_model(world.base.folder, "fp32", frozen=True)
    loss, plain = world.bind(replace(QUICK, form=form)), world.bind(Causal())
    tally, bare = loss(moved, batch), plain(moved, batch)
    stars = dict(start.hf.named_parameters())
    weight_of = {name: torch.ones_like(star) for name, star in stars.items()}
    if form == "ewc":
        weight_of = fisher(open_model(world.base.folder, "fp32", frozen=True), general_rows(world, 4), "model", 0)
    penalty = sum(
        (50.0 * weight_of[name] * (weight - stars[name]) ** 2).sum() for name, weight in moved.hf.named_parameters()
    )
    assert float(penalty.detach()) > 1e-3
    torch.testing.assert_close(tally.total, bare.total + penalty * bare.count, rtol=1e-5, atol=1e-4)
    assert torch.equal(tally.count, bare.count)
    ours, theirs = (
        torch.autograd.grad(total, list(moved.parameters()))
        for total in (tally.total.sum(), (bare.total + penalty * bare.count).sum())
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("targets", ["model", "text"])
def test_importance_is_a_loop_of_backward_passes(world, targets):
    """Golden: full logits, torch's cross-entropy and autograd, one row after the other."""
    rows = general_rows(world, 3)
    model, plain = (open_model(world.base.folder, "fp32") for _ in range(2))
    found = fisher(model, rows, targets, seed=5)
    squares = {name: torch.zeros_like(weight) for name, weight in plain.hf.named_parameters()}
    for b in range(3):
        row = rows.rows(b, b + 1)
        logits = plain.head.logits(plain.hidden(row))[0]
        wanted = row.targets_BT[0]
        if targets == "model":
            from graft.core.stats.random_streams import stream

            lot = stream(5, "fisher", int(rows.row_B[b])).random((1, 64))[0]
            summed = np.cumsum(torch.softmax(logits.detach(), -1).double().numpy(), 1)
            wanted = torch.from_numpy((summed < lot[:, None]).sum(1))
        plain.hf.zero_grad()
        torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").backward()
        for name, weight in plain.hf.named_parameters():
            squares[name] += weight.grad**2
    assert found.keys() == squares.keys() and all(value.dtype == torch.float32 for value in found.values())
    for name, value in squares.items():
        torch.testing.assert_close(found[name], value / (3 * 64), rtol=1e-3, atol=1e-9)
    assert all(not weight.requires_grad and weight.grad is None for weight in model.hf.parameters())


def test_drawn_targets_follow_the_model(world):
    """At one place, evenly spread lots give every token its chance."""
    model = open_model(world.base.folder, "fp32", frozen=True)
    hidden_11D = 8 * model.hidden(general_rows(world, 1))[:, :1]
    lots = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tokens = drawn(hidden_11D.expand(1, len(lots), -1), model.head, lots.unsqueeze(0))
    share = torch.bincount(tokens[0], minlength=model.head.vocabulary) / len(lots)
    torch.testing.assert_close(share, torch.softmax(model.head.logits(hidden_11D[0])[0], -1), atol=1e-4, rtol=0)


def test_a_small_step_costs_its_divergence_along_one_weight(world):
    """What a weight of 1 means: to second order, 1 / 2 * F d^2 is the mean divergence KL(start || moved) per token.

    Along one weight alone nothing is off the diagonal; F is taken over every outcome instead of a drawn one.
    """
    rows = general_rows(world, 2)
    start, moved = (open_model(world.base.folder, "fp32", frozen=True) for _ in range(2))
    for model in (start, moved):
        model.hf.double()
    weight = moved.hf.model.norm.weight
    hidden = start.hidden(rows).flatten(0, 1)
    theirs = torch.log_softmax(start.head.logits(hidden), -1)
    row_V = start.hf.lm_head.weight.double()[:, 3]
    slope = hidden[:, 3:4] / start.hf.model.norm.weight[3].double() * row_V  # d logits / d weight 3 of the last norm
    exact = ((theirs.exp() * slope**2).sum(1) - (theirs.exp() * slope).sum(1) ** 2).mean()
    weight[3] += 0.05
    ours = torch.log_softmax(moved.head.logits(moved.hidden(rows).flatten(0, 1)), -1)
    divergence = (theirs.exp() * (theirs - ours)).sum(1).mean()
    found = fisher(open_model(world.base.folder, "fp32"), general_rows(world, 60), "model", 0)["model.norm.weight"][3]
    assert float(exact / 2 * 0.05**2) == pytest.approx(float(divergence), rel=0.05)
    assert float(found) == pytest.approx(float(exact), rel=0.6)  # drawn, and from other rows


def test_a_leash_of_zero_is_plain_training_to_the_bit(world):
    plain, _ = loop(world, Causal())
    assert same(plain, loop(world, Anchor(penalty_weight=0.0))[0])
    assert not same(plain, loop(world, QUICK)[0])


def test_how_a_batch_is_cut_does_not_matter(world):
    whole, whole_steps = loop(world, QUICK, micro_rows=4)
    cut, cut_steps = loop(world, QUICK, micro_rows=1)
    for a, b in zip(whole.hf.parameters(), cut.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-3)
    assert [s.loss for s in whole_steps] == pytest.approx([s.loss for s in cut_steps], rel=1e-5)


def test_a_tight_leash_holds(world):
    start = open_model(world.base.folder, "fp32")

    def distance(model) -> float:
        pairs = zip(model.hf.parameters(), start.hf.parameters(), strict=True)
        return float(sum(((a - b) ** 2).sum() for a, b in pairs).detach())

    free, held = (distance(loop(world, one, steps=6)[0]) for one in (Causal(), Anchor("l2", penalty_weight=1e4)))
    assert held < free / 3


@pytest.mark.parametrize(
    "change",
    [{"form": "l2"}, {"penalty_weight": 50.0}, {"source": "domain"}, {"fisher_rows": 2}, {"targets": "text"}],
    ids=str,
)
def test_every_setting_has_an_effect(world, moved, change):
    batch = batch_of(world)
    plain, other = (world.bind(one)(moved, batch).total for one in (QUICK, replace(QUICK, **change)))
    assert not torch.allclose(plain, other, rtol=1e-6, atol=0)


def test_a_run_of_runs_hands_importance_on(world, tmp_path):
    """decay * what the first run held + the importance of its own domain to the model it ended with."""
    store = Store(tmp_path)
    online = replace(QUICK, form="online_ewc", decay=0.5)
    first = train(world.base, world.tokens, MIXTURE, replace(SHORT, objective=online), store=store)
    left = load_file(first / "model" / IMPORTANCE)
    old = fisher(open_model(world.base.folder, "fp32"), general_rows(world, 4), "model", 0)
    rows = rows_of(sources(world.tokens)["domain"], range(4), source=0, window=64, seed=0)
    new = fisher(open_model(first / "model", "fp32"), rows, "model", 0)
    for name, value in left.items():
        torch.testing.assert_close(value, 0.5 * old[name] + new[name], rtol=1e-4, atol=1e-10)

    base = Base("second", first / "model")
    settings = replace(SHORT, objective=online)
    second = train(base, world.tokens, MIXTURE, settings, store=store)
    again = load_file(second / "model" / IMPORTANCE)
    last = fisher(open_model(second / "model", "fp32"), rows, "model", 0)
    for name, value in again.items():  # held on to what was left, not to what it could compute of its start
        torch.testing.assert_close(value, 0.5 * left[name] + last[name], rtol=1e-4, atol=1e-10)
    other = replace(SHORT, objective=replace(online, decay=0.9))
    assert not torch.equal(
        load_file(train(base, world.tokens, MIXTURE, other, store=store) / "model" / IMPORTANCE)["model.norm.weight"],
        again["model.norm.weight"],
    )
    (first / "model" / IMPORTANCE).unlink()  # it decides the outcome, so without it the run is another one
    assert train(base, world.tokens, MIXTURE, settings, store=store).name != second.name
    plain = train(world.base, world.tokens, MIXTURE, replace(SHORT, objective=QUICK), store=store)
    assert not (plain / "model" / IMPORTANCE).exists()


def test_a_run_that_was_stopped_ends_with_the_same_weights(world, tmp_path, monkeypatch):
    settings = replace(SHORT, objective=QUICK, checkpoint_minutes=0.0)
    plain = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "plain"))
    steps, original = itertools.count(1), torch.optim.AdamW.step
    with monkeypatch.context() as patch:

        def stopping(*args, **kwargs):
            if next(steps) == 4:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        patch.setattr(torch.optim.AdamW, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    again = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    a, b = (load_file(one / "model" / "model.safetensors") for one in (plain, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (plain / "curve.json").read_text() == (again / "curve.json").read_text()


def test_only_what_trains_is_held(world, moved):
    """Frozen weights pull on nothing, however far they have come."""
    batch, loss = batch_of(world), world.bind(QUICK)
    everything = loss(moved, batch).total.detach()
    moved.hf.model.layers.requires_grad_(False)
    try:
        some = loss(moved, batch).total.detach()
    finally:
        moved.hf.requires_grad_(True)
    assert (some < everything - 1e-4).all()


@pytest.mark.parametrize("form", ["l2", "ewc", "online_ewc"])
@pytest.mark.parametrize(
    "tuning",
    [Lora(), Lora(also=("*norm*",)), Ia3(), BlockExpansion(2), BlockExpansion(1), NewRows(310)],
    ids=str,
)
def test_weights_that_are_not_those_of_the_start_are_refused(world, tmp_path, form, tuning):
    """A copy of a block moves the names of later ones: by name alone they would be pulled to another's weights."""
    settings = replace(SHORT, objective=replace(QUICK, form=form), tuning=tuning)
    with pytest.raises(UsageError, match="other weights than the start") as caught:
        train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path))
    assert "full" in caught.value.do and "freeze" in caught.value.do


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("form", ["l2", "ewc", "online_ewc"])
def test_a_fresh_run_begins_with_a_pull_of_nothing(world, form, precision):
    """The first step's loss is that of plain training to the bit, at any penalty_weight."""
    model, batch = open_model(world.base.folder, precision), batch_of(world)
    held, free = (world.bind(one, precision) for one in (replace(QUICK, form=form, penalty_weight=1e6), Causal()))
    assert float(held.anchors.penalty(model).detach()) == 0.0
    assert torch.equal(held(model, batch).total, free(model, batch).total)


@pytest.mark.parametrize("freeze", [Freeze(freeze=("*norm*",)), Freeze(train=("*layers.1*",))], ids=str)
def test_a_frozen_part_hinders_no_form(world, tmp_path, freeze):
    for form in ("l2", "online_ewc"):
        settings = replace(SHORT, objective=replace(QUICK, form=form), tuning=freeze)
        assert train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path))


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_an_importance_of_another_model_is_refused_before_the_first_step(world, tmp_path, change):
    shutil.copytree(world.base.folder, tmp_path / "base")
    weights = {name: weight.clone() for name, weight in open_model(world.base.folder, "fp32").hf.named_parameters()}
    if change == "missing":
        del weights["model.norm.weight"]
    else:
        weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, tmp_path / "base" / IMPORTANCE)
    with pytest.raises(UsageError, match="says nothing of model.norm.weight"):
        replace(world, base=Base("other", tmp_path / "base")).bind(replace(QUICK, form="online_ewc"))


def test_a_kill_while_importance_is_made_loses_no_step(world, tmp_path, monkeypatch):
    """The checkpoint of the last step stays until all that a run leaves is there."""
    online = replace(QUICK, form="online_ewc")
    settings = replace(SHORT, objective=online, checkpoint_minutes=1e9)
    plain = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "plain"))
    leave = Anchored.leave

    def killed(self, model, folder):
        leave(self, model, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Anchored, "leave", killed)
        with pytest.raises(KeyboardInterrupt):
            train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "killed"))
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda *_, **__: steps.append(1))
        again = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "killed"))
    assert not steps
    for name in ("model.safetensors", IMPORTANCE):
        a, b = (load_file(one / "model" / name) for one in (plain, again))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert (plain / "curve.json").read_text() == (again / "curve.json").read_text()
    assert not (again / "checkpoints").exists()


def test_bad_settings_are_named(world):
    for settings, words in (
        ({"penalty_weight": -1.0}, "penalty_weight is -1.0"),
        ({"fisher_rows": 0}, "fisher_rows is 0"),
        ({"decay": 1.5}, "decay is 1.5"),
    ):
        with pytest.raises(UsageError, match=words):
            Anchor(**settings)
    with pytest.raises(UsageError, match='source is "elsewhere"') as caught:
        world.bind(Anchor(source="elsewhere"))
    assert caught.value.allowed == "domain, general"
