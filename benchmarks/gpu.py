"""Every check that needs a GPU, in one call of under nine minutes: no network, random weights, one Markdown table.

    python benchmarks/gpu.py [--json FILE] [--only mfu loss distill]

Without a CUDA device it says so and exits with 0. Each check stands alone: what fails or does not fit is a row that
says so, and the others still run. Times are wall seconds between torch.cuda.synchronize() calls, medians of steps after
warm-up; memory is torch.cuda.max_memory_allocated(), for losses above what was held before.

mfu      a step (forward, backward, clipping, AdamW) of graft.training.loop with the plain objective, on rows of 4,096
         tokens, bf16 products and float32 weights. FLOPs per token: 6 N + 12 L D T, with N the weights that are
         multiplied (attention, MLP, head), L layers, D width, T row length (the whole
         square, as PaLM counts it, arXiv 2204.02311 appendix B). Nothing is added for activations that are recomputed.
         Peak: 989.4 TFLOP/s (H100 or H200 SXM, dense bf16). Rows of one document; `packed` rows hold several.
loss     cross entropy at a vocabulary of 128,256, width 2,048, 8,192 tokens, bf16: graft.models.losses.token_losses,
F.linear and
         F.cross_entropy in float32, F.linear_cross_entropy and Liger's fused one where they can be imported
distill  a step of swap_distill over a causal one, by turns, 124 M parameters, rows of 1,024
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from packed import Rows, Size
from torch import Tensor
from turns import machine, row, say_machine, table, verdict, write_json

PEAK_FLOPS = 989.4e12
BUDGET = 500.0  # seconds; a check that would begin later is left out, and said to be
SIZES = {
    "1.2B": Size(hidden=2048, layers=22, heads=16, wide=5632, vocabulary=32000, rows=8, window=4096),
    "124M": Size(hidden=768, layers=12, heads=12, wide=2048, vocabulary=50304, rows=16, window=4096),
}
MFU_TARGETS = {"1.2B": 0.50, "124M": 0.40}
MICRO_ROWS = (8, 4, 2, 1)  # tried in this order until one fits
LIGER, DISTILL = 1.1, 1.45


def fresh_model(size: Size) -> Any:
    """A Llama on the GPU, its weights drawn there in float32 (a tied head, as small models have)."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        num_key_value_heads=size.heads, intermediate_size=size.wide, vocab_size=size.vocabulary,
        max_position_embeddings=size.window, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda"):
        return transformers.LlamaForCausalLM(config)


def batches_of(size: Size, num: int, pieces: int) -> list[Any]:
    """Random rows, each of `pieces` documents of one length."""
    from graft.packing.batch import Batch

    generator = torch.Generator().manual_seed(1)
    place_T = torch.arange(size.window) % (size.window // pieces)
    shape = (size.rows, size.window)
    draws = [torch.randint(size.vocabulary, (*shape, 2), generator=generator).unbind(-1) for _ in range(num)]
    source_B = torch.zeros(size.rows, dtype=torch.long)
    return [Batch(read, target, torch.ones(shape), place_T.repeat(size.rows, 1), source_B) for read, target in draws]


def stepper(size: Size, batches: list[Any], micro_rows: int, objective: str = "causal") -> Iterator[Any]:
    from graft.core.config.plugins import Shelf
    from graft.core.models.base_model import Base
    from graft.models.forward.decoder import Decoder
    from graft.models.forward.model import Model
    from graft.training.contract import Start
    from graft.training.loop import Pace, run
    from graft.training.run import adamw

    def frozen(_: str) -> Model:
        hf = fresh_model(size).eval().requires_grad_(False)
        return Model(hf, reading=Decoder(), precision="bf16")

    model = Model(fresh_model(size), reading=Decoder(), precision="bf16")
    model.hf.train()
    start = Start(Base("drawn", Path()), {}, list(Rows.names), size.window, micro_rows, seed=0)
    loss = Shelf("objectives").load(objective)().bind(start, frozen)
    optimizer = adamw(model, rate=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    pace = Pace(rate=lambda _: 1e-4, micro_rows=micro_rows, clip=1.0, seed=0)
    return run(model, loss, Rows(batches), optimizer, pace, 0, len(batches))  # type: ignore[arg-type]


def seconds(act: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def multiplied(size: Size) -> int:
    """Weights that stand in matrix products: attention, gated MLP, head."""
    return size.layers * (4 * size.hidden**2 + 3 * size.hidden * size.wide) + size.vocabulary * size.hidden


def mfu(name: str, pieces: int = 1, warm_up: int = 3, steps: int = 5) -> dict[str, Any]:
    size = SIZES[name]
    batches = batches_of(size, warm_up + steps, pieces)
    for micro_rows in (rows for rows in MICRO_ROWS if rows <= size.rows):
        clear()
        try:
            steps_of = stepper(size, batches, micro_rows)
            spent = [seconds(lambda: next(steps_of)) for _ in batches][warm_up:]  # noqa: B023 - called at once
        except torch.cuda.OutOfMemoryError:
            steps_of = None
            continue
        step = statistics.median(spent)
        tokens = size.rows * size.window
        per_token = 6 * multiplied(size) + 12 * size.layers * size.hidden * size.window
        return {
            "micro_rows": micro_rows, "step_seconds": step, "tokens_per_second": tokens / step,
            "mfu": per_token * tokens / step / PEAK_FLOPS, "memory": torch.cuda.max_memory_allocated(),
            "each": spent,
        }  # fmt: skip
    raise torch.cuda.OutOfMemoryError("not even one row at a time fits")


def losses() -> dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """(hidden_ND, weight_VD, targets_N) -> mean loss, of whoever is here."""
    from graft.models.losses.head import Head
    from graft.models.losses.token_losses import weighted_sums

    def ours(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        ones_1N = torch.ones(1, len(targets_N), device=hidden_ND.device)
        return weighted_sums(hidden_ND[None], Head(weight_VD), targets_N[None], ones_1N).total_B.sum() / len(targets_N)

    found = {"graft": ours, "torch": lambda h, w, t: F.cross_entropy(F.linear(h, w).float(), t)}
    if hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions"):
        options = torch.nn.LinearCrossEntropyOptions()
        found["F.linear_cross_entropy"] = lambda h, w, t: F.linear_cross_entropy(h, w, t, options=options)
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        found["Liger"] = lambda h, w, t: liger(w, h, t)
    except ImportError as error:
        row("loss, Liger", f"not here: {error}", "")
    return found


def one_loss(loss: Callable[..., Tensor], tokens: int = 8192, width: int = 2048, vocabulary: int = 128_256):
    generator = torch.Generator("cuda").manual_seed(0)
    draw = {"device": "cuda", "dtype": torch.bfloat16, "generator": generator}
    hidden_ND = torch.randn(tokens, width, **draw).requires_grad_()
    weight_VD = torch.randn(vocabulary, width, **draw).mul_(1.6 / width**0.5).requires_grad_()
    targets_N = torch.randint(vocabulary, (tokens,), device="cuda", generator=generator)

    def act() -> None:
        hidden_ND.grad = weight_VD.grad = None
        value = loss(hidden_ND, weight_VD, targets_N)
        value.backward()
        values.append(value.detach())

    values: list[Tensor] = []
    spent = [seconds(act) for _ in range(8)][3:]
    hidden_ND.grad = weight_VD.grad = None
    clear()
    held = torch.cuda.memory_allocated()
    act()
    memory = torch.cuda.max_memory_allocated() - held
    norms = [float(one.grad.float().norm()) for one in (hidden_ND, weight_VD)]  # type: ignore[union-attr]
    return {"seconds": statistics.median(spent), "memory": memory, "loss": float(values[-1]), "norms": norms}


def distill(warm_up: int = 3, steps: int = 8) -> dict[str, Any]:
    size = Size(hidden=768, layers=12, heads=12, wide=2048, vocabulary=50304, rows=16, window=1024)
    batches = batches_of(size, warm_up + steps, pieces=1)
    clear()
    steppers = {name: stepper(size, batches, 16, name) for name in ("causal", "swap_distill")}
    spent: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in batches:
        for name, steps_of in steppers.items():
            spent[name].append(seconds(lambda: next(steps_of)))  # noqa: B023 - called at once
    return {name: statistics.median(each[warm_up:]) for name, each in spent.items()}


def say_mfu(numbers: dict[str, Any], name: str, pieces: int) -> None:
    found = numbers[f"mfu {name} {pieces}"] = mfu(name, pieces)
    kind = "one document a row" if pieces == 1 else f"packed, {pieces} documents a row"
    said = f"{found['mfu']:.1%}, {found['tokens_per_second']:,.0f} tokens/s, {found['memory'] / 2**30:.1f} GiB"
    size = SIZES[name]
    target = verdict(found["mfu"], at_least=MFU_TARGETS[name]) if pieces == 1 else ""
    shape = f"{size.rows} rows of {size.window}, {found['micro_rows']} at a time"
    row(f"MFU {name} ({multiplied(size) / 1e6:,.0f} M multiplied), {kind}, {shape}", said, target)


def say_losses(numbers: dict[str, Any]) -> None:
    seen = numbers["loss"] = {}
    for name, loss in losses().items():
        try:
            clear()
            seen[name] = one_loss(loss)
        except (RuntimeError, NotImplementedError) as error:  # no room, or not for this device
            row(f"loss, {name}", f"not measured: {str(error).splitlines()[0][:90]}", "")
    for name, found in seen.items():
        said = f"{found['seconds'] * 1e3:.1f} ms, {found['memory'] / 2**20:,.0f} MiB, loss {found['loss']:.4f}"
        row(f"loss, {name}", f"{said}, gradient norms {found['norms'][0]:.3e} {found['norms'][1]:.3e}", "")
    ours = seen["graft"]
    if "Liger" in seen:
        slower = ours["seconds"] / seen["Liger"]["seconds"]
        row("loss: graft's time over Liger's", f"{slower:.2f}", verdict(slower, at_most=LIGER))
    if "torch" in seen:
        less = ours["memory"] / seen["torch"]["memory"]
        row("loss: graft's memory over torch's", f"{less:.2f}", verdict(less, at_most=1.0))


def say_distill(numbers: dict[str, Any]) -> None:
    found = numbers["distill"] = distill()
    dearer = found["swap_distill"] / found["causal"]
    times = ", ".join(f"{name} {spent * 1e3:.0f} ms" for name, spent in found.items())
    row("step of swap_distill over causal, 124M, 16 rows of 1024", f"{dearer:.2f} ({times})",
        verdict(dearer, at_most=DISTILL))  # fmt: skip


CHECKS: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "loss": [say_losses],
    "distill": [say_distill],
    "mfu": [
        lambda numbers: say_mfu(numbers, "124M", 1),
        lambda numbers: say_mfu(numbers, "1.2B", 1),
        lambda numbers: say_mfu(numbers, "124M", 8),
        lambda numbers: say_mfu(numbers, "1.2B", 8),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--json", type=Path, help="write every number here")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    began = time.perf_counter()
    found = machine("liger-kernel", "triton", "flash-attn") | {"gpu": torch.cuda.get_device_name()}
    say_machine(found)
    print(f"{found['gpu']}, CUDA {torch.version.cuda}\n")
    table(("check", "measured", "target"))
    numbers: dict[str, Any] = {}
    for kind in asked.only:
        for number, check in enumerate(CHECKS[kind]):
            if time.perf_counter() - began > BUDGET:
                row(f"{kind} {number}", "left out: the time is up", "")
                continue
            try:
                check(numbers)
            except Exception as error:
                row(
                    f"{kind} {number}",
                    f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:110]}",
                    "",
                )
            clear()
    print(f"\n{time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(asked.json, __file__, found, json.loads(json.dumps(numbers)))


if __name__ == "__main__":
    main()
