"""pair: runs held against each other on the documents that both were scored on, each document with itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from graft.core.records.evidence import Evidence, read_evidence
from graft.core.stats.bootstrap import DRAWS, levels, resampled
from graft.core.stats.random_streams import stream
from graft.core.store.artifact import Artifact
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.evaluation.probes.forgetting import verdict
from graft.models.runtime.settle_precision import precision_of
from graft.report.overview.run_summary import text_behind

Document = tuple[int, int]  # its position in the text, and how many of its bytes were scored


@dataclass(frozen=True)
class ScoredText:
    """What one model made of one text: bits and bytes of every document by its place and size."""

    label: str
    bits: Mapping[Document, tuple[float, float]]


def pair(seen: Mapping[str, Artifact], most: int, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per pair and source {source, one, other, documents, bits, change, interval, verdict}, and notes.

    seen: evidence by label, of any runs; those of different text, measure or precision make no pair. change: relative,
    of the other's bits per byte against the one's, over the documents that both have; interval: that of
    `graft.core.stats.bootstrap.paired_change`, drawn once for all pairs of the same documents. Where a text has more
    than `most` pairs, each is held against the best alone.
    """
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for source, group in _groups(seen):
        pairs = list(combinations(group, 2))
        if len(pairs) > most:
            best = min(group, key=_mean)
            notes.append(
                f"{source}: of {len(pairs)} pairs of runs the {len(group) - 1} with {best.label}, which reads it best, "
                "are compared (gather.pairs allows more)."
            )
            pairs = [(best, one) for one in group if one is not best]
        rows += _rows(source, pairs, seed)
    return rows, notes


def _groups(seen: Mapping[str, Artifact]) -> list[tuple[str, list[ScoredText]]]:
    """Those that read the same text by the same measure, by source."""
    groups: dict[tuple[str, ...], list[ScoredText]] = {}
    for label, artifact in seen.items():
        for source, evidence in read_evidence(artifact).items():
            key = source, text_behind(artifact, source), str(artifact.facts.get("measure", "")), precision_of(artifact)
            groups.setdefault(key, []).append(ScoredText(label, _by_document(evidence)))
    return [(key[0], group) for key, group in groups.items() if len(group) > 1]


def _by_document(evidence: Evidence) -> dict[Document, tuple[float, float]]:
    bits = BitsPerByte()(evidence)
    keys = zip(evidence.position_D.tolist(), evidence.num_bytes_D.tolist(), strict=True)
    return dict(zip(keys, zip(bits.total.tolist(), bits.count.tolist(), strict=True), strict=True))


def _mean(one: ScoredText) -> float:
    return sum(bits for bits, _ in one.bits.values()) / max(1.0, sum(size for _, size in one.bits.values()))


def _rows(source: str, pairs: Sequence[tuple[ScoredText, ScoredText]], seed: int) -> list[dict[str, Any]]:
    """A row of each pair that has documents in common, in the order of the pairs."""
    shared = [tuple(key for key in one.bits if key in other.bits) for one, other in pairs]
    found: dict[int, dict[str, Any]] = {}
    for documents in dict.fromkeys(filter(None, shared)):
        places = [place for place, mine in enumerate(shared) if mine == documents]
        named = {each.label: each for place in places for each in pairs[place]}
        bits_KD = np.array([[one.bits[key][0] for key in documents] for one in named.values()])
        num_bytes = sum(next(iter(named.values())).bits[key][1] for key in documents)
        drawn: dict[str, np.ndarray] = {}
        if len(documents) > 1:
            drawn = dict(zip(named, resampled(bits_KD, DRAWS, stream(seed, "bootstrap")).T, strict=True))
        totals = dict(zip(named, bits_KD.sum(1), strict=True))
        for place in places:
            one, other = (each.label for each in pairs[place])
            ends = np.quantile(drawn[other] / drawn[one] - 1, levels(len(documents))).tolist() if drawn else None
            interval = (ends[0], ends[1]) if ends else None
            found[place] = {
                "source": source,
                "one": one,
                "other": other,
                "documents": len(documents),
                "bits": [float(totals[label] / num_bytes) for label in (one, other)],
                "change": float(totals[other] / totals[one]) - 1,
                "interval": interval,
                "verdict": verdict(interval),
            }
    return [found[place] for place in sorted(found)]
