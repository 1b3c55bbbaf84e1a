"""What a report says about an adaptation, gathered from its artifacts as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from graft.core.process.precision import described
from graft.core.records.evidence import Evidence, read_evidence
from graft.core.stats.outliers import Spikes
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact
from graft.core.text.drop_reasons import meanings
from graft.core.text.token_text import spelled
from graft.evaluation.probes.blame import by_class
from graft.report.adaptation.budgeted import Budgeted

TOKENS_SHOWN = 700  # of each sample document
ITEMS_SHOWN = 30  # vocabulary items, from either end of the blame


@dataclass(frozen=True)
class Materials:
    """The artifacts of one adaptation, and the words its user gave."""

    corpus: Artifact
    tokens: Artifact
    trained: Artifact
    before: Artifact
    after: Artifact
    findings: Artifact
    base: str
    paths: Mapping[str, list[str]]
    lineage: list[Artifact]
    notes: list[str]
    budgeted: Budgeted | None = None  # of a run inside a budget


def gather_facts(materials: Materials, summary: dict[str, Any]) -> dict[str, Any]:
    """Everything on the page: summary, notes, curve, changes, blame, sample documents, ledger, settings, lineage.

    blame is empty where that probe was left out.
    """
    old, new = read_evidence(materials.before), read_evidence(materials.after)
    changes = json.loads((materials.findings / "forgetting.json").read_text(encoding="utf-8"))
    return {
        "summary": summary,
        "notes": summary["notes"],
        "frontier": materials.budgeted and materials.budgeted.frontier(),
        "base": materials.base,
        "paths": {name: list(paths) for name, paths in materials.paths.items()},
        "training": materials.trained.facts,
        "curve": read_curve(materials.trained),
        "run": materials.trained.name,
        "changes": [row | {"verdict": summary[row["source"]]["verdict"]} for row in changes],
        "blame": read_blame(materials.findings, list(old)),
        "documents": sample_documents(old, new, materials.corpus),
        "scored": materials.after.facts["scored"],
        "ledger": [
            {"source": source, "fate": fate} | vars(amount) for source, fate, amount in materials.tokens.ledger.rows()
        ],
        "meanings": meanings([materials.corpus.facts, materials.tokens.facts]),
        "settings": {artifact.kind: artifact.manifest["settings"] for artifact in materials.lineage},
        "versions": materials.trained.manifest["versions"],
        "device": described(materials.trained.manifest),
        "lineage": [
            {key: artifact.manifest[key] for key in ("inputs", "started", "seconds")} | {"name": artifact.name}
            for artifact in materials.lineage
        ],
    }


def read_curve(trained: Artifact) -> dict[str, Any]:
    """Training loss per source and step (means over the step), and validation nats per token per source.

    spikes: of each source [step, loss, what is usual there] where the loss stands out.
    """
    entries = json.loads((trained / "curve.json").read_text(encoding="utf-8"))
    training = [entry for entry in entries if "loss" in entry]
    watched = [entry for entry in entries if "validation" in entry]
    shape = trained.facts["shape"]
    losses = {
        name: [[entry["step"], Tally(*entry["loss"][name]).mean] for entry in training if name in entry["loss"]]
        for name in trained.facts["tokens"]
    }
    return {
        "tokens_per_step": shape["rows"] * shape["window"],
        "training": losses,
        "spikes": {
            name: [[*points[at], usual] for at, usual in Spikes()([loss for _, loss in points])]
            for name, points in losses.items()
        },
        "rate": [[entry["step"], entry["rate"]] for entry in training],
        "validation": {
            name: [[entry["step"], Tally(*entry["validation"][name]).mean] for entry in watched]
            for name in (watched[0]["validation"] if watched else {})
        },
    }


def read_blame(findings: Artifact, sources: list[str]) -> dict[str, Any]:
    """Blame by source; nothing where the findings have none."""
    path = findings / "blame.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {name: divided([row for row in rows if row["source"] == name]) for name in sources}


def divided(mine: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one source's rows the items that gained and lost most, the classes, and sums by which the total is checked."""
    return {
        "lost": [row for row in mine[:ITEMS_SHOWN] if row["blame"] > 0],
        "gained": [row for row in mine[::-1][:ITEMS_SHOWN] if row["blame"] < 0],
        "classes": by_class(mine),
        "items": len(mine),
        "total": sum(row["blame"] for row in mine),
    }


def sample_documents(
    old: Mapping[str, Evidence], new: Mapping[str, Evidence], corpus: Artifact
) -> list[dict[str, Any]]:
    """Up to three: of the first source the one that gained most and a middling one, of the last the biggest loser.

    Chosen by mean change per token among documents of at least 50 tokens (of any length where none is so long).
    "why" says which; where every document lost it is "lost least", where every one gained "gained least".
    """
    names = list(old)
    first, last = names[0], names[-1]
    order, ending = _by_change(old[first], new[first]), _by_change(old[last], new[last])
    chosen = {(first, int(order[0])): ("gained most", "lost least")}
    chosen.setdefault((last, int(ending[-1])), ("gained least", "lost most"))
    chosen.setdefault((first, int(order[len(order) // 2])), ("in the middle", "in the middle"))
    found = [(_coloured(old[name], new[name], place, corpus), words) for (name, place), words in chosen.items()]
    documents = [{"why": words[one["after"] > one["before"]]} | one for one, words in found]
    return sorted(documents, key=lambda one: (names.index(one["source"]), one["after"] - one["before"]))


def _by_change(before: Evidence, after: Evidence) -> np.ndarray:
    """Documents by mean change per token, the largest gain first."""
    length_D = np.diff(before.bounds_E)
    change_D = (after.sum_D(after.nats_N) - before.sum_D(before.nats_N)) / np.maximum(length_D, 1)
    long_enough = np.flatnonzero(length_D >= min(50, length_D.max(initial=0)))
    return long_enough[np.argsort(change_D[long_enough], kind="stable")]


def _coloured(before: Evidence, after: Evidence, document: int, corpus: Artifact) -> dict[str, Any]:
    """One document; "tokens" has rows (text, nats before, nats after, number of tokens)."""
    targets, old = before.document(document)
    _, new = after.document(document)
    position = int(before.position_D[document])
    text, parents = _origin(corpus, before.source, position)
    tokens = [
        (before.vocabulary.get(int(item), ""), round(float(b), 3), round(float(a), 3))
        for item, b, a in zip(targets[:TOKENS_SHOWN], old, new, strict=False)
    ]
    return {
        "source": before.source,
        "position": position,
        "parents": parents,
        "length": len(targets),
        "shown": len(tokens),
        "before": float(old.mean()),
        "after": float(new.mean()),
        "tokens": spelled(text, tokens),
    }


def _origin(corpus: Artifact, source: str, position: int) -> tuple[str, list[str]]:
    """Text of a document, and where it came from: path#row."""
    table = pq.read_table(
        corpus / f"{source}.parquet", columns=["text", "position", "parents"], filters=[("position", "=", position)]
    )
    return (table["text"][0].as_py(), table["parents"][0].as_py()) if table.num_rows else ("", [])
