"""The texts of marked documents, batch after batch, in the order of their rows: the one door to text that curation has.

A batch holds some megabytes of text, whatever the number of documents. Another engine (Daft, on Ray) takes the place
of this module alone: what is applied to a batch is a function of its rows and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core.text.documents import SPLITS
from graft.core.text.mark_table import NOTHING, SPLIT_NAMES, MarkTable

T = TypeVar("T")
Wanted = Callable[[slice], NDArray[np.bool_]]  # of a range of rows, which are wanted

BATCH_ROWS = 1024
PARTS = {"train": SPLITS[:1], "held out": SPLITS[1:], "all": SPLITS}


@dataclass(frozen=True)
class MarkedText:
    """tables: source -> its document table, in the order of the marks."""

    tables: Mapping[str, Path]
    marks: MarkTable

    def apply(self, function: Callable[[NDArray[np.int64], list[str]], T], of: str) -> Iterator[T]:
        """What `function` makes of each batch of usable texts; of: "train", "held out" or "all"."""
        splits = [SPLIT_NAMES.index(name) for name in PARTS[of]]

        def wanted(chunk: slice) -> NDArray[np.bool_]:
            within = np.isin(self.marks.columns["split"][chunk], splits)
            return within & (self.marks.columns["drop"][chunk] == 0)

        for rows_N, batch in self.batches(["text"], wanted):
            yield function(rows_N, self.texts(rows_N, batch))

    def batches(
        self, columns: Sequence[str], wanted: Wanted, most: int = BATCH_ROWS
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """(rows, their columns as reading left them); row groups without a wanted row are not read."""
        for source, path in self.tables.items():
            row = self.marks.rows(source).start
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    end = row + file.metadata.row_group(group).num_rows
                    if wanted(slice(row, end)).any():
                        yield from self._group(file, group, row, columns, wanted, most)
                    row = end

    def _group(
        self, file: pq.ParquetFile, group: int, row: int, columns: Sequence[str], wanted: Wanted, most: int
    ) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        parts = file.iter_batches(most, row_groups=[group], columns=list(columns), use_threads=False)
        for batch in parts:
            chunk = slice(row, row + len(batch))
            mask = wanted(chunk)
            if mask.all():
                yield np.arange(chunk.start, chunk.stop), batch
            elif mask.any():
                yield row + np.flatnonzero(mask), batch.filter(pa.array(mask))
            row = chunk.stop

    def texts(self, rows_N: NDArray[np.int64], batch: pa.RecordBatch) -> list[str]:
        """The texts of a batch, as steps have left them."""
        texts = batch.column("text").to_pylist()
        for place in np.flatnonzero(self.marks.columns["text_at"][rows_N] != NOTHING).tolist():
            texts[place] = self.marks.text(int(rows_N[place]))
        return texts
