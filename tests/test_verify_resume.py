"""verify-resume: says "exact" of runs that resume exactly, and finds the step and the tensor where one does not."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace

import pytest
import torch

from command import call
from fork_server import Popen
from graft.core.config.errors import FaultError, UsageError
from graft.core.store.artifact import Store
from graft.jobs.adapt import Adapt
from graft.launch.verify_resume import show_proof, spread_losses, verify_resume
from graft.models.files.bitwise_difference import difference, same_bits
from graft.models.files.checkpoints import save_checkpoint
from graft.models.files.weights import open_model
from graft.training.decay_branch import DecayNow
from graft.training.lr_range import RangeTest
from graft.training.objectives.stay_close import StayClose
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.tunings.lora import Lora

pytestmark = pytest.mark.usefixtures("forks")


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """The processes of a proof are its own, and their imports are not."""
    monkeypatch.setattr("subprocess.Popen", Popen)


@pytest.fixture
def job(world) -> Adapt:
    return Adapt(
        base=str(world.base.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        replay=0.25,
        train=Train(
            tokens=64 * 64 * 40,
            sequence_length=64,
            batch_size=64,
            micro_batch_size=32,
            learning_rate=1e-3,
            precision="fp32",
        ),
    )


def left_in(store: Store) -> list[str]:
    return [path.name for path in store.root.glob("verify-resume-*")]


def test_a_run_that_resumes_exactly_is_called_exact(job, world):
    """Three kills, an epoch's border, other numbers of workers; nothing stays behind."""
    proof = verify_resume(job, world.store, steps=24)
    assert proof.exact and len(proof.kills) == 3 and not proof.notes
    assert [finding.what for finding in proof.findings] == [
        "losses, norms, rates", "weights", "optimiser", "next batches"
    ]  # fmt: skip
    assert all(kill.planned <= kill.found < 24 for kill in proof.kills)
    assert {kill.workers for kill in proof.kills} != {1}
    assert proof.passes["domain"] > 1
    assert not left_in(world.store)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"objective": StayClose(0.3)}, {"tuning": Lora(rank=4, dropout=0.2)}], ids=str)
def test_objectives_with_teachers_and_tunings_with_dropout_resume_exactly(job, world, change):
    """What is not read by the proof is left out of it, and said."""
    training = replace(job.train, **change, learning_rate=None, decay_now=DecayNow(at=3), range_test=RangeTest())
    proof = verify_resume(replace(job, train=training), world.store, steps=10, kills=1, seed=1)
    assert proof.exact and len(proof.kills) == 1
    assert "decay_now" in proof.notes[0] and "range test" in proof.notes[1]


def test_a_killed_run_goes_on_in_two_processes(job, world, capsys):
    proof = verify_resume(job, world.store, steps=12, kills=1, processes=2)
    assert proof.exact and not proof.notes
    spread = proof.findings[-1]
    assert spread.what == "losses in 2 processes" and re.fullmatch(r"[1-9]\d* steps", spread.compared)
    assert float(re.search(r"the same to (\S+)", spread.same)[1]) <= 1e-5
    show_proof(proof)
    assert "not varied" not in capsys.readouterr().out
    show_proof(replace(proof, processes=1))
    assert "number of processes: not varied (--processes 2 does)" in capsys.readouterr().out
    assert not left_in(world.store)


def test_losses_in_processes_are_compared_step_by_step():
    plain = [{"step": 0}, {"step": 1, "loss": {"a": [10.0, 4.0], "b": [2.0, 1.0]}}, {"step": 2, "loss": {"a": [8, 4]}}]

    def other(step: int, **loss) -> list[dict]:
        return [entry | {"loss": loss} if entry["step"] == step else entry for entry in plain]

    assert spread_losses(plain, plain, 1e-5) == (0.0, "")
    near = other(1, a=[10.00005, 4.0], b=[2.0, 1.0])
    assert spread_losses(plain, near, 1e-5) == (pytest.approx(5e-6), "")
    assert "step 1: loss of a 10.0 and 10.001" in spread_losses(plain, other(1, a=[10.001, 4], b=[2.0, 1.0]), 1e-5)[1]
    assert "step 2" in spread_losses(plain, other(2, a=[8, 5]), 1e-5)[1]  # counted otherwise
    assert "step 1" in spread_losses(plain, other(1, a=[10.0, 4]), 1e-5)[1]  # a source is missing
    assert "2 and 1 steps" in spread_losses(plain, plain[:2], 1e-5)[1]
    assert spread_losses(plain, other(2, a=[float("nan"), 4]), 1e-5)[1]


def test_dropout_is_not_compared_between_numbers_of_processes(job, world):
    dropping = replace(job, train=replace(job.train, tuning=Lora(rank=4, dropout=0.2)))
    with pytest.raises(UsageError, match="dropout"):
        verify_resume(dropping, world.store, steps=6, kills=1, processes=2)


COUNTING = '''
from dataclasses import dataclass
from graft.training.objectives.causal import Causal

@dataclass(frozen=True)
class Counting:
    """Plain training that weighs its loss by how many batches this process has seen: nothing that can be resumed."""

    def bind(self, start, load):
        plain, seen = Causal().bind(start, load), []

        def loss(model, batch):
            seen.append(1)
            tally = plain(model, batch)
            return type(tally)(tally.total * (1 + len(seen) / 100), tally.count)

        return loss
'''


def test_a_run_that_does_not_resume_is_found_out(job, world, tmp_path, monkeypatch):
    """From the command line: the step, the tensor, the size, and exit code 1."""
    (tmp_path / "counting.py").write_text(COUNTING)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        textwrap.dedent(f"""
        adapt:
          base: {job.base}
          domain: {job.domain[0]}
          general: {job.general[0]}
          train: {{tokens: 20k, sequence_length: 64, batch_size: 8, objective: counting.Counting}}
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    ended = call("verify-resume", recipe, "--steps", 12, "--kills", 1, "--store", world.store.root)
    assert ended.returncode == 1, ended.stderr
    assert re.search(r"first at step \d+: loss", ended.stdout) and "NOT exact" in ended.stdout
    assert re.search(r"weights .* differ, first model/\S+ by up to \d", ended.stdout)
    assert re.search(r"next batches +100 batches +the same to the bit", ended.stdout)
    assert "not the same as one without a break" in ended.stderr and not left_in(world.store)


def test_a_difference_names_the_tensor_and_its_size(world, tmp_path):
    model = open_model(world.base.folder, "fp32")
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    ours = save_checkpoint(tmp_path / "ours", model, optimizer, {"step": 1})
    moment = optimizer.state[model.hf.model.layers[1].mlp.up_proj.weight]["exp_avg"]
    moment[0, 0] += 0.5
    theirs = save_checkpoint(tmp_path / "theirs", model, optimizer, {"step": 1})
    weights = difference(ours, theirs, "model/")
    assert weights.words == "" and weights.num_values == sum(p.numel() for p in model.parameters())
    moments = difference(ours, theirs, "optimizer/")
    assert moments.num_different == 1 and moments.size == pytest.approx(0.5)
    assert moments.first == "optimizer/model.layers.1.mlp.up_proj.weight/exp_avg"


def test_bits_not_numbers_are_compared():
    nan = torch.tensor([float("nan")])
    assert same_bits(nan, nan.clone()) and same_bits(torch.tensor(3.0), torch.tensor(3.0))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert not same_bits(torch.zeros(2), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 5}, "5 steps and 3 kills"),
        ({"kills": 0}, "20 steps and 0 kills"),
        ({"processes": 0}, "processes is 0"),
    ],
)
def test_bad_settings_are_named(job, world, settings, words):
    with pytest.raises(UsageError, match=words):
        verify_resume(job, world.store, **settings)


def test_what_cannot_be_proved_is_said(job, world, monkeypatch):
    short = replace(job, train=replace(job.train, tokens=64 * 64 * 3))
    with pytest.raises(UsageError, match="the run has 3 steps"):
        verify_resume(short, world.store)
    with pytest.raises(FaultError, match="time is up"):
        verify_resume(job, world.store, minutes=0.0)
    with pytest.raises(FaultError, match=r"a run ended by itself with 1"):
        verify_resume(replace(job, train=replace(job.train, learning_rate=1e30, clip=0.0)), world.store)
    assert not left_in(world.store)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="one of 2 processes"):
        verify_resume(job, world.store)
