"""What a model answered, item by item: the table of it, and how it is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core.store.artifact import Artifact

FILE = "answers.parquet"
MEASURES = ("acc", "acc_norm", "acc_bytes")
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("item", pa.int64()),  # its line in the file, from 1; of a task of lm-eval the number of its document, from 0
        ("id", pa.string()),
        ("place", pa.string()),  # file#line
        ("form", pa.string()),
        ("query", pa.string()),  # what stands before the choices, without examples
        ("choices", pa.list_(pa.string())),
        ("gold", pa.int32()),
        ("chance", pa.float64()),  # of a guess to be right; 0 where nothing is there to choose from
        ("nats", pa.list_(pa.float64())),  # -log p of each choice
        ("greedy", pa.list_(pa.bool_())),  # each of its tokens was the likeliest
        ("characters", pa.list_(pa.int32())),  # of each choice
        ("bytes", pa.list_(pa.int32())),
        ("chosen", pa.int32()),
        ("correct", pa.bool_()),
        ("chosen_norm", pa.int32()),
        ("correct_norm", pa.bool_()),
        ("chosen_bytes", pa.int32()),
        ("correct_bytes", pa.bool_()),
        ("written", pa.string()),  # by the model itself, where it was asked to
        ("cut", pa.int32()),  # tokens of the context that the window had no room for
    ]
)
CORRECT = {"acc": "correct", "acc_norm": "correct_norm", "acc_bytes": "correct_bytes"}
CHOSEN = {"acc": "chosen", "acc_norm": "chosen_norm", "acc_bytes": "chosen_bytes"}


@dataclass(frozen=True, eq=False)
class Answers:
    """I items in the order in which they were asked. tasks: names; task_I: an index into them."""

    tasks: tuple[str, ...]
    task_I: NDArray[np.int64]
    item_I: NDArray[np.int64]
    id_I: tuple[str, ...]
    correct_I: NDArray[np.bool_]
    chance_I: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.item_I)


def judged(nats: Sequence[float], sizes: Sequence[int], gold: int) -> tuple[int, bool]:
    """(chosen, correct): the choice with the least nats for its size; of several alike the first."""
    chosen = int(np.argmin(np.asarray(nats) / np.maximum(sizes, 1)))
    return chosen, chosen == gold


def write_answers(path: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with all columns of SCHEMA."""
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), path, compression="zstd")


def read_answers(artifact: Artifact, measure: str = "acc") -> Answers:
    """Every item that an artifact of kind "answers" holds. measure: one of MEASURES."""
    columns = ["task", "item", "id", "chance", CORRECT[measure]]
    table = pq.read_table(artifact / FILE, columns=columns)
    tasks = tuple(artifact.facts["tasks"])
    index = {name: number for number, name in enumerate(tasks)}
    return Answers(
        tasks=tasks,
        task_I=np.array([index[name] for name in table["task"].to_pylist()], np.int64),
        item_I=table["item"].to_numpy(),
        id_I=tuple(table["id"].to_pylist()),
        correct_I=table[CORRECT[measure]].to_numpy(),
        chance_I=table["chance"].to_numpy(),
    )
