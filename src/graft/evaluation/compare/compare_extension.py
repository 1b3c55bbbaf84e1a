"""compare: what a base, its extension and the trained extension make of the same documents, in bits per byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from graft.core.records.evidence import Evidence, read_evidence
from graft.core.stats.bootstrap import paired_change
from graft.core.stats.evaluation_size import larger
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact, Draft, Store
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.models.runtime.settle_precision import check_same_precision


@dataclass(frozen=True)
class CompareExtension:
    """How the interval of a change is drawn."""

    seed: int = 0  # of the resampling


def compare_extension(
    seen: Mapping[str, Artifact],
    corpus: Artifact,
    extended: Artifact,
    trained: Artifact,
    settings: CompareExtension = CompareExtension(),
    *,
    notes: Sequence[str] = (),
    store: Store,
) -> Artifact:
    """Kind "comparison": summary.json.

    seen: evidence of the models "base", "extended" and "trained", in this order. Tokens are not comparable between
    tokenizers, bytes are: compared are the documents that each of the three was scored on from beginning to end.
    """
    check_same_precision(seen)
    inputs: dict[str, Artifact | str] = {f"seen {name}": artifact for name, artifact in seen.items()}
    inputs |= {"corpus": corpus, "extended": extended, "trained": trained, "notes": "\n".join(notes)}
    return store.make(
        "comparison",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, seen, corpus, extended, trained, settings, notes),
    )


def _build(
    draft: Draft,
    seen: Mapping[str, Artifact],
    corpus: Artifact,
    extended: Artifact,
    trained: Artifact,
    settings: CompareExtension,
    notes: Sequence[str],
) -> None:
    evidence = {name: read_evidence(artifact) for name, artifact in seen.items()}
    fertility = extended.facts["fertility"]
    rows = {
        source: _row({name: one[source] for name, one in evidence.items()}, _sizes(corpus, source), settings.seed)
        | {"fertility": fertility[source]}
        for source in next(iter(evidence.values()))
    }
    noted = [note for artifact in (trained, *seen.values()) for note in artifact.facts.get("notes", ())]
    summary: dict[str, Any] = {
        "verdict": sentence(extended.facts["tokens_added"], rows),
        "base": extended.facts["base"],
        "tokens_added": extended.facts["tokens_added"],
        "first_new": extended.facts["first_new"],
        "idle": extended.facts["idle"],
        "largest": extended.facts["largest"],
        "tuning": trained.manifest["settings"]["tuning"],
        "num_trained": trained.facts["num_trained"],
        "tokens": trained.facts["tokens"],
        "rate": trained.facts["shape"]["rate"],
        "seed": trained.manifest["settings"]["seed"],
        "runtime": trained.facts.get("runtime", {}),
        "notes": list(dict.fromkeys([*notes, *_lacking(rows), *_larger(rows, seen["trained"]), *noted])),
    }
    (draft / "summary.json").write_text(
        json.dumps(summary | rows, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
    )
    draft.facts |= {"verdict": summary["verdict"]}


def number_keys(sources: Sequence[str]) -> list[str]:
    """The dotted path of every number that a summary of these sources holds (some may be null in it)."""
    models, per = ("base", "extended", "trained"), ("tokens", "tokens_per_byte", "tokens_per_word")
    rows = [
        *("change", "interval.0", "interval.1", "documents", "bytes"),
        *(f"{key}.{model}" for key in ("bits_per_byte", "tokens_scored") for model in models),
        *(f"fertility.{key}" for key in ("documents", "bytes", "words")),
        *(f"fertility.{side}.{key}" for side in ("before", "after") for key in per),
    ]
    whole = ["tokens_added", "first_new", "idle", "num_trained", "rate", "seed"]
    return [*whole, *(f"tokens.{name}" for name in sources), *(f"{name}.{key}" for name in sources for key in rows)]


def _sizes(corpus: Artifact, source: str) -> dict[int, int]:
    """UTF-8 bytes of every document by its position."""
    table = pq.read_table(corpus / f"{source}.parquet", columns=["position", "num_bytes"])
    return dict(zip(table["position"].to_pylist(), table["num_bytes"].to_pylist(), strict=True))


def _row(seen: Mapping[str, Evidence], sizes: Mapping[int, int], seed: int) -> dict[str, Any]:
    """One source: {documents, bytes, bits_per_byte: {model: value}, tokens: {model: count}, change, interval}.

    change: relative, of the last model's bits per byte against the first one's.
    """
    chosen = dict(zip(seen, _common(list(seen.values()), sizes), strict=True))
    bits = {name: BitsPerByte()(one) for name, one in seen.items()}
    kept = {name: Tally(tally.total[chosen[name]], tally.count[chosen[name]]) for name, tally in bits.items()}
    first, last = (kept[name] for name in (next(iter(kept)), next(reversed(kept))))
    documents = len(first.total)
    change = paired_change(first, last, seed=seed) if documents else None
    return {
        "documents": documents,
        "bytes": int(first.count.sum()),
        "bits_per_byte": {
            name: float(tally.total.sum() / tally.count.sum()) if documents else None for name, tally in kept.items()
        },
        "tokens_scored": {name: int(np.diff(one.bounds_E)[chosen[name]].sum()) for name, one in seen.items()},
        "change": change.change if change else None,
        "interval": change.interval if change else None,
    }


def _common(seen: Sequence[Evidence], sizes: Mapping[int, int]) -> list[np.ndarray]:
    """Of each evidence the places of the documents that all of them hold to their last byte, in the same order.

    Where evaluate.max_tokens cuts a document depends on the tokenizer, and which ones it leaves out too.
    """
    whole = [
        {
            position: place
            for place, (position, size) in enumerate(
                zip(one.position_D.tolist(), one.num_bytes_D.tolist(), strict=True)
            )
            if size == sizes[position]
        }
        for one in seen
    ]
    shared = [position for position in whole[0] if all(position in other for other in whole[1:])]
    return [np.array([places[position] for position in shared], np.int64) for places in whole]


def _lacking(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{source}: no document was scored whole with both tokenizers, so nothing is compared; "
        "raise evaluate.max_tokens."
        for source, row in rows.items()
        if not row["documents"]
    ]


def _larger(rows: Mapping[str, Mapping[str, Any]], seen: Artifact) -> list[str]:
    """In words, what all test documents would give, for each source of which fewer are compared."""
    there = {name: one["documents_of_split"] for name, one in seen.facts["scored"].items()}
    said = [larger(name, row["interval"], row["documents"], there[name]) for name, row in rows.items()]
    return [note for note in said if note]


def sentence(tokens_added: int, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The verdict in one sentence per source."""
    said = [f"{tokens_added:,} new tokens."]
    for source, row in rows.items():
        before, after = (row["fertility"][side]["tokens"] for side in ("before", "after"))
        words = f"{source}: {after / before - 1:+.1%} tokens" if before else f"{source}: no validation text"
        if row["documents"]:
            words += f", {' → '.join(f'{value:.4f}' for value in row['bits_per_byte'].values())} bits per byte"
            words += f" ({', '.join(row['bits_per_byte'])}; {row['change']:+.2%}{_interval(row['interval'])})"
        said.append(f"{words}.")
    return " ".join(said)


def _interval(interval: tuple[float, float] | None) -> str:
    return (
        ", how certain is unknown: one document"
        if interval is None
        else f", 95 % interval {interval[0]:+.2%} to {interval[1]:+.2%}"
    )
