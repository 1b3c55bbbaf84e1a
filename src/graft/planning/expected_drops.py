"""expect_drops: what curation would drop of a source that was looked at for a moment, step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.core.text.documents import doc_id
from graft.data.mark_documents import CheckedStep, is_of_documents
from graft.data.steps.contract import Document, Expects, Sample


@dataclass
class Expected:
    """shares: of the usable documents, by fate. left: share of their text that stays."""

    shares: dict[str, float] = field(default_factory=dict[str, float])
    left: float = 1.0

    def drop(self, fate: str, share: float) -> None:
        self.shares[fate] = self.shares.get(fate, 0.0) + share


def expect_drops(steps: Sequence[Any], rows: Sequence[Mapping[str, Any]], share: float, copied: float) -> Expected:
    """Ask document steps about a sample, and of the others those that can tell.

    rows: of the document table, usable. share: of all usable documents that these are. copied: share of documents in
    files that copy another file.
    """
    found, kept = Expected(), 1.0  # kept: share of the usable documents
    sample = [Document(row["id"], row["text"], "", row["num_bytes"], json.loads(row["notes"])) for row in rows]
    for step in steps:
        if not sample:
            return found
        checked = CheckedStep(step)
        if is_of_documents(step):
            before, each = sum(one.num_bytes for one in sample), kept / len(sample)
            sample = _marked(checked, sample, found, each)
            found.left *= sum(one.num_bytes for one in sample) / max(1, before)
            kept = each * len(sample)
        elif isinstance(step, Expects):
            told = step.expect(Sample([one.id for one in sample], share, copied))
            for code, part in told.items():
                found.drop(checked.fate(code), kept * part)
            found.left *= max(0.0, 1 - sum(told.values()))
            kept *= max(0.0, 1 - sum(told.values()))
    return found


def _marked(step: CheckedStep, sample: list[Document], found: Expected, each: float) -> list[Document]:
    """The documents that a step leaves, as it leaves them. each: share of the usable documents that one stands for."""
    left: list[Document] = []
    for one, mark in zip(sample, step.marks(sample), strict=True):
        if mark is not None and mark.reason:
            found.drop(step.fate(mark.reason, mark.detail), each)
        elif mark is not None and mark.text is not None:
            left.append(one._replace(id=doc_id(mark.text), text=mark.text, num_bytes=len(mark.text.encode())))
        else:
            left.append(one)
    return left
