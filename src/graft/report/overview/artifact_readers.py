"""recount: what an artifact of each kind has to tell beside others; a kind is added as one entry of READERS."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Artifact
from graft.core.store.related import ancestry, beside, made_from, near
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.evaluation.metrics.nats_per_token import NatsPerToken
from graft.report.overview.job_tables import Cell, Rows, table_of, texts_table
from graft.report.overview.resolve_inputs import SUMMARY, Given
from graft.report.overview.run_summary import (
    maker_of,
    of_extension,
    of_findings,
    of_pair,
    of_report,
    of_summary,
    of_training,
)


@dataclass(frozen=True)
class Told:
    """What one artifact tells: a run (see `graft.report.overview.run_summary`), or a table, or neither.

    said: the verdict that it gives itself, where it is no run. seen: evidence that is held against that of others,
    document by document. notes: what it cannot tell.
    """

    run: dict[str, Any] | None = None
    table: Rows | None = None
    said: str = ""
    seen: Artifact | None = None
    notes: tuple[str, ...] = ()


def recount(given: Given) -> Told:
    """A kind that nobody knows tells nothing but that it is there."""
    if given.artifact is None:
        summary = given.summary or {}
        return _of_job(summary) or Told(run=of_summary(given.label, summary))
    kind = kind_of(given.artifact)
    reader = READERS.get(kind)
    if reader is None:
        return Told(notes=(f"{given.label} is of the kind {kind}, which has no table here; it stands in the lineage.",))
    return reader(given.label, given.artifact)


def behind(artifact: Artifact) -> list[str]:
    """Names of the artifacts that are there of all that what it tells may be read off, as lineage or as numbers."""
    made = [artifact, *(made_of(artifact).values() if artifact.kind == "train" else ())]
    after = near(artifact, "after") if artifact.kind == "findings" else None
    made += [trained] if after and (trained := maker_of(after)) else []
    return sorted({one.name for each in made for one in ancestry(each)})


def kind_of(artifact: Artifact) -> str:
    """Its kind; a report is told apart by what it is of."""
    if artifact.kind != "report":
        return artifact.kind
    of = (role for role in ("findings", "contrast", "answers") if role in artifact.manifest["inputs"])
    return f"report of {next(of, 'something else')}"


def _report(label: str, report: Artifact) -> Told:
    return Told(run=of_report(label, report), seen=near(report, "after"), notes=_lost(label, report))


def _comparison(label: str, comparison: Artifact) -> Told:
    note = f"{label} is a vocabulary extension: its changes are of bits per byte, of documents scored whole."
    return Told(run=of_extension(label, comparison), seen=near(comparison, "seen trained"), notes=(note,))


def _findings(label: str, findings: Artifact) -> Told:
    return Told(run=of_findings(label, findings), seen=near(findings, "after"), notes=_lost(label, findings))


def _lost(label: str, artifact: Artifact) -> tuple[str, ...]:
    """A note where inputs of an artifact were removed from its store."""
    gone = [
        name
        for role, name in artifact.manifest["inputs"].items()
        if role in ("trained", "before", "after", "findings", "corpus") and near(artifact, role) is None
    ]
    if not gone:
        return ()
    return (f"{label}: {', '.join(gone)} is no longer in its store, so what is read off it cannot be drawn.",)


def _train(label: str, trained: Artifact) -> Told:
    """Its report, where one was made; else what evidence there is of it and of its base; else the training alone."""
    there = made_of(trained)
    report, after, before = (there.get(kind) for kind in ("report", "after", "before"))
    if report:
        note = f"{label} was found in {report.name}, whose numbers are shown."
        return Told(run=of_report(label, report), seen=near(report, "after"), notes=(note, *_lost(label, report)))
    if after is None:
        note = f"{label}: what it gained and forgot was not measured; {_how(trained)}."
        return Told(run=of_training(label, trained), notes=(note,))
    if before is None:
        note = f"{label}: its base was not scored on the documents of {after.name}; {_how(trained)}."
        return Told(run=of_training(label, trained), seen=after, notes=(note,))
    note = f"{label} has no report: its changes were taken of {before.name} and {after.name}."
    return Told(run=of_pair(label, trained, before, after), seen=after, notes=(note,))


def made_of(trained: Artifact) -> dict[str, Artifact]:
    """What the store has that was made of a training: its report, else evidence of it ("after") and of its base."""
    if report := next(made_from(trained, "trained", "report"), None):
        return {"report": report}
    after = _evidence_of(trained)
    before = after and _base_of(trained, after)
    return {name: one for name, one in (("after", after), ("before", before)) if one}


def _evidence_of(trained: Artifact) -> Artifact | None:
    tokens = near(trained, "tokens")
    found = made_from(tokens, "tokens", "evidence") if tokens else ()
    return next((one for one in found if (made := maker_of(one)) and made.name == trained.name), None)


def _base_of(trained: Artifact, after: Artifact) -> Artifact | None:
    """Evidence of the model that a training began with, of the same text and with the same settings."""
    tokens = near(after, "tokens")
    base = trained.manifest["inputs"]["base"]
    for one in made_from(tokens, "tokens", "evidence") if tokens else ():
        if one.manifest["inputs"]["model"] == base and one.manifest["settings"] == after.manifest["settings"]:
            return one
    return None


def _how(trained: Artifact) -> str:
    """What to do to measure a training, in words that end with a command."""
    tokens = near(trained, "tokens")
    corpus = tokens and near(tokens, "corpus")
    roles = [role for role in corpus.manifest["inputs"] if role.startswith("docs ")] if corpus else []
    docs = [made for role in roles if corpus and (made := near(corpus, role))]
    paths = [str(path) for one in docs for path in one.facts.get("paths", ())] or ["TEXT"]
    made = beside(trained, trained.origins.get("base", ""))
    base = str(made / "model") if made else str(trained.facts.get("base", "BASE"))
    words = ["graft", "compare", base, str(trained / "model")]
    words += [part for path in paths for part in ("--text", path)]
    command = shlex.join([*words, "--seen-too"])
    return f"run what trained it again, or, with text it was trained on marked, `{command}`"


def _summed_up(label: str, artifact: Artifact) -> Told:
    """What a summary.json says that is a table of its own."""
    return _of_job(json.loads((artifact / SUMMARY).read_text(encoding="utf-8"))) or Told()


def _of_job(summary: Mapping[str, Any]) -> Told | None:
    """Of the summary.json of a job that is no adaptation; None of any other."""
    told = table_of(summary)
    return Told(table=told, said=str(summary.get("verdict", ""))) if told else None


def _contrast(label: str, contrast: Artifact) -> Told:
    texts = json.loads((contrast / "texts.json").read_text(encoding="utf-8"))
    return Told(table=texts_table("Two models on the same text", texts))


def _evidence(label: str, evidence: Artifact) -> Told:
    head = {
        "text": "word",
        "nats per token": "number",
        "bits per byte": "number",
        "documents": "count",
        "tokens": "count",
    }
    rows: list[list[Cell]] = []
    for name, one in read_evidence(evidence).items():
        nats, bits = NatsPerToken()(one), BitsPerByte()(one)
        means = [float(sums.total.sum() / sums.count.sum()) if sums.count.sum() else None for sums in (nats, bits)]
        rows.append([name, *means, one.num_documents, len(one.nats_N)])
    split = evidence.manifest["settings"].get("split", "test")
    return Told(table=Rows(f"{evidence.facts['model']} on {split} text", head, rows), seen=evidence)


def _ledger(label: str, artifact: Artifact) -> Told:
    head = {"text": "word", "fate": "word", "documents": "count", "bytes": "count", "tokens": "count"}
    rows: list[list[Cell]] = [
        [source, fate, amount.documents, amount.bytes, amount.tokens] for source, fate, amount in artifact.ledger.rows()
    ]
    return Told(table=Rows("Where the text went", head, rows))


def _answers(label: str, answers: Artifact) -> Told:
    tasks = {name: row for name, row in answers.facts["tasks"].items() if isinstance(row, dict)}
    measures = dict.fromkeys(key for row in tasks.values() for key, one in row.items() if _accuracy(one) is not None)
    rows: list[list[Cell]] = [[name, *(_accuracy(row.get(key)) for key in measures)] for name, row in tasks.items()]
    head = {"task": "word"} | dict.fromkeys(measures, "number")
    return Told(table=Rows(f"Answers of {answers.facts['model']}: share that is right", head, rows))


def _accuracy(one: Any) -> float | None:
    return one.get("accuracy") if isinstance(one, dict) else None


def _features(label: str, features: Artifact) -> Told:
    facts = features.facts
    head = {"text": "word", "documents": "count", "bytes": "count"}
    rows: list[list[Cell]] = [[", ".join(facts["paths"]), facts["documents"], facts["bytes"]]]
    return Told(table=Rows(f"A text as {facts['model']} reads it", head, rows))


def _likeness(label: str, likeness: Artifact) -> Told:
    rows = json.loads((likeness / "likeness.json").read_text(encoding="utf-8"))
    head = {"measure": "word", "measured": "number", "corrected": "number", "from": "number", "to": "number"}
    head |= {"closer when": "word"}
    told: list[list[Cell]] = [
        [
            *(row["measure"], row["value"], row["corrected"], *(row["interval"] or (None, None))),
            "larger" if row["larger_is_closer"] else "smaller",
        ]
        for row in rows
    ]
    return Told(table=Rows("How alike two texts are", head, told))


def _walked(label: str, walked: Artifact) -> Told:
    places = json.loads((walked / "line.json").read_text(encoding="utf-8"))
    head = {"share of the way": "number", "domain": "change", "general": "change", "general at most": "change"}
    rows: list[list[Cell]] = [
        [one["share"], one["domain_change"], one["general_change"], one["general_bound"]]
        for one in sorted(places, key=lambda one: one["share"])
    ]
    return Told(table=Rows("Places between a base and a result, on validation text", head, rows))


READERS: dict[str, Callable[[str, Artifact], Told]] = {
    "report of findings": _report,
    "report of contrast": _summed_up,
    "report of answers": _summed_up,
    "stream": _summed_up,
    "answers": _answers,
    "comparison": _comparison,
    "findings": _findings,
    "train": _train,
    "contrast": _contrast,
    "evidence": _evidence,
    "docs": _ledger,
    "corpus": _ledger,
    "tokens": _ledger,
    "features": _features,
    "likeness": _likeness,
    "walked": _walked,
}
