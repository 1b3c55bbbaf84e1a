"""What a reader should know before believing a number: few documents, foreign text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.core.artifact import Artifact

FEW_DOCUMENTS = 10  # below this a bootstrap over documents says little
FOREIGN = -0.05  # a general loss that falls by more was not at home in the base


def cautions(changes: Mapping[str, Mapping[str, Any]], docs: Mapping[str, Artifact]) -> list[str]:
    """Sentences for the notes of a summary. changes: rows of the forgetting probe; docs: of each source."""
    own = "general" in docs and "sampled" in docs["general"].facts  # the base's own text is at home in it
    return [*_few(changes), *([] if own else _foreign(changes))]


def _few(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    few = {name: row["documents"] for name, row in changes.items() if row["documents"] < FEW_DOCUMENTS}
    return [
        f"{name} was scored on {count} document{'' if count == 1 else 's'} only: the numbers may not hold for others. "
        "More documents, or a larger curate.split.test, would say more."
        for name, count in few.items()
    ]


def _foreign(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    general = changes.get("general")
    if general is None or general["change"] > FOREIGN:
        return []
    return [
        "The general text became easier, so it was not at home in the base: its change measures learning, not "
        "forgetting. Text like the base's own training text would measure that."
    ]
