"""Answers about the steps of a run: what a step read, and which steps stand out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from graft.core.config.errors import GraftError, UsageError
from graft.core.models.base_model import Base
from graft.core.stats.outliers import Spikes
from graft.core.tokens.token_shards import REJECTED
from graft.lineage.exposure import noted, oddities, read_in, spikes
from graft.lineage.find_documents import Named, SourceDocuments
from graft.lineage.training_runs import RunSegment
from graft.packing.rows import Piece

EXCERPT_TOKENS = 24  # of each piece, from its beginning
STORED = (
    "The loss of a step is kept by source, that of single documents is not. What is unusual here is said of the text "
    "alone, against the steps around it."
)


def one(leg: RunSegment, step: int, rule: Spikes) -> dict[str, Any]:
    """Everything that a step read, row by row, and what was noted of it. Errors: UsageError for no step of the run."""
    if not 1 <= step <= leg.steps:
        hint = "step 0 is the look at validation text before the first one" if step == 0 else ""
        raise UsageError(f"{leg.run.name} has no step {step}", allowed=f"1 to {leg.steps}", do=hint)
    entry = leg.curve.get(step, {})
    rows = read_in(leg, step)
    named = _named(rows, leg)
    odd = oddities(leg, step)
    outstanding = {found["source"]: found for found in spikes(leg, rule) if found["step"] == step}
    sources: dict[str, dict[str, Any]] = {}
    for row in rows:
        sums = sources.setdefault(row[0].source, {"rows": 0, "tokens": 0, "documents": set[int]()})
        sums["rows"] += 1
        sums["tokens"] += sum(piece.last - piece.first for piece in row)
        sums["documents"] |= {piece.document for piece in row}
    return {
        "asked": "step",
        "run": leg.run.name,
        "role": leg.role,
        "step": step,
        "steps": leg.steps,
        "window": leg.window,
        "trunk": leg.branched if leg.branched and step <= leg.branched[1] else None,
        "rate": entry.get("rate"),
        "norm": entry.get("norm"),
        "validation": {name: total / count for name, (total, count) in entry.get("validation", {}).items() if count},
        "sources": {
            name: sums | {"documents": len(sums["documents"]), "loss": noted(leg, step, name)["loss"],
                          "usual": outstanding.get(name, {}).get("usual")}
            for name, sums in sources.items()
        },
        "in_rows": [
            {"row": r + 1, "source": row[0].source, "pieces": _pieces(row, r, leg, named, odd)}
            for r, row in enumerate(rows)
        ],
        "stored": STORED,
    }  # fmt: skip


def _pieces(
    row: Sequence[Piece],
    r: int,
    leg: RunSegment,
    named: Mapping[tuple[str, int], Named],
    odd: Mapping[tuple[int, int], Any],
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    at = 1
    for p, piece in enumerate(row):
        tokens = leg.sources[piece.source]
        document = named.get((piece.source, int(tokens.position_D[piece.document])))
        told.append(
            {
                "document": f"{piece.source}:{int(tokens.position_D[piece.document])}",
                "from_file": list(document.parents) if document else [],
                "at": at,
                "from": piece.first + 1,
                "to": piece.last,
                "of": int(tokens.pairs_D[piece.document]),
                "rejected": bool(tokens.role_D[piece.document] == REJECTED),
                "excerpt": _excerpt(leg, piece),
                "unusual": odd.get((r, p), {}),
            }
        )
        at += piece.last - piece.first
    return told


def outstanding(leg: RunSegment, rule: Spikes, most: int) -> dict[str, Any]:
    """The steps whose loss stands out, those that do most first, each with the documents of that source."""
    found = sorted(spikes(leg, rule), key=_prominence)
    shown: list[dict[str, Any]] = []
    for spike in found[:most]:
        rows = [row for row in read_in(leg, spike["step"]) if row[0].source == spike["source"]]
        named = _named(rows, leg)
        pieces = [piece for row in rows for piece in row]
        places = [(spike["source"], int(leg.sources[spike["source"]].position_D[piece.document])) for piece in pieces]
        read: dict[tuple[str, int], int] = {}
        for place, piece in zip(places, pieces, strict=True):
            read[place] = read.get(place, 0) + piece.last - piece.first
        shown.append(
            spike
            | {
                "documents": [
                    {
                        "document": f"{place[0]}:{place[1]}",
                        "from_file": list(named[place].parents) if place in named else [],
                        "tokens": count,
                    }
                    for place, count in sorted(read.items(), key=lambda pair: -pair[1])
                ]
            }
        )
    noted_steps = [step for step, entry in leg.curve.items() if "loss" in entry]
    return {
        "asked": "spikes", "run": leg.run.name, "role": leg.role, "steps": leg.steps, "rule": rule.rule,
        "settings": vars(rule), "seen": len(noted_steps), "found": len(found), "spikes": shown, "stored": STORED,
    }  # fmt: skip


def _prominence(spike: Mapping[str, Any]) -> tuple[bool, float]:
    """What is not finite stands out most, the first of it before the others."""
    finite = math.isfinite(spike["loss"])
    return finite, spike["usual"] - spike["loss"] if finite else spike["step"]


def _named(rows: Sequence[Sequence[Piece]], leg: RunSegment) -> dict[tuple[str, int], Named]:
    """The documents of these rows by (source, position); none where the corpus is gone."""
    wanted: dict[str, set[int]] = {}
    for row in rows:
        for piece in row:
            wanted.setdefault(piece.source, set()).add(int(leg.sources[piece.source].position_D[piece.document]))
    corpus = leg.corpus
    if corpus is None:
        return {}
    return {
        (source, named.position): named
        for source, positions in wanted.items()
        for named in SourceDocuments(corpus, source, leg.family).rows(sorted(positions))
    }


def _excerpt(leg: RunSegment, piece: Piece) -> str:
    """How a piece begins; "" where the run's tokenizer cannot be opened."""
    base = _model(leg)
    if base is None:
        return ""
    last = min(piece.last, piece.first + EXCERPT_TOKENS)
    tokens = leg.sources[piece.source].tokens(piece.document, piece.first + 1, last + 1)
    return base.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)


def _model(leg: RunSegment) -> Base | None:
    return _opened(str(leg.run / "model"))


@lru_cache(maxsize=4)
def _opened(folder: str) -> Base | None:
    try:
        found = Base.find(folder)
        found.tokenizer  # noqa: B018 - reads it
    except GraftError:
        return None
    return found
