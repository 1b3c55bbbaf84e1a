"""What is left of the change when those who caused it are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.records.evidence import Evidence
from graft.core.stats.bootstrap import paired_change
from graft.core.stats.tally import Tally
from graft.evaluation.probes.blame import CLASSES, Blame
from graft.evaluation.probes.forgetting import verdict


@dataclass(frozen=True)
class LeftOut:
    """The change of the mean loss over the targets that remain without the top k items, and without each class.

    The top k are the k items with the most blame in the direction of the whole change: where the loss rose, those
    whose rise weighs most. change = (after - before) / before of the remaining targets, with the paired interval over
    documents. Source: the question is that of arXiv 2410.05581, whose k are not published.
    """

    top: tuple[int, ...] = (1, 3, 10, 30)
    seed: int = 0  # of the resampling
    domain: str = "domain"  # as in blame
    term_ratio: float = 4.0
    min_count: int = 5

    def __post_init__(self) -> None:
        if any(k < 1 for k in self.top):
            raise UsageError(f"top is {list(self.top)}", allowed="numbers of items, 1 or more each")

    def __call__(self, before: Mapping[str, Evidence], after: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        """Rows with source, left_out ("top 3" or a class), items (up to ten of their texts, of a top), count (targets
        left out), share (of the change that they made up, None where nothing changed), before, after, change, interval,
        verdict; the last five None where nothing remains."""
        rows = Blame(self.domain, self.term_ratio, self.min_count)(before, after)
        return [
            self._row(before[name], after[name], words, chosen)
            for name in before
            for words, chosen in self._choices([row for row in rows if row["source"] == name])
        ]

    def _choices(self, rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        rising = sum(row["blame"] for row in rows) >= 0
        ranked = [row for row in (rows if rising else rows[::-1]) if (row["blame"] > 0) == rising and row["blame"]]
        for k in self.top:
            if k <= len(ranked):
                yield f"top {k}", ranked[:k]
        for name in CLASSES:
            if chosen := [row for row in rows if row["class"] == name]:
                yield name, chosen

    def _row(self, before: Evidence, after: Evidence, words: str, chosen: list[dict[str, Any]]) -> dict[str, Any]:
        stays_N = ~np.isin(before.targets_N, [row["token"] for row in chosen])
        count_D = before.sum_D(stays_N)
        sums = [Tally(one.sum_D(np.where(stays_N, one.nats_N, 0.0)), count_D) for one in (before, after)]
        there_D = count_D > 0
        old, new = (Tally(tally.total[there_D], tally.count[there_D]) for tally in sums)
        change = paired_change(old, new, seed=self.seed) if there_D.any() and old.total.sum() else None
        total = float((after.nats_N.astype(np.float64) - before.nats_N).mean())
        return {
            "source": before.source,
            "left_out": words,
            "items": [row["text"] for row in chosen[:10]] if words.startswith("top ") else [],
            "count": int((~stays_N).sum()),
            "share": sum(row["blame"] for row in chosen) / total if total else None,
            "before": change and change.before,
            "after": change and change.after,
            "change": change and change.change,
            "interval": change and change.interval,
            "verdict": verdict(change.interval) if change else "nothing remains",
        }
