"""train: a base and token shards become an adapted model; a kill costs at most what came after the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.config.settings import to_json
from graft.core.models.base_model import Base
from graft.core.process.processes import num_ranks
from graft.core.stats.evaluation_size import TEST, ScoringPlan
from graft.core.store.artifact import Artifact, Store, digest
from graft.data.tokenize import sources
from graft.models.runtime.settle_precision import settle_precision
from graft.training.cache_teacher import Consult, consult
from graft.training.lr_range_test import range_test
from graft.training.measure_speed import Limit, measure_speed
from graft.training.objectives.contract import check_objective, objective_needs
from graft.training.scored_text import Demand, Scoring
from graft.training.settings import Train, TrainingShape, most_tokens, readings_of, trainable_tokens
from graft.training.training_run import Training, same_tokenizer
from graft.training.tunings.contract import tuning_needs

USUAL_TOKENS = 400_000  # of the run whose batch the speed is measured with
CHECKPOINTS = "checkpoints"  # folder of what `keep_every` keeps, and of the newest while a run goes on


def fit_minutes(
    base: Base,
    tokens: Artifact,
    runs: Mapping[str, tuple[Mapping[str, float], Train]],
    limit: Limit,
    demand: Callable[[int], Demand],
    *,
    scoring: Scoring | None = None,
    store: Store,
) -> Artifact:
    """How many tokens a job has that is to end within a time: fact `tokens` of what `measure_speed` leaves.

    runs: mixture and settings of every kind of training that it has. demand: what it needs at so many tokens.
    """
    opened: dict[str, Training] = {}
    for label, (mixture, settings) in runs.items():
        domain, share = next(iter(mixture.items()))
        usual = replace(settings, minutes=None, tokens=min(limit.most, USUAL_TOKENS), range_test=None, decay_now=None)
        shape = usual.shape(base, trainable_tokens(base, sources(tokens)[domain], usual), share)
        usual = replace(usual, evaluations=1, validation_tokens=1)
        shortlists = _consulted(base, tokens, mixture, usual, shape, store)
        opened[label] = Training(base, tokens, mixture, usual, shape, shortlists)
    return measure_speed(opened, limit, demand, scoring, _meet, store)


def _adapter_fingerprint(folder: str, store: Store) -> str:
    """Identity by content of an adapter in PEFT's form. Errors: UsageError where there is none."""
    path = Path(folder).expanduser()
    files = [path / "adapter_config.json", path / "adapter_model.safetensors"]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UsageError(
            f"there is no {missing[0]} here",
            where=folder,
            allowed="a folder of an adapter in PEFT's form",
            do="give the folder adapter/ that an earlier run left; it is taken relative to the working folder",
        )
    return store.prints.of(files, path)


def train(
    base: Base, tokens: Artifact, mixture: Mapping[str, float], settings: Train = Train(), *, store: Store
) -> Artifact:
    """Kind "train": `model/` in Hugging Face form, `curve.json`, and facts (tokens per source, speed, memory).

    mixture: share of the training tokens per source; the first source is the domain.
    """
    check_objective(base, settings.objective)
    needs, read = objective_needs(settings.objective), tuning_needs(settings.tuning).adapters
    inputs: dict[str, Any] = {"base": base.fingerprint(store.prints), "tokens": tokens}
    inputs |= {f"share of {name}": f"{share:.9g}" for name, share in mixture.items()}
    if settings.precision == "auto":  # a job has settled it already
        settings = replace(
            settings,
            precision=settle_precision(_known(settings, draws=_draws(base, settings)), store, inputs).precision,
        )
    for name in filter(None, needs.teachers):
        inputs[f"teacher {name}"] = Base.find(name).fingerprint(store.prints)
    for name in needs.files:
        if (base.folder / name).exists():
            inputs[f"beside the base: {name}"] = store.prints.of([base.folder / name], base.folder)
    adapters = {f"adapter {number}": folder for number, folder in enumerate(read, 1)}
    inputs |= {name: _adapter_fingerprint(folder, store) for name, folder in adapters.items()}
    named = sources(tokens)
    domain, share = next(iter(mixture.items()))
    trainable = trainable_tokens(base, named[domain], settings)
    if settings.minutes is not None:
        settings = _within_minutes(base, tokens, mixture, settings, trainable, store)
    shape = settings.shape(base, trainable, share)
    settings = settings.looking(shape, len(named))
    shortlists = _consulted(base, tokens, mixture, settings, shape, store)
    if shortlists:
        inputs["shortlists"] = shortlists
    if settings.range_test:
        tried = Training(base, tokens, mixture, settings, shape, shortlists)
        tested = range_test(tried, settings.range_test, inputs, _meet, store)
        inputs["range test"] = tested
        shape = replace(settings, range_test=None, learning_rate=tested.facts["rate"]).shape(base, trainable, share)
    inputs["notes of the base"] = digest(Training(base, tokens, mixture, settings, shape).notes_from_base)
    known, begin = _known(settings, draws=_draws(base, settings)), None
    if settings.decay_now:
        trunk = replace(known, decay_now=None)
        trunk_inputs = inputs | {"shape": _sizes(replace(shape, steps=shape.scheduled))}
        name, begin = _branch_point(store.places("train", trunk, trunk_inputs, __name__), settings)
        inputs["trunk"] = name
    inputs["shape"] = _sizes(shape)
    return store.make(
        "train",
        known,
        inputs,
        __name__,
        Training(base, tokens, mixture, settings, shape, shortlists, begin),
        origins={"base": base.origin} | adapters,
        together=_meet,
    )


def _within_minutes(
    base: Base, tokens: Artifact, mixture: Mapping[str, float], settings: Train, trainable: int, store: Store
) -> Train:
    """The settings of a training that is a job of its own, with its tokens in the place of its minutes."""
    assert settings.minutes is not None
    share = next(iter(mixture.values()))

    def demand(count: int) -> Demand:
        shape = replace(settings, tokens=count, minutes=None).shape(base, trainable, share)
        looks, readings = readings_of(settings, ScoringPlan.of(2, None, TEST), shape.laid_out, len(sources(tokens)))
        return Demand({"": [shape]}, {"look": replace(readings["look"], times=looks + 1)})

    known_by = {"train": to_json(settings), "mixture": dict(mixture)}
    limit = Limit(settings.minutes, time.monotonic(), most_tokens(settings, trainable, share), known_by)
    speed = fit_minutes(base, tokens, {"": (mixture, settings)}, limit, demand, store=store)
    return replace(settings, tokens=speed.facts["tokens"], minutes=None)


def _known(settings: Train, *, draws: bool) -> Train:
    """The settings by which a run is known. What decides only how it is computed is left as it is by itself: after
    memory ran out, or with another number of workers, the same run goes on. Where adapters lie that a tuning reads does
    not count, only what is in them.

    draws: dropout is at work, whose masks are drawn per micro-batch: then micro-batches decide the outcome, too.
    """
    micro_rows = settings.micro_batch_size if draws else None
    tuning = tuning_needs(settings.tuning).placeless or settings.tuning
    return replace(
        settings,
        tuning=tuning,
        micro_batch_size=micro_rows,
        workers=Train.workers,
        checkpoint_minutes=Train.checkpoint_minutes,
    )


def _draws(base: Base, settings: Train) -> bool:
    """Does the model, or what the tuning puts into it, have dropout?"""
    said = [value for key, value in base.config.items() if "drop" in key and isinstance(value, int | float)]
    return any([*said, tuning_needs(settings.tuning).dropout])


def _sizes(shape: TrainingShape) -> str:
    """Automatic choices follow from more than the settings; these decide the outcome."""
    return digest(vars(replace(shape, micro_rows=0)))


def _consulted(
    base: Base, tokens: Artifact, mixture: Mapping[str, float], settings: Train, shape: TrainingShape, store: Store
) -> Artifact | None:
    """What is kept of the teacher, where the objective reads it from disk instead of running it."""
    cached = objective_needs(settings.objective).cached_teacher
    if cached is None:
        return None
    name, consulting = cached.model, Consult(cached.top_k, cached.temperature, shape.window, settings.precision)
    names = [source for source, share in mixture.items() if share > 0]
    return consult(same_tokenizer(name, base) if name else base, tokens, names, consulting, store=store)


def _branch_point(places: Sequence[Path], settings: Train) -> tuple[str, Path]:
    """(name, checkpoint) of the trunk, finished or not. Errors: UsageError where it has no such checkpoint."""
    from graft.models.files.checkpoints import checkpoints

    assert settings.decay_now is not None
    stored = {step: path for place in places for step, path in checkpoints(place / CHECKPOINTS).items()}
    return places[0].name, settings.decay_now.pick(stored, places[0].name, settings.keep_every)


def _meet(word: bool) -> bool:
    """All ranks of a job train together; torch is not loaded to say so in a job of one process."""
    if num_ranks() == 1:
        return word
    from graft.models.runtime.parallel import meet

    return meet(word)
