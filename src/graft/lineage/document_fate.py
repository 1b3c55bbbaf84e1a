"""fate: what became of a document before any training, and which step decided it."""

from __future__ import annotations

from typing import Any

from graft.core.config.errors import UsageError, nearest
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.core.text.drop_reasons import MARK, is_copy
from graft.core.tokens.dialogue_encoder import REFUSAL, REFUSED
from graft.data.tokenize import TOKENIZE, sources
from graft.lineage.find_documents import Named, SourceDocuments, same_text, tables

LEFT_OUT = "left out before training"
ALL_SCORED = "scored, like all text of a comparison; which of it was trained on is said below"
USES = {
    "train": "for training",
    "validation": "held out: watched while training, never trained on",
    "test": "held out: never trained on",
}


def fate_of(one: Named, corpus: Artifact, tokens: Artifact | None, family: LineageGraph) -> dict[str, Any]:
    """{fate, by, words, notes, overlap, kept, copies}.

    by: "reading", the curation step, "tokenize", or "" for what was not dropped. kept: the document whose copy it is.
    copies: documents with the same text that were dropped for it. overlap: [shared n-grams, all n-grams] with training
    text, where a step looked.
    """
    use = USES.get(one.split, "") if "steps" in corpus.manifest["settings"] else ALL_SCORED
    told: dict[str, Any] = {"fate": one.dropped or one.split, "by": "", "words": use}
    told |= {"overlap": None, "kept": None, "copies": []}
    told["notes"] = {key: value for key, value in one.notes.items() if key not in ("overlap", "dialogue")}
    told["notes"] |= {"dialogue": True} if "dialogue" in one.notes else {}
    if "overlap" in one.notes:
        told["overlap"] = one.notes["overlap"]
    told |= {"reason": one.reason, "detail": one.detail}
    if one.dropped:
        told |= {"by": one.dropped_by, "words": LEFT_OUT}
    elif tokens and one.position in refused(tokens, corpus, family)[one.source]:
        told |= {"fate": REFUSED, "by": TOKENIZE, "words": LEFT_OUT, "reason": REFUSAL.code}
    same = same_text(one, corpus, family)
    if copied(one, corpus):
        told["kept"] = kept_for(one, corpus, family)
    else:
        told["copies"] = [other.told() for other in same if copied(other, corpus)]
    return told


def copied(one: Named, corpus: Artifact) -> bool:
    """Whether it was dropped for another document of the same text."""
    return is_copy(corpus.facts, one.dropped_by, one.reason)


def kept_for(one: Named, corpus: Artifact, family: LineageGraph) -> dict[str, Any] | None:
    """The document that a copy was dropped for."""
    same = same_text(one, corpus, family)
    return next((other.told() for other in same if not copied(other, corpus)), None)


def refused(tokens: Artifact, corpus: Artifact, family: LineageGraph) -> dict[str, set[int]]:
    """By source, the positions of documents that were left in the corpus and that its tokens have not."""
    held = sources(tokens)
    found: dict[str, set[int]] = {}
    for table in tables(corpus, family):
        usable = [place for place, fate in enumerate(table.column("dropped").to_pylist()) if not fate]
        found[table.source] = set(usable) - set(held[table.source].position_D.tolist())
    return found


def with_fate(
    words: str, corpus: Artifact, tokens: Artifact | None, family: LineageGraph
) -> dict[tuple[str, str], list[int]]:
    """Positions by (source, fate) of the documents that met a fate: "train", "duplicate", "exact_duplicates" ...

    words: a fate as the ledger writes it, with or without "dropped:", or the name of the step that decided it; tokens:
    of the corpus, which may have refused some. Errors: UsageError where no document met it, naming those that were met.
    """
    met: dict[tuple[str, str], list[int]] = {}
    names: dict[str, set[str]] = {}  # by fate, all that it is called
    lost = refused(tokens, corpus, family) if tokens else {}
    for table in tables(corpus, family):
        for position, (split, dropped, by, reason) in enumerate(_told(table)):
            if position in lost.get(table.source, ()):
                dropped, by, reason = REFUSED, TOKENIZE, REFUSAL.code
            fate = dropped or split
            met.setdefault((table.source, fate), []).append(position)
            names.setdefault(fate, {fate, fate.removeprefix(MARK), _family(fate)}).update((by, reason))
    asked = words.strip()
    found = {key: positions for key, positions in met.items() if asked and asked in names[key[1]]}
    if not found:
        known = dict.fromkeys([*names, *(name for every in names.values() for name in sorted(every) if name)])
        raise UsageError(
            f'no document of {corpus.name} met the fate "{words}"', allowed=", ".join(known), do=nearest(asked, known)
        )
    return found


def _told(table: SourceDocuments) -> list[tuple[str, ...]]:
    """(split, dropped, dropped_by, reason) of all documents of a source; an older corpus has no reasons."""
    found = table.columns("split", "dropped", "dropped_by", "reason")
    return list(zip(*found, strict=True))


def _family(fate: str) -> str:
    """ "unread kind" of "dropped: unread kind: .pdf"; "" of what has no kinds."""
    name, colon, _ = fate.removeprefix(MARK).partition(":")
    return name if colon else ""


def decided_by(fate: str, corpus: Artifact) -> str:
    """Who decided a fate: "reading", a step, "tokenize"; "" for a split, and for an older corpus."""
    if fate == REFUSED:
        return TOKENIZE
    found = dict.fromkeys(one["dropped_by"] for one in corpus.facts.get("drops", ()) if one["fate"] == fate)
    return ", ".join(found)
