"""Training: exact arithmetic, exact resume, honest failure."""

from __future__ import annotations

import gc
import itertools
import json
import os
import pkgutil
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from command import call
from fork_server import Popen
from fork_server import run as run_forked
from graft.core.config.errors import FaultError, UsageError
from graft.core.models.base_model import Base
from graft.core.store.artifact import Store
from graft.data.tokenize import sources
from graft.models.files import weights as weights_module
from graft.models.files.checkpoints import facts_of
from graft.models.files.weights import open_model, save_model
from graft.models.runtime.numeric_faults import NotFinite
from graft.packing.sampler import Sampler
from graft.training import run as module
from graft.training.loop import Pace, run
from graft.training.objectives.causal import Causal
from graft.training.objectives.stay_close import StayClose
from graft.training.run import adamw
from graft.training.settings import Train, peak_rate
from graft.training.train import train
from graft.training.training_run import _less

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=1e-3,
    precision="fp32",
    evaluations=3,
)


def weights(artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact / "model" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def loop(world, objective, *, micro_rows=4, steps=3, precision="fp32"):
    """The weights after a few steps of the loop, without any file."""
    model = open_model(world.base.folder, precision)
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    loss = world.bind(objective, precision)
    pace = Pace(rate=lambda step: 1e-3, micro_rows=micro_rows, clip=1.0, seed=0)
    steps_done = list(run(model, loss, sampler, optimizer, pace, 0, steps))
    return model, steps_done


def test_training_lowers_both_losses_and_leaves_a_model_that_transformers_reads(world, tmp_path):
    trained = train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    curve = [entry for entry in json.loads((trained / "curve.json").read_text()) if "validation" in entry]
    for name in ("domain", "general"):
        first, last = (entry["validation"][name] for entry in (curve[0], curve[-1]))
        assert last[0] / last[1] < first[0] / first[1] and last[1] == first[1]
    assert [entry["step"] for entry in curve] == [0, 4, 8, 12]
    assert sum(trained.facts["tokens"].values()) == 64 * 4 * 12
    assert trained.facts["ratio"] == pytest.approx(0.75, abs=0.05)
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    assert model.config.tie_word_embeddings and model.dtype == torch.bfloat16
    assert Base("trained", trained / "model").checked().tokenizer.encode("court").ids


def test_how_a_batch_is_cut_does_not_matter(world):
    whole, whole_steps = loop(world, Causal(), micro_rows=4)
    cut, cut_steps = loop(world, Causal(), micro_rows=1)
    for a, b in zip(whole.hf.parameters(), cut.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    assert [s.loss for s in whole_steps] == pytest.approx([s.loss for s in cut_steps], rel=1e-6)


def test_one_step_is_what_torch_and_transformers_make_of_the_same_rows(world):
    """Golden: the model's own full logits, torch's cross-entropy over all tokens, clip_grad_norm_ and AdamW."""
    ours, [step] = loop(world, Causal(), steps=1)
    reference = open_model(world.base.folder, "fp32")
    batch = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0).batch(0)
    losses, counts = [], 0
    for row in range(4):  # every piece alone, so that no mask of ours is trusted
        starts = (batch.position_BT[row] == 0).nonzero().flatten().tolist()
        for first, last in pairwise([*starts, 64]):
            logits = reference.hf(input_ids=batch.tokens_BT[row : row + 1, first:last]).logits[0]
            losses.append(torch.nn.functional.cross_entropy(logits, batch.targets_BT[row, first:last], reduction="sum"))
            counts += last - first
    mean = sum(losses) / counts
    mean.backward()
    norm = torch.nn.utils.clip_grad_norm_(list(reference.parameters()), 1.0)
    decay = [p for p in reference.parameters() if p.dim() >= 2]
    plain = [p for p in reference.parameters() if p.dim() < 2]
    torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.95)
    ).step()
    assert step.loss == pytest.approx(float(mean), rel=1e-5)
    assert step.norm == pytest.approx(float(norm), rel=1e-4)
    for a, b in zip(ours.hf.parameters(), reference.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


def test_a_leash_of_zero_is_plain_training_to_the_bit(world):
    plain, _ = loop(world, Causal())
    leashed, _ = loop(world, StayClose(kl_weight=0.0))
    pulled, _ = loop(world, StayClose(kl_weight=5.0))
    assert same(plain.hf.state_dict(), leashed.hf.state_dict())
    assert not same(plain.hf.state_dict(), pulled.hf.state_dict())


def test_stay_close_is_its_formula(world):
    """Golden: nats plus kl_weight * KL from full logits, on a model that has left its start."""
    model, _ = loop(world, Causal(), steps=5)
    start = open_model(world.base.folder, "fp32", frozen=True)
    batch = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0).batch(9)
    tally = world.bind(StayClose(0.3))(model, batch)
    with torch.no_grad():
        ours, theirs = (torch.log_softmax(m.head.logits(m.hidden(batch)), -1) for m in (model, start))
    nats = -ours.gather(-1, batch.targets_BT[..., None])[..., 0]
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    assert float(divergence.mean()) > 1e-4  # or the test would start at the fixed point
    torch.testing.assert_close(tally.total, (nats + 0.3 * divergence).sum(1), atol=1e-3, rtol=1e-5)
    assert tally.count.tolist() == [64.0] * 4


def test_a_loss_that_is_not_finite_names_the_documents_and_spares_the_weights(world):
    model = open_model(world.base.folder, "fp32")
    with torch.no_grad():
        model.hf.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    before = {name: weight.clone() for name, weight in model.hf.state_dict().items()}
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=2, seed=0)
    pace = Pace(rate=lambda step: 1e-3, micro_rows=2, clip=1.0, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    with pytest.raises(FaultError, match=r"the loss is nan .* at step 1") as caught:
        list(run(model, world.bind(Causal()), sampler, optimizer, pace, 0, 2))
    named = {f"{doc['source']}#{doc['position']}" for doc in sampler.documents(0)}
    assert all(name in caught.value.where for name in named)
    after = model.hf.state_dict()
    assert all(torch.equal(before[name], after[name]) or before[name].isnan().any() for name in before)


def test_only_the_rows_whose_loss_is_not_finite_are_named(world):
    """One row's loss is broken by the objective; the other rows' documents are not blamed."""
    model = open_model(world.base.folder, "bf16")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=6, seed=0)
    plain = world.bind(Causal())
    fifth = sampler.batch(0).tokens_BT[4]

    def loss(model, batch):
        tally = plain(model, batch)
        broken_B = (batch.tokens_BT == fifth).all(1)
        return replace(tally, total=torch.where(broken_B, tally.total * torch.nan, tally.total))

    pace = Pace(rate=lambda step: 1e-3, micro_rows=2, clip=1.0, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    with pytest.raises(NotFinite, match="the loss is nan") as caught:
        list(run(model, loss, sampler, optimizer, pace, 0, 1))
    guilty = {(doc["source"], doc["position"]) for doc in sampler.documents(0) if doc["row"] == 4}
    assert set(caught.value.documents) == guilty
    assert "lower train.learning_rate, or train with precision fp32" in caught.value.do


def test_a_gradient_that_is_not_finite_is_refused_where_the_loss_is(world):
    """A loss that looks well, and a slope that is no number."""
    model = open_model(world.base.folder, "bf16")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=6, seed=0)
    plain = world.bind(Causal())

    def loss(model, batch):
        tally = plain(model, batch)
        return replace(tally, total=tally.total + (0 * tally.total).sqrt())  # adds nothing; its slope is no number

    pace = Pace(rate=lambda step: 1e-3, micro_rows=2, clip=1.0, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    with pytest.raises(NotFinite, match="the gradient norm nan at step 1"):
        list(run(model, loss, sampler, optimizer, pace, 0, 1))


def test_a_run_that_diverges_names_files_and_rows(world, tmp_path):
    with pytest.raises(FaultError, match=r"not a number|(loss is|norm) (nan|inf)") as caught:
        train(world.base, world.tokens, MIXTURE, replace(SHORT, learning_rate=1e30, clip=0.0), store=Store(tmp_path))
    [first, *_] = caught.value.where.removeprefix("documents ").split(", ")
    parents = {
        parent
        for name in ("domain", "general")
        for row in pq.read_table(world.corpus / f"{name}.parquet", columns=["parents"]).to_pylist()
        for parent in row["parents"]
    }
    assert first in parents and "lower" in caught.value.do


def test_memory_that_is_not_there_names_the_setting_to_lower(world, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")

    monkeypatch.setattr(module, "run", full)
    for change, words in (
        ({}, "set train.micro_batch_size to 2 (it is 4)"),
        ({"micro_batch_size": 1}, "take a smaller base"),
    ):
        with pytest.raises(FaultError, match=r"not enough memory for training \(CUDA out of memory") as caught:
            train(world.base, world.tokens, MIXTURE, replace(SHORT, **change), store=Store(tmp_path))
        assert words in caught.value.do
    assert "train.sequence_length to 256 (it is 512)" in _less(
        Train(micro_batch_size=1).shape(Planned(512), 10**6, 1.0)
    )


def test_the_model_is_saved_without_moments_gradients_or_copies(world, tmp_path, monkeypatch):
    """At the peak after training there are the weights, their rounded form, and nothing of the optimiser."""
    seen, texts_of = [], module.TrainingRun._texts
    monkeypatch.setattr(module.TrainingRun, "_texts", lambda self: seen.append(self.optimizer) or texts_of(self))

    def saving(model, base_folder, folder, texts):
        assert [len(one.state) for one in seen] == [0]
        assert all(parameter.grad is None for parameter in model.hf.parameters())
        difference = save_model(model, base_folder, folder, texts)
        stored = load_file(folder / "model.safetensors")
        memory = {name: weight for name, weight in model.hf.state_dict().items() if name in stored}
        assert all(torch.equal(stored[name].float(), weight) for name, weight in memory.items())
        return difference

    monkeypatch.setattr(module, "save_model", saving)
    train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    assert seen


def test_the_words_beside_the_progress_do_not_read_the_curve_again(world, tmp_path, monkeypatch):
    """Else a run of n steps would cost n squared."""

    class Watched(list):
        def __iter__(self):
            raise AssertionError("read from end to end")

    note = module.TrainingRun._note
    words = []

    def noting(self, step):
        note(self, step)
        plain, self.curve = self.curve, Watched(self.curve)
        words.append(self._words(step))
        self.curve = plain

    monkeypatch.setattr(module.TrainingRun, "_note", noting)
    train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    assert "domain" not in words[0] and "domain -" in words[-1] and "general -" in words[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(3, 4), (9,)])
def test_a_run_killed_at_any_step_ends_with_the_same_weights(world, forks, tmp_path, kills):
    """Kill -9 in different places, one after the other, in processes of their own."""
    plain = train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path / "plain"))
    settings = replace(SHORT, checkpoint_minutes=0.0)
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        import torch; torch.set_num_threads(1)
        from dataclasses import replace
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_train import MIXTURE, SHORT
        from graft.core.store.artifact import Artifact, Store
        from graft.core.models.base_model import Base
        from graft.training.train import train
        import graft.training.run as module
        fatal = int(sys.argv[1])
        note = module.TrainingRun._note
        def noting(self, step):
            note(self, step)
            if step.number == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        module.TrainingRun._note = noting
        settings = replace(SHORT, checkpoint_minutes=0.0)
        train(Base("tiny", Path({str(world.base.folder)!r})), Artifact(Path({str(world.tokens.path)!r})), MIXTURE,
              settings, store=Store(Path({str(tmp_path / "killed")!r})))
        """
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for fatal in kills:
        ended = run_forked([sys.executable, "-c", script, str(fatal)], env=environment, capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    resumed = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path / "killed"))
    assert same(weights(plain), weights(resumed))
    curves = [json.loads((one / "curve.json").read_text()) for one in (plain, resumed)]
    assert curves[0] == curves[1]
    assert not (resumed / "checkpoints").exists()


def test_a_model_that_does_not_survive_saving_is_refused(world, tmp_path, monkeypatch):
    model = open_model(world.base.folder, "fp32")
    write = weights_module.write_weights

    def losing(named, folder, stored):
        name = "model.layers.0.mlp.up_proj.weight"
        write(named | {name: torch.zeros_like(named[name])}, folder, stored)

    texts = torch.arange(30).view(3, 10)
    assert save_model(model, world.base.folder, tmp_path / "whole", texts) <= 1e-4
    monkeypatch.setattr(weights_module, "write_weights", losing)
    with pytest.raises(FaultError, match="another one"):
        save_model(model, world.base.folder, tmp_path / "broken", texts)
    assert not (tmp_path / "broken").exists()


def test_automatic_choices(world):
    shape = Train().shape(world.base, domain_tokens=1_000_000, domain_share=0.8)
    assert shape.window == 64 and shape.rows * shape.window == 4096
    assert shape.tokens == pytest.approx(1_250_000, rel=0.01)  # one pass over the domain, replay on top
    assert Train(tokens=10**9).shape(world.base, 1, 1.0).rows * 64 == 524288
    assert shape.rate == pytest.approx(0.5 * peak_rate(world.base))
    assert Train(rewarm=0.1).shape(world.base, 10**6, 1.0).rate == pytest.approx(0.1 * peak_rate(world.base))
    with pytest.raises(UsageError, match="reads at most 64 tokens"):
        Train(sequence_length=128).shape(world.base, 10**6, 1.0)


@dataclass(frozen=True)
class Planned:
    """A base of which only sizes are known."""

    window: int
    num_parameters: int = 10**6
    training_notes: dict = field(default_factory=dict)


@given(tokens=st.integers(1, 10**8), window=st.sampled_from([64, 512, 2048, 8192]), asked=st.booleans())
@settings(deadline=None)
def test_no_run_trains_much_more_than_was_asked_for(tokens, window, asked):
    shape = (Train(tokens=tokens) if asked else Train()).shape(Planned(window), tokens, 1.0)
    step = shape.rows * shape.window
    assert shape.tokens <= tokens + step / 2
    if tokens >= 50 * 512 and window <= 512:
        assert shape.steps >= 50 and step >= 512
    if tokens >= 50 * 4096 and window <= 2048:
        assert step >= 4096  # as large as it was where the text is


def test_a_step_that_is_more_than_was_asked_for_is_refused():
    with pytest.raises(UsageError, match=r"tokens is 1,000, and one step of 8 rows of 512 reads 4,096") as caught:
        Train(tokens=1000, batch_size=8).shape(Planned(512), 10**6, 1.0)
    assert caught.value.allowed == "2,048 or more"
    assert Train(tokens=2048, batch_size=8).shape(Planned(512), 10**6, 1.0).steps == 1
    assert Train(batch_size=8).shape(Planned(512), 100, 1.0).steps == 1  # nobody asked for fewer


@pytest.mark.parametrize(
    "change",
    [
        {"objective": StayClose(1.0)},
        {"schedule": "cosine"},
        {"tokens": 64 * 4 * 6},
        {"sequence_length": 32},
        {"batch_size": 2},
        {"learning_rate": 3e-3},
        {"weight_decay": 10.0},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"clip": 0.01},
        {"precision": "bf16"},
        {"seed": 1},
        {"evaluations": 1},
        {"validation_tokens": 100},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(world, tmp_path, change):
    if change.get("schedule"):
        from graft.training.schedules.cosine import Cosine

        change = {"schedule": Cosine(floor=0.5)}
    quick = replace(SHORT, tokens=64 * 4 * 8)
    plain = train(world.base, world.tokens, MIXTURE, quick, store=world.store)
    other = train(world.base, world.tokens, MIXTURE, replace(quick, **change), store=world.store)
    curves = [json.loads((one / "curve.json").read_text()) for one in (plain, other)]
    assert curves[0] != curves[1]


def test_checkpoints_come_as_often_as_asked(world, tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(module, "save_checkpoint", lambda folder, model, optimizer, facts: saves.append(facts["step"]))
    for minutes, expected in ((0.0, list(range(1, 13))), (1e6, [12])):
        saves.clear()
        store = Store(tmp_path / str(minutes))
        train(world.base, world.tokens, MIXTURE, replace(SHORT, checkpoint_minutes=minutes), store=store)
        assert saves == expected


PLACES = {
    "between the groups of the optimiser's step": ("torch.optim.adam.adam", 5),  # two groups a step
    "after the optimiser's step": ("torch.optim.adamw.AdamW.zero_grad", 3),
    "before the step is noted": ("graft.training.run.TrainingRun._note", 3),
    "inside validation": ("graft.training.run.mean_nats", 3),  # two sources at the start, then step 4
    "before the first step": ("graft.training.run.mean_nats", 1),
    "in the last step": ("torch.optim.adam.adam", 24),
    "while saving": ("graft.training.run.save_checkpoint", 2),
}


@pytest.fixture
def no_collection() -> Iterator[None]:
    """A signal that comes while garbage is collected is lost in the callback that hypothesis has there."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_anywhere_leaves_a_whole_step(world, tmp_path, monkeypatch, place, signum):
    """The signal comes as the n-th call of something ends; what is saved then, and where it leads, is to the bit."""
    settings = replace(SHORT, checkpoint_minutes=0.0 if place == "while saving" else 5.0)
    plain = train(world.base, world.tokens, MIXTURE, settings, store=world.store)
    name, number = PLACES[place]
    owner, attribute = pkgutil.resolve_name(name.rpartition(".")[0]), name.rpartition(".")[2]
    original, calls = getattr(owner, attribute), itertools.count(1)

    def interrupted(*args, **kwargs):
        answer = original(*args, **kwargs)
        if next(calls) == number:
            os.kill(os.getpid(), signum)
        return answer

    before = [signal.signal(one, signal.default_int_handler) for one in (signal.SIGINT, signal.SIGTERM)]
    try:
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path))
        assert next(calls) > number
        assert all(signal.getsignal(one) is signal.default_int_handler for one in (signal.SIGINT, signal.SIGTERM))
    finally:
        for one, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(one, handler)
    curve = json.loads((plain / "curve.json").read_text())
    if place == "before the first step":  # nothing is done that could be lost
        assert not list(tmp_path.glob("drafts/train-*/checkpoints/*"))
    else:
        [checkpoint] = tmp_path.glob("drafts/train-*/checkpoints/*")
        state = facts_of(checkpoint)
        noted = curve[: state["step"] + 1]
        if place in ("inside validation", "in the last step"):  # the look is given up, and taken when the run goes on
            assert "validation" in noted[-1] and "validation" not in state["curve"][-1]
            noted = [*noted[:-1], {key: value for key, value in noted[-1].items() if key != "validation"}]
        assert 0 < state["step"] <= 12 and state["curve"] == noted
    resumed = train(world.base, world.tokens, MIXTURE, settings, store=Store(tmp_path))
    assert same(weights(plain), weights(resumed))
    assert json.loads((resumed / "curve.json").read_text()) == curve


def test_memory_that_is_short_at_the_end_costs_no_training(world, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_model", full)
        with pytest.raises(FaultError, match="not enough memory for writing the model") as caught:
            train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    assert "the training is done and kept" in caught.value.do
    plain = train(world.base, world.tokens, MIXTURE, SHORT, store=world.store)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("trained again"))
    again = train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    assert same(weights(plain), weights(again))


def test_handlers_are_the_callers_outside_the_main_thread(world, tmp_path):
    """A thread cannot take signals; training in one leaves them alone."""
    made = []
    thread = threading.Thread(
        target=lambda: made.append(train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path)))
    )
    thread.start()
    thread.join(500)
    assert made


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_call_goes_on(world, forks, tmp_path):
    store = tmp_path / "store"
    command = [
        sys.executable, "-m", "graft", "adapt", str(world.base.folder), "--domain", str(world.domain), "--general",
        str(world.general), "--tokens", "20k", "--out", str(tmp_path / "out"), "--store", str(store),
        "--set", "train.batch_size=4", "--set", "train.checkpoint_minutes=0", "--set", "train.precision=fp32",
    ]  # fmt: skip
    log = tmp_path / "err"
    with log.open("w") as err:
        process = Popen(command, stderr=err, stdout=err)
        deadline = time.monotonic() + 500
        while time.monotonic() < deadline and not list(store.glob("drafts/train-*/checkpoints/step-????????")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(500) == 130
    said = log.read_text()
    stopped = int(re.search(r"stopped after step (\d+) of 78", said)[1])
    assert "run the same command again: it goes on from here" in said and "Traceback" not in said
    [checkpoint] = store.glob("drafts/train-*/checkpoints/*")
    assert facts_of(checkpoint)["step"] == stopped < 78
    again = call(*command[3:])
    assert again.returncode == 0, again.stderr
    assert f"going on after step {stopped} of 78" in again.stderr
    [trained] = store.glob("train-*/")
    assert [entry["step"] for entry in json.loads((trained / "curve.json").read_text())] == list(range(79))


def test_how_a_run_is_computed_is_no_part_of_what_it_is(world, tmp_path):
    """With less at once after memory ran out, and with other workers, the same run is found again."""

    def name(**changes) -> str:
        return train(world.base, world.tokens, MIXTURE, replace(SHORT, **changes), store=Store(tmp_path)).name

    assert {name(), name(micro_batch_size=1), name(workers=0), name(checkpoint_minutes=0.0)} == {name()}
    assert len({name(), name(batch_size=8), name(seed=1)}) == 3


def test_where_dropout_is_at_work_micro_batches_are_part_of_a_run(world, tmp_path):
    """Its masks are drawn per micro-batch, so another cut is another outcome, and must not be taken for this one."""
    from graft.training.tunings.lora import Lora

    def name(tuning, **changes) -> str:
        asked = replace(SHORT, tokens=64 * 4 * 2, tuning=tuning, **changes)
        return train(world.base, world.tokens, MIXTURE, asked, store=Store(tmp_path)).name

    assert name(Lora(rank=2)) == name(Lora(rank=2), micro_batch_size=1)
    assert name(Lora(rank=2, dropout=0.2)) != name(Lora(rank=2, dropout=0.2), micro_batch_size=1)


def test_the_next_run_begins_where_this_one_stopped(world, tmp_path):
    """An outcome says at which rate it stopped, and still of which peak an automatic rate is a share."""
    run = train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    last = json.loads((run / "curve.json").read_text())[-1]["rate"]
    after = Base("after", run / "model")
    assert after.training_notes["final_lr"] == last < SHORT.learning_rate
    assert peak_rate(after) == peak_rate(world.base)
    assert Train(learning_rate=1e-3).shape(after, 10_000, 1.0).warm_from == last


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process set its peak back")
def test_what_was_held_before_a_run_is_not_its_memory(world):
    """Of runs one after the other in a process, each has a peak of its own."""
    model = open_model(world.base.folder, "fp32", frozen=True)
    before = torch.ones(1 << 28, dtype=torch.uint8).sum()  # 256 MiB, gone again
    high = module.peak_memory(model)
    module.forget_peak(model)
    assert before > 0 and module.peak_memory(model) < high - (1 << 27)
