"""train: a base and token shards become an adapted model; a kill costs at most what came after the last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from graft.core.artifact import Artifact, Store, digest
from graft.core.base import Base
from graft.core.errors import UsageError
from graft.core.kind import check_kind
from graft.core.measuring import LOOK, TEST, Reading, num_looks, settle
from graft.core.ranks import num_ranks
from graft.core.runtime import Precision
from graft.core.settings import check_choices, to_json
from graft.core.shards import TokenSource
from graft.core.shelf import Shelf
from graft.objectives.causal import Causal
from graft.schedules.warm_stable_decay import WarmStableDecay
from graft.stages.consult import Consult, consult
from graft.stages.decay_now import DecayNow
from graft.stages.evaluate import Evaluate
from graft.stages.measure_speed import Limit, measure_speed
from graft.stages.measured import Demand
from graft.stages.range_test import RangeTest, range_test
from graft.stages.settle_precision import settle_precision
from graft.stages.tokenize import sources
from graft.stages.training import Training, same_tokenizer
from graft.tunings.full import Full

CHECKPOINTS = "checkpoints"  # folder of what `keep_every` keeps, and of the newest while a run goes on
STEPS_AIMED_AT = 250  # how many steps an automatic batch size is chosen to give
BATCH_TOKENS = (4096, 524288)  # bounds of an automatic batch, in tokens
STEPS_AT_LEAST = 50  # a text too small for so many of the lower bound gets smaller batches, down to
SMALLEST_BATCH = 512
PASSES = 4.0  # over the domain, where only minutes are given: further ones teach little (Muennighoff et al. 2023)
USUAL_TOKENS = 400_000  # of the run whose batch the speed is measured with
MICRO_TOKENS = 4096  # of an automatic micro-batch: on two cores no slower than more, at two thirds of the memory


@dataclass(frozen=True)
class Train:
    """One training run: AdamW on packed rows, gradients averaged over counted tokens.

    None means: chosen from the model and the text, and written into the manifest's facts.
    """

    objective: Annotated[Any, Shelf("objectives")] = Causal()
    tuning: Annotated[Any, Shelf("tunings")] = Full()
    schedule: Annotated[Any, Shelf("schedules")] = WarmStableDecay()
    tokens: int | None = None  # over all sources; None: one pass over the domain's training text
    # instead, or with `tokens` as the most: as many as end in so many minutes, all of the job included, by a speed that
    # is measured first; without `tokens` at most 4 passes over the domain
    minutes: float | None = None
    packing: Literal["stream", "whole", "pairs"] = "stream"  # how documents lie in rows (graft.tensors.sampler)
    window: int | None = None  # tokens per row; None: the model's own, at most 2048 and at most all of them
    rows: int | None = None  # rows per optimiser step; None: for about 250 steps of 4 Ki to 512 Ki tokens, at least 50
    micro_rows: int | None = None  # rows at once; None: about 4 Ki tokens
    rate: float | None = None  # peak learning rate; None: `rewarm` times the peak of the base
    range_test: RangeTest | None = None  # the peak is read off a short run at rising rates
    rewarm: float = 0.5  # share of the base's peak rate that an automatic rate returns to
    warm_from: float | None = None  # rate from which the warm-up climbs; None: the base's last, where it is known
    weight_decay: float = 0.1  # on matrices; vectors (norms, biases) never decay
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0  # largest gradient norm; 0: none
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32
    evaluations: int | None = None  # on validation text, after the one at step 0; None: 8, fewer in a short run
    spacing: Literal["even", "thinning"] = "even"  # of the evaluations; thinning: ever farther apart, by one factor
    # per source and evaluation, spread over it; 0: all of them; None: by the tokens trained on (graft.core.measuring)
    validation_tokens: int | None = None
    checkpoint_minutes: float = 5.0  # 0: after every step
    keep_every: int = 0  # steps between checkpoints that stay beside the model; 0: none stays
    decay_now: DecayNow | None = None  # this run is a branch of the same run without it
    workers: int = 1  # threads that make batches ahead of the step; 0: none, and no batch depends on it
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("tokens", "window", "rows", "micro_rows", "evaluations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", allowed="1 or more, or nothing for an automatic choice")
        for name in ("weight_decay", "clip", "checkpoint_minutes", "validation_tokens", "workers", "keep_every"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="0 or more and below 1")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise UsageError(f"minutes is {self.minutes}", allowed="more than 0, or nothing")
        if (self.rate is not None and self.rate <= 0) or self.rewarm <= 0:
            raise UsageError(f"rate is {self.rate} and rewarm {self.rewarm}", allowed="more than 0")
        if self.rate is not None and self.range_test:
            raise UsageError(
                f"rate is {self.rate}, and range_test is to find one", allowed="rate or range_test, not both"
            )
        if self.warm_from is not None and self.warm_from < 0:
            raise UsageError(f"warm_from is {self.warm_from}", allowed="a learning rate, 0 or more")

    def shape(self, base: Sized | Base, domain_tokens: int, domain_share: float) -> TrainingShape:
        """Every automatic value settled, without torch: what `graft plan` shows and what `train` runs.

        Errors: UsageError when the window is larger than the model's, or one step is more than twice the tokens
        that were asked for.
        """
        tokens = self.tokens or max(1, round(domain_tokens / domain_share))
        window = self.window or min(base.window, 2048, tokens)
        if window > base.window:
            raise UsageError(
                f"window is {window}, and the model reads at most {base.window} tokens",
                allowed=f"1 to {base.window}",
            )
        rows = self.rows or _power_of_two(_batch_tokens(tokens) // window)
        if self.tokens and 2 * self.tokens < rows * window:
            raise UsageError(
                f"tokens is {self.tokens:,}, and one step of {rows} rows of {window} reads {rows * window:,}",
                allowed=f"{-(-rows * window // 2):,} or more",
                do="give more tokens, or lower rows or window",
            )
        steps = max(1, round(tokens / (rows * window)))
        if self.decay_now and self.decay_now.at >= steps:
            raise UsageError(
                f"decay_now.at is {self.decay_now.at}, and the trunk has {steps} steps",
                allowed=f"1 to {steps - 1}",
                do="branch off earlier, or give the trunk more tokens",
            )
        rate = self.rate or self.rewarm * peak_rate(base)
        noted = float(base.training_notes.get("final_lr") or 0.0)
        return TrainingShape(
            window=window,
            rows=rows,
            micro_rows=min(rows, self.micro_rows or max(1, MICRO_TOKENS // window)),
            steps=self.decay_now.steps if self.decay_now else steps,
            scheduled=steps,
            rate=rate,
            warm_from=min(rate, noted if self.warm_from is None else self.warm_from),
        )

    def looking(self, shape: TrainingShape, num_sources: int) -> Train:
        """These settings with the looks at validation text settled, as an adaptation of this shape settles them."""
        looks, readings = readings_of(self, Reading.of(2, None, TEST), shape.laid_out, num_sources)
        limits = settle(shape.laid_out, num_sources, readings)
        return replace(self, evaluations=looks, validation_tokens=limits["look"])

    @property
    def row_packing(self) -> str:
        """How documents lie in rows: an objective that reads only one kind of row says so itself."""
        return getattr(self.objective, "packing", self.packing)

    def rates(self, shape: TrainingShape) -> Callable[[int], float]:
        """step -> learning rate of the run."""
        trunk = shape.rates(self.schedule)
        return self.decay_now.rates(trunk) if self.decay_now else trunk


@dataclass(frozen=True)
class TrainingShape:
    """The settled sizes of a run. Tokens trained on: rows * window * steps."""

    window: int
    rows: int
    micro_rows: int
    steps: int
    scheduled: int  # steps over which the schedule is laid: the trunk's, where the run is a branch
    rate: float  # the peak
    warm_from: float = 0.0  # never above the peak

    @property
    def tokens(self) -> int:
        """Places in the rows of all steps; where rows are filled up, a little more than the tokens trained on."""
        return self.rows * self.window * self.steps

    @property
    def laid_out(self) -> int:
        """Tokens that the schedule is laid over: of a branch its trunk's, so that both are watched alike."""
        return self.rows * self.window * self.scheduled

    def rates(self, schedule: Callable[[int, int], float]) -> Callable[[int], float]:
        """step -> learning rate: the schedule's share of the peak, but a warm-up climbs from `warm_from`.

        The warm-up is what comes before the schedule first gives the whole peak. Training that stopped at a low rate
        is taken up there and rewarmed (Gupta et al. 2023, arXiv 2308.04014), not begun again at 0.
        """
        warm = next((step for step in range(self.scheduled) if schedule(step, self.scheduled) >= 1), 0)

        def rate(step: int) -> float:
            low = self.warm_from if step < warm else 0.0
            return low + (self.rate - low) * schedule(step, self.scheduled)

        return rate


def most_tokens(settings: Train, domain_tokens: int, domain_share: float) -> int:
    """The most that a run within `settings.minutes` may have: its tokens, or PASSES passes over the domain."""
    return settings.tokens or max(1, round(PASSES * domain_tokens / domain_share))


def fit_minutes(
    base: Base,
    tokens: Artifact,
    runs: Mapping[str, tuple[Mapping[str, float], Train]],
    limit: Limit,
    demand: Callable[[int], Demand],
    *,
    scoring: Evaluate | None = None,
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


def readings_of(training: Train, test: Reading, tokens: int, num_sources: int) -> tuple[int, dict[str, Reading]]:
    """(looks after the first, what is read) of a job with one training of so many tokens and `test` beside it."""
    looks = training.evaluations or num_looks(tokens, num_sources)
    return looks, {"test": test, "look": Reading.of(looks + 1, training.validation_tokens, LOOK)}


class Sized(Protocol):
    """What of a base decides the size of a run."""

    @property
    def window(self) -> int: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def training_notes(self) -> Mapping[str, Any]: ...


def peak_rate(base: Sized | Base) -> float:
    """The peak rate of the base's pre-training, from its training.json ("peak_lr") where its makers left one.

    Else the rule of thumb of Kaplan et al. 2020 (arXiv 2001.08361, eq. D.1): 0.003239 - 0.0001395 ln N.
    """
    noted = base.training_notes.get("peak_lr")
    return float(noted) if noted else max(1e-5, 0.003239 - 0.0001395 * math.log(base.num_parameters))


def teachers_of(objective: Any) -> tuple[str, ...]:
    """Names of the models that an objective holds beside the trained one; "": the one that training starts from."""
    return getattr(objective, "teachers", ())


def reads_of(tuning: Any) -> tuple[str, ...]:
    """Folders of adapters that a tuning reads; their content decides the outcome."""
    return getattr(tuning, "reads", ())


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
    check_kind(base, settings.objective)
    inputs: dict[str, Any] = {"base": base.fingerprint(store.prints), "tokens": tokens}
    inputs |= {f"share of {name}": f"{share:.9g}" for name, share in mixture.items()}
    if settings.precision == "auto":  # a job has settled it already
        settings = replace(
            settings,
            precision=settle_precision(_known(settings, draws=_draws(base, settings)), store, inputs).precision,
        )
    for name in filter(None, teachers_of(settings.objective)):
        inputs[f"teacher {name}"] = Base.find(name).fingerprint(store.prints)
    for name in getattr(settings.objective, "beside", ()):  # files beside the base's weights that it reads
        if (base.folder / name).exists():
            inputs[f"beside the base: {name}"] = store.prints.of([base.folder / name], base.folder)
    adapters = {f"adapter {number}": folder for number, folder in enumerate(reads_of(settings.tuning), 1)}
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
        shape = replace(settings, range_test=None, rate=tested.facts["rate"]).shape(base, trainable, share)
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
        looks, readings = readings_of(settings, Reading.of(2, None, TEST), shape.laid_out, len(sources(tokens)))
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
    micro_rows = settings.micro_rows if draws else None
    tuning = getattr(settings.tuning, "anywhere", settings.tuning)
    return replace(
        settings,
        tuning=tuning,
        micro_rows=micro_rows,
        workers=Train.workers,
        checkpoint_minutes=Train.checkpoint_minutes,
    )


def _draws(base: Base, settings: Train) -> bool:
    """Does the model, or what the tuning puts into it, have dropout?"""
    said = [value for key, value in base.config.items() if "drop" in key and isinstance(value, int | float)]
    return any([*said, getattr(settings.tuning, "dropout", 0.0)])


def _sizes(shape: TrainingShape) -> str:
    """Automatic choices follow from more than the settings; these decide the outcome."""
    return digest(vars(replace(shape, micro_rows=0)))


def trainable_tokens(base: Base, source: TokenSource, settings: Train) -> int:
    """Tokens of one pass over what the rows of a run are made of: pairs longer than a row are in none."""
    if settings.row_packing == "pairs":
        chosen = source.pairs("train")
        size_P = source.pairs_D[chosen] + source.pairs_D[chosen + 1]
        return int(size_P[size_P <= (settings.window or min(base.window, 2048))].sum())
    return int(source.pairs_D[source.documents("train")].sum())


def _consulted(
    base: Base, tokens: Artifact, mixture: Mapping[str, float], settings: Train, shape: TrainingShape, store: Store
) -> Artifact | None:
    """What is kept of the teacher, where the objective reads it from disk instead of running it."""
    asked = getattr(settings.objective, "consults", None)
    if asked is None:
        return None
    name, words, temperature = asked
    consulting = Consult(words, temperature, shape.window, settings.precision)
    names = [source for source, share in mixture.items() if share > 0]
    return consult(same_tokenizer(name, base) if name else base, tokens, names, consulting, store=store)


def _branch_point(places: Sequence[Path], settings: Train) -> tuple[str, Path]:
    """(name, checkpoint) of the trunk, finished or not. Errors: UsageError where it has no such checkpoint."""
    from graft.tensors.checkpoints import checkpoints

    assert settings.decay_now is not None
    stored = {step: path for place in places for step, path in checkpoints(place / CHECKPOINTS).items()}
    return places[0].name, settings.decay_now.pick(stored, places[0].name, settings.keep_every)


def _meet(word: bool) -> bool:
    """All ranks of a job train together; torch is not loaded to say so in a job of one process."""
    if num_ranks() == 1:
        return word
    from graft.tensors.parallel import meet

    return meet(word)


def _batch_tokens(tokens: int) -> int:
    """Size of an automatic batch in tokens, for a run of `tokens`."""
    low, high = BATCH_TOKENS
    low = min(tokens, max(SMALLEST_BATCH, min(low, tokens // STEPS_AT_LEAST)))
    return min(max(tokens // STEPS_AIMED_AT, low), high)


def _power_of_two(number: float) -> int:
    return 1 << max(0, int(number).bit_length() - 1)
