"""The one training loop: batches in, steps out. It knows no files; whoever drives it decides what to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally
from graft.models.forward.model import Model
from graft.models.runtime.numeric_faults import NotFinite, NothingCounts
from graft.models.runtime.parallel import added, everyone, local, norm_of, rank, ranks
from graft.packing.batch import Batch
from graft.packing.prefetch import ahead
from graft.packing.sampler import Sampler

Loss = Callable[[Model, Batch], Tally[Tensor]]


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. losses: per source, the objective's total and count of counted targets."""

    number: int  # steps done, this one included
    losses: dict[str, Tally[float]]
    norm: float  # of the gradient of the mean loss, before clipping
    rate: float

    @property
    def loss(self) -> float:
        return sum(self.losses.values(), Tally(0.0, 0.0)).mean


@dataclass(frozen=True)
class Pace:
    """How an optimiser step is made of micro-batches and rates."""

    rate: Callable[[int], float]  # step -> learning rate
    micro_rows: int
    clip: float  # largest gradient norm; 0: no clipping
    seed: int
    workers: int = 0  # threads that make batches ahead; 0: the loop makes them itself


def run(
    model: Model, loss: Loss, sampler: Sampler, optimizer: torch.optim.Optimizer, pace: Pace, first: int, last: int
) -> Iterator[Step]:
    """Steps first..last (exclusive). After each yield the model and the optimiser stand exactly after that step.

    The gradient is summed over all micro-batches and divided once by what was counted, so cutting a batch into
    micro-batches changes nothing. Errors: NotFinite naming the documents of the rows whose loss is not finite (of all
    rows, where only the gradient is not); NothingCounts; the weights are then as they were before that batch.
    """
    parameters = list(model.parameters())
    share = partial(sampler.batch, rank=rank(), ranks=ranks())
    for k, batch in enumerate(ahead(share, first, last, pace.workers), first):
        batch = batch.to(model.device)
        losses: dict[int, Tally[float]] = {}
        broken: list[int] = []  # rows whose loss is not finite
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for micro, part in enumerate(batch.split(pace.micro_rows)):
                torch.manual_seed(dropout_seed(pace.seed, k, micro * ranks() + rank()))
                total_B, count_B = model.root.within(_sums, loss, model, part)
                total_B.sum().backward()
                _add_by_source(losses, part, Tally(total_B.detach(), count_B))
                bad_B = ~total_B.detach().isfinite()
                broken += (bad_B.nonzero().flatten() + micro * pace.micro_rows).tolist()
            _keep_step(model, loss, sampler, k, pace.micro_rows)
        losses = _over_ranks(losses, len(sampler.names))
        count = sum(tally.count for tally in losses.values())
        if not count:
            raise nothing_counts(k, sampler)
        penalty = model.penalty()
        if isinstance(penalty, Tensor):
            (penalty * count).backward()
        norm = _divide_and_clip(parameters, count, pace.clip)
        step = Step(k + 1, {sampler.names[i]: losses[i] for i in sorted(losses)}, norm, pace.rate(k))
        if not (math.isfinite(step.loss) and math.isfinite(norm)):
            rows = [row * ranks() + r for r, found in enumerate(everyone(broken)) for row in found]
            raise not_finite(step, sampler, rows, model.precision)
        for group in optimizer.param_groups:
            group["lr"] = step.rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step


def _sums(loss: Loss, model: Model, part: Batch) -> tuple[Tensor, Tensor]:
    tally = loss(model, part)
    return tally.total, tally.count


def _keep_step(model: Model, loss: Loss, sampler: Sampler, k: int, micro_rows: int) -> None:
    """Ranks whose rows are fewer go along for as many micro-batches as the others have, with a loss of nothing.

    They put weights together and add gradients up only when all of them do. What they read for it is row 0 again.
    """
    most, own = (-(-rows // micro_rows) for rows in _shares(sampler.rows))
    for _ in range(own, most):
        total_B, _ = model.root.within(_sums, loss, model, sampler.batch(k, 0, sampler.rows).to(model.device))
        (total_B.sum() * 0.0).backward()


def _shares(rows: int) -> tuple[int, int]:
    """Rows of a batch: the most that a rank has, and what this one has."""
    return -(-rows // ranks()), len(range(rank(), rows, ranks()))


def _over_ranks(losses: dict[int, Tally[float]], num_sources: int) -> dict[int, Tally[float]]:
    """Totals and counts of every source that any rank has read."""
    zero = Tally(0.0, 0.0)
    numbers = [losses.get(i, zero).total for i in range(num_sources)]
    numbers += [losses.get(i, zero).count for i in range(num_sources)]
    numbers += [float(i in losses) for i in range(num_sources)]
    totals, counts, seen = (part.tolist() for part in np.split(np.asarray(added(numbers)), 3))
    return {i: Tally(totals[i], counts[i]) for i in range(num_sources) if seen[i]}


def dropout_seed(seed: int, k: int, micro: int) -> int:
    """Dropout, where a model has it, is a function of the place in the run, so a resumed run draws the same."""
    return int(stream(seed, "dropout", k, micro).integers(1 << 62))


def _add_by_source(losses: dict[int, Tally[float]], batch: Batch, tally: Tally[Tensor]) -> None:
    totals, counts = tally.total.detach().tolist(), tally.count.tolist()
    for source, total, count in zip(batch.source_B.tolist(), totals, counts, strict=True):
        losses[source] = losses.get(source, Tally(0.0, 0.0)) + Tally(total, count)


def _divide_and_clip(parameters: list[torch.nn.Parameter], count: float, clip: float) -> float:
    """Turns summed gradients into the gradient of the mean, clipped in the same pass; returns the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = norm_of(gradients) / max(count, 1.0)
    shrink = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
    for gradient in map(local, gradients):
        gradient.mul_(shrink / max(count, 1.0))
    return norm


def nothing_counts(k: int, sampler: Sampler) -> NothingCounts:
    """The error for a batch in which no target has a weight."""
    return NothingCounts(
        f"nothing counts in batch {k}: all its targets have weight 0",
        [(doc["source"], doc["position"]) for doc in sampler.documents(k)],
        do="give rows or window a larger value, leave out documents without an answer, or set tokenize.count to all",
    )


def not_finite(step: Step, sampler: Sampler, rows: list[int], precision: str) -> NotFinite:
    """The error for a loss or gradient that is not a number, with what was being read in `rows` (none: in all)."""
    read = sampler.documents(step.number - 1)
    other = ", or train with precision fp32" if precision != "fp32" else ""
    return NotFinite(
        f"the loss is {step.loss} and the gradient norm {step.norm} at step {step.number}, rate {step.rate:.3g}",
        [(doc["source"], doc["position"]) for doc in read if not rows or doc["row"] in rows],
        do=f"look at these places in the text; if nothing is wrong there, lower train.learning_rate{other}",
    )
