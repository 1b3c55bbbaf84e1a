"""The lineage of many artifacts on one page: what each is, what it was made from, and a lane for each that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.report.adaptation.accounts import lineage
from graft.report.adaptation.panels import KINDS

INPUTS = 12  # of one artifact in the lineage; a stream has hundreds
OTHERS = {
    "base": "a model with fresh weights",
    "extend": "a base with new tokens",
    "comparison": "a vocabulary extension, before and after",
    "shortlists": "what another model finds likeliest, for every token",
    "range-test": "learning rates tried before a run",
    "similarity": "a page on how alike texts are",
}  # and kinds that no report of one adaptation came from
REPORTS = {
    "findings": "report of an adaptation",
    "contrast": "report of two models on the same text",
    "answers": "report of answers to questions",
}  # by a role of its inputs


def lanes(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the lineage, with a mark in the lane of each run that uses it."""
    labels = list(facts["named"])
    own = {run["artifact"]: run["label"] for run in facts["runs"] if run["artifact"]}
    return [
        row
        | _inputs(row)
        | {
            "kind": _kind(one) or row["kind"],
            "marks": [label in one["used_by"] for label in labels],
            "used_by": "all" if len(one["used_by"]) == len(labels) else ", ".join(one["used_by"]),
            "own": own.get(row["name"], ""),
        }
        for row, one in zip(lineage(facts), facts["lineage"], strict=True)
    ]


def _kind(one: Mapping[str, Any]) -> str:
    """What an artifact is, where the words of a report on one adaptation do not say it; an unknown kind as it is."""
    kind: str = one["name"].rpartition("-")[0]
    if kind == "report":
        return next((words for role, words in REPORTS.items() if role in one["inputs"]), kind)
    return "" if kind in KINDS else OTHERS.get(kind, kind)


def _inputs(row: Mapping[str, Any]) -> dict[str, Any]:
    """The first of what an artifact was made from, and how many more there are."""
    made, outside = row["made_from"], [(key, value) for key, value in row["outside"] if value]
    more = max(0, len(made) - INPUTS) + max(0, len(outside) - INPUTS)
    return {
        "made_from": made[:INPUTS],
        "outside": [*outside[:INPUTS], *([(f"and {more} more", "")] if more else [])],
    }
