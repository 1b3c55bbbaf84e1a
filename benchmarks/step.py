"""One training step, ours and that of transformers' Trainer, on the same rows: processor time, memory, loss.

    python benchmarks/step.py                     both peers and us, alternating, a fresh process each time
    python benchmarks/step.py --one graft         one process, its numbers as JSON

Every process builds the same model from the same seed and sees the same rows of packed documents in the same order;
the losses in the table must therefore agree. Processor seconds (all threads) are what is compared: on a shared
machine wall time says more about the neighbours. They are taken between the ends of consecutive steps, so that
reading the batch, the optimiser and clearing gradients are inside; the first steps warm up and are left out.
Peak memory is the largest resident set of the process, so it includes the interpreter and the libraries.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not be counted as threads that work

import torch
import transformers

from graft.tensors.batch import Batch

B, T, V = 16, 512, 8192
WARM_UP, MEASURED = 2, 4
MEAN_LENGTH, SPREAD = 5.0, 0.9  # of the logarithm of a document's length: half of them are shorter than 150 tokens
LEARNING_RATE = 1e-4


def config() -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        hidden_size=256, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4, intermediate_size=704,
        vocab_size=V, max_position_embeddings=T, tie_word_embeddings=True,
    )  # fmt: skip


def fresh_model() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config())


def rows(num_batches: int) -> list[Batch]:
    """Documents of mixed lengths end to end, cut where a row ends; each token is likely to follow from the last."""
    generator = torch.Generator().manual_seed(1)
    num_tokens = num_batches * B * T
    places: list[int] = []
    while len(places) < num_tokens:
        length = int((MEAN_LENGTH + SPREAD * torch.randn((), generator=generator)).exp().clamp(8, 4 * T))
        while length > 0:
            piece = min(length, T - len(places) % T)
            places.extend(range(piece))
            length -= piece
    step = torch.randint(1, 9, (num_tokens + 1,), generator=generator)
    tokens = step.cumsum(0) * 31 % V
    shape = (num_batches, B, T)
    batches = zip(
        tokens[:-1].view(shape), tokens[1:].view(shape), torch.tensor(places[:num_tokens]).view(shape), strict=True
    )
    source_B = torch.zeros(B, dtype=torch.long)
    return [Batch(read, target, torch.ones(B, T), position, source_B) for read, target, position in batches]


class Clock:
    """Processor and wall seconds between ticks, and what the process has held at most."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.ticks.append((time.process_time(), time.perf_counter()))

    def report(self, losses: list[float]) -> dict[str, Any]:
        kept = self.ticks[WARM_UP - 1 :]
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(kept)]
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "cpu": [cpu for cpu, _ in spans],
            "wall": [wall for _, wall in spans],
            "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "loss": losses,
        }


class Rows:
    """Batches made beforehand, in the place of a sampler."""

    names = ("documents",)

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def batch(self, k: int) -> Batch:
        return self.batches[k]


def run_graft(micro_rows: int = B) -> dict[str, Any]:
    """Our training loop with the plain objective."""
    from graft.objectives.causal import Causal
    from graft.tensors.loop import Pace, run
    from graft.tensors.model import Model
    from graft.tensors.run import adamw
    from graft.tensors.verify import verify

    model = Model(fresh_model(), precision="bf16")
    batches = rows(WARM_UP + MEASURED)
    verify(model, batches[0])
    model.hf.train()
    loss = Causal().bind(Path(), lambda _: model)
    optimizer = adamw(model, rate=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    pace = Pace(rate=lambda _: LEARNING_RATE, micro_rows=micro_rows, clip=1.0, seed=0)
    clock, losses = Clock(), []
    for step in run(model, loss, Rows(batches), optimizer, pace, 0, len(batches)):  # type: ignore[arg-type]
        losses.append(step.loss)
        clock.tick()
    return clock.report(losses)


def run_trainer(packed: bool = True, micro_rows: int = B) -> dict[str, Any]:
    """transformers' Trainer; packed: it is told where documents begin, as we are (else rows are read as one text)."""
    batches = rows(WARM_UP + MEASURED)
    clock, losses = Clock(), []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    def example(batch: Batch, row: int) -> dict[str, torch.Tensor]:
        fields = {"input_ids": batch.tokens_BT[row], "labels": batch.targets_BT[row]}
        fields["shift_labels"] = batch.targets_BT[row]  # stored shifted already
        return {**fields, "position_ids": batch.position_BT[row]} if packed else fields

    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=fresh_model(),
            args=transformers.TrainingArguments(
                output_dir=folder, max_steps=WARM_UP + MEASURED, per_device_train_batch_size=micro_rows,
                gradient_accumulation_steps=B // micro_rows, bf16=True, use_cpu=True,
                learning_rate=LEARNING_RATE, lr_scheduler_type="constant", max_grad_norm=1.0, logging_steps=1,
                save_strategy="no", report_to="none", disable_tqdm=True, remove_unused_columns=False,
                train_sampling_strategy="sequential", optim="adamw_torch_fused",
            ),
            train_dataset=[example(batch, row) for batch in batches for row in range(B)],  # type: ignore[arg-type]
            callbacks=[Watch()],
        )  # fmt: skip
        trainer.train()
    return clock.report(losses)


PEERS = {
    "graft": run_graft,
    "Trainer": run_trainer,
    "graft, 4 rows at a time": lambda: run_graft(micro_rows=4),
    "Trainer, 4 rows at a time": lambda: run_trainer(micro_rows=4),
    "Trainer, documents not kept apart": lambda: run_trainer(packed=False),
}


def compare(rounds: int) -> None:
    """Fresh processes in turn, so that a busy spell of the machine hits every peer."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in PEERS}
    for _ in range(rounds):
        for name in PEERS:
            command = [sys.executable, __file__, "--one", name]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seen[name].append(json.loads(answer.splitlines()[-1]))
    cpu, wall = (
        {name: statistics.median(itertools.chain(*(run[key] for run in runs))) for name, runs in seen.items()}
        for key in ("cpu", "wall")
    )
    rss = {name: statistics.median(run["rss"] for run in runs) for name, runs in seen.items()}
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}\n"
        f"{sum(p.numel() for p in fresh_model().parameters()) / 1e6:.1f} M parameters, {B} rows of {T} tokens, "
        f"vocabulary {V}, bf16, AdamW, clipped at 1; medians of {rounds} processes x {MEASURED} steps\n"
    )
    head = ("", "CPU-s/step", "from - to", "wall s/step", "tokens/s", "peak RSS MiB", "CPU x", "memory x", "last loss")
    print("{:34} {:>10} {:>13} {:>11} {:>8} {:>12} {:>6} {:>8} {:>9}".format(*head))
    for name, runs in seen.items():
        every = list(itertools.chain(*(run["cpu"] for run in runs)))
        print(
            f"{name:34} {cpu[name]:10.2f} {f'{min(every):.2f} - {max(every):.2f}':>13} {wall[name]:11.2f} "
            f"{B * T / wall[name]:8.0f} {rss[name] / 2**20:12.0f} {cpu[name] / cpu['graft']:6.2f} "
            f"{rss['graft'] / rss[name]:8.2f} {runs[-1]['loss'][-1]:9.4f}"
        )
    print("\nCPU x: this row's processor time over graft's (first row). memory x: graft's peak over this row's.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=list(PEERS), help="run one peer in this process and print its numbers as JSON")
    parser.add_argument("--rounds", type=int, default=2, help="processes per peer")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(PEERS[arguments.one]()))
    else:
        compare(arguments.rounds)


if __name__ == "__main__":
    main()
