"""`graft similarity`, as an answer in plain values; nothing is printed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.config.settings import to_json
from graft.core.models.base_model import Base
from graft.core.records.features import Features, read_features
from graft.core.stats.correlation import correlate
from graft.core.store.artifact import Artifact, Store
from graft.data.ingest import Ingest, ingest
from graft.evaluation.similarity.advise import Advise
from graft.evaluation.similarity.embed import Embed, embed
from graft.evaluation.similarity.measure_similarity import Liken, by_name, liken, read_likeness
from graft.evaluation.similarity.parts import Parts, notes_of
from graft.evaluation.similarity.runs import AdaptationRun, read_runs
from graft.models.checks.find_base import find_base

FEW = 20  # documents: intervals of fewer are too narrow


@dataclass(frozen=True)
class Similarity:
    """Texts against a reference that stands for what a model was pre-trained on; calling it measures.

    to: paths that are one text together. runs: finished adaptations.
    """

    texts: tuple[str, ...] = ("embedded:code",)
    to: tuple[str, ...] = ("embedded:prose",)
    model: str = "embedded"
    runs: tuple[str, ...] = ()
    ingest: Ingest = field(default_factory=Ingest)
    embed: Embed = field(default_factory=Embed)
    liken: Liken = field(default_factory=Liken)
    advise: Advise = field(default_factory=Advise)

    def __post_init__(self) -> None:
        if not self.texts or not self.to:
            raise UsageError("a text or the reference is missing", allowed="one TEXT or more, and --to REFERENCE")

    def __call__(self, store: Store) -> dict[str, Any]:
        """What the JSON holds: every text's measures and advice, runs, correlations, notes.

        Errors: UsageError for texts that are the reference or named twice, and whatever stages and runs raise.
        """
        base = find_base(self.model, store)
        reference = ingest(self.to, "text", self.ingest, store=store)
        docs = {name: ingest([path], "text", self.ingest, store=store) for name, path in names_of(self.texts).items()}
        _check_different(docs, reference, self.to)
        runs, left = read_runs(self.runs, docs, base.fingerprint(store.prints), store) if self.runs else ([], [])
        known = embed(reference, base, self.embed, store=store)
        sides = {name: embed(one, base, self.embed, store=store) for name, one in docs.items()}
        likeness = {name: liken(one, known, self.liken, store=store) for name, one in sides.items()}
        rows = {name: read_likeness(one) for name, one in likeness.items()}
        parts = Parts(self._parts(base, store), self.liken.measures)
        against = {name: parts.against(read_features(one)) if parts.parts else [] for name, one in sides.items()}
        kinds = parts.told()
        texts = [
            {
                "text": name,
                "path": path,
                **_size(sides[name]),
                "in_reference_too": likeness[name].facts["in both"],
                "artifact": likeness[name].name,
                "measures": rows[name],
                "parts": against[name],
                **self.advise(by_name(rows[name]), [run for run in runs if run.text == name]),
            }
            for (name, path) in names_of(self.texts).items()
        ]
        return {
            "model": base.name,
            "reference": {"paths": list(self.to), **_size(known), "parts": kinds},
            "texts": texts,
            "runs": [run.told() for run in runs],
            "runs_left_out": left,
            "correlations": correlations(rows, runs) if self.runs else [],
            "notes": notes_of(kinds, against, self.advise.told_apart)
            + _notes(sides, known, likeness)
            + _read_notes({**docs, "the reference": reference}),
            "settings": {key: to_json(getattr(self, key)) for key in ("ingest", "embed", "liken", "advise")},
        }

    def _parts(self, base: Base, store: Store) -> dict[str, Features]:
        """Every path of the reference by itself, together of about as many documents; none where it is one path."""
        paths = list(dict.fromkeys(self.to))
        if len(paths) < 2:
            return {}
        few = replace(self.embed, documents=math.ceil(self.embed.documents / len(paths)))
        docs = {name: ingest([path], "text", self.ingest, store=store) for name, path in names_of(paths).items()}
        return {name: read_features(embed(one, base, few, store=store)) for name, one in docs.items()}


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """Paths by their last part, or by all of it where two would be alike. Errors: UsageError for one given twice."""
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise UsageError(f"a text is given twice: {', '.join(sorted(twice))}", allowed="every TEXT once")
    short = [Path(path).name or path for path in paths]
    return {path if short.count(name) > 1 else name: path for name, path in zip(short, paths, strict=True)}


def correlations(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], runs: Sequence[AdaptationRun]
) -> list[dict[str, Any]]:
    """Of every measure, as its formula has it: how it goes with the relative change of the domain's loss."""
    found: list[dict[str, Any]] = []
    for measure in dict.fromkeys(row["measure"] for one in rows.values() for row in one):
        values = {name: next(row["value"] for row in one if row["measure"] == measure) for name, one in rows.items()}
        counted = [run for run in runs if values[run.text] is not None]
        told = correlate([values[r.text] for r in counted], [r.change for r in counted], [r.text for r in counted])
        found.append({"measure": measure, **asdict(told)})
    return found


def _check_different(docs: Mapping[str, Artifact], reference: Artifact, to: Sequence[str]) -> None:
    names: dict[str, str] = {}
    for name, one in docs.items():
        if one.name == reference.name:
            raise UsageError(f'"{name}" is the reference itself', where=f"--to {' '.join(to)}", allowed="another text")
        if one.name in names:
            raise UsageError(f'"{name}" and "{names[one.name]}" are the same text', allowed="every TEXT once")
        names[one.name] = name


def _size(side: Artifact) -> dict[str, Any]:
    """documents: read by the model; of so many different ones; cut: of how many the beginning only."""
    facts = side.facts
    return {
        "documents": facts["documents"],
        "of": facts["different"],
        "cut": facts["cut"],
        "bytes": facts["bytes"],
        "left_out": facts["dropped"] + facts["without tokens"],
    }


def _read_notes(docs: Mapping[str, Artifact]) -> list[str]:
    """What was noted while reading, by the names that texts have here; there all of them are called "text"."""
    return [f"{name}{note.removeprefix('text')}" for name, one in docs.items() for note in one.facts["notes"]]


def _notes(sides: Mapping[str, Artifact], known: Artifact, likeness: Mapping[str, Artifact]) -> list[str]:
    notes = list(known.facts["notes"])
    every = {**sides, "the reference": known}
    for name, side in every.items():
        count, facts = side.facts["documents"], side.facts
        if count < FEW:
            words = "no interval can be made" if count == 1 else "its intervals are narrower than they should be"
            notes.append(f"{name}: {count} document{'s' * (count != 1)}; {words}")
        if facts["different"] > count + facts["without tokens"]:
            notes.append(f"{name}: {count:,} of {facts['different']:,} documents were read (embed.documents)")
        if facts["cut"]:
            notes.append(f"{name}: of {facts['cut']:,} documents the first {facts['longest']} tokens alone were read")
        if facts["dropped"] or facts["without tokens"]:
            lost = facts["dropped"] + facts["without tokens"]
            notes.append(f"{name}: {lost:,} documents could not be used")
    counts = {side.facts["documents"] for side in every.values()}
    if len(counts) > 1:
        notes.append(
            "texts differ in how many documents were read: compare their Frechet distances as corrected only "
            "(correlations are of what was measured)"
        )
    for name, one in likeness.items():
        if one.facts["in both"]:
            notes.append(f"{name}: {one.facts['in both']} of the documents read stand in the reference too")
    return notes
