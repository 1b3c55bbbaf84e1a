"""fate: what became of a document before any training, and which step decided it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import HOUSE
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.core.tokens.dialogue_encoder import REFUSED
from graft.data.tokenize import sources
from graft.lineage.find_documents import Named, same_text, tables

MARK = "dropped: "
DUPLICATE = "dropped: duplicate"
TOKENIZE = "tokenize"  # who refuses what a chat template cannot write
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
    if one.dropped:
        told["by"] = "reading" if _lost_in_reading(one, corpus, family) else step_of(one.dropped, corpus)
        told["words"] = LEFT_OUT
    elif tokens and one.position in refused(tokens, corpus, family)[one.source]:
        told |= {"fate": REFUSED, "by": TOKENIZE, "words": LEFT_OUT}
    same = same_text(one, corpus, family)
    if one.dropped.startswith(DUPLICATE):
        told["kept"] = next((other.told() for other in same if not other.dropped.startswith(DUPLICATE)), None)
    else:
        told["copies"] = [other.told() for other in same if other.dropped.startswith(DUPLICATE)]
    return told


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
    lost = refused(tokens, corpus, family) if tokens else {}
    for table in tables(corpus, family):
        pairs = zip(table.column("split").to_pylist(), table.column("dropped").to_pylist(), strict=True)
        for position, (split, dropped) in enumerate(pairs):
            fate = REFUSED if position in lost.get(table.source, ()) else dropped or split
            met.setdefault((table.source, fate), []).append(position)
    fates = dict.fromkeys(fate for _, fate in met)
    steps = {fate: step_of(fate, corpus) for fate in fates if fate.startswith(MARK)}
    asked = words.strip()
    wanted = {fate for fate in fates if asked in (fate, fate.removeprefix(MARK), steps.get(fate), _family(fate))}
    found = {key: positions for key, positions in met.items() if key[1] in wanted}
    if not found:
        known = [*fates, *dict.fromkeys(step for step in steps.values() if step)]
        raise UsageError(
            f'no document of {corpus.name} met the fate "{words}"', allowed=", ".join(known), do=nearest(asked, known)
        )
    return found


def _family(fate: str) -> str:
    """ "unread kind" of "dropped: unread kind: .pdf"; "" of what has no kinds."""
    name, colon, _ = fate.removeprefix(MARK).partition(":")
    return name if colon else ""


def step_of(fate: str, corpus: Artifact) -> str:
    """The curation step whose words a reason begins with; "" where it is none of the corpus's steps.

    Reasons are words in a step's source, so the source is where they are looked up; nothing is imported or run.
    """
    if fate == REFUSED:
        return TOKENIZE
    steps: Sequence[Any] = corpus.manifest["settings"].get("steps", ())
    names = [str(next(iter(step))) for step in steps]
    fits = {name: max((len(word) for word in _reasons(name) if fate.startswith(word)), default=0) for name in names}
    best = max(fits, key=lambda name: fits[name], default="")
    return best if best and fits[best] else ""


def decided_by(fate: str, corpus: Artifact) -> str:
    """Who decided a fate: the step, "reading" for a reason that no step has; "" for a split."""
    return step_of(fate, corpus) or "reading" if fate.startswith(MARK) else ""


def _lost_in_reading(one: Named, corpus: Artifact, family: LineageGraph) -> bool:
    docs = family.input(corpus, f"docs {one.source}")
    if docs is None or not (docs / "docs.parquet").exists():
        return False
    filters = [("position", "=", one.position)]
    found = pq.read_table(docs / "docs.parquet", columns=["dropped"], filters=filters)
    return bool(found.num_rows and found["dropped"][0].as_py())


@lru_cache(maxsize=64)
def _reasons(name: str) -> tuple[str, ...]:
    """The beginnings of reasons that stand in a step's source."""
    if "." in name:
        found = importlib.util.find_spec(name.rpartition(".")[0])
        path = Path(found.origin) if found and found.origin else None
    else:
        path = HOUSE / "steps" / f"{name}.py"
    if path is None or not path.is_file():
        return ()
    words = [node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_text(node)]  # type: ignore[attr-defined]
    return tuple(word for word in words if word.startswith(MARK) and len(word) > len(MARK))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
