"""legs: the training runs behind anything that Graft made, read off the manifests of a store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graft.core.config.errors import FaultError, UsageError
from graft.core.config.plugins import Shelf
from graft.core.config.settings import build_plugin
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact
from graft.core.store.code_identity import code_identity
from graft.core.store.fingerprints import Fingerprints, Unread
from graft.core.store.lineage import LineageGraph, made_as
from graft.core.store.ownership import MEMORY
from graft.core.tokens.token_shards import TokenSource
from graft.data.tokenize import sources
from graft.packing.document_positions import Places
from graft.packing.sampler import Sampler
from graft.training.objectives.contract import objective_needs

TEXTS = ("docs", "corpus", "tokens")  # kinds that no training has gone into
ASIDE = (*TEXTS, "shortlists", "range-test", "features", "base")  # what a run was given besides the weights
COMPARED = 32  # steps whose sources are held against what the run noted
THE_RUN, PILOT = "the run", "pilot"
TURN = re.compile(
    r"(.+), seed (\d+), turn (\d+): trained"
)  # how a stream calls its trainings (`graft.report.continual.stage`)


@dataclass(frozen=True)
class TurnOfRun:
    """A turn of a method in a stream of domains; turns count from 1."""

    method: str
    seed: int
    turn: int

    def __str__(self) -> str:
        return f"{self.method}, seed {self.seed}, turn {self.turn}"


@dataclass(frozen=True)
class RunSegment:
    """One training run on the way to something, and everything its batches can be found again by.

    role: what it was on that way: "the run", "pilot", "before NAME" (it made the base of that run), "of its text", or
    the turns of a stream that it is: methods that begin alike share their first ones.
    """

    run: Artifact
    role: str
    family: LineageGraph
    turns: tuple[TurnOfRun, ...] = ()

    @property
    def steps(self) -> int:
        return int(self.run.facts["shape"]["steps"])

    @property
    def rows(self) -> int:
        """Of a step."""
        return int(self.run.facts["shape"]["rows"])

    @property
    def window(self) -> int:
        return int(self.run.facts["shape"]["window"])

    @property
    def branched(self) -> tuple[str, int] | None:
        """(the trunk's name, its steps) of a run that was taken up from another's checkpoint."""
        decay = self.run.manifest["settings"].get("decay_now")
        trunk = self.run.manifest["inputs"].get("trunk")
        return (str(trunk), int(decay["at"])) if decay and trunk else None

    @property
    def tokens(self) -> Artifact | None:
        """The tokens that it read; None where they are not in the store any more."""
        return self.family.input(self.run, "tokens")

    @property
    def corpus(self) -> Artifact | None:
        tokens = self.tokens
        return tokens and self.family.input(tokens, "corpus")

    @cached_property
    def sources(self) -> dict[str, TokenSource]:
        """Errors: UsageError where the tokens are not in the store any more."""
        return sources(self._there())

    @cached_property
    def sampler(self) -> Sampler:
        """What its batches were made by.

        Errors: FaultError where today's sampler makes other ones, so that nothing false is said of an older run.
        """
        self._there()
        said = self.run.manifest["settings"]
        objective = build_plugin(Shelf("objectives"), said["objective"])
        mixture = {name: share for name, share in self.run.facts["mixture"].items() if name in self.sources}
        made = Sampler(
            self.sources,
            mixture,
            window=self.window,
            rows=self.rows,
            seed=int(said["seed"]),
            packing=objective_needs(objective).packing or said.get("packing", "stream"),
        )
        self._compare(made)
        return made

    def _compare(self, made: Sampler) -> None:
        """Holds what a sampler would read against what the run noted of itself: tokens, and the sources of steps."""
        now, then = made.tokens_by_source(self.steps), self.run.facts["tokens"]
        differ = {name: now.get(name, 0) for name in then} != then
        for step in sorted(self.curve)[:: max(1, self.steps // COMPARED)]:
            losses = self.curve[step].get("loss")
            differ |= bool(losses) and set(losses) != {row[0].source for row in made.pieces(step - 1)}
        if differ:
            raise FaultError(
                f"{self.run.name} noted {_counts(then)} tokens, and the sampler of this version of Graft would read "
                f"{_counts(now)}, or other sources in other steps: it cannot tell which step read what",
                where=str(self.family.root),
                do="ask the version of Graft that made the run (graft show tells which)",
            )

    @property
    def same_code(self) -> bool:
        """Whether every module that decides batches is as it was for the run; else numbers alone agree."""
        then = self.run.manifest["code"].get("modules", {})
        return set(code_identity((Sampler.__module__,)).modules.values()) <= set(then.values())

    def places(self, source: str, documents: np.ndarray) -> Places:
        """Where in the whole run these documents of a source were read; documents: as in its `TokenSource`."""
        return self.sampler.places(source, documents, self.steps)

    @cached_property
    def curve(self) -> dict[int, dict[str, Any]]:
        """What was noted after each step, by its number from 1: loss ([total, count] by source), rate, norm."""
        path = self.run / "curve.json"
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return {int(entry["step"]): entry for entry in entries}

    def _there(self) -> Artifact:
        tokens = self.tokens
        if tokens is None:
            name = self.run.manifest["inputs"].get("tokens")
            raise UsageError(
                f"{self.run.name} was trained on {name}, which is not in the store",
                where=str(self.family.root),
                allowed="a run whose tokens lie beside it",
                do="run the same command or recipe again: it makes what is missing and trains nothing anew",
            )
        return tokens


def legs(artifact: Artifact, family: LineageGraph) -> list[RunSegment]:
    """Every training run that went into an artifact, the one it is about first, then what came before.

    Of text (docs, corpus, tokens), and of what holds no training (evidence of an untouched base): the runs on it.
    """
    if artifact.kind not in TEXTS:
        found = {leg.run.name: leg for leg in _behind(artifact, family, THE_RUN, set())}
        if found:
            return list(found.values())
    texts = [artifact] if artifact.kind in TEXTS else [one for _, one in family.parents(artifact) if one.kind in TEXTS]
    return list({leg.run.name: leg for text in texts for leg in _ahead(text, family)}.values())


def _behind(artifact: Artifact, family: LineageGraph, role: str, seen: set[str]) -> Iterator[RunSegment]:
    if artifact.name in seen:
        return
    seen.add(artifact.name)
    if artifact.kind == "train":
        yield RunSegment(artifact, role, family)
        before = base_of(artifact, family)
        if before is not None:
            yield from _behind(before, family, f"before {artifact.name}", seen)
        return
    if artifact.kind == "stream":
        yield from _of_stream(artifact, family, seen)
        return
    for given, one in sorted(family.parents(artifact), key=lambda pair: pair[0] != "trained"):
        if one.kind not in ASIDE:
            side = given if artifact.kind == "contrast" else PILOT if artifact.kind == "choice" else role
            yield from _behind(one, family, side, seen)


def turns_of(stream: Artifact) -> dict[str, tuple[TurnOfRun, ...]]:
    """The trainings of a stream by their artifact's name, in the order of methods, seeds and turns."""
    found: dict[str, tuple[TurnOfRun, ...]] = {}
    for role, name in stream.manifest["inputs"].items():
        if turn := TURN.fullmatch(role):
            found[name] = (*found.get(name, ()), TurnOfRun(turn[1], int(turn[2]), int(turn[3])))
    return found


def _of_stream(stream: Artifact, family: LineageGraph, seen: set[str]) -> Iterator[RunSegment]:
    """Its trainings that are there, and then what made its base."""
    runs = {name: turns for name, turns in turns_of(stream).items() if family.get(name)}
    seen |= set(runs)
    for name, turns in runs.items():
        run = family.get(name)
        if run is not None:
            yield RunSegment(run, "; ".join(map(str, turns)), family, turns)
    start = family.input(stream, "start")
    if start is not None:
        yield from _behind(start, family, "before the stream", seen)


def _ahead(text: Artifact, family: LineageGraph) -> Iterator[RunSegment]:
    for role, one in family.children(text):
        if one.kind == "train" and role == "tokens":
            yield RunSegment(one, "of its text", family)
        elif one.kind in TEXTS and not role.startswith("trained on"):
            yield from _ahead(one, family)


def base_of(run: Artifact, family: LineageGraph) -> Artifact | None:
    """The artifact whose model a run began from; None where that came from outside, or is gone.

    A folder that was handed over may hold another model by now, so what its mark says is held against the content.
    """
    origin, wanted = run.origins.get("base", ""), run.manifest["inputs"].get("base", "")
    named = family.get(origin)
    if named is not None:
        return named
    marked = family.get(made_as(origin))
    if marked is not None and model_print(marked, Fingerprints(family.root / MEMORY)) == wanted:
        return marked
    return with_model(str(wanted), family)


def with_model(fingerprint: str, family: LineageGraph) -> Artifact | None:
    """The artifact that holds the model with this fingerprint, among those whose content is remembered."""
    remembered = Fingerprints(family.root / MEMORY, may_read=False)
    models = (one.parent.parent for one in sorted(family.root.glob("*-*/model/config.json")))
    for found in filter(None, (family.get(path.name) for path in models)):
        if found.kind != "base" and model_print(found, remembered) == fingerprint:
            return found
    return None


def model_print(artifact: Artifact, memory: Fingerprints) -> str:
    """The fingerprint of the model in an artifact; empty where there is none, or `memory` may not read it."""
    try:
        return Base(artifact.name, artifact / "model").fingerprint(memory)
    except (Unread, OSError, UsageError):
        return ""


def _counts(tokens: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in tokens.items())
