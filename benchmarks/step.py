"""One training step, ours and those of transformers' Trainer, TRL and LitGPT, on the same rows: time, memory, loss.

    python benchmarks/step.py [--size small|medium] [--precision bf16|fp32] [--rounds 3] [--json FILE]
    python benchmarks/step.py --peers graft Trainer         only these
    python benchmarks/step.py --one graft                   one process, its numbers as JSON

Every process builds the same Llama from the same seed and sees the same rows of packed documents in the same order, in
one precision (bf16 with float32 weights, or fp32; by itself what the machine is good at), AdamW, clipped at 1. Steps
are timed between the ends of consecutive steps, so reading the batch, the optimiser and clearing gradients are inside;
the first ones warm up and are left out. Memory is the largest resident set of the whole process, libraries included.
What the peers compute:

graft       all targets count; attention within documents; graft.training.loop with the plain objective
Trainer     the same, told by position_ids (transformers then builds a mask) and shift_labels; fused AdamW
 .. borders ignored  plain causal attention over the whole row: not the same computation, and the cheapest for it
TRL         SFTTrainer with packing=True, which means padding-free: the rows of a micro-batch become one long row (the
            collator's work; dataset preparation is skipped because the rows are packed already, its columns are
            handed over). Without flash attention, so on any CPU, that row gets a dense mask. Labels are the tokens,
            shifted inside, so the last token of each document is no target. Its defaults otherwise: activations
            recomputed (gradient_checkpointing=True), fused head. `1 row at a time` accumulates gradients over rows,
            which spares the long row and is the fastest we found; `kept` does so without recomputing.
LitGPT      litgpt.pretrain.fit itself on litgpt.GPT with these weights: bf16-mixed or 32-true of Lightning Fabric,
            chunked cross entropy, its optimiser as pretrain makes it (not fused on a CPU), torch.compile as pretrain
            does; documents not kept apart, since it has no way to. `not compiled` leaves torch.compile out.

Losses: `graft` and `Trainer` must agree, and `borders ignored` and `LitGPT`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from packed import SIZES, Rows, Size, batches_of, fresh_model
from turns import Clock, machine, median, ratio, row, say_machine, table, take_turns, verdict, write_json

from graft.core.process.precision import runtime
from graft.packing.batch import Batch

WARM_UP = 2
LEARNING_RATE = 1e-4
TARGETS = {  # processor seconds of the peer over ours, at least
    ("small", "bf16"): {"Trainer": 1.7, "TRL": 3.0, "LitGPT": 1.2},
    ("medium", "bf16"): {"Trainer": 1.4},
    ("small", "fp32"): {"Trainer": 1.3, "LitGPT": 1.1},
    ("medium", "fp32"): {},
}
CUTS = (", 4 rows at a time", ", 1 row at a time")  # a peer is compared with graft's run of the same cut
MEMORY_TARGET = 0.65  # our peak over the Trainer's, at most


def run_graft(size: Size, batches: list[Batch], clock: Clock, micro_rows: int = 0) -> list[float]:
    from graft.models.checks.verify import verify
    from graft.models.forward.decoder import Decoder
    from graft.models.forward.model import Model
    from graft.training.loop import Pace, run
    from graft.training.objectives.causal import Causal
    from graft.training.run import adamw

    model = Model(fresh_model(size), reading=Decoder(), precision=size.precision)
    verify(model, batches[0])
    model.hf.train()
    loss = Causal().bind(None, lambda _: model)  # type: ignore[arg-type] - needs no start
    optimizer = adamw(model, rate=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    pace = Pace(rate=lambda _: LEARNING_RATE, micro_rows=micro_rows or size.rows, clip=1.0, seed=0)
    losses = []
    for step in run(model, loss, Rows(batches), optimizer, pace, 0, len(batches)):  # type: ignore[arg-type]
        losses.append(step.loss)
        clock.tick()
    return losses


class Watch(transformers.TrainerCallback):
    """Ticks the clock after each step of a Trainer and keeps its losses."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.losses = clock, []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.tick()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def trainer_settings(size: Size, num_batches: int, micro_rows: int) -> dict[str, Any]:
    """What the Trainer and TRL's, which inherits from it, are told alike."""
    return {
        "max_steps": num_batches, "per_device_train_batch_size": micro_rows,
        "gradient_accumulation_steps": size.rows // micro_rows, "bf16": size.precision == "bf16", "use_cpu": True,
        "learning_rate": LEARNING_RATE, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "remove_unused_columns": False,
        "train_sampling_strategy": "sequential", "optim": "adamw_torch_fused",
    }  # fmt: skip


def run_trainer(
    size: Size, batches: list[Batch], clock: Clock, packed: bool = True, micro_rows: int = 0
) -> list[float]:
    def example(batch: Batch, b: int) -> dict[str, torch.Tensor]:
        fields = {"input_ids": batch.tokens_BT[b], "labels": batch.targets_BT[b]}
        fields["shift_labels"] = batch.targets_BT[b]  # stored shifted already
        return {**fields, "position_ids": batch.position_BT[b]} if packed else fields

    watch = Watch(clock)
    with tempfile.TemporaryDirectory() as folder:
        settings = trainer_settings(size, len(batches), micro_rows or size.rows)
        transformers.Trainer(
            model=fresh_model(size),
            args=transformers.TrainingArguments(output_dir=folder, **settings),
            train_dataset=[example(batch, b) for batch in batches for b in range(size.rows)],  # type: ignore[arg-type]
            callbacks=[watch],
        ).train()
    return watch.losses


def run_trl(size: Size, batches: list[Batch], clock: Clock, micro_rows: int = 0, recompute: bool = True) -> list[float]:
    import datasets
    import tokenizers
    import trl

    datasets.disable_progress_bars()
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<end>"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "seq_lengths": []}
    for batch in batches:
        for tokens_T, position_T in zip(batch.tokens_BT, batch.position_BT, strict=True):
            starts = [*(position_T == 0).nonzero().flatten().tolist(), size.window]
            columns["input_ids"].append(tokens_T.tolist())
            columns["labels"].append(tokens_T.tolist())
            columns["seq_lengths"].append([b - a for a, b in itertools.pairwise(starts)])
    watch = Watch(clock)
    with tempfile.TemporaryDirectory() as folder:
        settings = trainer_settings(size, len(batches), micro_rows or size.rows)
        trl.SFTTrainer(
            model=fresh_model(size),
            args=trl.SFTConfig(
                output_dir=folder, packing=True, max_length=size.window, gradient_checkpointing=recompute,
                dataset_kwargs={"skip_prepare_dataset": True}, **settings,
            ),
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=tokenizer,
            callbacks=[watch],
        ).train()  # fmt: skip
    return watch.losses


def run_litgpt(size: Size, batches: list[Batch], clock: Clock, compiled: bool = True) -> list[float]:
    import lightning
    from litgpt import pretrain
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

    config = Config(
        name="measured", block_size=size.window, n_layer=size.layers, n_embd=size.hidden, n_head=size.heads,
        vocab_size=size.vocabulary, padded_vocab_size=size.vocabulary, intermediate_size=size.wide, bias=False,
        norm_class_name="RMSNorm", norm_eps=1e-6, mlp_class_name="LLaMAMLP", rotary_percentage=1.0,
        parallel_residual=False,
    )  # fmt: skip
    computed = {"bf16": "bf16-mixed", "fp32": "32-true"}[size.precision]
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=computed)
    model = GPT(config)
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, weights, dict(fresh_model(size).state_dict()))
    model.load_state_dict(weights, strict=False)
    model.transformer.wte.weight = model.lm_head.weight  # as pretrain does with tie_embeddings
    model = fabric.setup(torch.compile(model) if compiled else model)
    asked = {"class_path": "torch.optim.AdamW", "init_args": {"lr": LEARNING_RATE, "weight_decay": 0.0}}
    optimizer = pretrain.instantiate_torch_optimizer(asked, model.parameters(), fused=False)
    optimizer = fabric.setup_optimizers(optimizer)
    read = [torch.cat([batch.tokens_BT, batch.targets_BT[:, -1:]], 1) for batch in batches]
    losses: list[float] = []
    fabric.log_dict = lambda metrics, step=None: losses.append(metrics["loss"])

    class Loader:
        """The rows; a batch is asked for when the step before it has ended."""

        def __iter__(self) -> Iterator[torch.Tensor]:
            for number, tokens in enumerate([*read, read[-1]]):  # the last one ends the loop
                if number:
                    clock.tick()
                yield tokens

    train = TrainArgs(
        global_batch_size=size.rows, micro_batch_size=size.rows, max_tokens=len(read) * size.rows * size.window,
        max_norm=1.0, min_lr=LEARNING_RATE, lr_warmup_steps=0, log_interval=1, save_interval=None,
    )  # fmt: skip
    state = {"model": model, "optimizer": optimizer, "iter_num": 0, "step_count": 0}
    quiet = EvalArgs(interval=10**9, max_iters=0, final_validation=False)
    with tempfile.TemporaryDirectory() as folder:
        pretrain.fit(fabric, 1, state, Loader(), [read[0][:1]], Path(folder), None, train, quiet)  # type: ignore[arg-type]
    return losses


Peer = Callable[[Size, list[Batch], Clock], list[float]]
PEERS: dict[str, Peer] = {
    "graft": run_graft,
    "Trainer": run_trainer,
    "Trainer, borders ignored": functools.partial(run_trainer, packed=False),
    "graft, 4 rows at a time": functools.partial(run_graft, micro_rows=4),
    "Trainer, 4 rows at a time": functools.partial(run_trainer, micro_rows=4),
    "graft, 1 row at a time": functools.partial(run_graft, micro_rows=1),
    "TRL": run_trl,
    "TRL, 1 row at a time": functools.partial(run_trl, micro_rows=1),
    "TRL, 1 row at a time, kept": functools.partial(run_trl, micro_rows=1, recompute=False),
    "LitGPT": run_litgpt,
    "LitGPT, not compiled": functools.partial(run_litgpt, compiled=False),
}


def compare(asked: argparse.Namespace) -> None:
    """Fresh processes in turn, so that a busy spell of the machine hits every peer."""
    size = replace(SIZES[asked.size], precision=asked.precision)
    found = machine("accelerate", "trl", "litgpt", "lightning")
    say_machine(found)
    print(
        f"{sum(p.numel() for p in fresh_model(size).parameters()) / 1e6:.1f} M parameters (hidden {size.hidden}, "
        f"{size.layers} layers, vocabulary {size.vocabulary}, tied), {size.rows} rows of {size.window} tokens, "
        f"{size.precision}; medians of {asked.rounds} processes x {asked.steps} steps\n"
    )
    peers = asked.peers if "graft" in asked.peers else ["graft", *asked.peers]
    alike = ("--size", asked.size, "--precision", asked.precision, "--steps", str(asked.steps))
    seen = take_turns(__file__, peers, asked.rounds, *alike)
    table(("", "CPU-s/step", "wall s/step", "tokens/s", "peak RSS, MiB", "CPU x graft's", "target",
           "graft's peak over this", "target", "last loss"))  # fmt: skip
    for name, runs in seen.items():
        kind, cut = name.split(",")[0], next((cut for cut in CUTS if cut in name), "")
        ours = seen.get(f"graft{cut}", seen["graft"])
        slower, lighter = ratio(runs, ours, "cpu"), ratio(ours, runs, "peak_rss")
        target = (
            "" if "borders" in name else verdict(slower.median, at_least=TARGETS[asked.size, asked.precision].get(kind))
        )
        less = verdict(lighter.median, at_most=MEMORY_TARGET) if name == "Trainer" else ""
        wall = median(runs, "wall")
        row(
            name, f"{median(runs, 'cpu'):.2f}", f"{wall:.2f}", f"{size.rows * size.window / wall:,.0f}",
            f"{median(runs, 'peak_rss') / 2**20:.0f}", slower, target, lighter, less, f"{runs[-1]['losses'][-1]:.4f}",
        )  # fmt: skip
    write_json(asked.json, __file__, found, {"size": asked.size, "precision": asked.precision, "peers": seen})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=runtime().precision, help="of all of them")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3, help="processes per peer")
    parser.add_argument("--steps", type=int, default=4, help="steps measured in each, after two that warm up")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", choices=list(PEERS), help="run one peer in this process and print its numbers as JSON")
    asked = parser.parse_args()
    if not asked.one:
        compare(asked)
        return
    size, clock = replace(SIZES[asked.size], precision=asked.precision), Clock(WARM_UP)
    losses = PEERS[asked.one](size, batches_of(size, WARM_UP + asked.steps), clock)
    print(json.dumps(clock.report() | {"losses": losses}), file=sys.stdout)


if __name__ == "__main__":
    main()
