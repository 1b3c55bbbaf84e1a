"""scored: where documents were scored, before and after a training, and what each model made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from graft.core.records.evidence import Evidence, read_evidence
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.lineage.training_runs import RunSegment

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Sides:
    """The two sightings that a comparison is made of; findings: the artifact whose probes compared them."""

    before: Artifact
    after: Artifact
    findings: Artifact | None

    @cached_property
    def evidence(self) -> tuple[dict[str, Evidence], dict[str, Evidence]]:
        return read_evidence(self.before), read_evidence(self.after)


def sides_of(artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph) -> Sides | None:
    """The comparison that an artifact is about: its own, or one whose second model is that of the first run.

    None where nothing was compared: of text, pilots, a run that was not evaluated.
    """
    for one in [artifact, *(inner for _, inner in family.parents(artifact) if inner.kind in ("findings", "contrast"))]:
        pair = family.input(one, BEFORE), family.input(one, AFTER)
        if one.kind in ("findings", "contrast") and pair[0] and pair[1]:
            return Sides(pair[0], pair[1], one)
    runs = [leg.run for leg in legs[:1]]
    for run in runs:
        for _, tokens in family.parents(run):
            for _, evidence in family.children(tokens) if tokens.kind == "tokens" else ():
                if evidence.kind != "evidence" or evidence.origins.get("model") != run.name:
                    continue
                for role, findings in family.children(evidence):
                    first = family.input(findings, BEFORE)
                    if findings.kind == "findings" and role == AFTER and first:
                        return Sides(first, evidence, findings)
    return None


def scored(tokens: Artifact, source: str, positions: Sequence[int], family: LineageGraph) -> Iterator[dict[str, Any]]:
    """Every recorded sighting of these documents: {evidence, model, split, documents, tokens, nats_per_token}."""
    for role, one in family.children(tokens):
        path = one / f"{source}.parquet"
        if one.kind != "evidence" or role != "tokens" or not path.exists():
            continue
        table = pq.read_table(path, columns=["nats"], filters=[("position", "in", list(positions))])
        if not table.num_rows:
            continue
        nats = table["nats"].combine_chunks().flatten().to_numpy()
        yield {
            "evidence": one.name,
            "model": one.origins.get("model", one.facts["model"]),
            "fingerprint": one.manifest["inputs"]["model"],
            "split": one.manifest["settings"].get("split", "test"),
            "documents": table.num_rows,
            "tokens": len(nats),
            "nats_per_token": float(nats.sum(dtype=np.float64) / max(1, len(nats))),
        }


def watched(leg: RunSegment, source: str, position: int) -> dict[str, Any]:
    """Whether a validation document was among those looked at while training: {looks (steps), tokens of it, of}."""
    from graft.models.scoring.scoring import choose_documents

    tokens = leg.sources[source]
    choice = choose_documents(tokens, "validation", int(leg.run.manifest["settings"].get("validation_tokens", 0)))
    here = np.flatnonzero(tokens.position_D[choice.documents_D] == position)
    looks = [step for step, entry in leg.curve.items() if source in entry.get("validation", {})]
    return {
        "looks": sorted(looks) if len(here) else [],
        "tokens": int(choice.pairs_D[here].sum()),
        "documents": len(choice),
    }
