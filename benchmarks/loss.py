"""The loss over a large vocabulary, forward and backward: ours beside torch's and TRL's, in time and memory.

    python benchmarks/loss.py [--tokens 2048] [--width 1024] [--vocabulary 128256] [--rounds 3] [--json FILE]
    python benchmarks/loss.py --losses kl --types float32

Hidden states and heads are random; what is timed starts from hidden states and ends with the gradients of the hidden
states and of the head, for the mean over the tokens. Peers:

cross entropy   graft (graft.models.losses.token_losses.weighted_sums); F.linear and F.cross_entropy of float32 logits;
                F.linear_cross_entropy with LinearCrossEntropyOptions() (torch 2.13, chunked), and in chunks of 512
                tokens, because its own choice is small and costs a pass over the head's gradient for each
kl              KL(teacher || student), the teacher with hidden states and a head of its own: graft; two logits in
                float32 and F.kl_div; TRL's GKDTrainer.generalized_jsd_loss at beta 0 on float32 logits, which is what
                its trainer hands over under mixed precision; the chunked loss of TRL's DistillationTrainer at beta 0

Memory is what torch's allocator had handed out at most during one forward and backward pass, over what it had handed
out before it (weights, hidden states), summed from the profiler's record of every allocation and release; so neither
malloc's habits nor the libraries are in it, nor scratch space that a library takes by itself. The gradients are in it:
every peer must make them, and the column beside it leaves them out. `RSS` is by how much the resident set grew during
the first pass, as a check that nothing large goes unseen.
Gradients are compared on 64 tokens with those of float64 arithmetic: the relative error in the Euclidean norm.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from turns import Clock, machine, median, peak_rss, ratio, row, say_machine, table, take_turns, verdict, write_json

CHECKED_TOKENS = 64
TARGETS = {  # (loss, peer) -> ours over theirs, at most: memory above the weights, processor seconds
    ("cross_entropy", "linear and cross_entropy"): (0.25, 0.7),
    ("cross_entropy", "linear_cross_entropy"): (None, 1.0),
    ("cross_entropy", "linear_cross_entropy by 512"): (None, 1.0),
    ("kl", "two logits"): (0.2, 0.5),
    ("kl", "TRL GKD"): (0.2, 0.5),
}


@dataclass(frozen=True)
class Task:
    """N tokens, a head of V x D, and for the divergence a teacher of the same sizes."""

    hidden_ND: Tensor
    weight_VD: Tensor
    targets_N: Tensor
    teacher_ND: Tensor
    teacher_VD: Tensor

    @classmethod
    def draw(cls, tokens: int, width: int, vocabulary: int, dtype: torch.dtype, teacher: bool) -> Task:
        generator = torch.Generator().manual_seed(0)

        def normal(rows: int, scale: float, columns: int = width) -> Tensor:
            return torch.empty(rows, columns, dtype=dtype).normal_(0, scale, generator=generator)

        hidden_ND, weight_VD = normal(tokens, 1.0), normal(vocabulary, 1.6 / math.sqrt(width))
        targets_N = torch.randint(vocabulary, (tokens,), generator=generator)
        teacher_VD = normal(vocabulary if teacher else 0, 1.6 / math.sqrt(width))
        return cls(hidden_ND, weight_VD, targets_N, normal(tokens, 1.0), teacher_VD).ready()

    def ready(self) -> Task:
        """The same, asking for gradients of the student's part and holding none."""
        parts = (self.hidden_ND.detach().requires_grad_(), self.weight_VD.detach().requires_grad_())
        return replace(self, hidden_ND=parts[0], weight_VD=parts[1])

    def to(self, dtype: torch.dtype) -> Task:
        names = ("hidden_ND", "weight_VD", "teacher_ND", "teacher_VD")
        return replace(self, **{name: getattr(self, name).detach().to(dtype) for name in names}).ready()


def graft_loss(task: Task, *, kl: bool) -> Tensor:
    from graft.models.losses.divergence import Teacher
    from graft.models.losses.head import Head
    from graft.models.losses.token_losses import weighted_sums

    num = len(task.targets_N)
    guide = Teacher(task.teacher_ND.unsqueeze(0), Head(task.teacher_VD)) if kl else None
    sums = weighted_sums(
        task.hidden_ND.unsqueeze(0), Head(task.weight_VD), task.targets_N.unsqueeze(0), torch.ones(1, num),
        teacher=guide, learn=0.0 if kl else 1.0, kl_weight=1.0 if kl else 0.0,
    )  # fmt: skip
    return sums.total_B.sum() / num


def linear_and_cross_entropy(task: Task) -> Tensor:
    logits_NV = wide(F.linear(task.hidden_ND, task.weight_VD))
    return F.cross_entropy(logits_NV, task.targets_N)


def linear_cross_entropy(task: Task, chunk: int | None = None) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
    return F.linear_cross_entropy(task.hidden_ND, task.weight_VD, task.targets_N, options=options)


def wide(logits_NV: Tensor) -> Tensor:
    return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()


def both_logits(task: Task) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        guide_NV = wide(F.linear(task.teacher_ND, task.teacher_VD))
    return wide(F.linear(task.hidden_ND, task.weight_VD)), guide_NV


def two_logits(task: Task) -> Tensor:
    logits_NV, guide_NV = both_logits(task)
    logs = F.log_softmax(logits_NV, -1), F.log_softmax(guide_NV, -1)
    return F.kl_div(*logs, reduction="batchmean", log_target=True)


def trl_gkd(task: Task) -> Tensor:
    from trl.experimental.gkd import GKDTrainer

    logits_NV, guide_NV = both_logits(task)
    num = len(task.targets_N)
    return GKDTrainer.generalized_jsd_loss(logits_NV[None], guide_NV[None], beta=0, num_items_in_batch=num)


def trl_chunked(task: Task) -> Tensor:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    mask = torch.ones(1, len(task.targets_N))
    heads = task.weight_VD, task.teacher_VD
    return _chunked_divergence_loss(task.hidden_ND[None], task.teacher_ND[None], *heads, mask, beta=0.0)[0]


PEERS: dict[str, dict[str, Callable[[Task], Tensor]]] = {
    "cross_entropy": {
        "graft": lambda task: graft_loss(task, kl=False),
        "linear and cross_entropy": linear_and_cross_entropy,
        "linear_cross_entropy": linear_cross_entropy,
        "linear_cross_entropy by 512": lambda task: linear_cross_entropy(task, 512),
    },
    "kl": {
        "graft": lambda task: graft_loss(task, kl=True),
        "two logits": two_logits,
        "TRL GKD": trl_gkd,
        "TRL chunked": trl_chunked,
    },
}
EXACT = {"cross_entropy": linear_and_cross_entropy, "kl": two_logits}


def measure(loss: Callable[[Task], Tensor], task: Task, repeats: int) -> dict[str, Any]:
    before = resident()
    value = loss(task)
    value.backward()
    found = {"loss": float(value), "rss": max(0, peak_rss() - before)}
    clock = Clock(warm_up=1)
    clock.tick()
    for _ in range(repeats):
        task = task.ready()
        loss(task).backward()
        clock.tick()
    task = task.ready()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss(task).backward()
    gradients = sum(one.grad.nbytes for one in (task.hidden_ND, task.weight_VD))  # type: ignore[union-attr]
    return found | clock.report() | {"memory": most_held(profile), "gradients": gradients}


def most_held(profile: Any) -> int:
    """Peak of the running sum of all that was allocated and released during a profile, in bytes."""
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def resident() -> int:
    """Bytes of the resident set now; where the system does not say, the peak so far."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else peak_rss()


def gradient_error(kind: str, peer: str, task: Task) -> float:
    """Relative error of both gradients together, against float64 arithmetic on the same numbers."""
    exact = task.to(torch.float64)
    EXACT[kind](exact).backward()
    PEERS[kind][peer](task).backward()
    gap = whole = 0.0
    for found, true in ((task.hidden_ND, exact.hidden_ND), (task.weight_VD, exact.weight_VD)):
        assert found.grad is not None and true.grad is not None
        gap += float(true.grad.sub(found.grad.double()).square_().sum())
        whole += float(true.grad.square().sum())
    return math.sqrt(gap / whole)


def compare(asked: argparse.Namespace) -> list[dict[str, Any]]:
    numbers = []
    heads = ("", "CPU-s", "wall s", "memory, MiB", "without gradients", "RSS, MiB", "graft's CPU-s over this", "target",
             "graft's memory over this", "target", "without gradients", "gradient error")  # fmt: skip
    for kind in asked.losses:
        for dtype in asked.types:
            print(f"\n{kind}, {dtype}: {asked.tokens} tokens, width {asked.width}, vocabulary {asked.vocabulary:,}\n")
            sizes = [f"--{name}={getattr(asked, name)}" for name in ("tokens", "width", "vocabulary", "repeats")]
            peers = [peer for peer in PEERS[kind] if peer == "graft" or peer not in asked.without]
            seen = take_turns(__file__, peers, asked.rounds, "--losses", kind, "--types", dtype, *sizes)
            table(heads)
            ours = seen["graft"]
            for peer, runs in seen.items():
                for run in runs:
                    run["bare"] = run["memory"] - run["gradients"]
                cpu, memory, bare = (ratio(ours, runs, key) for key in ("cpu", "memory", "bare"))
                less, faster = TARGETS.get((kind, peer), (None, None))
                mib = [f"{median(runs, key) / 2**20:,.0f}" for key in ("memory", "bare", "rss")]
                row(peer, f"{median(runs, 'cpu'):.2f}", f"{median(runs, 'wall'):.2f}", *mib, cpu,
                    verdict(cpu.median, at_most=faster), memory, verdict(memory.median, at_most=less), bare,
                    f"{median(runs, 'error'):.1e}")  # fmt: skip
            numbers.append({"loss": kind, "type": dtype, "peers": seen})
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--losses", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--types", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=3, help="processes per peer")
    parser.add_argument("--repeats", type=int, default=2, help="passes timed in each, after one that warms up")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--without", nargs="+", default=[], help="peers to leave out")
    parser.add_argument("--one", help="measure one peer in this process and print its numbers as JSON")
    asked = parser.parse_args()
    if asked.one:
        kind, dtype = asked.losses[0], getattr(torch, asked.types[0])
        sizes = (asked.width, asked.vocabulary, dtype, kind == "kl")
        measured = measure(PEERS[kind][asked.one], Task.draw(asked.tokens, *sizes), asked.repeats)
        error = gradient_error(kind, asked.one, Task.draw(CHECKED_TOKENS, *sizes))
        print(json.dumps(measured | {"error": error}))
        return
    found = machine("trl")
    say_machine(found)
    write_json(asked.json, __file__, found, {"losses": compare(asked)})


if __name__ == "__main__":
    main()
