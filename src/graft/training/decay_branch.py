"""decay now: a branch off a run that is going on at a high rate, which lets the rate fall and gives a whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices

Rate = Callable[[int], float]  # step -> learning rate


@dataclass(frozen=True)
class DecayNow:
    """Where a branch leaves its trunk, and how its rate falls: one long run yields a model for every token budget.

    The trunk is the same recipe without `decay_now`. The branch takes up the trunk's checkpoint after step `at`
    (weights, moments, curve), reads the batches that the trunk would have read next, and lets the rate fall from where
    the trunk stood towards `floor` times that. linear: 1 - (1 - floor) d; one_minus_sqrt: 1 - (1 - floor) sqrt(d), with
    d the share of the decay that is done, step i of n being at i / (n + 1) (Haegele et al. 2024, arXiv 2405.18392).
    Changing `keep_every` changes the trunk, so both must name the same.
    """

    at: int = 0  # steps of the trunk
    over: int | None = None  # steps of the decay; None: a quarter of `at`, a fifth of the whole
    floor: float = 0.1
    form: Literal["linear", "one_minus_sqrt"] = "linear"

    def __post_init__(self) -> None:
        check_choices(self)
        if self.at < 1:
            raise UsageError(
                f"decay_now.at is {self.at}", allowed="a step of the trunk that has a checkpoint, 1 or more"
            )
        if self.over is not None and self.over < 1:
            raise UsageError(f"decay_now.over is {self.over}", allowed="a number of steps, 1 or more")
        if not 0 <= self.floor < 1:
            raise UsageError(
                f"decay_now.floor is {self.floor}", allowed="a share of the trunk's rate, 0 or more, below 1"
            )

    @property
    def steps(self) -> int:
        """Of the branch, the trunk's included."""
        return self.at + (self.over or max(1, round(self.at / 4)))

    def rates(self, trunk: Rate) -> Rate:
        """The branch's rates from the trunk's."""
        over, high = self.steps - self.at, trunk(self.at - 1)

        def rate(step: int) -> float:
            if step < self.at:
                return trunk(step)
            done = min(step - self.at, over - 1) + 1
            if self.form == "one_minus_sqrt":
                return high * (1 - (1 - self.floor) * math.sqrt(done / (over + 1)))
            return high * (1 - (1 - self.floor) * done / (over + 1))

        return rate

    def pick(self, stored: Mapping[int, Path], trunk: str, keep_every: int) -> Path:
        """The trunk's checkpoint. Errors: UsageError naming those there are."""
        if self.at in stored:
            return stored[self.at]
        steps = ", ".join(map(str, sorted(stored)))
        how = "train.keep_every is 0, so none is kept" if not keep_every else "a checkpoint is kept"
        raise UsageError(
            f"the trunk {trunk} has no checkpoint after step {self.at} to decay from",
            allowed=f"train.decay_now.at: {steps}"
            if steps
            else "a step with a stored checkpoint; there is none so far",
            do=f"{how} every {keep_every} steps: run the recipe without decay_now first, as far as that"
            if keep_every
            else f"{how}: run the recipe without decay_now, and with train.keep_every in both",
        )
