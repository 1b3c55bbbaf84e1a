"""tabled: what the summary.json of a job that is no adaptation says, as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True)
class Rows:
    """What something tells that is no run.

    forms: how each column is shown: "word", "count", "number", "change" (relative), "points" or "verdict".
    """

    caption: str
    head: Mapping[str, str]  # name of a column -> its form
    rows: list[list[Cell]] = field(default_factory=list)


def table_of(summary: Mapping[str, Any]) -> Rows | None:
    """Of a comparison, a benchmark or a stream; None of any other."""
    return next((tell(summary) for key, tell in SUMMARIES.items() if key in summary), None)


def _versus(summary: Mapping[str, Any]) -> Rows:
    return texts_table(f"{summary['before']} against {summary['after']}", summary["texts"])


def _tasks(summary: Mapping[str, Any]) -> Rows:
    """A benchmark's; accuracies are shares, and their change is in points of them."""
    two = bool(summary.get("against"))
    head = {"task": "word", "items": "count", "accuracy": "number", "from": "number", "to": "number"}
    head |= {"guessing": "number"}
    head |= {"against": "number", "change": "points", "verdict": "verdict"} if two else {}
    tasks = summary["tasks"] if len(summary["tasks"]) == 1 else {"all": summary["all"], **summary["tasks"]}
    rows: list[list[Cell]] = []
    for name, row in tasks.items():
        accuracy, ends = row["accuracy"], row["interval"]["model"] or (None, None)
        other = (accuracy["against"], accuracy["change"], row.get("verdict", "")) if two else ()
        rows.append([name, row["items"], accuracy["model"], *ends, row.get("chance"), *other])
    against = f" against {summary['against']}" if two else ""
    return Rows(f"Share of right answers of {summary['model']}{against}, with its 95 % interval", head, rows)


def _methods(summary: Mapping[str, Any]) -> Rows:
    """A stream's; a comparison of methods over domains that come one after the other."""
    runs = sorted(summary["runs"].items(), key=lambda run: run[1].get("rank") or len(summary["runs"]))
    asked = any(row.get("suite") for _, row in runs)
    head = {"method": "word", "rank": "number", "mean loss over domains": "number"}
    head |= {"loss from": "number", "loss to": "number"}
    head |= {"general text": "change", "general from": "change", "general to": "change", "forgotten": "number"}
    head |= {"suite": "points"} if asked else {}
    rows: list[list[Cell]] = [
        [
            *(str(row.get("label", name)), row.get("rank"), *_measured(row, "overall_performance", 0)),
            *((row.get("general") or {}).get("change"), *((row.get("general") or {}).get("interval") or (None, None))),
            _measured(row, "forgetting", "max")[0],
            *([(row.get("suite") or {}).get("change")] if asked else ()),
        ]
        for name, row in runs
    ]
    named = ", ".join(map(str, summary.get("domains", ())))
    said = "methods by their rank, losses in nats per token, with 95 % intervals"
    return Rows(f"The stream {named}: {said}", head, rows)


def _measured(row: Mapping[str, Any], metric: str, plain: object) -> tuple[Any, Any, Any]:
    """(value, and the ends of the interval) of a metric of the losses, which beside others of its kind names itself."""
    values, intervals = row.get("loss") or {}, row.get("loss_intervals") or {}
    names = [name for name in values if name == metric or re.fullmatch(rf"{metric}-\w+-{plain}", name)]
    if not names:
        return None, None, None
    low, high = intervals.get(names[0]) or (None, None)
    return values[names[0]], low, high


def texts_table(caption: str, texts: Mapping[str, Mapping[str, Any]]) -> Rows:
    """By text its loss before and after; texts: rows of `graft.evaluation.compare.token_differences`."""
    head = {"text": "word", "bits per byte before": "number", "after": "number", "change": "change"}
    head |= {"from": "change", "to": "change", "verdict": "verdict", "documents": "count"}
    rows: list[list[Cell]] = [
        [
            *(name, row["bits_per_byte"]["before"], row["bits_per_byte"]["after"], row["change"]),
            *(row["interval"] or (None, None)),
            *(row["verdict"], row["documents"]),
        ]
        for name, row in texts.items()
    ]
    return Rows(caption, head, rows)


# by a key that a summary.json has and no adaptation's has
SUMMARIES: dict[str, Callable[[Mapping[str, Any]], Rows]] = {"texts": _versus, "tasks": _tasks, "domains": _methods}
