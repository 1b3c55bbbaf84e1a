"""A row of JSON or Parquet: a document from its text field, else from the dialogue that its other fields hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from graft.core.text.dialogue import NOTE
from graft.readers.dialogue import dialogue_in
from graft.readers.file_record import NO_FIELD, NOT_TEXT, Fields, FileRecord, has_surrogate, piece


def from_row(row: object, fields: Fields, parent: str, raw_bytes: int, seen: int) -> FileRecord:
    """The document of a row, or why there is none. raw_bytes: what the row took, for a loss without a text."""
    if not isinstance(row, dict):
        return FileRecord("", parent, raw_bytes, seen, NO_FIELD)
    row = cast("dict[str, Any]", row)
    text, notes = row.get(fields.text), dict[str, Any]()
    if text is None or text == "":
        spoken = dialogue_in(row)
        if spoken is None and text == "":
            return piece(text, parent, seen)
        if spoken is None:
            return FileRecord("", parent, raw_bytes, seen, NO_FIELD, fields=tuple(map(str, row)))
        if isinstance(spoken, str):
            return FileRecord("", parent, raw_bytes, seen, spoken)
        text = spoken.text
        notes[NOTE] = spoken.note
    if not isinstance(text, str):
        return FileRecord("", parent, raw_bytes, seen, NOT_TEXT)
    found = piece(text, parent, seen)
    assert NOTE not in notes or found.dropped or found.text == text, "the stretches of turns would be off"
    label = label_in(row, fields.label)
    if label is not None:
        notes["label"] = label
    return replace(found, notes=json.dumps(notes)) if notes and not found.dropped else found


def label_in(row: Mapping[str, Any], field: str) -> str | None:
    """The label as text: a string as it is, true and false by these words, a number by its digits; else None."""
    value = row.get(field) if field else None
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return value if isinstance(value, str) and not has_surrogate(value) else None
