"""Equal texts count once."""

from __future__ import annotations

from dataclasses import dataclass

from graft.core.text.daft_frames import DataFrame, mark, usable


@dataclass(frozen=True)
class ExactDuplicates:
    """Keep the first of every group of equal texts, over all sources.

    Equal means equal ids: the same characters, up to Unicode normalisation (NFC), byte order marks and line ends.
    First means the first in the order in which the sources were given, then by position. A text that two sources share
    counts for the first. Texts that differ in any other character are no duplicates here; where they fall into
    different splits, `overlap` sees them.
    """

    def __call__(self, docs: DataFrame) -> DataFrame:
        found = usable(docs).select("row", "id", "source", "notes").to_arrow().sort_by("row").to_pylist()
        first: dict[str, str] = {}
        rows, reasons, notes = [], [], []
        for one in found:
            if one["id"] not in first:
                first[one["id"]] = one["source"]
                continue
            source = first[one["id"]]
            rows.append(one["row"])
            reasons.append("dropped: duplicate" if source == one["source"] else f"dropped: duplicate of {source}")
            notes.append(one["notes"])
        return mark(docs, rows, reasons, notes)
