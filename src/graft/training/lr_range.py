"""Which rates a range test tries, and how the peak is read off what they gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graft.core.config.errors import UsageError
from graft.core.stats.tally import Tally

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
