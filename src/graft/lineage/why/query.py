"""`graft why`, as an answer in plain values; nothing is printed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.stats.outliers import Spikes
from graft.core.store.artifact import Artifact, Store
from graft.core.store.lineage import LineageGraph
from graft.lineage.training_runs import RunSegment, legs
from graft.lineage.why import documents, steps
from graft.lineage.why import report_rows as rows
from graft.lineage.why.ancestry import ancestry
from graft.lineage.why.resolve import resolve, split_step

SHOWN = 12  # runs that an error lists


@dataclass(frozen=True)
class Why:
    """A question about something that Graft made; calling it answers. With no question: the artifact alone.

    document: SOURCE:POSITION, FILE#ROW, FILE or an id. step: of the run. item, sort: a vocabulary item or word, or a
    class of items. fate: of documents before training. source: where an item is looked for. most: how many documents,
    spikes or first meetings are told; counts are of all.
    """

    artifact: str = ""
    document: str = ""
    step: int | None = None
    spikes: bool = False
    item: str | None = None
    sort: str = ""
    fate: str = ""
    source: str = ""
    most: int = 10
    rule: Spikes = field(default_factory=Spikes)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"most is {self.most}", allowed="1 or more")
        asked = [words for words, given in self.questions.items() if given]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} are asked at once", allowed="one question at a time")
        if self.source and not (self.item is not None or self.sort or self.fate):
            raise UsageError(f'--source is "{self.source}"', allowed="with --item, --class or --fate")

    @property
    def questions(self) -> dict[str, bool]:
        """What can be asked, and whether it was."""
        at = split_step(self.artifact)[1] is not None
        return {
            "a document": bool(self.document), "a step": at or self.step is not None, "--spikes": self.spikes,
            "--item": self.item is not None, "--class": bool(self.sort), "--fate": bool(self.fate),
        }  # fmt: skip

    def __call__(self, store: Store) -> dict[str, Any]:
        """What the JSON holds. Errors: UsageError for what is not there, FaultError for a run that is not retraced."""
        name, step = split_step(self.artifact)
        artifact, family = resolve(name, store)
        told = {"artifact": artifact.name, "store": str(family.root)}
        if not any(self.questions.values()):
            return {**told, "asked": "ancestry", "tree": ancestry(artifact, family)}
        found = legs(artifact, family)
        return {**told, **self._answer(artifact, family, found, step if self.step is None else self.step)}

    def _answer(
        self, artifact: Artifact, family: LineageGraph, found: list[RunSegment], step: int | None
    ) -> dict[str, Any]:
        if self.document:
            return documents.answer(self.document, artifact, found, family, self.most)
        if self.fate:
            return rows.with_fate(self.fate, artifact, found, family, self.source, self.most)
        if step is not None:
            return steps.one(first_of(found, artifact), step, self.rule)
        if self.spikes:
            return steps.outstanding(first_of(found, artifact), self.rule, self.most)
        return rows.holding(self.item, self.sort, artifact, found, family, self.source, self.most)


def first_of(found: list[RunSegment], artifact: Artifact) -> RunSegment:
    """The run that is meant. Errors: UsageError where there is none, or there are several on the same text."""
    if not found:
        raise UsageError(f"no training run in this store led to {artifact.name}", allowed="a run, or what came of one")
    of_stream = [leg for leg in found if leg.turns]
    if len(of_stream) > 1:
        names = ", ".join(f"{leg.run.name} ({leg.role})" for leg in of_stream[:SHOWN])
        names += f" and {len(of_stream) - SHOWN} more" if len(of_stream) > SHOWN else ""
        raise UsageError(f"{artifact.name} has {len(of_stream)} trainings", allowed=names, do="name one of them")
    if len(found) > 1 and found[0].role == found[1].role:
        names = ", ".join(leg.run.name for leg in found)
        raise UsageError(f"{len(found)} runs have to do with {artifact.name}", allowed=names, do="name one of them")
    return found[0]
