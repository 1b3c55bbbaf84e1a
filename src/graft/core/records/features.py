"""Features: what a model made of each document of one text, kept so that texts can be compared without it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.core.store.artifact import Artifact

ARRAYS = ("vectors_DW", "bits_D", "bytes_D")


@dataclass(frozen=True, eq=False)
class Features:
    """One text, document by document; all of it about the same beginning of each. D documents, W width.

    texts: what was read of each document; vectors_DW: mean over its tokens of the model's last hidden state;
    bits_D: -log2 p of it; bytes_D: its length in UTF-8; times_D: how often each counts, 1 unless it was drawn again.
    """

    texts: tuple[str, ...]
    vectors_DW: np.ndarray
    bits_D: np.ndarray
    bytes_D: np.ndarray
    times_D: np.ndarray

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        vectors_DW: np.ndarray,
        bits_D: np.ndarray | Sequence[float],
        bytes_D: np.ndarray | Sequence[float],
    ) -> Features:
        """Every document once."""
        vectors_DW = np.asarray(vectors_DW, np.float64)
        once_D = np.ones(len(vectors_DW))
        return cls(tuple(texts), vectors_DW, np.asarray(bits_D, float), np.asarray(bytes_D, float), once_D)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def num_drawn(self) -> float:
        """How many documents count, repetitions included."""
        return float(self.times_D.sum())

    def drawn(self, times_D: np.ndarray) -> Features:
        """The same documents, each as often as it was drawn: a document drawn twice is still one document."""
        return replace(self, times_D=np.asarray(times_D, np.float64))

    @cached_property
    def mean_W(self) -> np.ndarray:
        """The mean embedding."""
        return self.times_D @ self.vectors_DW / self.num_drawn


def write_features(folder: Path, features: Features) -> None:
    """features.npz and texts.json."""
    np.savez(folder / "features.npz", **{name: getattr(features, name) for name in ARRAYS})
    (folder / "texts.json").write_text(json.dumps(features.texts, ensure_ascii=True), encoding="utf-8")


def read_features(artifact: Artifact) -> Features:
    """What `graft.evaluation.similarity.embed` kept."""
    with np.load(artifact / "features.npz") as stored:
        return Features.of(
            json.loads((artifact / "texts.json").read_text(encoding="utf-8")), *(stored[name] for name in ARRAYS)
        )
