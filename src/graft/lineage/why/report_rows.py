"""Answers about a row of a report: an item of the blame table, a class of items, a fate of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graft.core.config.errors import GraftError, UsageError, nearest
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.lineage import document_fate as fate
from graft.lineage.find_documents import SourceDocuments
from graft.lineage.scored_documents import Sides, sides_of
from graft.lineage.token_occurrences import Items, find_class, find_item, holders, in_text, sources_with, trained_on
from graft.lineage.training_runs import RunSegment
from graft.lineage.why.documents import corpus_of, tokens_of

SHOWN_FIRST = 5  # meetings of an item in training


def holding(
    item: str | None,
    sort: str,
    artifact: Artifact,
    legs: Sequence[RunSegment],
    family: LineageGraph,
    source: str,
    most: int,
) -> dict[str, Any]:
    """Which scored documents hold an item or a class, what they did to the loss, and where training met it."""
    sides = sides_of(artifact, legs, family)
    if sides is None:
        raise UsageError(
            f"nothing was compared for {artifact.name}, so no item has blame",
            allowed="a report, findings, or a run whose model was evaluated before and after",
        )
    known = list(sides.evidence[0])
    if source and source not in known:
        raise UsageError(
            f'no text of source "{source}" was scored', allowed=", ".join(known), do=nearest(source, known)
        )
    tokens = family.input(sides.after, "tokens")
    if item is None:
        items = find_class(sort, sides, source or known[0])
    else:
        items = find_item(item, sides, _tokenizer(tokens, legs))
    texts = [source] if source else sources_with(sides.evidence[0], items)
    corpus = tokens and family.input(tokens, "corpus")
    return {
        "asked": "item" if item is not None else "class",
        "words": items.words,
        "ids": list(items.ids),
        "runs_of_ids": [list(run) for run in items.runs],
        "before": sides.before.name,
        "after": sides.after.name,
        "scored": [_scored(items, sides, text, corpus, family, most) for text in texts],
        "training": [_trained(items, leg, tokens) for leg in legs],
    }


def _scored(
    items: Items, sides: Sides, source: str, corpus: Artifact | None, family: LineageGraph, most: int
) -> dict[str, Any]:
    sums, rows = holders(items, sides, source)
    if corpus is None:
        return sums | {"holders": rows[:most]}
    table = SourceDocuments(corpus, source, family)
    named = {one.position: one for one in table.rows([row["position"] for row in rows[:most]])}
    return sums | {
        "holders": [
            row
            | {"document": f"{source}:{row['position']}", "places": in_text(items, sides, table, row["position"])}
            | ({"from_file": list(named[row["position"]].parents)} if row["position"] in named else {"from_file": []})
            for row in rows[:most]
        ]
    }


def _trained(items: Items, leg: RunSegment, scored_tokens: Artifact | None) -> dict[str, Any]:
    """Of a run whose text was made into tokens by another tokenizer, ids mean other items: nothing is said of it."""
    told: dict[str, Any] = {"run": leg.run.name, "role": leg.role, "steps": leg.steps, "sources": [], "why": ""}
    if leg.tokens is None:
        return told | {"why": "its tokens are not in the store any more"}
    if scored_tokens is None or not same_tokenizer(leg, scored_tokens):
        return told | {"why": "its text was read by another tokenizer, whose items are others"}
    corpus = leg.corpus
    for source, count in leg.run.facts["tokens"].items():
        if not count:
            continue
        found = trained_on(leg, source, items, SHOWN_FIRST)
        positions = sorted({one["position"] for one in found["first"]})
        rows = SourceDocuments(corpus, source, leg.family).rows(positions) if corpus else []
        parents = {one.position: list(one.parents) for one in rows}
        for one in found["first"]:
            one |= {"document": f"{source}:{one['position']}", "from_file": parents.get(one["position"], [])}
        told["sources"].append(found)
    return told


def _tokenizer(tokens: Artifact | None, legs: Sequence[RunSegment]) -> Any:
    """The one that the scored text was read with, where a run at hand has it; None where none does."""
    for leg in legs:
        if tokens is not None and same_tokenizer(leg, tokens):
            try:
                return Base.find(str(leg.run / "model")).tokenizer
            except GraftError:
                return None
    return None


def same_tokenizer(leg: RunSegment, tokens: Artifact) -> bool:
    """Whether a run's text was read by the tokenizer that these tokens were read by: ids then mean the same items."""
    own = leg.tokens
    return own is not None and own.manifest["inputs"].get("tokenizer") == tokens.manifest["inputs"].get("tokenizer")


def with_fate(
    words: str, artifact: Artifact, legs: Sequence[RunSegment], family: LineageGraph, source: str, most: int
) -> dict[str, Any]:
    """The documents that met a fate, the first `most` of each source, and for copies what they are copies of."""
    corpus = corpus_of(artifact, legs, family)
    known = list(corpus.facts["sources"])
    if source and source not in known:
        raise UsageError(f'{corpus.name} has no source "{source}"', allowed=", ".join(known), do=nearest(source, known))
    found = fate.with_fate(words, corpus, tokens_of(corpus, artifact, legs, family), family)
    if source:
        found = {key: positions for key, positions in found.items() if key[0] == source}
        if not found:
            raise UsageError(f'no document of {source} met the fate "{words}"', do="leave --source out")
    groups: list[dict[str, Any]] = []
    for (text, met), positions in found.items():
        ledger = corpus.ledger.fates.get(text, {}).get(met)
        groups.append(
            {
                "source": text, "fate": met, "by": fate.decided_by(met, corpus),
                "documents": len(positions), "bytes": ledger.bytes if ledger else None,
                "first": [_one(position, text, corpus, family) for position in positions[:most]],
            }
        )  # fmt: skip
    return {"asked": "fate", "corpus": corpus.name, "words": words, "groups": groups}


def _one(position: int, source: str, corpus: Artifact, family: LineageGraph) -> dict[str, Any]:
    table = SourceDocuments(corpus, source, family)
    one = table.rows([position])[0]
    told = one.told() | {"bytes": one.num_bytes, "beginning": table.text(position)[:80], "kept": None}
    if "overlap" in one.notes:
        told["overlap"] = one.notes["overlap"]
    if fate.copied(one, corpus):
        told["kept"] = fate.kept_for(one, corpus, family)
    return told
