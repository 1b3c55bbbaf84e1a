"""Daft data frames of documents: the one door to Daft, which is told here not to report its use to its makers."""

# pyright: standard, reportMissingTypeStubs=false
from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "false")  # else importing Daft calls its makers' servers

import daft
from daft import DataFrame, col

__all__ = ["DataFrame", "col", "daft", "mark", "noted", "parquet", "usable"]


def parquet(path: Path) -> DataFrame:
    """The rows of one file, in its order; characters that Daft would expand as a pattern are taken as they are."""
    return daft.read_parquet(re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path)))


def usable(docs: DataFrame) -> DataFrame:
    """The documents that no step has marked so far."""
    return docs.where("dropped = ''")


def mark(docs: DataFrame, rows: Sequence[int], dropped: Sequence[str], notes: Sequence[str]) -> DataFrame:
    """`docs` with `dropped` and `notes` replaced in `rows`."""
    found = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "found_dropped": pa.array(dropped, pa.string()),
            "found_notes": pa.array(notes, pa.string()),
        }
    )
    joined = docs.join(daft.from_arrow(found), on="row", how="left")
    columns = {name: col(name) for name in docs.column_names}
    for name in ("dropped", "notes"):
        columns[name] = col(f"found_{name}").fill_null(col(name)).alias(name)
    return joined.select(*columns.values())


def noted(notes: str, entries: Mapping[str, object]) -> str:
    """The JSON object `notes` with `entries` added."""
    return json.dumps(json.loads(notes) | dict(entries))
