"""The settings of a training run, and the sizes that follow from them; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf
from graft.core.config.settings import check_choices
from graft.core.models.base_model import Base
from graft.core.process.precision import Precision
from graft.core.stats.evaluation_size import LOOK, TEST, ScoringPlan, num_looks, settle
from graft.core.tokens.token_shards import TokenSource
from graft.training.decay_branch import DecayNow
from graft.training.lr_range import RangeTest
from graft.training.objectives.causal import Causal
from graft.training.objectives.contract import objective_needs
from graft.training.schedules.warm_stable_decay import WarmStableDecay
from graft.training.tunings.full import Full

STEPS_AIMED_AT = 250  # how many steps an automatic batch size is chosen to give
BATCH_TOKENS = (4096, 524288)  # bounds of an automatic batch, in tokens
STEPS_AT_LEAST = 50  # a text too small for so many of the lower bound gets smaller batches, down to
SMALLEST_BATCH = 512
PASSES = 4.0  # over the domain, where only minutes are given: further ones teach little (Muennighoff et al. 2023)
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
    packing: Literal["stream", "whole", "pairs"] = "stream"  # how documents lie in rows (graft.packing.sampler)
    sequence_length: int | None = None  # tokens per row; None: the model's own, at most 2048 and at most all of them
    batch_size: int | None = (
        None  # rows per optimiser step; None: for about 250 steps of 4 Ki to 512 Ki tokens, at least 50
    )
    micro_batch_size: int | None = None  # rows at once; None: about 4 Ki tokens
    learning_rate: float | None = None  # peak learning rate; None: `rewarm` times the peak of the base
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
    # per source and evaluation, spread over it; 0: all of them; None: by the tokens trained on
    # (graft.core.stats.evaluation_size)
    validation_tokens: int | None = None
    checkpoint_minutes: float = 5.0  # 0: after every step
    keep_every: int = 0  # steps between checkpoints that stay beside the model; 0: none stays
    decay_now: DecayNow | None = None  # this run is a branch of the same run without it
    workers: int = 1  # threads that make batches ahead of the step; 0: none, and no batch depends on it
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("tokens", "sequence_length", "batch_size", "micro_batch_size", "evaluations"):
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
        if (self.learning_rate is not None and self.learning_rate <= 0) or self.rewarm <= 0:
            raise UsageError(f"learning_rate is {self.learning_rate} and rewarm {self.rewarm}", allowed="more than 0")
        if self.learning_rate is not None and self.range_test:
            raise UsageError(
                f"learning_rate is {self.learning_rate}, and range_test is to find one",
                allowed="learning_rate or range_test, not both",
            )
        if self.warm_from is not None and self.warm_from < 0:
            raise UsageError(f"warm_from is {self.warm_from}", allowed="a learning rate, 0 or more")

    def shape(self, base: Sized | Base, domain_tokens: int, domain_share: float) -> TrainingShape:
        """Every automatic value settled, without torch: what `graft plan` shows and what `train` runs.

        Errors: UsageError when the window is larger than the model's, or one step is more than twice the tokens
        that were asked for.
        """
        tokens = self.tokens or max(1, round(domain_tokens / domain_share))
        window = self.sequence_length or min(base.window, 2048, tokens)
        if window > base.window:
            raise UsageError(
                f"sequence_length is {window}, and the model reads at most {base.window} tokens",
                allowed=f"1 to {base.window}",
            )
        rows = self.batch_size or _power_of_two(_batch_tokens(tokens) // window)
        if self.tokens and 2 * self.tokens < rows * window:
            raise UsageError(
                f"tokens is {self.tokens:,}, and one step of {rows} rows of {window} reads {rows * window:,}",
                allowed=f"{-(-rows * window // 2):,} or more",
                do="give more tokens, or lower batch_size or sequence_length",
            )
        steps = max(1, round(tokens / (rows * window)))
        if self.decay_now and self.decay_now.at >= steps:
            raise UsageError(
                f"decay_now.at is {self.decay_now.at}, and the trunk has {steps} steps",
                allowed=f"1 to {steps - 1}",
                do="branch off earlier, or give the trunk more tokens",
            )
        rate = self.learning_rate or self.rewarm * peak_rate(base)
        noted = float(base.training_notes.get("final_lr") or 0.0)
        return TrainingShape(
            window=window,
            rows=rows,
            micro_rows=min(rows, self.micro_batch_size or max(1, MICRO_TOKENS // window)),
            steps=self.decay_now.steps if self.decay_now else steps,
            scheduled=steps,
            rate=rate,
            warm_from=min(rate, noted if self.warm_from is None else self.warm_from),
        )

    def looking(self, shape: TrainingShape, num_sources: int) -> Train:
        """These settings with the looks at validation text settled, as an adaptation of this shape settles them."""
        looks, readings = readings_of(self, ScoringPlan.of(2, None, TEST), shape.laid_out, num_sources)
        limits = settle(shape.laid_out, num_sources, readings)
        return replace(self, evaluations=looks, validation_tokens=limits["look"])

    @property
    def row_packing(self) -> str:
        """How documents lie in rows: an objective that reads only one kind of row says so itself."""
        return objective_needs(self.objective).packing or self.packing

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


def readings_of(
    training: Train, test: ScoringPlan, tokens: int, num_sources: int
) -> tuple[int, dict[str, ScoringPlan]]:
    """(looks after the first, what is read) of a job with one training of so many tokens and `test` beside it."""
    looks = training.evaluations or num_looks(tokens, num_sources)
    return looks, {"test": test, "look": ScoringPlan.of(looks + 1, training.validation_tokens, LOOK)}


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


def trainable_tokens(base: Base, source: TokenSource, settings: Train) -> int:
    """Tokens of one pass over what the rows of a run are made of: pairs longer than a row are in none."""
    if settings.row_packing == "pairs":
        chosen = source.pairs("train")
        size_P = source.pairs_D[chosen] + source.pairs_D[chosen + 1]
        return int(size_P[size_P <= (settings.sequence_length or min(base.window, 2048))].sum())
    return int(source.pairs_D[source.documents("train")].sum())


def _batch_tokens(tokens: int) -> int:
    """Size of an automatic batch in tokens, for a run of `tokens`."""
    low, high = BATCH_TOKENS
    low = min(tokens, max(SMALLEST_BATCH, min(low, tokens // STEPS_AT_LEAST)))
    return min(max(tokens // STEPS_AIMED_AT, low), high)


def _power_of_two(number: float) -> int:
    return 1 << max(0, int(number).bit_length() - 1)
