"""What each text gained and lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.core.records.evidence import Evidence
from graft.core.stats.bootstrap import paired_change
from graft.core.stats.certainty import no_interval
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.evaluation.metrics.nats_per_token import NatsPerToken


@dataclass(frozen=True)
class Forgetting:
    """Loss before and after on the same documents of each source, with the interval of the relative change.

    Units: nats per token, bits per byte, perplexity = exp(nats per token). change = (after - before) / before of the
    nats per token; negative is better. verdict: "improved" or "worse" when the 95 % interval leaves 0 out, else
    "no change". With a single document there is no interval, and the verdict says so.
    """

    seed: int = 0  # of the resampling

    def __call__(self, before: Mapping[str, Evidence], after: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        return [self._row(before[name], after[name]) for name in before]

    def _row(self, before: Evidence, after: Evidence) -> dict[str, Any]:
        nats = NatsPerToken()
        change = paired_change(nats(before), nats(after), seed=self.seed)
        bits = [sums.total.sum() / sums.count.sum() for sums in (BitsPerByte()(before), BitsPerByte()(after))]
        return {
            "source": before.source,
            "documents": before.num_documents,
            "tokens": len(before.nats_N),
            "before": change.before,
            "after": change.after,
            "change": change.change,
            "interval": change.interval,
            "bits_per_byte": {"before": float(bits[0]), "after": float(bits[1])},
            "perplexity": {"before": math.exp(change.before), "after": math.exp(change.after)},
            "verdict": verdict(change.interval),
        }


def verdict(interval: tuple[float, float] | None) -> str:
    """What an interval of the relative change of a loss says."""
    if interval is None:
        return no_interval()
    if interval[1] < 0:
        return "improved"
    return "worse" if interval[0] > 0 else "no change"
