"""Daft data frames of documents: the one door to Daft, which is told here not to report its use to its makers.

Curation on one machine does without it (`graft.core.text.marked_text`); a test runs the same plan through it.
"""

# pyright: standard, reportMissingTypeStubs=false
from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow.parquet as pq

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "false")  # else importing Daft calls its makers' servers
os.environ.setdefault("DAFT_SHOW_QUERY_ID", "0")  # and on a terminal every step names its queries
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # our own progress is shown

import daft
from daft import DataFrame, col

# One row group at a time: Daft's default reads far ahead of whoever uses the text, up to the whole file (0.7.26).
daft.set_execution_config(scantask_max_parallel=1)

__all__ = ["DataFrame", "col", "daft", "parquet"]


def parquet(path: Path) -> DataFrame:
    """The rows of one file, in its order, row group by row group.

    Characters that Daft would expand as a pattern are escaped; of such a path Daft reads all row groups at once.
    """
    escaped = re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))
    num_groups = pq.ParquetFile(path).num_row_groups if escaped == str(path) else 0
    if num_groups < 2:
        return daft.read_parquet(escaped)
    return daft.read_parquet([escaped] * num_groups, row_groups=[[number] for number in range(num_groups)])
