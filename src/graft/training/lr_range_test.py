"""range test: a short run at ever higher rates from the base, off which the peak rate of training is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.process.notes import tell_notes
from graft.core.process.progress import Progress
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact, Draft, Meet, Store, digest
from graft.data.user_notes import by_place
from graft.training.lr_range import Point, RangeTest
from graft.training.training_run import Training

if TYPE_CHECKING:
    from graft.training.run import TrainingRun


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
    unread = (
        "tokens",
        "schedule",
        "learning_rate",
        "rewarm",
        "warm_from",
        "evaluations",
        "spacing",
        "validation_tokens",
    )
    unread += (
        "workers",
        "checkpoint_minutes",
        "keep_every",
        "decay_now",
        "batch_size",
        "sequence_length",
        "micro_batch_size",
    )
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
    from graft.models.runtime.parallel import gathered

    with gathered(), by_place(training.tokens):
        run, notes = training.open(draft.path)
        points = _points(run, rates)
    if not points:
        raise UsageError(
            f"the loss is not finite after one step of the range test, at a rate of {rates[0]:.2g}",
            allowed="a lower train.range_test.low",
            do="give train.learning_rate instead, and train.precision fp32 where the model needs it",
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


def _points(run: TrainingRun, rates: list[float]) -> list[Point]:
    """One point per rate, until the loss is no number: the batch of step k tells what steps 0 .. k - 1 have done.

    The base draws the dropout of that step in one process. Several read whole batches for it, each with the same draws.
    """
    import torch

    from graft.models.runtime.numeric_faults import NotFinite
    from graft.training.loop import dropout_seed
    from graft.training.loop import run as steps

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
