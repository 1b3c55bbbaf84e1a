"""What a reader should know before believing a number: few documents, foreign text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.core.store.artifact import Artifact
from graft.core.text.documents import SPLITS

FEW_DOCUMENTS = 10  # below this a bootstrap over documents says little
MANY_PASSES = 4.0  # over one source: more of them teach little (Muennighoff et al. 2023)
FOREIGN = -0.05  # a general loss that falls by more was not at home in the base


def cautions(changes: Mapping[str, Mapping[str, Any]], docs: Mapping[str, Artifact]) -> list[str]:
    """Sentences for the notes of a summary. changes: rows of the forgetting probe; docs: of each source."""
    own = "general" in docs and "sampled" in docs["general"].facts  # the base's own text is at home in it
    return [*_few(changes), *([] if own else _foreign(changes))]


def of_training(tokens: Artifact, trained: Artifact) -> list[str]:
    """Sentences on sources of which less than half is trained on, and on those that were read many times."""
    notes: list[str] = []
    for name, times in trained.facts["passes"].items():
        fates = tokens.ledger.fates.get(name, {})
        parts = {split: fates[split] for split in SPLITS if split in fates}
        whole = sum(one.tokens for one in parts.values())
        if "train" in parts and parts["train"].tokens < whole / 2:
            notes.append(
                f"{name}: {1 - parts['train'].tokens / whole:.0%} of its tokens are held out for validation and test, "
                f"and {parts['train'].documents:,} of {sum(one.documents for one in parts.values()):,} documents are "
                "trained on. Whole documents are held out, so few of them part badly: split long files, or give more."
            )
        if times > MANY_PASSES * 1.01:
            notes.append(
                f"{name} was read {times:.1f} times: beyond {MANY_PASSES:g} passes more of them teach little. Fewer "
                "tokens or more text would do better."
            )
    return notes


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
