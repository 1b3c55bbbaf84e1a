"""Several processes: the numbers of one, resumed by any number of them, with no process holding the whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from fork_server import Popen
from graft.core.config.plugins import Shelf
from graft.core.config.settings import build
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.models.files.safetensor_files import write_weights
from graft.models.files.weights import _untied
from graft.surgery.initialize import Initialize, initialize
from graft.training.settings import Train
from graft.training.train import train

pytestmark = pytest.mark.usefixtures("forks")

MIXTURE = {"domain": 0.75, "general": 0.25}
# 5 rows over 2 ranks in micro-batches of 2: one rank has 3 rows and two micro-batches, the other 2 rows and one.
SHORT = {"tokens": 64 * 5 * 4, "sequence_length": 64, "batch_size": 5, "micro_batch_size": 2}
SHORT |= {"learning_rate": 1e-3, "precision": "fp32"}
SHORT |= {"evaluations": 2, "weight_decay": 0.1, "validation_tokens": 300}

CHILD = """
import json, os, signal, sys, threading, time
from pathlib import Path
from graft.core.store.artifact import Artifact, Store
from graft.core.models.base_model import Base
from graft.core.process.processes import hush, rank
from graft.core.config.settings import build
from graft.training.train import Train, train

jobs, fatal = json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])
hush()
if fatal:
    from graft.training import run as module
    note = module.TrainingRun._note
    def fatally(self, step):
        note(self, step)
        if step.number == fatal and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    module.TrainingRun._note = fatally
for job in jobs:
    made = train(Base("tiny", Path(job["base"])), Artifact(Path(job["tokens"])), job["mixture"],
                 build(Train, job["train"]), store=Store(Path(job["store"])))
    print("made", made.path, flush=True)
"""


@dataclass(frozen=True)
class Job:
    """A training that one process and several are asked for in the same words."""

    base: Path
    tokens: Path
    settings: dict[str, Any] = field(default_factory=dict)
    mixture: dict[str, float] = field(default_factory=lambda: dict(MIXTURE))

    @property
    def train(self) -> dict[str, Any]:
        return SHORT | self.settings

    def alone(self, store: Path) -> Artifact:
        settings = build(Train, self.train)
        return train(Base("tiny", self.base), Artifact(self.tokens), self.mixture, settings, store=Store(store))


def launch(
    folder: Path, script: list[str], ranks: int = 2, timeout: float = 500, start: type[subprocess.Popen] = Popen
) -> subprocess.CompletedProcess[str]:
    """Run under torchrun on this machine; whatever is left of it when the time is over is killed.

    start: torchrun and its ranks are forked from a process that has torch imported, or interpreters of their own.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    folder.mkdir(parents=True, exist_ok=True)
    process = start([*command, *script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its ranks, and kills them where they do not
        said = process.communicate(timeout=500)
        raise AssertionError(f"not done after {timeout} seconds:\n{said[0]}\n{said[1]}") from None
    return subprocess.CompletedProcess(script, process.returncode, *said)


def together(folder: Path, jobs: list[Job], store: Path, *, ranks: int = 2, fatal: int = 0) -> list[Artifact]:
    """The artifacts that several processes make of jobs; fatal: rank 1 is killed after this step, and nothing is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "child.py").write_text(CHILD)
    asked = [
        {"base": str(job.base), "tokens": str(job.tokens), "mixture": job.mixture, "train": job.train} for job in jobs
    ]
    (folder / "jobs.json").write_text(json.dumps([one | {"store": str(store)} for one in asked]))
    ended = launch(folder, [str(folder / "child.py"), str(folder / "jobs.json"), str(fatal)], ranks)
    if fatal:
        assert ended.returncode != 0 and "Signal 9 (SIGKILL)" in ended.stderr, ended.stderr
        return []
    assert ended.returncode == 0, ended.stderr
    return [Artifact(Path(line.split()[1])) for line in ended.stdout.splitlines() if line.startswith("made ")]


def curve(artifact: Artifact) -> list[dict[str, Any]]:
    return json.loads((artifact / "curve.json").read_text())


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact / "model" / "model.safetensors")


def assert_close(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Losses, norms and validation of every step to 1e-5."""
    assert [entry["step"] for entry in one] == [entry["step"] for entry in other]
    for a, b in zip(one, other, strict=True):
        assert a.get("norm", 0) == pytest.approx(b.get("norm", 0), rel=1e-4)
        for kind in ("loss", "validation"):
            assert a.get(kind, {}).keys() == b.get(kind, {}).keys()
            for name in a.get(kind, {}):
                assert a[kind][name] == pytest.approx(b[kind][name], rel=1e-5), (a["step"], kind, name)


def pairs_job(world, folder: Path) -> Job:
    """Preference pairs of made-up words, as the tiny base spells them."""
    words = ["law", "sea", "by", "can", "we", "sand"]
    rows = [
        {"prompt": f"{words[i % 6]} {i}", "chosen": words[i % 5] * (1 + i % 3), "rejected": words[(i + 1) % 6]}
        for i in range(80)
    ]
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = curate({"domain": ingest([str(folder)], "domain", store=world.store)}, store=world.store)
    tokens = tokenize(corpus, world.base, Tokenize(pairs=True), store=world.store)
    return Job(world.base.folder, tokens.path, mixture={"domain": 1.0})


def kind_job(world, architecture: str) -> Job:
    """The world's text and a tiny untrained model of another kind."""
    tiny = Initialize(420, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture=architecture)
    base = Base("tiny", initialize(world.corpus, tiny, store=world.store) / "model")
    return Job(base.folder, tokenize(world.corpus, base, store=world.store).path)


OBJECTIVES = {
    "anchor": {"anchor": {"form": "ewc", "penalty_weight": 100.0, "fisher_rows": 3}},
    "anchor online": {"anchor": {"form": "online_ewc", "penalty_weight": 100.0, "fisher_rows": 3}},
    "anchor l2": {"anchor": {"form": "l2", "penalty_weight": 50.0}},
    "preference orpo": {"preference": {"form": "orpo"}},
} | {name: {name: {}} for name in Shelf("objectives").names() if name != "anchor"}
TUNINGS = {
    "lora": {"lora": {"also": ["*embed*"]}},
    "dora": "dora",
    "ia3": "ia3",
    "block_expansion": "block_expansion",
    "freeze": {"freeze": {"train": ["*norm*"]}},
}


# The second run of online_ewc: each rank holds its slices of what the first one left.
ONLINE = {"objective": {"anchor": {"form": "online_ewc", "penalty_weight": 100.0, "fisher_rows": 3, "targets": "text"}}}
KEPT = {"checkpoint_minutes": 0.0, "tokens": 64 * 5 * 8}


@pytest.fixture(scope="module")
def jobs(world, tmp_path_factory) -> dict[str, Job]:
    """One of every objective on the shelf, and of tunings that put something into a model."""
    plain = Job(world.base.folder, world.tokens.path)
    bases = {"preference": pairs_job(world, tmp_path_factory.mktemp("pairs") / "text")}
    bases |= {"denoise": kind_job(world, "t5"), "masked": kind_job(world, "bert")}
    made = {name: bases.get(name.split()[0], plain) for name in OBJECTIVES}
    made = {name: replace(job, settings={"objective": OBJECTIVES[name]}) for name, job in made.items()}
    made |= {name: replace(plain, settings={"tuning": tuning}) for name, tuning in TUNINGS.items()}
    first = Job(world.base.folder, world.tokens.path, ONLINE).alone(tmp_path_factory.mktemp("first"))
    return made | {
        "goes on from importance": Job(first / "model", world.tokens.path, ONLINE),
        "keeps checkpoints": Job(world.base.folder, world.tokens.path, KEPT),
    }


@pytest.fixture(scope="module")
def both(jobs, tmp_path_factory) -> dict[str, tuple[Artifact, Artifact]]:
    """(what one process made, what two made) of every job."""
    root = tmp_path_factory.mktemp("ranks")
    by_two = together(root / "two", list(jobs.values()), root / "two" / "store")
    return {name: (job.alone(root / "one"), two) for (name, job), two in zip(jobs.items(), by_two, strict=True)}


@pytest.mark.parametrize("name", [*OBJECTIVES, *TUNINGS])
def test_two_processes_give_the_losses_of_one(both, name):
    """Every objective and tuning, rows that do not divide, uneven micro-batches, in float32."""
    one, two = both[name]
    assert one.name == two.name  # an identity does not know how many made it
    assert_close(curve(one), curve(two))
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for key in ours:
        # AdamW makes a step of the rate's size of a gradient of any size, so single weights may go either way.
        assert float((ours[key].float() - theirs[key].float()).abs().mean()) < 1e-4, key
    assert two.facts["num_trained"] == one.facts["num_trained"]
    assert two.facts["reload_difference"] <= 1e-4
    assert sorted(path.name for path in one.path.rglob("*")) == sorted(path.name for path in two.path.rglob("*"))


def test_two_processes_go_on_from_the_importance_of_an_earlier_run(both):
    one, two = both["goes on from importance"]
    assert one.name == two.name
    assert_close(curve(one), curve(two))
    ours, theirs = (load_file(artifact / "model" / "importance.safetensors") for artifact in (one, two))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=0.02, atol=0.02 * float(value.max()))


MOVED = """
import json, sys
import torch
from graft.core.process.processes import rank
from graft.models.edit.fisher import _Everywhere
from graft.models.runtime.parallel import added, gathered, meet

meet(True)
with gathered():
    weight = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64) + rank()
    scale = 1.0 + 2 * rank()  # how often a rank reads the sum: as its share of the counted targets

    def loss(weight):
        return scale * _Everywhere.apply(weight.pow(3).sum()).square()

    leaf = weight.clone().requires_grad_()
    loss(leaf).backward()
    for mover in range(2):
        for i in range(3):
            ends = []
            for step in (1e-6, -1e-6):
                moved = weight.clone()
                moved[i] += step if rank() == mover else 0.0
                ends.append(added([float(loss(moved))])[0])
            if rank() == mover:
                print("slope", (ends[0] - ends[1]) / 2e-6, float(leaf.grad[i]), flush=True)
"""


def test_the_gradient_of_a_sum_over_ranks(tmp_path):
    """Golden: central differences, in float64, of the losses of both ranks together."""
    (tmp_path / "moved.py").write_text(MOVED)
    ended = launch(tmp_path, [str(tmp_path / "moved.py")])
    assert ended.returncode == 0, ended.stderr
    slopes = [line.split()[1:] for line in ended.stdout.splitlines() if line.startswith("slope")]
    assert len(slopes) == 6
    for numeric, ours in slopes:
        assert float(ours) == pytest.approx(float(numeric), rel=1e-6)


@pytest.fixture(scope="module")
def killed(jobs, tmp_path_factory) -> Path:
    """A store in which one of two ranks was killed at some step."""
    folder = tmp_path_factory.mktemp("killed")
    fatal = int(torch.randint(2, 8, (1,)))
    together(folder, [jobs["keeps checkpoints"]], folder / "store", fatal=fatal)
    [checkpoint] = (folder / "store").glob("drafts/train-*/checkpoints/step-????????")
    assert int(checkpoint.name[5:]) == fatal - 1
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_killed_at_a_step_is_resumed_by_any_number(jobs, both, killed, tmp_path, ranks):
    """To the bit by as many as before; to 1e-5 by others."""
    job, (one, whole) = jobs["keeps checkpoints"], both["keeps checkpoints"]
    assert_close(curve(one), curve(whole))
    store = shutil.copytree(killed, tmp_path / "store")
    [resumed] = [job.alone(store)] if ranks == 1 else together(tmp_path, [job], store)
    assert resumed.name == whole.name
    assert_close(curve(resumed), curve(whole))
    if ranks == 2:
        assert curve(resumed) == curve(whole)
        assert all(torch.equal(weights(resumed)[key], weight) for key, weight in weights(whole).items())
    assert not list((store / "locks").glob("*.lock"))


@pytest.mark.slow
def test_one_process_is_resumed_by_three(world, tmp_path, monkeypatch):
    job = Job(world.base.folder, world.tokens.path, {"checkpoint_minutes": 0.0})
    from graft.training import run as module

    note = module.TrainingRun._note

    def fatally(self, step):
        note(self, step)
        if step.number == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.TrainingRun, "_note", fatally)
        with pytest.raises(KeyboardInterrupt):
            job.alone(tmp_path / "store")
    [resumed] = together(tmp_path, [job], tmp_path / "store", ranks=3)
    assert_close(curve(resumed), curve(job.alone(tmp_path / "plain")))


def adapt(world, folder: Path, *more: str) -> list[str]:
    return [
        "-m", "graft", "adapt", str(world.base.folder), "--domain", str(world.domain), "--general", str(world.general),
        "--tokens", "4k", "--out", str(folder / "out"), "--store", str(folder / "store"), "--set", "train.batch_size=5",
        *more,
    ]  # fmt: skip


@pytest.mark.processor_seconds(30)
def test_a_job_speaks_once_and_leaves_one_outcome(world, tmp_path):
    """As users start it: no process of the first job is forked from one of ours."""
    ended = launch(tmp_path, adapt(world, tmp_path), start=subprocess.Popen)
    assert ended.returncode == 0, ended.stderr
    for line in ("model:   ", "summary: "):
        assert ended.stdout.count(line) == 1
    for kind in ("corpus", "tokens", "train", "findings", "report"):
        assert ended.stderr.count(f"  {kind:9} {kind}-") == 1, ended.stderr
    assert "waiting for" not in ended.stderr and "Traceback" not in ended.stderr
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").config.tie_word_embeddings
    again = launch(tmp_path, adapt(world, tmp_path))
    assert again.returncode == 0 and again.stderr.count("Nothing to do") == 1, again.stderr


def test_a_fault_is_said_once_and_ends_all(world, tmp_path):
    ended = launch(tmp_path, adapt(world, tmp_path, "--set", "train.learning_rate=1e30", "--set", "train.clip=0"))
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if re.match("graft: (?!note|precision)", line)]
    assert len(said) == 1 and "train.learning_rate" in ended.stderr, ended.stderr
    assert "exitcode  : 1" in ended.stderr
    wrong = launch(tmp_path, adapt(world, tmp_path, "--set", "train.batch_size=-1"))
    assert wrong.stderr.count("batch_size is -1") == 1 and "exitcode  : 2" in wrong.stderr, wrong.stderr


def test_one_process_under_torchrun_and_a_job_without_training(world, tmp_path):
    ended = launch(tmp_path, ["-m", "graft", "ls", "schedules"])
    assert ended.returncode == 0 and ended.stdout.count(" warm_stable_decay ") == 1
    [made] = together(tmp_path, [Job(world.base.folder, world.tokens.path)], tmp_path / "store", ranks=1)
    assert made.facts["reload_difference"] <= 1e-4


MEASURE = """
import ctypes, json, sys, threading, time
from pathlib import Path
import torch, torch.distributed.tensor, torch.distributed.fsdp
import transformers.models.llama.modeling_llama
from graft.core.process.processes import rank
from graft.models.runtime.parallel import gathered, meet
from graft.models.files.weights import open_model, save_model

def held():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

most, libc = [0], ctypes.CDLL(None)
def watch():
    while True:
        libc.malloc_trim(0)  # what was freed goes back to the system, instead of waiting for the next time
        most[0] = max(most[0], held())
        time.sleep(0.01)

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
meet(True)
threading.Thread(target=watch, daemon=True).start()
with gathered():
    before, most[0] = held(), 0
    model = open_model(folder, "fp32")
    opened, most[0] = most[0] - before, 0
    difference = save_model(model, folder, out / "model", torch.arange(30).view(3, 10))
    saved = most[0] - before
(out / f"{rank()}.json").write_text(json.dumps([opened, saved, difference]))
"""


@pytest.mark.slow
@pytest.mark.processor_seconds(40)
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux, and glibc, what a process holds")
def test_no_rank_ever_holds_the_whole_model(tmp_path):
    """54 million weights, 216 MB in float32, half of it in the files: opened, written and read back by two ranks.

    Counted is what a process holds alone: pages of the files belong to the system, which shares them and lets them go.
    """
    sizes = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 28, "num_attention_heads": 6}
    config = AutoConfig.for_model("llama", **sizes, vocab_size=1024, tie_word_embeddings=True, dtype="bfloat16")
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    whole = 4 * sum(weight.numel() for weight in model.parameters())
    assert whole > 200e6
    model.save_pretrained(tmp_path / "base")
    expected = {name: weight.clone() for name, weight in model.state_dict().items()}
    del model
    (tmp_path / "measure.py").write_text(MEASURE)
    ended = launch(tmp_path, [str(tmp_path / "measure.py"), str(tmp_path / "base"), str(tmp_path)])
    assert ended.returncode == 0, ended.stderr
    for rank in (0, 1):
        opened, saved, difference = json.loads((tmp_path / f"{rank}.json").read_text())
        assert difference == 0.0
        # A half, and for a moment of the first forward pass two blocks whole.
        assert opened < 0.75 * whole, (rank, opened, whole)
        # Two halves, the model and what was read back of it, and for a moment the embedding and one block whole.
        assert saved < 1.5 * whole, (rank, saved, whole)
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(written[name], expected[name]) for name in written) and len(written) == len(expected) - 1


TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
T5 = {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 60}
FAMILIES = {
    "llama": (AutoModelForCausalLM, TINY | {"vocab_size": 60, "tie_word_embeddings": False}),
    "llama tied": (AutoModelForCausalLM, TINY | {"vocab_size": 60, "tie_word_embeddings": True}),
    "gpt2": (AutoModelForCausalLM, {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 60}),
    "qwen2": (AutoModelForCausalLM, TINY | {"vocab_size": 60}),
    "bert": (AutoModelForMaskedLM, TINY | {"vocab_size": 60}),
    "t5": (AutoModelForSeq2SeqLM, T5),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("largest", [1 << 30, 5000])
def test_our_files_hold_what_transformers_own_would(tmp_path, family, largest):
    """Golden: save_pretrained; one file, and many with an index."""
    loader, sizes = FAMILIES[family]
    model = loader.from_config(AutoConfig.for_model(family.split()[0], **sizes))
    model.save_pretrained(tmp_path / "theirs")
    model.config.save_pretrained(tmp_path)
    kept = _untied(model)
    write_weights(kept, tmp_path, dict.fromkeys(kept, torch.float32), largest)
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    ours = {name: weight for path in tmp_path.glob("*.safetensors") for name, weight in load_file(path).items()}
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "model.safetensors.index.json").exists() == (largest == 5000)
    again, found = loader.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert all(torch.equal(again.state_dict()[name], weight) for name, weight in model.state_dict().items())
