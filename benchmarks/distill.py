"""What an objective's step costs beside a plain causal step: the same model, the same rows, taking turns.

    python benchmarks/distill.py [causal swap_distill ...] [--size small|medium] [--rounds 3] [--json FILE]
    python benchmarks/distill.py causal 'stay_close:{"kl_weight": 0.5}'

Objectives are names on the shelf, with settings as JSON after a colon if any; the first is what the others are compared
with. In each process all of them train a copy of the same Llama on the same packed rows, in bf16, and step by turns, so
that a busy moment of the machine hits all; processor seconds are taken around each step. Where an objective holds a
second model, that is the start, frozen, as `graft train` would open it. Memory is not compared here, for the copies
share the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from packed import SIZES, Rows, Size, batches_of, fresh_model
from tokenizers import Tokenizer, models
from turns import machine, median, ratio, row, say_machine, table, take_turns, verdict, write_json

from graft.core.config.plugins import Shelf

WARM_UP = 2
TARGETS = {"swap_distill": 1.45}  # processor seconds over those of a causal step, at most
LEARNING_RATE = 1e-4


def objective(asked: str) -> Any:
    name, _, settings = asked.partition(":")
    return Shelf("objectives").load(name)(**json.loads(settings or "{}"))


def save_start(size: Size, folder: Path) -> None:
    """The model that training starts from, in Hugging Face form, with a tokenizer of as many words."""
    fresh_model(size).save_pretrained(folder)
    words = {"<end>": 0} | {f"w{number}": number for number in range(1, size.vocabulary)}
    Tokenizer(models.WordLevel(words, unk_token="<end>")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


def stepper(asked: str, size: Size, folder: Path, batches: list[Any]) -> Iterator[Any]:
    """The training loop of one objective; each `next` is a step."""
    from graft.core.models.base_model import Base
    from graft.models.checks.verify import verify
    from graft.models.files.weights import open_model
    from graft.models.forward.model import Model
    from graft.training.contract import Start
    from graft.training.loop import Pace, run
    from graft.training.run import adamw

    def opened(*, frozen: bool) -> Model:
        model = open_model(folder, "bf16", frozen=frozen)
        verify(model, batches[0])
        return model

    model = opened(frozen=False)
    start = Start(Base("measured", folder), {}, list(Rows.names), size.window, size.rows, seed=0)
    loss: Callable[..., Any] = objective(asked).bind(start, lambda _: opened(frozen=True))
    model.hf.train()
    optimizer = adamw(model, rate=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    pace = Pace(rate=lambda _: LEARNING_RATE, micro_rows=size.rows, clip=1.0, seed=0)
    return run(model, loss, Rows(batches), optimizer, pace, 0, len(batches))  # type: ignore[arg-type]


def measure(objectives: list[str], size: Size, steps: int) -> dict[str, dict[str, Any]]:
    """Per objective: processor and wall seconds of a step (medians), and its losses."""
    batches = batches_of(size, WARM_UP + steps)
    with tempfile.TemporaryDirectory() as root:
        save_start(size, Path(root))
        steppers = {asked: stepper(asked, size, Path(root), batches) for asked in objectives}
        spent: dict[str, list[tuple[float, float]]] = {asked: [] for asked in objectives}
        losses: dict[str, list[float]] = {asked: [] for asked in objectives}
        for _ in batches:
            for asked, steps_of in steppers.items():
                began = time.process_time(), time.perf_counter()
                losses[asked].append(next(steps_of).loss)
                spent[asked].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    found = {}
    for asked, spans in spent.items():
        cpu, wall = zip(*spans[WARM_UP:], strict=True)
        found[asked] = {"cpu": statistics.median(cpu), "wall": statistics.median(wall), "losses": losses[asked]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objectives", nargs="*", default=["causal", "swap_distill"])
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--rounds", type=int, default=3, help="processes")
    parser.add_argument("--steps", type=int, default=5, help="steps measured in each, after two that warm up")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    size = SIZES[asked.size]
    if asked.one:
        print(json.dumps(measure(asked.objectives, size, asked.steps)))
        return
    for each in asked.objectives:
        objective(each)  # a name that is not on the shelf is said here, and not by every process
    found = machine()
    say_machine(found)
    print(
        f"hidden {size.hidden}, {size.layers} layers, vocabulary {size.vocabulary}, {size.rows} rows of {size.window}\n"
    )
    sizes = ("--size", asked.size, "--steps", str(asked.steps))
    seen = take_turns(__file__, ["all"], asked.rounds, *asked.objectives, *sizes)["all"]
    table(("objective", "CPU-s/step", "wall s/step", f"CPU x {asked.objectives[0]}", "target", "last loss"))
    first = [run[asked.objectives[0]] for run in seen]
    for each in asked.objectives:
        runs = [run[each] for run in seen]
        dearer = ratio(runs, first, "cpu")
        target = verdict(dearer.median, at_most=TARGETS.get(each.partition(":")[0]))
        cpu, wall = (f"{median(runs, key):.2f}" for key in ("cpu", "wall"))
        row(each, cpu, wall, dearer, target, f"{runs[-1]['losses'][-1]:.4f}")
    write_json(asked.json, __file__, found, {"size": asked.size, "rounds": seen})


if __name__ == "__main__":
    main()
