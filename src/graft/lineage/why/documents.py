"""Answers about documents: where they came from, what became of them, and which steps read them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact
from graft.core.store.fingerprints import Fingerprints
from graft.core.store.lineage import LineageGraph
from graft.core.store.ownership import MEMORY
from graft.lineage.document_fate import LEFT_OUT, USES, fate_of
from graft.lineage.exposure import Exposure, expose, passes, stretches
from graft.lineage.find_documents import Named, SourceDocuments, kept, locate
from graft.lineage.scored_documents import scored, watched
from graft.lineage.training_runs import RunSegment, model_print, turns_of

TOWARDS_TEXT = ("corpus", "tokens", "trained", "after", "before", "contrast", "pilot 0", "start")  # roles of inputs
BEGINNING = 160  # characters of a document that are shown


def answer(
    words: str, artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph, most: int
) -> dict[str, Any]:
    """Of one document everything; of a file the sums, and the first `most` of its documents."""
    corpus, found = _find(words, artifact, legs, family)
    if len(found) > 1:
        told = _of_file(words, found, corpus, legs, family, most)
        return told | {"gone": gone(artifact, family)}
    one = found[0]
    text = SourceDocuments(corpus, one.source, family).text(one.position)
    return {
        "asked": "document",
        "corpus": corpus.name,
        "document": one.told() | {"bytes": one.num_bytes, "characters": len(text), "beginning": text[:BEGINNING]},
        "fate": fate_of(one, corpus, tokens_of(corpus, artifact, legs, family), family),
        "runs": [run_of([one], corpus, leg, family, single=True) for leg in legs],
        "gone": gone(artifact, family),
        "scored": sightings_of([one], artifact, legs, family),
    }


def _find(
    words: str, artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph
) -> tuple[Artifact, Sequence[Named]]:
    """The corpus that has it, and what is found there: the artifact's own, else that of a run which led to it.

    Errors: UsageError, of the artifact's own corpus, where none has it.
    """
    own = corpus_of(artifact, legs, family)
    try:
        return own, locate(words, own, family)
    except UsageError:
        for corpus in filter(None, dict.fromkeys(leg.corpus for leg in legs)):
            if corpus.name != own.name:
                with suppress(UsageError):
                    return corpus, locate(words, corpus, family)
        raise


def _of_file(
    words: str, found: Sequence[Named], corpus: Artifact, legs: Sequence[RunSegment], family: LineageGraph, most: int
) -> dict[str, Any]:
    fates: dict[str, dict[str, int]] = {}
    for one in found:
        sums = fates.setdefault(one.dropped or one.split, {"documents": 0, "bytes": 0})
        sums["documents"] += 1
        sums["bytes"] += one.num_bytes
    return {
        "asked": "file",
        "corpus": corpus.name,
        "words": words,
        "path": found[0].path,
        "fates": fates,
        "documents": [one.told() | {"bytes": one.num_bytes, "fate": one.dropped or one.split} for one in found[:most]],
        "of": len(found),
        "runs": [run_of(found, corpus, leg, family, single=False, most=most) for leg in legs],
        "scored": [],
    }


def gone(artifact: Artifact, family: LineageGraph) -> list[str]:
    """Trainings of a stream that are no longer in the store, of which nothing can be said."""
    if artifact.kind != "stream":
        return []
    return [name for name in turns_of(artifact) if family.get(name) is None]


def run_of(
    found: Sequence[Named], asked: Artifact, leg: RunSegment, family: LineageGraph, *, single: bool, most: int = 10
) -> dict[str, Any]:
    """What a run read of these texts: {run, role, ..., trained, why, tokens, read, passes, stretches}.

    asked: the corpus that `found` are documents of. why: where it read none of them, in words. as: what they are called
    in the run's own corpus, or which equal text stands for them. single: every stretch is told, else only sums and the
    steps they span.
    """
    facts = leg.run.facts
    told: dict[str, Any] = {
        "run": leg.run.name, "role": leg.role, "turns": [vars(one) for one in leg.turns],
        "base": leg.run.origins.get("base", facts["base"]), "steps": leg.steps, "rows": leg.rows,
        "window": leg.window, "trunk": leg.branched, "same_code": leg.same_code, "trained": False,
        "tokens": 0, "counted": 0, "read": 0, "num_steps": 0,
        "documents": 0, "passes": [], "stretches": [], "span": None, "as": [],
    }  # fmt: skip
    corpus = leg.corpus
    if corpus is None:
        lost = leg.run.manifest["inputs"].get("tokens") if leg.tokens is None else "its corpus"
        return told | {"why": f"{lost} is not in the store any more, so what this run read cannot be said"}
    own = corpus.name == asked.name
    here = [one for one in found if not one.dropped] if own else kept({one.id for one in found}, corpus, family)
    if own and single and not here:  # it may be a copy of one that was kept
        here = kept({found[0].id}, corpus, family)
    known = {one.name for one in found} if own else set[str]()
    told["as"] = [one.name for one in here if one.name not in known][:most]
    if not here and own and single:
        return told | {"why": f"{LEFT_OUT} ({found[0].dropped})"}
    if not here:
        return told | {"why": "this run's text does not hold it" if single else "this run's text holds none of them"}
    exposed = _exposures([one for one in here if one.split == "train"], leg)
    if not exposed:
        return told | {"why": _why_not(here)}
    told |= _sums(exposed)
    told["documents"] = sum(len(np.unique(one.places.document_N)) for _, _, one in exposed)
    if not told["read"]:
        return told | {"why": _never_came_up(exposed, leg)}
    rows = np.concatenate([one.places.row_N for _, _, one in exposed])
    told |= {"trained": True, "why": "", "span": [int(rows.min()) // leg.rows + 1, int(rows.max()) // leg.rows + 1]}
    told["num_steps"] = len(np.unique(rows // leg.rows))
    if single:
        read = [stretch for source, _, one in exposed for stretch in stretches(leg, source, one.places)]
        told["stretches"] = sorted(read, key=lambda stretch: (stretch["step"], stretch["row"], stretch["at"]))
    return told


def _exposures(trained: Sequence[Named], leg: RunSegment) -> list[tuple[str, list[Named], Exposure]]:
    """By source of the run."""
    by_source: dict[str, list[Named]] = {}
    for one in trained:
        by_source.setdefault(one.source, []).append(one)
    found = [(source, mine, expose(leg, source, [one.position for one in mine])) for source, mine in by_source.items()]
    return [(source, mine, exposure) for source, mine, exposure in found if exposure is not None]


def _sums(exposed: Sequence[tuple[str, list[Named], Exposure]]) -> dict[str, Any]:
    available = sum(one.available for _, _, one in exposed)
    return {
        "tokens": available,
        "counted": sum(one.counted for _, _, one in exposed),
        "read": sum(one.read for _, _, one in exposed),
        "passes": passes(exposed[0][2].places, available) if len(exposed) == 1 else [],
    }


def _why_not(here: Sequence[Named]) -> str:
    splits = dict.fromkeys(one.split for one in here)
    if "train" in splits:
        return "this run's tokens do not hold it: its chat template refuses such a dialogue"
    return "; ".join(USES[split] for split in splits)


def _never_came_up(exposed: Sequence[tuple[str, list[Named], Exposure]], leg: RunSegment) -> str:
    source = exposed[0][0]
    if not leg.run.facts["mixture"].get(source):
        return f"this run read no {source} text: its share was 0"
    if not sum(one.available for _, _, one in exposed):
        return "it has no token to predict"
    done = leg.run.facts["passes"].get(source, 0.0)
    if leg.sampler.left_out[source] and exposed[0][2].available > leg.window:
        return f"it is longer than a row of {leg.window} tokens, and pairs are read whole or not at all"
    return f"for training, but it never came up: the run made {done:.2f} passes over {source}"


def sightings_of(
    found: Sequence[Named], artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph
) -> list[dict[str, Any]]:
    """Every evidence of these texts on the tokens that the artifact or a run is about, and looks while training."""
    told: list[dict[str, Any]] = []
    seen: set[str] = set()
    near = [artifact, *(one for _, one in family.parents(artifact))]
    near += [inner for one in near[1:] if one.kind in ("evidence", "findings") for _, inner in family.parents(one)]
    asked = [one for one in near if one.kind == "tokens"]
    for tokens in [*asked, *(leg.tokens for leg in legs if leg.tokens is not None)]:
        corpus = family.input(tokens, "corpus")
        if corpus is None or tokens.name in seen:
            continue
        seen.add(tokens.name)
        here = kept({one.id for one in found}, corpus, family)
        for one in here:
            for sight in scored(tokens, one.source, [one.position], family):
                told.append(sight | {"document": one.name, "when": when(sight, legs)})
    for leg in legs:
        corpus = leg.corpus
        here = kept({one.id for one in found}, corpus, family) if corpus else []
        for one in here:
            if one.split == "validation" and leg.tokens is not None:
                look = watched(leg, one.source, one.position)
                told += [{"watched": leg.run.name, "document": one.name, **look}] if look["looks"] else []
    return told


def when(sight: dict[str, Any], legs: Sequence[RunSegment]) -> str:
    """ "before RUN" or "after RUN", for the runs at hand; "" for any other model. Runs of a stream by their turns."""
    named = next((leg for leg in legs if sight["model"] == leg.run.name), None)
    for leg in () if named else legs:
        remembered = Fingerprints(leg.family.root / MEMORY, may_read=False)
        if sight["fingerprint"] == model_print(leg.run, remembered):
            named = leg
            break
    if named:
        return f"after {named.role if named.turns else named.run.name}"
    for leg in legs:
        if sight["fingerprint"] == leg.run.manifest["inputs"].get("base"):
            return "before the stream" if leg.turns else f"before {leg.run.name}"
    return ""


def corpus_of(artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph) -> Artifact:
    """The corpus whose documents an artifact is about. Errors: UsageError where there is none, or it is gone."""
    found = _corpus(artifact, family, set())
    if found is not None:
        return found
    if artifact.kind == "docs":
        made = [one for role, one in family.children(artifact) if one.kind == "corpus" and role.startswith("docs ")]
        if made:
            return made[-1]
    for leg in legs:
        if leg.corpus is not None:
            return leg.corpus
    for leg in legs:
        leg.sources  # noqa: B018 - says which tokens are missing, and what to do
    raise UsageError(
        f"{artifact.name} is not about documents, or the corpus that it was made from is not in the store",
        where=str(family.root),
        allowed="a report, a run, evidence, tokens, a corpus ... with what it was made from beside it",
    )


def tokens_of(
    corpus: Artifact, artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph
) -> Artifact | None:
    """The tokens that an artifact or the first of its runs has of a corpus; None where it is not about tokens."""
    near = [artifact, *(one for _, one in family.parents(artifact)), *(leg.tokens for leg in legs[:1])]
    of = [one for one in near if one and one.kind == "tokens" and one.manifest["inputs"]["corpus"] == corpus.name]
    return of[0] if of else None


def _corpus(artifact: Artifact, family: LineageGraph, seen: set[str]) -> Artifact | None:
    """The nearest corpus among what an artifact was made from: its own, else that of its tokens, else its run's."""
    if artifact.kind == "corpus":
        return artifact
    seen.add(artifact.name)
    near = [(role, one) for role, one in family.parents(artifact) if role in TOWARDS_TEXT and one.name not in seen]
    for _, one in sorted(near, key=lambda pair: TOWARDS_TEXT.index(pair[0])):
        found = _corpus(one, family, seen)
        if found is not None:
            return found
    return None
