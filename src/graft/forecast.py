"""What a recipe would do, without doing it: exact where artifacts are there already, foretold from a look elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from graft.core.artifact import Artifact, DryStore, NotMade, Store
from graft.core.base import Base
from graft.core.dialogue import Dialogue
from graft.core.errors import UsageError
from graft.core.fingerprint import Unread
from graft.core.progress import clock
from graft.itinerary import Itinerary
from graft.jobs.adapt import Adapt
from graft.jobs.benchmark import Benchmark
from graft.jobs.budget import Budget
from graft.jobs.extend import Extend
from graft.jobs.overview import Overview
from graft.jobs.pretrain import Pretrain
from graft.jobs.stream import Stream
from graft.jobs.versus import Versus
from graft.readers.piece import UNREAD_KIND
from graft.stages.recall import SAMPLED
from graft.stages.settle import settle
from graft.stages.survey import survey
from graft.stages.train import TrainingShape, teachers_of

# Rates of the stages around training, in bytes of text or tokens per second of one ordinary core.
READ_BYTES, CURATE_BYTES, ENCODE_BYTES = 20e6, 8e6, 4e6
SCORE_TO_TRAIN = 1 / 3  # a forward pass alone, against a forward and a backward one
SAMPLE_TO_TRAIN = 2.5  # a third of the arithmetic, but token by token: measured on 2 cores with the embedded base
# Speed of a training step in bf16 against a small float32 matrix product, by whether the processor has bfloat16
# products: measured with them (0.33 against 0.22 TFLOP/s on 2 cores), a guess without.
TRAIN_TO_PRODUCT = {True: 1.4, False: 0.5}
PROCESS_BYTES = 0.6e9  # Python, torch and transformers, before the first weight
EVIDENCE_BYTES = 11.0  # on disk, of a token that was scored
BYTES_PER_TOKEN = 4.0  # of text, where there is no tokenizer to ask yet


@dataclass(frozen=True)
class SourceForecast:
    """One source. exact: counted by an earlier run; else foretold from `share_seen` of it.

    sampled: not there yet, to be drawn from the base.
    """

    paths: list[str]
    documents: float
    text_bytes: float
    tokens: float
    splits: dict[str, float]  # tokens
    dropped: dict[str, float]  # documents by reason
    exact: bool
    share_seen: float = 1.0
    sampled: bool = False


@dataclass(frozen=True)
class Forecast:
    """The whole answer; bytes and seconds are estimates."""

    base: str
    num_parameters: int
    sources: dict[str, SourceForecast]
    mixture: Mapping[str, float]
    shape: TrainingShape
    objective: str
    memory_bytes: float
    disk_bytes: float
    seconds: dict[str, float]  # by stage, of what is not done yet
    done: list[str] = field(default_factory=list)  # artifacts that are there
    complete: bool = False  # all of them are
    tested_steps: int = 0  # of a range test, which may find another peak rate than `shape` has
    pilots: int = 0  # short runs that come before, by which the mixture is chosen
    pilot_tokens: int = 0  # of all of them
    forget: float = 0.0  # largest rise of the general loss that is allowed; 0: no budget
    ratios: tuple[float, ...] = ()  # shares of domain text of the pilots
    itinerary: Itinerary | None = None  # of a stream, whose first training is that of `shape` and `mixture`


@dataclass(frozen=True)
class _Planned:
    """A base that is not made yet."""

    window: int
    num_parameters: int
    training_notes: Mapping[str, Any] = field(default_factory=dict)


def forecast(job: Adapt | Benchmark | Budget | Extend | Overview | Pretrain | Versus, store: Store) -> Forecast:
    """Look at the inputs of a job for a moment. Errors: as the job's own, for what can be seen without running it."""
    if isinstance(job, Benchmark | Overview | Versus):
        raise UsageError(
            "this recipe compares and trains nothing, and a plan is made of a training",
            allowed="adapt, budget, extend, pretrain or stream",
            do="run it: every stage that is done already is found",
        )
    job = settle(job, DryStore(store.root))
    there, complete = _look_for(job, store)
    if isinstance(job, Budget):
        return _with_pilots(job, there, complete, store)
    if isinstance(job, Stream):
        return _with_turns(job, there, complete, store)
    return _forecast(job, there, complete, store)


def _with_pilots(job: Budget, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    """The final run, as if it were of domain text alone, and what comes before it."""
    asked = job.adapt
    if job.hours is not None:
        tokens = job.tokens_in(
            job.hours, train_flops(store) / (6 * Base.find(asked.base, weights=False).num_parameters)
        )
        asked = replace(asked, train=replace(asked.train, tokens=tokens))
    one = _forecast(replace(asked, replay=0.0), there, complete, store)
    short = job.pilots.settings(asked.train, one.shape, asked.train.objective)
    pilots = len(job.pilots.ratios) * len(job.pilots.objectives)
    tokens = pilots * (short.tokens or 0)
    trained = sum(artifact.kind == "train" for artifact in there) - (job.hours is not None)  # the run for the speed
    share = max(0, pilots - trained) * (short.tokens or 0) / one.shape.tokens
    seconds = one.seconds
    if not complete:
        pace = train_flops(store) / (6 * one.num_parameters)
        seconds = seconds | {"train": one.shape.tokens / pace * (1 + share)}
    return replace(
        one, pilots=pilots, pilot_tokens=tokens, seconds=seconds, forget=job.forget, ratios=job.pilots.ratios
    )


def _with_turns(job: Stream, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    """A stream: its trainings one after the other, and a look at every text after each."""
    base = Base.find(job.base, weights=False)
    tokens = next((artifact for artifact in there if artifact.kind == "tokens"), None)
    sources = _counted(job, tokens) if tokens else _foretold(job, base)
    size, config = base.num_parameters, base.config
    itinerary = Itinerary.of(job, base, {name: round(source.splits["train"]) for name, source in sources.items()})
    trainings, first = itinerary.trainings, itinerary.trainings[0]
    names = {artifact.name: artifact.kind for artifact in there}  # each once: what methods share is found again
    done = Counter(names.values())
    pace = train_flops(store) / (6 * size)
    limit = job.evaluate.max_tokens or float("inf")
    scored = sum(min(source.splits["test"], limit) for source in sources.values())
    precise = 3 if job.evaluate.precision == "fp32" else 1
    models = 1 + len(trainings)
    seconds = {} if tokens else _until_tokens(sources, pace, done)
    seconds |= {"train": sum(one.shape.tokens for one in trainings[done["train"] :]) / pace}
    seconds |= {"evidence": (models - done["evidence"]) * scored / pace * SCORE_TO_TRAIN * precise}
    return Forecast(
        base=job.base,
        num_parameters=size,
        sources=sources,
        mixture={name: count / first.shape.tokens for name, count in first.tokens.items()},
        shape=first.shape,
        objective=type(job.train.objective).__name__,
        memory_bytes=max(_memory(size, one.shape, config, num_teachers=one.num_teachers) for one in trainings),
        disk_bytes=_disk(size, sources) + 2 * size * (len(trainings) - 2) + EVIDENCE_BYTES * scored * models,
        seconds={} if complete else seconds,
        done=list(names),
        complete=complete,
        itinerary=itinerary,
    )


def _until_tokens(sources: Mapping[str, SourceForecast], pace: float, done: Counter[str]) -> dict[str, float]:
    """Seconds of the stages before the first training. pace: tokens trained on per second."""
    text = sum(source.text_bytes for source in sources.values())
    seconds = {
        "docs": sum(_reading(source, pace) for source in list(sources.values())[done["docs"] :]),
        "corpus": text / CURATE_BYTES,
        "tokens": text / ENCODE_BYTES,
    }
    needed = {"docs": len(sources)}
    return {kind: value for kind, value in seconds.items() if done[kind] < needed.get(kind, 1)}


def _forecast(job: Adapt | Extend | Pretrain, there: list[Artifact], complete: bool, store: Store) -> Forecast:
    if isinstance(job, Adapt | Extend):
        base: Any = Base.find(job.base, weights=False)
        name, size = job.base, base.config
    else:
        base = _Planned(job.initialize.window, job.initialize.num_parameters)
        name, size = "new", {"hidden_size": job.initialize.width, "num_hidden_layers": job.initialize.layers}
        size |= {"num_attention_heads": job.initialize.heads}
    tokens = next((artifact for artifact in there if artifact.kind == "tokens"), None)
    sources = _counted(job, tokens) if tokens else _foretold(job, base)
    first = next(iter(job.mixture))
    shape = job.train.shape(base, round(sources[first].splits["train"]), job.mixture[first])
    done = Counter(artifact.kind for artifact in there)
    return Forecast(
        base=name,
        num_parameters=base.num_parameters,
        sources=sources,
        mixture=job.mixture,
        shape=shape,
        objective=type(job.train.objective).__name__,
        memory_bytes=_memory(base.num_parameters, shape, size, num_teachers=len(teachers_of(job.train.objective))),
        disk_bytes=_disk(base.num_parameters, sources),
        seconds={} if complete else _seconds(job, base.num_parameters, sources, shape, done, store),
        done=[artifact.name for artifact in there],
        complete=complete,
        tested_steps=job.train.range_test.steps if job.train.range_test else 0,
    )


def _look_for(job: Adapt | Budget | Extend | Pretrain | Stream, store: Store) -> tuple[list[Artifact], bool]:
    """The artifacts of this job that are there, up to the first that is not; and whether they are all of them."""
    found: list[Artifact] = []
    try:
        job.make(DryStore(store.root, on_made=lambda artifact, fresh: found.append(artifact)))
    except (NotMade, Unread):
        return found, False
    return found, True


def _counted(job: Adapt | Extend | Pretrain | Stream, tokens: Artifact) -> dict[str, SourceForecast]:
    ledger = tokens.ledger
    return {
        name: SourceForecast(
            paths=list(paths),
            documents=ledger.read[name].documents,
            text_bytes=ledger.read[name].bytes
            - sum(amount.bytes for fate, amount in ledger.fates[name].items() if fate.startswith(UNREAD_KIND)),
            tokens=ledger.read[name].tokens,
            splits={
                split: ledger.fates[name][split].tokens if split in ledger.fates[name] else 0
                for split in ("train", "validation", "test")
            },
            dropped={
                fate: amount.documents for fate, amount in ledger.fates[name].items() if fate.startswith("dropped")
            },
            exact=True,
        )
        for name, paths in job.sources.items()
    }


def _foretold(job: Adapt | Extend | Pretrain | Stream, base: Any) -> dict[str, SourceForecast]:
    return {
        name: _sampled(job, base) if paths == (SAMPLED,) and isinstance(job, Adapt) else _foretell(job, base, paths)
        for name, paths in job.sources.items()
    }


def _sampled(job: Adapt, base: Any) -> SourceForecast:
    """What is drawn from the base: as many tokens as are asked for; how long documents get, the base alone knows."""
    tokens = job.recall.tokens
    text_bytes = tokens * BYTES_PER_TOKEN
    return SourceForecast(
        paths=[SAMPLED],
        documents=max(2, tokens / job.recall.limit_for(base)),
        text_bytes=text_bytes,
        tokens=tokens,
        splits=_splits(job, tokens, 1 / BYTES_PER_TOKEN),
        dropped={},
        exact=False,
        share_seen=0.0,
        sampled=True,
    )


def _splits(job: Adapt | Extend | Pretrain | Stream, tokens: float, per_byte: float) -> dict[str, float]:
    """Tokens by split, of usable text. per_byte: tokens in a byte of it."""
    split = job.curate.split
    most = split.most * per_byte if split.most else float("inf")
    test, validation = min(tokens * split.test, most), min(tokens * split.validation, most)
    return {"train": tokens - test - validation, "validation": validation, "test": test}


def _foretell(job: Adapt | Extend | Pretrain | Stream, base: Any, paths: tuple[str, ...]) -> SourceForecast:
    seen = survey(paths, job.ingest, budget_seconds=0.4, budget_bytes=400_000)
    scale = 1 / seen.share_seen if seen.share_seen else 1.0
    text_bytes = seen.text_total if seen.share_seen else seen.bytes_total  # nothing seen: by the size of the files
    texts = [text for row in seen.docs for text in _stored(row, paired=job.tokenize.pairs)]
    sample_bytes = sum(row["num_bytes"] for row in seen.docs)
    per_byte = 1 / BYTES_PER_TOKEN
    if isinstance(base, Base) and texts:
        encoded = base.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        per_byte = sum(len(one.ids) + 1 for one in encoded) / max(1, sample_bytes)
    repeated = 1 - len({row["id"] for row in seen.docs}) / len(seen.docs) if seen.docs else 0.0
    tokens = text_bytes * per_byte
    dropped = {reason: count * scale for reason, count in seen.dropped.items()}
    if repeated:
        dropped["dropped: duplicate"] = repeated * seen.num_docs * scale
    return SourceForecast(
        paths=list(paths),
        documents=(seen.num_docs + sum(seen.dropped.values())) * scale,
        text_bytes=text_bytes,
        tokens=tokens,
        splits=_splits(job, tokens * (1 - repeated), per_byte),
        dropped=dropped,
        exact=False,
        share_seen=seen.share_seen,
    )


def _stored(row: Mapping[str, Any], *, paired: bool) -> list[str]:
    """The texts of a document that are turned into tokens: of a pair, where both sides are wanted, two."""
    one = Dialogue.noted(row["text"], row["notes"]) if paired else None
    return [row["text"]] if one is None or one.rejected is None else [row["text"], one.worse.text]


def _memory(num_parameters: int, shape: TrainingShape, size: Mapping[str, Any], *, num_teachers: int) -> float:
    """Weights, gradients and two AdamW moments in float32, frozen models, and the activations of one micro-batch.

    Activations per token and layer: 34 width + 5 heads * window bytes in 16 bits (Korthikanti et al. 2022, arXiv
    2205.05198, eq. 2), the attention matrix being kept.
    """
    width = size.get("hidden_size") or size.get("n_embd") or 1024
    layers = size.get("num_hidden_layers") or size.get("n_layer") or 12
    heads = size.get("num_attention_heads") or size.get("n_head") or 12
    tokens = shape.micro_rows * shape.window
    activations = tokens * layers * (34 * width + 5 * heads * shape.window)
    return PROCESS_BYTES + (16 + 4 * num_teachers) * num_parameters + activations


def _disk(num_parameters: int, sources: Mapping[str, SourceForecast]) -> float:
    """Document tables twice (compressed to a third), tokens, a checkpoint of 12 bytes a weight, the model twice."""
    text = sum(source.text_bytes for source in sources.values())
    tokens = sum(source.tokens for source in sources.values())
    return 2 * text / 3 + 4 * tokens + 12 * num_parameters + 2 * 2 * num_parameters


def _seconds(
    job: Adapt | Extend | Pretrain,
    num_parameters: int,
    sources: Mapping[str, SourceForecast],
    shape: TrainingShape,
    done: Counter[str],
    store: Store,
) -> dict[str, float]:
    """By kind of artifact, of what is not done yet. done: how many of each kind are there, in the job's order."""
    text = sum(source.text_bytes for source in sources.values())
    pace = train_flops(store) / (6 * num_parameters)  # tokens per second
    seconds = {
        "docs": sum(_reading(source, pace) for source in list(sources.values())[done["docs"] :]),
        "corpus": text / CURATE_BYTES,
        "tokens": text / ENCODE_BYTES,
        "train": shape.tokens / pace,
    }
    models = 3 if isinstance(job, Extend) else 2  # that are scored
    if isinstance(job, Adapt | Extend):
        limit = job.evaluate.max_tokens or float("inf")
        scored = sum(min(source.splits["test"], limit) for source in sources.values())
        precise = 3 if job.evaluate.precision == "fp32" else 1
        seconds["evidence"] = (models - done["evidence"]) * scored / pace * SCORE_TO_TRAIN * precise
    needed = {"docs": len(sources), "evidence": models, "tokens": 2 if isinstance(job, Extend) else 1}
    return {kind: value for kind, value in seconds.items() if done[kind] < needed.get(kind, 1)}


def _reading(source: SourceForecast, pace: float) -> float:
    """Seconds to get a source's documents. pace: tokens trained on per second."""
    return source.tokens / pace * SAMPLE_TO_TRAIN if source.sampled else source.text_bytes / READ_BYTES


def train_flops(store: Store) -> float:
    """Floating-point operations per second of training: of the store's last run, else from products for 0.05 s."""
    runs = [artifact.facts for artifact in store.artifacts() if artifact.kind == "train"]
    if runs:
        return runs[-1]["tokens_per_second"] * 6 * runs[-1]["num_parameters"]
    left = np.ones((128, 128), np.float32)  # small: a large one would wait for cores that others use
    fastest, until = float("inf"), time.perf_counter() + 0.05
    while (started := time.perf_counter()) < until:
        np.matmul(left, left)
        fastest = min(fastest, time.perf_counter() - started)  # what the machine can do undisturbed
    return TRAIN_TO_PRODUCT[_has_bf16()] * 2 * 128**3 / fastest


def _has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; unknown counts as no."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "bf16" in flags.read_text(encoding="utf-8")


def show_forecast(one: Forecast) -> None:
    """The forecast on the terminal."""
    console = Console(highlight=False)
    table = Table("source", "documents", "text", "tokens", "train", "validation", "test", "known", box=None)
    for name, source in one.sources.items():
        origin = "exact" if source.exact else "to sample" if source.sampled else f"{source.share_seen:.0%} read"
        splits = (round_number(source.splits[split]) for split in ("train", "validation", "test"))
        table.add_row(
            name, round_number(source.documents), f"{source.text_bytes / 1e6:,.1f} MB", round_number(source.tokens),
            *splits, origin,
        )  # fmt: skip
    console.print(table)
    for name, source in one.sources.items():
        if source.dropped:
            reasons = ", ".join(f"{round_number(n)} {reason}" for reason, n in source.dropped.items())
            console.print(f"{name}: {reasons}")
        elif source.sampled:
            console.print(f"{name}: sampled from the base, at least so many documents")
        elif not source.exact:
            console.print(f"{name}: nothing to drop in what was looked at")
    if not all(source.exact for source in one.sources.values()):
        console.print("[dim]Text that training and test share is found while running.[/dim]")
    console.print(f"\nbase      {one.base}, {one.num_parameters:,} parameters")
    if one.itinerary:
        one.itinerary.show(console)
    else:
        _show_training(one, console)
    if one.pilots:
        console.print(
            f"budget    general loss may rise by {100 * one.forget:.3g} %; where the run breaks it, it is walked back"
        )
        console.print(
            f"pilots    {one.pilots} runs at {', '.join(f'{ratio:.0%}' for ratio in one.ratios)} domain text, "
            f"{round_number(one.pilot_tokens)} tokens in all "
            f"({one.pilot_tokens / one.shape.tokens:.0%} of the training)"
        )
    if one.tested_steps:
        console.print(f"          the peak rate is to come from a range test of {one.tested_steps} steps before")
    if one.complete:
        console.print(f"done      nothing is left to do: {', '.join(one.done)}")
        return
    stages = ", ".join(f"{stage} {clock(value)}" for stage, value in one.seconds.items())
    console.print(f"memory    about {one.memory_bytes / 1e9:.1f} GB")
    console.print(f"disk      about {one.disk_bytes / 1e6:,.0f} MB")
    console.print(f"time      about {clock(sum(one.seconds.values()))} ({stages})")
    console.print(f"done      {', '.join(one.done) or 'nothing yet'}")


def _show_training(one: Forecast, console: Console) -> None:
    """Its mixture, its steps, its rate."""
    mixture = ", ".join(
        f"{round_number(share * one.shape.tokens)} of {name} "
        f"({share * one.shape.tokens / max(1, one.sources[name].splits['train']):.2f} passes)"
        for name, share in one.mixture.items()
    )
    if one.pilots:
        mixture = "the share of domain text is to be chosen"
    console.print(f"training  {one.objective}, {round_number(one.shape.tokens)} tokens: {mixture}")
    console.print(
        f"          {one.shape.steps:,} steps of {one.shape.rows} rows of {one.shape.window}, "
        f"{one.shape.micro_rows} at once, peak rate {one.shape.rate:.2g}, warming up from {one.shape.warm_from:.2g}"
    )


def round_number(value: float) -> str:
    """1234567 -> '1.23 M'; small numbers as they are."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"
