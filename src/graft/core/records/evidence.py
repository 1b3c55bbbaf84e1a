"""Evidence: what a model was seen to do, recorded once; metrics and probes read it later, without the model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.store.artifact import Artifact


@dataclass(frozen=True)
class Evidence:
    """The nats of every target token of one source's documents. D documents, N targets in all.

    position_D: place of the document in its source; num_bytes_D: UTF-8 bytes of its scored text (of a document that
    was scored in part only, its beginning: see graft.models.scoring.scoring);
    bounds_E: D + 1 offsets, document d owning targets bounds_E[d] .. bounds_E[d + 1];
    targets_N: token ids; nats_N: -log p(target) in nats, float32; best_N: whether no token was likelier.
    """

    source: str
    position_D: np.ndarray
    num_bytes_D: np.ndarray
    bounds_E: np.ndarray
    targets_N: np.ndarray
    nats_N: np.ndarray
    vocabulary: dict[int, str] = field(default_factory=dict, repr=False)  # text of every token id that occurs
    best_N: np.ndarray = field(default_factory=lambda: np.zeros(0, bool), repr=False)  # empty: not recorded

    @property
    def num_documents(self) -> int:
        return len(self.position_D)

    def document(self, d: int) -> tuple[np.ndarray, np.ndarray]:
        """(targets, nats) of one document."""
        part = slice(int(self.bounds_E[d]), int(self.bounds_E[d + 1]))
        return self.targets_N[part], self.nats_N[part]

    def sum_D(self, values_N: np.ndarray) -> np.ndarray:
        """Sums over each document's targets, in float64."""
        running = np.concatenate([[0.0], np.cumsum(values_N, dtype=np.float64)])
        return running[self.bounds_E[1:]] - running[self.bounds_E[:-1]]


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """One Parquet file per source, a row per document."""
    bounds = pa.array(evidence.bounds_E, pa.int64())
    table = pa.table(
        {
            "position": evidence.position_D.astype(np.int64),
            "num_bytes": evidence.num_bytes_D.astype(np.int64),
            "targets": pa.LargeListArray.from_arrays(bounds, pa.array(evidence.targets_N.astype(np.uint32))),
            "nats": pa.LargeListArray.from_arrays(bounds, pa.array(evidence.nats_N.astype(np.float32))),
        }
        | ({"best": pa.LargeListArray.from_arrays(bounds, pa.array(evidence.best_N))} if len(evidence.best_N) else {})
    )
    pq.write_table(table, folder / f"{evidence.source}.parquet", compression="zstd")
    (folder / f"{evidence.source}.vocabulary.json").write_text(json.dumps(evidence.vocabulary), encoding="utf-8")


def read_evidence(artifact: Artifact) -> dict[str, Evidence]:
    """Every source of an evidence artifact, in the order in which it was evaluated."""
    return {name: _read_source(artifact.path, name) for name in artifact.facts["sources"]}


def _read_source(folder: Path, name: str) -> Evidence:
    table = pq.read_table(folder / f"{name}.parquet").combine_chunks()
    lengths = table["targets"].combine_chunks().value_lengths().to_numpy()
    best_N = np.zeros(0, bool)
    if "best" in table.column_names:
        best_N = table["best"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vocabulary = json.loads((folder / f"{name}.vocabulary.json").read_text(encoding="utf-8"))
    return Evidence(
        source=name,
        position_D=table["position"].to_numpy(),
        num_bytes_D=table["num_bytes"].to_numpy(),
        bounds_E=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        targets_N=table["targets"].combine_chunks().flatten().to_numpy(),
        nats_N=table["nats"].combine_chunks().flatten().to_numpy(),
        best_N=best_N,
        vocabulary={int(key): text for key, text in vocabulary.items()},
    )
