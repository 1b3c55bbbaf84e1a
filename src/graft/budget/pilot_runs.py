"""pilot: short runs from the base at several ratios, watched at thinning steps: what the laws of a choice rest on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.models.base_model import Base
from graft.core.stats.evaluation_size import PILOT_LOOK
from graft.core.store.artifact import Artifact, Store
from graft.scaling.fitting.trials import Trials
from graft.training.objectives.causal import Causal
from graft.training.schedules.constant import Constant
from graft.training.settings import Train, TrainingShape
from graft.training.train import train

FEWEST_STEPS = 4  # of a pilot: with fewer there is nothing to fit


@dataclass(frozen=True)
class Pilots:
    """Which short runs are made before the one that counts.

    Each is a run at a constant rate, with the batch, the window and the peak rate of the final run, so every look at
    it is an honest smaller token count (a decaying rate would not be). All of them together read `share` of the final
    run's tokens, evenly split. One per ratio of domain text and objective. What a decay at the end of the
    final run brings is not in them: on this project's grid it lowers the rise of the general loss by 0.3 to 0.7
    percentage points and moves the domain loss by less than 0.6 %, so what the laws expect is on the careful side.
    """

    share: float = 0.15  # of the final run's tokens, over all pilots
    ratios: tuple[float, ...] = (1.0, 0.75, 0.5)  # shares of domain text
    objectives: Annotated[tuple[Any, ...], Shelf("objectives")] = (Causal(),)
    looks: int = 6  # at validation text per pilot, after the one at its start
    validation_tokens: int | None = (
        None  # per source and look; None: by the tokens trained on (graft.core.stats.evaluation_size)
    )
    warmup: float = 0.1  # share of a pilot's steps

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share is {self.share}", allowed="a share of the final run's tokens, above 0, at most 1")
        if (
            len(set(self.ratios)) != len(self.ratios)
            or len(self.ratios) < 2
            or not all(0 < ratio <= 1 for ratio in self.ratios)
        ):
            raise UsageError(
                f"ratios is {list(self.ratios)}",
                allowed="two or more different shares of domain text, above 0, up to 1",
            )
        if not self.objectives:
            raise UsageError("objectives names none", allowed="one or more")
        if self.looks < 2 or (self.validation_tokens is not None and self.validation_tokens < 1):
            raise UsageError(
                f"looks is {self.looks} and validation_tokens {self.validation_tokens}", allowed="2 and 1 or more"
            )

    def steps(self, shape: TrainingShape) -> int:
        """Of each pilot of a final run of this shape."""
        return int(self.share * shape.steps / (len(self.ratios) * len(self.objectives)))

    def settings(self, final: Train, shape: TrainingShape, objective: Any) -> Train:
        """A pilot of a final run of this shape. Errors: UsageError where it would be too short to fit anything to."""
        steps = self.steps(shape)
        if steps < FEWEST_STEPS:
            pilots = len(self.ratios) * len(self.objectives)
            per_row = shape.window * FEWEST_STEPS * pilots / self.share
            rows = int(shape.tokens // per_row)
            smaller = f"lower train.batch_size to {rows} (it is {shape.rows}), or " if rows else ""
            raise UsageError(
                f"{pilots} pilots in {self.share:.0%} of a run of {shape.steps} steps have {steps} steps each",
                allowed=f"{FEWEST_STEPS} steps or more each",
                do=f"{smaller}give {math.ceil(per_row * shape.rows):,} tokens, or change pilots.share or pilots.ratios",
            )
        return replace(
            final,
            objective=objective,
            schedule=Constant(warmup=self.warmup),
            tokens=steps * shape.rows * shape.window,
            batch_size=shape.rows,
            sequence_length=shape.window,
            learning_rate=shape.rate,
            range_test=None,
            evaluations=self.looks,
            spacing="thinning",
            validation_tokens=PILOT_LOOK[1] if self.validation_tokens is None else self.validation_tokens,
            keep_every=0,
            decay_now=None,
        )


@dataclass(frozen=True)
class Pilot:
    """One short run that was made."""

    ratio: float
    objective: Any
    run: Artifact

    @property
    def name(self) -> str:
        """The objective's name, and those of its settings that are not what they are by themselves."""
        plain = type(self.objective)()
        told = {field.name: getattr(self.objective, field.name) for field in fields(self.objective)}
        own = [f"{key} {value}" for key, value in told.items() if value != getattr(plain, key)]
        return plugin_name(self.objective) + (f" ({', '.join(own)})" if own else "")

    @property
    def tokens(self) -> int:
        return sum(self.run.facts["tokens"].values())

    @property
    def looks(self) -> list[dict[str, float]]:
        """{tokens, size, domain, general} at every look, the base first; losses: nats per token of validation text."""
        size = float(self.run.facts["num_parameters"])
        per_step = self.run.facts["shape"]["rows"] * self.run.facts["shape"]["window"]
        entries = json.loads((self.run / "curve.json").read_text(encoding="utf-8"))
        return [
            {"tokens": entry["step"] * per_step, "size": size}
            | {name: total / count for name, (total, count) in entry["validation"].items()}
            for entry in entries
            if "validation" in entry
        ]


def pilot(
    base: Base, tokens: Artifact, final: Train, shape: TrainingShape, settings: Pilots, *, store: Store
) -> list[Pilot]:
    """Make the pilots of a final run, objective by objective."""
    made: list[Pilot] = []
    for objective in settings.objectives:
        short = settings.settings(final, shape, objective)
        for ratio in settings.ratios:
            run = train(base, tokens, mixture_of(ratio), short, store=store)
            made.append(Pilot(ratio, objective, run))
    return made


def mixture_of(ratio: float) -> Mapping[str, float]:
    """Shares of the training tokens by source, for a share of domain text."""
    return {name: share for name, share in (("domain", ratio), ("general", 1 - ratio)) if share > 0}


def trials_of(pilots: Sequence[Pilot], source: str, horizon: int) -> Trials:
    """What a law of this source's loss is fitted to: every look but those at the base, its ratio being the source's.

    The base itself is no trial: a law in powers of the tokens has no value at none of them. Its loss stands beside
    every row ("base_loss"), and so do the tokens of the final run ("horizon").
    """
    looks = [(run, pilot, look) for run, pilot in enumerate(pilots) for look in pilot.looks if look["tokens"] > 0]
    columns = {
        "size": [look["size"] for _, _, look in looks],
        "tokens": [look["tokens"] for _, _, look in looks],
        "ratio": [pilot.ratio if source == "domain" else 1 - pilot.ratio for _, pilot, _ in looks],
        "base_loss": [pilot.looks[0][source] for _, pilot, _ in looks],
        "horizon": [float(horizon)] * len(looks),
    }
    return Trials(
        loss_T=np.array([look[source] for _, _, look in looks]),
        columns={name: np.array(values, float) for name, values in columns.items()},
        run_T=np.array([run for run, _, _ in looks]),
    )
