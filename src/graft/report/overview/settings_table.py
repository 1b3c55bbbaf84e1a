"""Runs side by side in a table: only what differs between them is a column, what is the same in all is said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.report.adaptation import panels
from graft.report.shared import wording
from graft.report.shared.axis import Ruler

FIRST = (
    *("base", "domain text", "general text", "objective", "tuning", "schedule", "share of domain text", "tokens"),
    *("peak rate", "seed", "a step", "new tokens", "budget", "way from base to result"),
)  # settings that people compare runs by, in this order; what else differs comes after them
MOST = 12  # columns of settings; what else differs stands in a table of its own
SOURCES = ("domain", "general")


def settings_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every setting by name with its value in each run, "" where a run does not know it; those in FIRST first."""
    names = dict.fromkeys([*FIRST, *(name for run in runs for name in run["settings"])])
    found = {name: [str(run["settings"].get(name, "")) for run in runs] for name in names}
    return {name: values for name, values in found.items() if any(values)}


def split(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(settings that differ with their values, those that are the same in all that know them)."""
    every = settings_of(runs)
    differ = {name: values for name, values in every.items() if len(set(filter(None, values))) > 1}
    same = {name: next(filter(None, values)) for name, values in every.items() if name not in differ}
    return differ, same


def table(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The table of runs: head, rows, and what is said below it."""
    runs = facts["runs"]
    differ, same = split(runs)
    shown, more = dict(list(differ.items())[:MOST]), dict(list(differ.items())[MOST:])
    axis = Ruler.of_changes(run[name] for run in runs for name in SOURCES if run[name])
    plain = {name: value for name, value in same.items() if name in FIRST and value not in ("none", "all of it")}
    return panels.marked_axis(axis) | {
        "settings": [
            name.replace("domain text", "domain", 1) if name == "share of domain text" else name for name in shown
        ],
        "rows": [
            _row(run, number, [values[number] for values in shown.values()], facts, axis)
            for number, run in enumerate(runs)
        ],
        "same": list(plain.items()),
        "same_too": [(name, value) for name, value in same.items() if name not in plain],
        "more": list(more.items()),
        "labels": [run["label"] for run in runs],
        "notes": _notes(runs),
    }


def _row(
    run: Mapping[str, Any], number: int, values: list[str], facts: Mapping[str, Any], axis: Ruler
) -> dict[str, Any]:
    best = any(run["label"] in one["best"] and len(one["runs"]) > 1 for one in facts["summary"]["fronts"])
    return {
        "label": run["label"],
        "number": number,
        "artifact": run["artifact"],
        "link": facts["links"].get(run["label"], ""),
        "best": best,
        "settings": [(value or "?", sortable(value)) for value in values],
        "changes": [_change(run[name], axis) for name in SOURCES],
        "bits": [(name, _bits(run[name])) for name in SOURCES if run[name]],
        "bits_value": run["domain"] and run["domain"]["bits"] and run["domain"]["bits"][1],
        "seconds": run["seconds"],
        "took": "" if run["seconds"] is None else wording.duration(run["seconds"]),
        "speed": "" if not run["speed"] else f"{wording.count(run['speed'])} tokens/s",
    }


def _notes(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the runs' own reports note, each once, and of which runs."""
    said: dict[str, list[str]] = {}
    for run in runs:
        for note in run["notes"]:
            said.setdefault(note, []).append(run["label"])
    return [(note, "all" if len(labels) == len(runs) > 1 else ", ".join(labels)) for note, labels in said.items()]


def _change(row: Mapping[str, Any] | None, axis: Ruler) -> dict[str, Any] | None:
    return panels.placed(row, axis) | {"value": row["change"]} if row else None


def _bits(row: Mapping[str, Any]) -> list[str] | None:
    return row["bits"] and [f"{value:.3f}" for value in row["bits"]]


def sortable(value: str) -> str:
    """What a column is sorted by: a number where the words begin with one, in full digits; else the words."""
    plain = value.replace(",", "").replace(wording.THIN, "").replace(wording.MINUS, "-").removesuffix("%")
    mantissa, _, power = plain.partition("×10")
    try:
        exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
        return repr(float(mantissa.split(" ")[0]) * 10.0**exponent)
    except ValueError:
        return value
