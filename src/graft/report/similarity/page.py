"""The page of `graft similarity`: what its template shows, and what its script draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.report.adaptation import accounts
from graft.report.adaptation.panels import last_part, names_of, status
from graft.report.shared import charts, wording
from graft.report.shared.axis import Ruler
from graft.report.shared.html import fill
from graft.report.similarity.measure_names import closer, measure_of, number, wording_of

SCRIPTS = ("tabs.js", "sorting.js")
TITLE = "How alike texts are to what the model was pre-trained on"
CLAUSES = 4  # texts whose advice is set large; of more it is counted, and stands in the table
ADVICE = {"adapt": ("gain", "✓"), "do not adapt": ("loss", "✕")}
BORDERS = {"two_sample": "told_apart", "base_loss": "excess"}  # settings of the rule, by the measure they are for


def render_likened(told: Mapping[str, Any], *, title: str = TITLE) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    told: what `graft similarity --json` holds (graft.evaluation.similarity.query).
    """
    texts, runs = told["texts"], told["runs"]
    numbers = {one["text"]: number for number, one in enumerate(texts)}
    lines = _lines(told)
    return fill(
        "likened.html",
        SCRIPTS,
        {"charts": [_panel(row, told, numbers) for row in told["correlations"]] if runs else []},
        title=title,
        clauses=_clauses(texts),
        notes=[wording.typeset(note) for note in told["notes"]],
        outline=_outline(told),
        texts=[_text(one, numbers[one["text"]], lines) for one in texts],
        measures=[
            {"key": name, "name": wording_of(name), "meaning": measure_of(name).meaning, "closer": closer(larger)}
            for name, larger in _measures(texts).items()
        ],
        parts=_parts(told),
        rule=told["settings"]["advise"],
        runs=[_run(run, numbers) for run in runs],
        left_out=told["runs_left_out"],
        fits=[_fit(row, told) for row in told["correlations"]] if runs else [],
        settings=accounts.settings({"settings": told["settings"]}),
        model=told["model"],
        reference=told["reference"],
    )


def _measures(texts: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """By measure whether larger is closer."""
    return {row["measure"]: row["larger_is_closer"] for one in texts for row in one["measures"]}


def _advised(advice: str) -> dict[str, str]:
    sort, shape = ADVICE.get(advice, ("none", "◇"))
    return {"sort": sort, "shape": shape, "word": advice}


def _clauses(texts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The advice for each text and what it rests on; of many texts how many have which."""
    if len(texts) <= CLAUSES:
        return [
            {"head": f"{one['text']}: {one['advice']}.", "before": wording.typeset(one["rests_on"]), "change": ""}
            | {"rest": "", "status": _advised(one["advice"])}
            for one in texts
        ]
    found: list[dict[str, Any]] = []
    for advice in dict.fromkeys([*ADVICE, *(one["advice"] for one in texts)]):
        names = [one["text"] for one in texts if one["advice"] == advice]
        if names:
            head = f"{advice.capitalize()}: {len(names)} of {len(texts)} texts."
            found.append(
                {"head": head, "before": ", ".join(names), "change": "", "rest": "", "status": _advised(advice)}
            )
    return found


def _outline(told: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    texts, reference = told["texts"], told["reference"]
    found = [
        ("Model", last_part(told["model"]), ""),
        ("Reference", names_of(reference["paths"]), read_of(reference)),
        ("Texts" if len(texts) > 1 else "Text", wording.count(len(texts)), ", ".join(one["text"] for one in texts[:6])),
        ("Documents read", wording.count(sum(one["documents"] for one in texts)), "of the texts"),
    ]
    if told["runs"] or told["runs_left_out"]:
        left = f"{len(told['runs_left_out'])} left out" if told["runs_left_out"] else ""
        found.append(("Runs", wording.count(len(told["runs"])), left))
    return found


def read_of(side: Mapping[str, Any]) -> str:
    """How many documents of a text were read, and how much of them."""
    whole = f" of {wording.count(side['of'])}" if side["of"] > side["documents"] else ""
    words = [f"{wording.count(side['documents'])}{whole} documents, {wording.count(side['bytes'])} bytes"]
    if side["cut"]:
        words.append(f"the beginning only of {wording.count(side['cut'])}")
    if side["left_out"]:
        words.append(f"{wording.count(side['left_out'])} could not be used")
    return "; ".join(words)


# The measures of a text


def _lines(told: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By measure the line that it has in the tables of all texts, and the places on it that mean something."""
    found: dict[str, dict[str, Any]] = {}
    for name, larger in _measures(told["texts"]).items():
        rows = [row for one in told["texts"] for row in one["measures"] if row["measure"] == name]
        ends = [end for row in rows for end in (_shown(row), *(row["interval"] or ())) if end is not None]
        same = measure_of(name).same
        border = told["settings"]["advise"].get(BORDERS.get(name, ""))
        ruler = Ruler.over([*ends, *(end for end in (same, border) if end is not None)] or [0.0])
        found[name] = {
            "ruler": ruler,
            "larger": larger,
            "same": None if same is None else _at(ruler, same, larger),
            "border": None if border is None else _at(ruler, border, larger),
        }
    return found


def _shown(row: Mapping[str, Any]) -> float | None:
    """The value that is drawn: corrected, or as it was measured where there is nothing to correct by."""
    return row["value"] if row["corrected"] is None else row["corrected"]


def _at(ruler: Ruler, value: float, larger: bool) -> float:
    """A place on a line whose right end is the more alike one."""
    return ruler.at(value) if larger else round(100 - ruler.at(value), 3)


def _text(one: Mapping[str, Any], number: int, lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    said = [read_of(one)]
    if one["in_reference_too"]:
        said.append(f"{wording.count(one['in_reference_too'])} of them stand in the reference too")
    return {
        "text": one["text"],
        "path": one["path"],
        "number": number,
        "read": "; ".join(said),
        "documents": wording.count(one["documents"]),
        "status": _advised(one["advice"]),
        "rests_on": wording.typeset(one["rests_on"]),
        "artifact": one["artifact"],
        "rows": [_row(row, lines[row["measure"]]) for row in one["measures"]],
    }


def _row(row: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    ruler, larger, shown = line["ruler"], line["larger"], _shown(row)
    ends = row["interval"] and sorted(_at(ruler, end, larger) for end in row["interval"])
    return {
        "name": wording_of(row["measure"]),
        "closer": closer(row["larger_is_closer"]),
        "measured": number(row["value"]),
        "corrected": number(row["corrected"]),
        "order": shown,
        "interval": row["interval"] and " to ".join(map(number, row["interval"])),
        "note": row["note"],
        "same": line["same"],
        "border": line["border"],
        "dot": None if shown is None else _at(ruler, shown, larger),
        "span": ends and [ends[0], round(ends[1] - ends[0], 3)],
    }


def _parts(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Texts against each part of a reference of several paths; None where it is one."""
    parts = told["reference"]["parts"]
    if not parts:
        return None
    names = list(_measures(told["texts"]))
    return {
        "measures": [{"name": wording_of(name), "closer": closer(_measures(told["texts"])[name])} for name in names],
        "kinds": [(one["part"], wording.count(one["documents"]), number(one["error"])) for one in parts],
        "rows": [
            (one["text"], row["part"], [number(row["measures"][name]) for name in names])
            for one in told["texts"]
            for row in one["parts"]
        ],
    }


# Runs


def _run(run: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        "run": run["run"],
        "report": run["report"],
        "text": run["text"],
        "number": numbers[run["text"]],
        "rate": "–" if run["rate"] is None else wording.scientific(run["rate"]),
        "replay": "–" if run["replay"] is None else wording.percent(run["replay"]),
        "order": run["change"],
        "change": wording.change(run["change"]),
        "interval": run["interval"] and " to ".join(map(wording.change, run["interval"])),
        "status": status(run["verdict"]),
    }


def turned(row: Mapping[str, Any], larger: bool) -> dict[str, Any]:
    """Coefficients of likeness and change: those of the measure, turned round where smaller is closer."""
    found: dict[str, Any] = {}
    for key in ("spearman", "pearson"):
        value, interval = row[key], row[f"{key}_interval"]
        found[key] = value if larger or value is None else -value
        found[f"{key}_interval"] = interval if larger or not interval else [-interval[1], -interval[0]]
    return found


def _fit(row: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of coefficients."""
    larger = _measures(told["texts"])[row["measure"]]
    found = turned(row, larger)
    cells = [
        {
            "order": found[key],
            "value": "–" if found[key] is None else wording.signed(found[key], 2),
            "interval": _ends(found[f"{key}_interval"]),
        }
        for key in ("spearman", "pearson")
    ]
    words = [
        f"{name} {cell['value']}" + (f" ({cell['interval']})" if cell["interval"] else "")
        for name, cell in zip(("Spearman", "Pearson"), cells, strict=True)
    ]
    said = ", ".join(words)
    if found["pearson"] is None:
        said = "no coefficient: it takes 3 texts, and both sides must vary"
    return {
        "name": wording_of(row["measure"]),
        "closer": closer(larger),
        "runs": wording.count(row["runs"]),
        "texts": wording.count(row["texts"]),
        "cells": cells,
        "said": f"{said}; {_counted(row['runs'], 'run')} on {_counted(row['texts'], 'text')}",
    }


def _counted(number: int, noun: str) -> str:
    return f"{wording.count(number)} {noun}{'s' * (number != 1)}"


def _ends(interval: Sequence[float] | None) -> str:
    return f"{wording.signed(interval[0], 2)} to {wording.signed(interval[1], 2)}" if interval else ""


def _panel(row: Mapping[str, Any], told: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    """To the right more alike: where smaller is closer the axis runs backwards. Down is a lower loss."""
    name = row["measure"]
    larger = _measures(told["texts"])[name]
    values = {
        one["text"]: next(cell["value"] for cell in one["measures"] if cell["measure"] == name) for one in told["texts"]
    }
    runs = [run for run in told["runs"] if values[run["text"]] is not None]
    largest = max((abs(values[run["text"]]) for run in runs), default=0.0)
    return {
        "about": f"Change of the loss against {wording_of(name)}",
        "height": [0, 330, 330],
        "r": 5,
        "margin": {"left": 52},
        "x": charts.axis("more alike →", room=0.1, least=0.02 * largest or 1e-3, reverse=not larger),
        "y": charts.axis("↓ better: change of the test loss", room=0.1, least=0.2, unit=charts.PERCENT, sign=True),
        "layers": [charts.layer("across", [[0]], "start zero", covers=False)],
        "spots": [
            charts.spot(
                numbers[run["text"]],
                [values[run["text"]]],
                charts.ends(run),
                run["text"],
                _says(run, name, values[run["text"]]),
                pale=run["verdict"] not in ("improved", "worse"),
                optional=True,
                sort="pale",
                confusing=8,
            )
            for run in runs
        ],
        "rest": "" if larger else "Smaller is closer: the axis falls to the right.",
        "none": "This measure has no value for a text with a run.",
    }


def _says(run: Mapping[str, Any], name: str, value: float) -> str:
    ends = f" ({' to '.join(map(wording.change, run['interval']))})" if run["interval"] else ""
    change = f"loss {wording.change(run['change'])}{ends}, {run['verdict']}"
    return f"{run['text']}, {run['run']}: {wording_of(name)} {number(value)}, {change}"
