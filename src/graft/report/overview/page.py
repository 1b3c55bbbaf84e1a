"""The page on several runs: what its template shows, and what its scripts draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.evaluation.probes.blame import CLASSES
from graft.report.adaptation.panels import status
from graft.report.overview import run_charts
from graft.report.overview import settings_table as columns
from graft.report.overview.lineage_graph import lanes
from graft.report.shared import wording
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "sorting.js")
SOURCES = columns.SOURCES
LANES = 16  # runs that have a lane each in the lineage; of more it is said in words who uses what
STRONGEST = 0.5  # opacity of the fullest cell: text on it keeps its contrast


def render_overview(facts: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    facts: summary (as in summary.json), runs (see `graft.report.overview.run_summary`), tables {label, said, caption,
    head, rows}, named and links (by label: what the user wrote, the address of an own page), allowed (rise of the
    general loss at which a line is drawn, or None), joined (whether seeds are), lineage {name, inputs, started,
    seconds, used_by}.
    """
    runs = facts["runs"]
    return fill(
        "overview.html",
        SCRIPTS,
        run_charts.drawn(facts),
        title=title,
        clauses=_clauses(facts),
        notes=facts["summary"]["notes"],
        outline=_outline(facts),
        table=columns.table(facts) if runs else None,
        fronts=[_titled(one) for one in run_charts.shared(facts)],
        lone=len(runs) > 1,
        allowed=facts["allowed"] and wording.percent(facts["allowed"], 2),
        joined=facts["joined"],
        pairs=_matrices(facts),
        ends=_ends(runs),
        sources=list(run_charts.curves(runs)),
        blame=_blame(runs),
        tables=[_table(one, facts) for one in facts["tables"]],
        lineage=lanes(facts),
        lanes=list(facts["named"]) if len(facts["named"]) <= LANES else [],
        named={label: name for label, name in facts["named"].items() if label != name},
        numbers={run["label"]: number for number, run in enumerate(runs)},
    )


def _clauses(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict, its first part set large."""
    runs = facts["runs"]
    head, rest = _parted(wording.typeset(facts["summary"]["verdict"]))
    count, what = (len(runs), "run") if runs else (len(facts["named"]), "artifact")
    word = f"{count} {what}{'' if count == 1 else 's'}"
    shown = (
        status(runs[0]["outcome"])
        if len(runs) == 1 and runs[0]["outcome"]
        else {"sort": "none", "shape": "◇", "word": word}
    )
    return [{"head": head, "before": rest, "change": "", "rest": "", "status": shown}]


def _parted(sentence: str) -> tuple[str, str]:
    """A sentence before and after its first semicolon that is not in brackets."""
    depth = 0
    for at, sign in enumerate(sentence):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and sentence.startswith("; ", at):
            return sentence[:at], sentence[at + 2 :]
    return sentence, ""


def _outline(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    shared = run_charts.shared(facts)
    best = [label for one in shared for label in one["best"]]
    if not facts["runs"]:
        return [("Artifacts", str(len(facts["named"])), "no run of an adaptation")]
    bases = dict.fromkeys(run["base"] for run in facts["runs"] if run["base"])
    others = len(facts["named"]) - len(facts["runs"])
    found = [
        ("Runs", str(len(facts["runs"])), f"and {others} other artifact{'' if others == 1 else 's'}" if others else ""),
        ("Base" if len(bases) == 1 else "Bases", ", ".join(wording_of(base) for base in bases) or "–", ""),
    ]
    if shared:
        found.append(("Frontiers" if len(shared) > 1 else "On the frontier", ", ".join(best), ""))
    if facts["allowed"]:
        found.append(("Allowed", wording.percent(facts["allowed"], 2), "rise of the general loss"))
    return found


def wording_of(base: str) -> str:
    """The last part of a base's name."""
    return base.rstrip("/").rpartition("/")[2] or base


def _titled(front: Mapping[str, Any]) -> str:
    counts = [f"{wording.count(front['documents'][name])} {name}" for name in SOURCES]
    return f"{len(front['runs'])} runs from {wording_of(front['base'])}, on {' and '.join(counts)} documents"


def _ends(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where every curve of validation text began and ended, as numbers."""
    return [
        {
            "source": name,
            "label": run["label"],
            "tokens": wording.count(points[-1][0]),
            "losses": [f"{points[0][1]:.3f}", f"{points[-1][1]:.3f}"],
            "change": wording.change(points[-1][1] / points[0][1] - 1),
        }
        for name in dict.fromkeys(name for run in runs for name in run["curve"])
        for run in runs
        if len(points := run["curve"].get(name, {}).get("validation", [])) > 1
    ]


def _matrices(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By text every run against every other: the change of the loss from the column's run to the row's."""
    found: list[dict[str, Any]] = []
    for source in dict.fromkeys(pair["source"] for pair in facts["summary"]["pairs"]):
        pairs = [pair for pair in facts["summary"]["pairs"] if pair["source"] == source]
        order = [label for label in facts["named"] if any(label in (pair["one"], pair["other"]) for pair in pairs)]
        cells = {
            (pair["other"], pair["one"]): _cell(pair["change"], pair["interval"], pair["verdict"]) for pair in pairs
        }
        cells |= {(pair["one"], pair["other"]): _reversed(pair) for pair in pairs}
        sizes = sorted({pair["documents"] for pair in pairs})
        documents = (
            wording.count(sizes[0]) if len(sizes) == 1 else f"{wording.count(sizes[0])} to {wording.count(sizes[-1])}"
        )
        rows = [{"label": row, "cells": [cells.get((row, column)) for column in order]} for row in order]
        found.append({"source": source, "labels": order, "rows": rows, "documents": documents})
    return found


def _cell(change: float, interval: Sequence[float] | None, verdict: str) -> dict[str, Any]:
    return {
        "change": wording.change(change)
        if abs(change) >= 0.001
        else f"{wording.signed(change * 100, 2)}{wording.THIN}%",
        "interval": interval and " to ".join(wording.change(end) for end in interval),
        "status": status(verdict),
    }


def _reversed(pair: Mapping[str, Any]) -> dict[str, Any]:
    """The same from the other side: losses change by 1 / (1 + change) - 1, and so do the ends of the interval."""
    turn = {"improved": "worse", "worse": "improved"}
    ends = pair["interval"] and [1 / (1 + end) - 1 for end in reversed(pair["interval"])]
    return _cell(1 / (1 + pair["change"]) - 1, ends, turn.get(str(pair["verdict"]), str(pair["verdict"])))


def _blame(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By source what every class of token adds to the change of each run."""
    blamed = [(number, run) for number, run in enumerate(runs) if run["blame"]]
    found: list[dict[str, Any]] = []
    for source in dict.fromkeys(name for _, run in blamed for name in run["blame"]):
        mine = [(number, run["label"], run["blame"][source]) for number, run in blamed if source in run["blame"]]
        largest = max((abs(value) for _, _, one in mine for value in one.values()), default=1.0) or 1.0
        rows = [
            {"class": name, "cells": [_shade(one.get(name), largest) for _, _, one in mine]}
            for name in CLASSES
            if any(name in one for _, _, one in mine)
        ]
        sums = [_shade(sum(one.values()), float("inf")) for _, _, one in mine]
        heads = [(number, label) for number, label, _ in mine]
        found.append({"source": source, "heads": heads, "rows": rows, "sums": sums})
    return found


def _shade(value: float | None, largest: float) -> dict[str, Any]:
    if value is None:
        return {"value": "", "sort": "none", "strength": "0"}
    sort = "gain" if value < 0 else "loss" if value > 0 else "none"
    return {"value": wording.signed(value, 4), "sort": sort, "strength": f"{STRONGEST * abs(value) / largest:.3f}"}


def _table(one: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    forms = list(one["head"].values())
    return {
        "label": one["label"],
        "link": facts["links"].get(one["label"], ""),
        "said": wording.typeset(one["said"]) if len(facts["named"]) > 1 else "",  # alone it is the verdict
        "caption": one["caption"],
        "head": [(name, form not in ("word", "verdict")) for name, form in one["head"].items()],
        "rows": [[_shown(value, form) for value, form in zip(row, forms, strict=True)] for row in one["rows"]],
    }


def _shown(value: Any, form: str) -> dict[str, Any]:
    """A cell in words; of a verdict also its status."""
    words = "–"
    if value is not None:
        words = {
            "count": lambda: wording.count(value),
            "number": lambda: f"{value:,.4g}",
            "change": lambda: wording.change(value),
            "points": lambda: wording.signed(value, 4),
        }.get(form, lambda: str(value))()
    return {
        "words": words,
        "number": form not in ("word", "verdict"),
        "status": status(str(value)) if form == "verdict" and value else None,
    }
