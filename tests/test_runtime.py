"""Precision and device: decided in one place from what the hardware can multiply, kept by unfinished work, said."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

from fork_server import run
from graft.cli.app import app
from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.process import precision as deciding
from graft.core.process.notes import tell
from graft.core.process.precision import bf16_factor, device, multiplies_bf16, processor_report, runtime, use_device
from graft.core.store.artifact import Store
from graft.data.curate import Curate
from graft.data.tokenize import tokenize
from graft.evaluation.run_probes import examine
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.jobs.continual import Continual
from graft.models.runtime.settle_precision import settle_precision, with_precision
from graft.packing import wide
from graft.planning.plan import forecast
from graft.surgery.initialize import Initialize, initialize
from graft.synthesis.sample_base import Recall, recall
from graft.training.objectives.anchor import Anchor
from graft.training.objectives.causal import Causal
from graft.training.objectives.denoise import Denoise
from graft.training.objectives.masked import Masked
from graft.training.objectives.selective import Selective
from graft.training.objectives.stay_close import StayClose
from graft.training.objectives.swap_distill import SwapDistill
from graft.training.settings import Train
from graft.training.train import train

SHORT = Train(
    tokens=64 * 4 * 3, sequence_length=64, batch_size=4, learning_rate=1e-3, evaluations=1, validation_tokens=200
)
SLOW, FAST = "AVX2", "ALL"  # values of ONEDNN_MAX_CPU_ISA: a processor without bf16 instructions, and as it is


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.delenv("GRAFT_DEVICE", raising=False)
    monkeypatch.delenv("GRAFT_PRECISION", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


def pretend(monkeypatch, kind: str) -> None:
    """A processor that multiplies bfloat16 ("bf16"), or one that does not ("plain"), as the kernel reports it."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        deciding, "_flags", lambda: frozenset({"avx2"} | ({"avx512_bf16"} if kind == "bf16" else set()))
    )


@pytest.mark.parametrize(
    ("machine", "flags", "isa", "able"),
    [
        ("x86_64", {"avx2"}, "", False),
        ("x86_64", {"avx512f", "avx512_vnni"}, "", False),
        ("x86_64", {"avx512_bf16"}, "", True),
        ("AMD64".lower(), {"amx_bf16"}, "", True),
        ("x86_64", {"avx512_bf16"}, "AVX2", False),
        ("x86_64", {"avx512_bf16"}, "avx512_core", False),
        ("x86_64", {"avx512_bf16"}, "AVX512_CORE_BF16", True),
        ("x86_64", {"amx_bf16"}, "AVX512_CORE_AMX", True),
        ("aarch64", {"asimd", "bf16"}, "", True),
        ("aarch64", {"asimd"}, "", False),
        ("aarch64", {"asimd", "bf16"}, "AVX2", True),
    ],
)
def test_what_a_processor_reports_decides(machine, flags, isa, able):
    found = processor_report(machine, frozenset(flags), isa)
    assert found is not None and found[0] is able
    assert not isa or able or isa in found[1]  # what rules it out is named


def test_a_silent_processor_is_measured(monkeypatch):
    assert processor_report("riscv64", frozenset({"v"}), "") is None
    assert processor_report("x86_64", None, "") is None
    assert bf16_factor() > 0
    monkeypatch.setattr(deciding, "_flags", lambda: None)
    for factor, chosen in ((0.5, "bf16"), (0.95, "fp32"), (40.0, "fp32")):
        monkeypatch.setattr(deciding, "bf16_factor", lambda factor=factor: factor)
        assert runtime().precision == chosen
        assert f"{factor:.2g}" in runtime().why and "measured" in runtime().why


def test_the_environment_says_what_auto_comes_to(monkeypatch):
    pretend(monkeypatch, "bf16")
    monkeypatch.setenv("GRAFT_PRECISION", "fp32")
    assert runtime().precision == "fp32" and "GRAFT_PRECISION" in runtime().why
    assert runtime("bf16").precision == "bf16"
    monkeypatch.setenv("GRAFT_PRECISION", "fp8")
    with pytest.raises(UsageError, match='GRAFT_PRECISION is "fp8"'):
        runtime()


def test_the_reports_of_the_kernel_and_of_torch_agree():
    found = torch.cpu.get_capabilities()
    flags = frozenset(flag for flag, has in found.items() if has is True)
    ours = processor_report(platform.machine().lower(), deciding._flags(), "")
    if ours is not None and any(flag in found for flag in ("avx512_bf16", "bf16")):
        assert ours[0] == processor_report(platform.machine().lower(), flags, "")[0]


def test_bf16_set_by_hand_on_a_slow_processor_is_warned_of_with_its_factor(forks):
    """In a process of its own: oneDNN reads the variable once."""
    code = "from graft.core.process.precision import slow_bf16, runtime; print(runtime().precision); print(slow_bf16())"
    environment = {key: value for key, value in os.environ.items() if key != "GRAFT_PRECISION"}
    environment |= {"ONEDNN_MAX_CPU_ISA": SLOW}
    done = run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    precision, words = done.stdout.splitlines()
    assert precision == "fp32"
    factor = float(words.split(" takes ")[1].split(" times")[0])
    assert factor > 1 and "fp32" in words


def test_the_device_is_a_choice_of_the_process_and_unknown_ones_are_refused(monkeypatch):
    monkeypatch.setenv("GRAFT_DEVICE", "cpu")
    assert device() == "cpu"
    with pytest.raises(UsageError) as refused:
        use_device("gpu")
    assert 'the device is "gpu"' in str(refused.value) and "auto, cpu, cuda, mps" in str(refused.value)
    for name in ("cuda", "mps"):
        if not deciding._has(name):
            monkeypatch.setenv("GRAFT_DEVICE", name)
            with pytest.raises(UsageError, match="torch finds none on this machine"):
                device()


def test_mps_computes_in_fp32_and_only_in_one_process(monkeypatch):
    assert multiplies_bf16("mps")[0] is False
    monkeypatch.setattr(deciding, "_has", lambda name: name == "mps")
    assert device() == "mps" and runtime().precision == "fp32"
    monkeypatch.setattr(deciding, "num_ranks", lambda: 2)
    assert device() == "cpu"
    with pytest.raises(UsageError, match="2 processes work together"):
        use_device("mps")


def test_every_stage_of_a_job_gets_one_precision(tmp_path, monkeypatch):
    stream = Continual(domains={"a": "x", "b": "y"})
    for kind, expected in (("bf16", "bf16"), ("plain", "fp32")):
        pretend(monkeypatch, kind)
        for job in (Adapt(), Budget(), stream):
            settled = settle_precision(job, Store(tmp_path / kind))
            inner = settled.adapt if isinstance(settled, Budget) else settled
            assert {inner.train.precision, inner.evaluate.precision} == {expected}
        assert settled.answer.precision == expected
        assert settle_precision(Budget(), Store(tmp_path / kind)).walk_back.precision == expected


def test_what_is_set_by_hand_stays_and_the_rest_is_chosen(tmp_path, monkeypatch):
    pretend(monkeypatch, "plain")
    settled = settle_precision(Adapt(evaluate=Evaluate(precision="bf16")), Store(tmp_path))
    assert (settled.evaluate.precision, settled.train.precision) == ("bf16", "fp32")
    every = with_precision(Budget(adapt=Adapt(evaluate=Evaluate(precision="bf16"))), "fp32")
    assert (every.adapt.evaluate.precision, every.adapt.train.precision, every.walk_back.precision) == ("fp32",) * 3


def test_work_that_was_begun_keeps_its_precision_on_another_machine_and_says_so(tmp_path, monkeypatch, capsys):
    store, job = Store(tmp_path), Adapt(replay=0.123)
    pretend(monkeypatch, "bf16")
    assert settle_precision(job, store).train.precision == "bf16"
    pretend(monkeypatch, "plain")
    capsys.readouterr()
    assert settle_precision(replace(job, out="elsewhere"), store).train.precision == "bf16"
    words = capsys.readouterr().err
    assert "begun in bf16" in words and "auto would choose fp32" in words and "--precision fp32" in words
    assert settle_precision(replace(job, replay=0.2), store).train.precision == "fp32"  # another job is decided anew
    assert settle_precision(with_precision(job, "fp32"), store).train.precision == "fp32"


def test_a_training_of_its_own_keeps_its_precision_too(world, tmp_path, monkeypatch):
    store, one = world.store, replace(SHORT, seed=77)
    pretend(monkeypatch, "plain")
    first = train(world.base, world.tokens, {"domain": 1.0}, one, store=store)
    assert first.manifest["settings"]["precision"] == "fp32"
    assert first.facts["runtime"]["precision"] == "fp32" and "bfloat16" in first.facts["runtime"]["why"]
    pretend(monkeypatch, "bf16")
    assert train(world.base, world.tokens, {"domain": 1.0}, replace(one, workers=2), store=store).name == first.name
    other = train(world.base, world.tokens, {"domain": 1.0}, replace(one, seed=78), store=store)
    assert other.manifest["settings"]["precision"] == "bf16"


def test_evidence_of_two_precisions_is_not_compared(world):
    seen = {
        one: evaluate(world.base, world.tokens, Evaluate(max_tokens=300, precision=one), store=world.store)
        for one in ("fp32", "bf16")
    }
    with pytest.raises(UsageError) as refused:
        examine(seen["fp32"], seen["bf16"], store=world.store)
    assert "different precisions (fp32: before; bf16: after)" in str(refused.value)


def test_a_plan_chooses_as_the_run_does_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, "plain")
    tell.cache_clear()  # each line is told once in a process
    forecast(Adapt(replay=0.321), Store(tmp_path / "none"))
    assert "precision fp32 on cpu" in capsys.readouterr().err
    assert not list((tmp_path / "none").glob("runtime-*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "fp16"], '--precision is "fp16"'),
        (["--precision", "bf32"], "auto, bf16, fp32"),
        (["--device", "tpu"], 'the device is "tpu"'),
    ],
)
def test_the_command_line_refuses_what_it_does_not_know(tmp_path, arguments, words):
    done = CliRunner().invoke(app, ["adapt", "embedded", "--domain", str(tmp_path), *arguments])
    assert isinstance(done.exception, UsageError) and words in str(done.exception)


def test_every_command_that_computes_has_both_flags():
    for command in ("adapt", "run", "continual", "eval", "compare", "similarity", "plan", "verify-resume"):
        words = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        assert "--precision" in words and "--device" in words, command


def test_the_summary_and_the_page_say_how_it_was_computed(world, tmp_path):
    job = Adapt(
        base=str(world.base.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        out=str(tmp_path / "out"),
        curate=Curate(),
        train=SHORT,
        evaluate=Evaluate(max_tokens=400),
    )
    outcome = with_precision(job, "fp32")(world.store)
    assert outcome.summary["runtime"]["precision"] == "fp32" and outcome.summary["runtime"]["device"] == device()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Precision" in page and outcome.summary["runtime"]["why"] in page
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["runtime"] == outcome.summary["runtime"]


class NoFloat64(TorchDispatchMode):
    """As on a device without float64: an operation that takes or gives one is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64:
                raise TypeError(f"float64 in {func}")
        return out


def kind_world(world, architecture: str, vocabulary: int):
    tiny = Initialize(
        vocabulary=vocabulary, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture=architecture
    )
    base = Base(architecture, initialize(world.corpus, tiny, store=world.store) / "model")
    return replace(world, base=base, tokens=tokenize(world.corpus, base, store=world.store))


@pytest.mark.parametrize(
    ("objective", "architecture", "vocabulary"),
    [
        (Causal(), "", 0),
        (StayClose(), "", 0),
        (SwapDistill(), "", 0),
        (SwapDistill(top_k=8), "", 0),
        (Anchor(form="l2"), "", 0),
        (Anchor(form="ewc", fisher_rows=4), "", 0),
        (Selective(), "", 0),
        (Masked(), "bert", 320),
        (Denoise(), "t5", 420),
    ],
    ids=lambda one: str(one)[:40],
)
def test_no_training_or_scoring_step_needs_float64(world, tmp_path, monkeypatch, objective, architecture, vocabulary):
    """So that it holds for Apple's GPUs, which have none, on machines without one."""
    here = kind_world(world, architecture, vocabulary) if architecture else world
    monkeypatch.setattr(wide, "WITHOUT_FLOAT64", {"cpu"})
    settings = replace(SHORT, objective=objective, precision="fp32", seed=5)
    with NoFloat64():
        trained = train(here.base, here.tokens, {"domain": 0.5, "general": 0.5}, settings, store=Store(tmp_path))
        model = Base(trained.name, trained / "model")
        evaluate(model, here.tokens, Evaluate(max_tokens=300, precision="fp32"), store=Store(tmp_path))
    with pytest.raises(TypeError, match="float64"), NoFloat64():
        torch.ones(2, dtype=torch.float64)


def test_no_sampling_of_text_needs_float64(world, tmp_path, monkeypatch):
    monkeypatch.setattr(wide, "WITHOUT_FLOAT64", {"cpu"})
    with NoFloat64():
        recall(world.base, Recall(tokens=200, limit=32, top_p=0.9, precision="fp32"), store=Store(tmp_path))
