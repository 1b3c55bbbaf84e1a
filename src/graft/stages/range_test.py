"""range test: a short run at ever higher rates from the base, off which the peak rate of training is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from graft.core.artifact import Artifact, Draft, Meet, Store, digest
from graft.core.errors import UsageError
from graft.core.progress import Progress
from graft.core.tally import Tally
from graft.stages.tell import by_place, tell_notes
from graft.stages.training import Training

if TYPE_CHECKING:
    from graft.tensors.run import Run

SPAN = 10.0  # from the peak taken without a test to the highest rate tested, and down to the lowest where none is known


@dataclass(frozen=True)
class RangeTest:
    """Training steps at rates that rise geometrically from `low` to `high`, each with the batch of a usual step.

    The gain of a step is how far its loss lies below the loss of the untouched base on the same batch, in nats per
    counted token: what is hard in a batch is hard for both. Gains are averaged by source over a share `smoothing` of
    the steps, and over sources by the shares of the mixture. The rate with the largest gain is where learning turns
    into damage; the peak is that rate divided by `margin`.

    Source: rising rates from Smith 2017 (arXiv 1506.01186, section 3.3), there linear and over several epochs, with the
    rule of thumb that the best rate is within a factor of two of the largest that converges: hence `margin`. Measuring
    against the base on the same batch, and the rule for the largest, are this project's.
    Measured on the embedded base and code, 59 steps of 2,048 tokens: tops 1.6e-3, 1.1e-3 (another seed), 1.5e-3 (30
    steps) and 1.8e-3 (100), so peaks of 5.3e-4 to 9.1e-4; of full runs at 2.5e-4, 5e-4, 7e-4, 1e-3, 2e-3 and 4e-3 the
    best by validation loss of the domain was 7e-4. With LoRA the peak came to 5e-3 (and the test to its highest rate);
    of 1.5e-3, 3e-3, 6e-3 and 1e-2 the best was 6e-3, and 3e-3 next.
    What it cannot see: each rate is tried for one step and after all lower ones, so a long run may bear less than the
    test suggests; forgetting counts only as far as the mixture replays general text; a test of few steps is noise.
    """

    steps: int = 60  # as long as these of the run itself, and a third of that for the base's losses
    low: float | None = None  # None: the base's last rate where it is known, else a tenth of the automatic peak
    high: float | None = None  # None: ten times the automatic peak
    smoothing: float = 0.2  # share of the steps in one average
    margin: float = 2.0  # the largest rate that helps, in peaks

    def __post_init__(self) -> None:
        if self.steps < 5:
            raise UsageError(f"range_test.steps is {self.steps}", allowed="5 or more")
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"range_test.{name} is {value}", allowed="a learning rate above 0")
        if self.low and self.high and self.low >= self.high:
            raise UsageError(
                f"range_test.low is {self.low} and high {self.high}", allowed="a lowest rate below the highest"
            )
        if not 0 < self.smoothing <= 1:
            raise UsageError(f"range_test.smoothing is {self.smoothing}", allowed="a share, above 0 and at most 1")
        if self.margin < 1:
            raise UsageError(f"range_test.margin is {self.margin}", allowed="1 or more")

    def rates(self, last: float, peak: float) -> list[float]:
        """One rate per step. last: at which the base's own training ended, 0: unknown; peak: the automatic one."""
        high = self.high or SPAN * peak
        low = self.low or (last if 0 < last < high else min(peak, high) / SPAN)
        return [low * (high / low) ** (k / (self.steps - 1)) for k in range(self.steps)]

    def pick(self, points: Sequence[Point], mixture: Mapping[str, float]) -> Picked:
        """The peak, read off the steps that were done (fewer than asked for where the loss was no number any more)."""
        half = max(0, round(self.smoothing * self.steps) - 1) // 2
        gains = [_gain(points[max(0, k - half) : k + half + 1], mixture) for k in range(len(points))]
        best = max(range(len(gains)), key=gains.__getitem__)
        notes: list[str] = []
        top = points[best].rate
        if gains[best] <= 0:
            notes.append(f"range test: no rate made the loss fall; {top:.2g} raised it least")
        if best >= self.steps - 1 - half:
            notes.append(
                f"range test: the loss still fell at the highest rate, {points[-1].rate:.2g}; the peak may lie higher "
                "(train.range_test.high)"
            )
        if best == 0:
            notes.append(
                f"range test: the lowest rate, {top:.2g}, was the best already; the peak may lie lower "
                "(train.range_test.low)"
            )
        return Picked(top / self.margin, top, gains, notes)


@dataclass(frozen=True)
class Point:
    """A rate, and what the batch after its step gave: per source total and count, of the base and of the model."""

    rate: float
    base: dict[str, Tally[float]]
    model: dict[str, Tally[float]]


@dataclass(frozen=True)
class Picked:
    """gains: smoothed, nats per token, one per point; top: the rate with the largest."""

    rate: float
    top: float
    gains: list[float]
    notes: list[str]


def _gain(points: Sequence[Point], mixture: Mapping[str, float]) -> float:
    """Nats per token that some steps lie below the base: by source, and these by the shares of the mixture.

    Weighing by source and not by what the few rows of these steps happen to hold takes most of the noise out.
    """
    zero = Tally(0.0, 0.0)
    total = weight = 0.0
    for name, share in mixture.items():
        before = sum((point.base.get(name, zero) for point in points), zero)
        after = sum((point.model.get(name, zero) for point in points), zero)
        if after.count and before.count:
            total, weight = total + share * (before.mean - after.mean), weight + share
    return total / weight if weight else 0.0


def range_test(
    training: Training, settings: RangeTest, inputs: Mapping[str, Any], meet: Meet, store: Store
) -> Artifact:
    """Kind "range-test": facts with `rate` (the peak picked), `top`, the rule, and every point.

    inputs: what decides the training. Settings that no step of the test reads (its length, its schedule, how
    often it is watched) are no part of the identity, so that changing them does not test anew.
    """
    shape = training.shape
    rates = settings.rates(shape.warm_from, shape.rate)
    asked = training.settings
    plain = type(asked)()
    unread = ("tokens", "schedule", "rate", "rewarm", "warm_from", "evaluations", "spacing", "validation_tokens")
    unread += ("workers", "checkpoint_minutes", "keep_every", "decay_now", "rows", "window", "micro_rows")
    identity = replace(asked, range_test=settings, **{name: getattr(plain, name) for name in unread})
    sizes = {"rows": shape.rows, "window": shape.window, "micro_rows": shape.micro_rows, "rates": rates}
    return store.make(
        "range-test",
        identity,
        {**inputs, "sizes": digest(sizes)},
        __name__,
        lambda draft: _build(draft, training, settings, rates),
        origins={"base": training.base.origin},
        together=meet,
    )


def _build(draft: Draft, training: Training, settings: RangeTest, rates: list[float]) -> None:
    from graft.tensors.parallel import gathered

    with gathered(), by_place(training.tokens):
        run, notes = training.open(draft.path)
        points = _points(run, rates)
    if not points:
        raise UsageError(
            f"the loss is not finite after one step of the range test, at a rate of {rates[0]:.2g}",
            allowed="a lower train.range_test.low",
            do="give train.rate instead, and train.precision fp32 where the model needs it",
        )
    picked = settings.pick(points, training.mixture)
    tell_notes(picked.notes)
    draft.facts |= {
        "rate": picked.rate,
        "top": picked.top,
        "rule": f"the rate with the largest smoothed gain over the base on the same batches, divided by "
        f"{settings.margin:g}",
        "points": [
            {"rate": point.rate, "gain": gain, "base": _plain(point.base), "model": _plain(point.model)}
            for point, gain in zip(points, picked.gains, strict=True)
        ],
        "ended": "at the highest rate" if len(points) == len(rates) else f"after {len(points)} rates: loss not finite",
        "notes": [*notes, *picked.notes],
    }


def _points(run: Run, rates: list[float]) -> list[Point]:
    """One point per rate, until the loss is no number: the batch of step k tells what steps 0 .. k - 1 have done.

    The base draws the dropout of that step in one process. Several read whole batches for it, each with the same draws.
    """
    import torch

    from graft.tensors.faults import NotFinite
    from graft.tensors.loop import dropout_seed
    from graft.tensors.loop import run as steps

    progress = Progress("range test", len(rates))
    names, device = run.sampler.names, run.model.device
    before: list[dict[str, Tally[float]]] = []
    for k in range(1, len(rates) + 1):
        sums: dict[str, Tally[float]] = {}
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            parts = run.sampler.batch(k).to(device).split(run.pace.micro_rows)
            for micro, part in enumerate(parts):
                torch.manual_seed(dropout_seed(run.pace.seed, k, micro))
                total_B, count_B = run.model.root.within(_sums, run.loss, run.model, part)
                rows = zip(part.source_B.tolist(), total_B.tolist(), count_B.tolist(), strict=True)
                for source, total, count in rows:
                    sums[names[source]] = sums.get(names[source], Tally(0.0, 0.0)) + Tally(total, count)
        before.append(sums)
        progress.advance(0.25, "the base")
    run.model.root.rest()
    points: list[Point] = []
    pace = replace(run.pace, rate=[*rates, 0.0].__getitem__)
    try:
        for k, step in enumerate(steps(run.model, run.loss, run.sampler, run.optimizer, pace, 0, len(rates) + 1)):
            if k:
                points.append(Point(rates[k - 1], before[k - 1], step.losses))
                progress.advance(0.75, f"rate {rates[k - 1]:.2g}  loss {step.loss:.3f}")
    except NotFinite:
        pass  # no rate from here on: what was seen before is what the peak is read off
    progress.close()
    return points


def _sums(loss: Any, model: Any, part: Any) -> tuple[Any, Any]:
    tally = loss(model, part)
    return tally.total, tally.count


def _plain(tallies: Mapping[str, Tally[float]]) -> dict[str, list[float]]:
    return {name: [tally.total, tally.count] for name, tally in tallies.items()}
