"""A reference of several paths, path by path: whether it is of one kind, and which part a text is most like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.config.plugins import plugin_name
from graft.core.records.features import Features
from graft.evaluation.similarity.measures.two_sample import TwoSample

CLASSIFIER = "two_sample"


@dataclass(frozen=True)
class Parts:
    """The paths of --to as texts of their own, read by the same model. measures: those of the whole comparison."""

    parts: Mapping[str, Features]
    measures: Sequence[Any]

    def told(self) -> list[dict[str, Any]]:
        """Of every part its documents, and the error of the classifier that tells it from the others together."""
        found: list[dict[str, Any]] = []
        for name, part in self.parts.items():
            others = _joined([other for one, other in self.parts.items() if one != name])
            found.append({"part": name, "documents": len(part), "error": _known(self._classifier(part, others))})
        return found

    def against(self, text: Features) -> list[dict[str, Any]]:
        """Of every part the measures of the text against it alone, as their formulas have them."""
        return [
            {"part": name, "measures": {plugin_name(one): _known(one(text, part)) for one in self.measures}}
            for name, part in self.parts.items()
        ]

    @property
    def _classifier(self) -> TwoSample:
        return next((one for one in self.measures if isinstance(one, TwoSample)), TwoSample())


def notes_of(
    told: Sequence[Mapping[str, Any]], texts: Mapping[str, Sequence[Mapping[str, Any]]], told_apart: float
) -> list[str]:
    """What to know of a reference whose parts the classifier tells apart; nothing where it is of one kind.

    told: of `Parts.told`; texts: by name what `Parts.against` says. told_apart: the border of `Advise`.
    """
    apart = [one for one in told if one["error"] is not None and one["error"] < told_apart]
    if not apart:
        return []
    words = ", ".join(f"{one['part']} (error {one['error']:.2g})" for one in apart)
    notes = [
        f"the reference is of several kinds: the classifier tells from the rest of it {words}. A text that is like one "
        "kind is unlike the whole: give one kind as --to"
    ]
    for name, rows in texts.items():
        errors = {row["part"]: row["measures"].get(CLASSIFIER) for row in rows}
        alike = {part: error for part, error in errors.items() if error is not None and error >= told_apart}
        if alike:
            part = max(alike, key=lambda one: alike[one])
            notes.append(f"{name}: the classifier hardly tells it from {part} (error {alike[part]:.2g})")
    return notes


def _joined(sides: Sequence[Features]) -> Features:
    return Features.of(
        [text for one in sides for text in one.texts],
        np.concatenate([one.vectors_DW for one in sides]),
        np.concatenate([one.bits_D for one in sides]),
        np.concatenate([one.bytes_D for one in sides]),
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
