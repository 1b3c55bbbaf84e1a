"""measure speed: how fast this machine trains and scores a model, and how many tokens fit into the time there is."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.process.notes import tell_notes
from graft.core.process.precision import computed
from graft.core.process.processes import num_ranks, rank
from graft.core.process.progress import Progress, clock
from graft.core.stats.evaluation_size import SCORE_TO_TRAIN
from graft.core.store.artifact import Artifact, Draft, Meet, Store
from graft.data.tokenize import sources
from graft.data.user_notes import by_place
from graft.training.scored_text import Demand, Scoring
from graft.training.training_run import Training

if TYPE_CHECKING:
    from graft.training.run import TrainingRun

STEPS, STEP_SECONDS = 4, 6.0  # of each batch size, the first left out; no further one after so many seconds
SCORE_SECONDS = 4.0  # of scoring, the first rows left out
SMALL_ROWS = 4  # the smaller batch has a part of the rows: one in so many
CLOSING = 8.0  # seconds for comparing, the report and handing over
WRITE_BYTES = 200e6  # of a model, per second
SPARE = 0.06  # share of the time that is left over for what no measurement sees
KEPT = 1 / 3  # of the time that training and scoring have, even where reading took more than the rest
LEAST_TOKENS = 20_000  # of a training worth its name; it has so many, however little time is left


@dataclass(frozen=True)
class Limit:
    """How long a job may take. began: on the monotonic clock. most: tokens that it is to have at most.

    known_by: plain values that decide what the job does, by which a later call finds what was settled here.
    """

    minutes: float
    began: float
    most: int
    known_by: Mapping[str, Any]


@dataclass(frozen=True)
class Speed:
    """What was measured. step: seconds of a step by the rows of its batch, two of them, for every kind of training."""

    step: Mapping[str, Sequence[tuple[int, float]]]
    score: float  # tokens per second
    opening: float  # seconds to get a model ready
    writing: float  # seconds to write it
    spent: float  # seconds since the job began

    def seconds(self, demand: Demand, scored: float) -> float:
        """What is left of a job that needs `demand` and scores so many tokens."""
        steps = sum(
            shape.steps * self.of_step(label, shape.rows) for label, shapes in demand.shapes.items() for shape in shapes
        )
        models = sum(len(shapes) for shapes in demand.shapes.values())
        readied = models + demand.readings["test"].times if "test" in demand.readings else models
        return steps + scored / self.score + readied * self.opening + models * self.writing + CLOSING

    def of_step(self, label: str, rows: int) -> float:
        """Seconds of a step: a part for every row, and one for every step, by the line through two batch sizes."""
        points = self.step[label]
        (few, fast), (many, slow) = points[0], points[-1]
        if few == many:
            return slow * rows / many
        per_row = max(0.0, (slow - fast) / (many - few))
        return max(fast * rows / few if rows < few else 0.0, slow + per_row * (rows - many), 1e-6)


def fitting_tokens(seconds: Callable[[int], float], left: float, most: int) -> int | None:
    """The most tokens, to two digits and at most `most`, whose job takes at most `left` seconds.

    Where even the fewest take longer, these: a shorter training would teach nothing. None: no number of tokens makes a
    job (its seconds are infinite).
    """
    taken = {tokens: seconds(tokens) for tokens in _grid(most)}
    possible = [tokens for tokens, one in taken.items() if math.isfinite(one)]
    return max((tokens for tokens in possible if taken[tokens] <= left), default=min(possible, default=None))


def _grid(most: int) -> list[int]:
    """Numbers of two digits from LEAST_TOKENS on, and `most` itself: a few hundred, so all of them are tried."""
    powers = range(2, max(3, int(math.log10(max(most, 100))) + 1))
    numbers = [digits * 10**power for power in powers for digits in range(10, 100)]
    return [one for one in numbers if LEAST_TOKENS <= one < most] + [most]


def machine() -> str:
    """What decides the speed, as far as it is known without loading torch."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if line.startswith(("model name", "Model", "CPU part"))]
        model = found[0].partition(":")[2].strip() if found else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ("OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES")
    said = [f"{name} {os.environ[name]}" for name in names if name in os.environ]
    cards = sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    return ", ".join(
        [platform.machine(), model, f"{cores} cores", f"{len(cards)} GPUs", f"{num_ranks()} processes", *said]
    )


def measure_speed(
    runs: Mapping[str, Training],
    limit: Limit,
    demand: Callable[[int], Demand],
    scoring: Scoring | None,
    meet: Meet,
    store: Store,
) -> Artifact:
    """Kind "speed": facts with the `tokens` that fit into the time, and what was measured to find them.

    runs: one training of every kind that the job has, of any length. A few real steps of each are made and thrown
    away, and a little text is scored. demand: what the job needs at so many tokens. scoring: None where no model is
    scored. The artifact is known by the job, the text, the minutes and the machine, not by the speed: the same command
    finds the same tokens again, and with them the work that was begun. Where the time is too short for any training,
    the shortest is taken, and how long that takes is said. Errors: UsageError where no number of tokens makes a run.
    """
    first = next(iter(runs.values()))
    inputs: dict[str, Artifact | str] = {"base": first.base.fingerprint(store.prints), "tokens": first.tokens}
    inputs |= {"machine": machine(), "job": json.dumps(limit.known_by, sort_keys=True)}
    return store.make(
        "speed",
        {"minutes": limit.minutes, "most": limit.most, "runs": {name: one.settings for name, one in runs.items()}},
        inputs,
        __name__,
        lambda draft: _build(draft, runs, limit, demand, scoring),
        origins={"base": first.base.origin},
        together=meet,
    )


def _build(
    draft: Draft,
    runs: Mapping[str, Training],
    limit: Limit,
    demand: Callable[[int], Demand],
    scoring: Scoring | None,
) -> None:
    from graft.models.runtime.parallel import agreed, everyone, gathered

    first = next(iter(runs.values()))
    progress = Progress("measuring the speed", len(runs) * 2 + 1)
    steps: dict[str, list[tuple[int, float]]] = {}
    opening = 0.0
    with gathered(), by_place(first.tokens):
        for label, training in runs.items():
            began = time.monotonic()
            run, _ = training.open(draft.path)
            opening = max(opening, time.monotonic() - began)
            rows = training.shape.rows
            steps[label] = []
            smaller = [] if training.settings.batch_size else [max(1, rows // SMALL_ROWS)]
            for size in dict.fromkeys([*smaller, rows]):
                steps[label].append((size, max(everyone(_step_seconds(run, training, size)))))
                progress.advance(1)
                if steps[label][-1][1] > STEP_SECONDS / 2:  # the larger one takes as much longer as it is larger
                    break
            run.model.root.rest()
    rows, slowest = max((points[-1] for points in steps.values()), key=lambda point: point[1])
    score = rows * first.shape.window / slowest / SCORE_TO_TRAIN  # where no model is scored but in looks
    if scoring and rank() == 0:  # as evidence is made: by one process
        score = _score_rate(first, scoring)
    with gathered():
        score, spent = agreed(score), max(everyone(time.monotonic() - limit.began))
    progress.close()
    size = 2.0 * first.base.num_parameters
    speed = Speed(steps, score, opening, size / WRITE_BYTES, spent)
    named = sources(first.tokens)

    def seconds(tokens: int) -> float:
        try:
            asked = demand(tokens)
        except UsageError:  # no run of so few: the steps of a pilot are counted, for one
            return float("inf")
        return speed.seconds(asked, asked.scored(named))

    allowed = 60 * limit.minutes * (1 - SPARE)
    tokens = fitting_tokens(seconds, max(allowed - speed.spent, KEPT * allowed), limit.most)
    if tokens is None:
        demand(limit.most)  # its error says why
        raise UsageError(f"minutes is {limit.minutes:g}, and no run can be made", do="give tokens instead")
    rates = {label: speed_of(points, runs[label].shape.window) for label, points in steps.items()}
    foretold = speed.spent + seconds(tokens)
    draft.facts |= {
        "tokens": tokens,
        "seconds_foretold": foretold,
        "spent": spent,
        "training_tokens_per_second": rates,
        "scoring_tokens_per_second": score,
        "step_seconds": {label: [list(point) for point in points] for label, points in steps.items()},
        "opening_seconds": opening,
        "machine": machine(),
    }
    draft.facts["notes"] = [in_words(draft.facts, limit)]
    tell_notes(draft.facts["notes"])


def speed_of(points: Sequence[tuple[int, float]], window: int) -> float:
    """Tokens per second of the larger batch."""
    rows, seconds = points[-1]
    return rows * window / seconds


def in_words(facts: Mapping[str, Any], limit: Limit) -> str:
    """What was measured and what follows, in a line."""
    rates = ", ".join(
        f"{rate:,.0f} tokens/s" + (f" ({label})" if label else "")
        for label, rate in facts["training_tokens_per_second"].items()
    )
    scored = f" and scores {facts['scoring_tokens_per_second']:,.0f}"
    bound = " (all that it is to have)" if facts["tokens"] == limit.most else ""
    if facts["seconds_foretold"] > 60 * limit.minutes:
        return (
            f"Speed: this machine trains {rates}{scored}. {limit.minutes:g} min are too few: reading and measuring "
            f"took {clock(facts['spent'])}. The least that is trained, {facts['tokens']:,} tokens{bound}, ends in "
            f"about {clock(facts['seconds_foretold'])}. A run with more minutes takes over what was read and measured."
        )
    return (
        f"Speed: this machine trains {rates}{scored}; {facts['tokens']:,} tokens{bound} end in about "
        f"{clock(facts['seconds_foretold'])} of the {limit.minutes:g} min, measuring included."
    )


def _step_seconds(run: TrainingRun, training: Training, rows: int) -> float:
    """Median seconds of an optimiser step with so many rows; the first step, which warms everything up, is left out."""
    from graft.packing.sampler import Sampler
    from graft.training.loop import run as steps

    settings = training.settings
    sampler = run.sampler
    if rows != sampler.rows:
        named = sources(training.tokens)
        packing = settings.row_packing
        sampler = Sampler(
            named, training.mixture, window=training.shape.window, rows=rows, seed=settings.seed, packing=packing
        )
    pace = replace(run.pace, rate=lambda step: 0.0)  # nothing is learned: the weights stay those of the base
    taken: list[float] = []
    last = time.monotonic()
    began = last
    for _ in steps(run.model, run.loss, sampler, run.optimizer, pace, 0, STEPS):
        now = time.monotonic()
        taken.append(now - last)
        last = now
        if now - began > STEP_SECONDS:
            break
    return statistics.median(taken[1:] or taken)


def _score_rate(training: Training, scoring: Scoring) -> float:
    """Tokens per second of scoring test text, its first rows left out where there are more."""
    from graft.models.files.weights import open_model
    from graft.models.scoring.scoring import ROW_TOKENS, choose_documents, score_documents

    base = training.base
    window = scoring.window or min(base.window, 2048)
    model = open_model(base.folder, computed(scoring.precision), frozen=True)
    source = next(iter(sources(training.tokens).values()))
    choice = choose_documents(source, "train", 8 * ROW_TOKENS)
    marks = [(0, time.monotonic())]
    count = 0
    for one in score_documents(model, source, choice, window=window, rows=max(1, ROW_TOKENS // window)):
        count += len(one.nats_n)
        if count - marks[-1][0] >= ROW_TOKENS // 2:
            marks.append((count, time.monotonic()))
            if len(marks) > 3 and marks[-1][1] - marks[1][1] > SCORE_SECONDS:
                break
    if len(marks) < 3:
        return max(1.0, count) / max(1e-9, time.monotonic() - marks[0][1])
    return (marks[-1][0] - marks[1][0]) / max(1e-9, marks[-1][1] - marks[1][1])
