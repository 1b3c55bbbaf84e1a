"""Scores over the turns of a stream: a chart for each text with a line per method; means over domains as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.report.continual.heat_maps import MEASURES, UNITS, names_of
from graft.report.shared import charts

MEAN = "Mean over the domains seen so far"


def texts(told: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(name, turn of its own or 0) of every chart, in their order."""
    own = len(told["domains"])
    return [(MEAN, 0), *((name, turn if turn <= own else 0) for turn, name in enumerate(names_of(told), 1))]


def drawn(told: Mapping[str, Any], measure: str) -> Iterator[dict[str, Any]]:
    """A chart for the mean over the domains seen so far, and one for each text."""
    for place, (name, own) in enumerate(texts(told), -1):
        start = None if place < 0 else scaled(told["start"][measure][name], measure)
        yield _chart(name, own, start, _lines(told, measure, None if place < 0 else place), told, measure)


def _chart(
    name: str,
    own: int,
    start: float | None,
    lines: Sequence[Sequence[Sequence[float]]],
    told: Mapping[str, Any],
    measure: str,
) -> dict[str, Any]:
    """own: the turn whose domain the text is, banded; start: the score of the base, where every line begins."""
    first, last = (1 if start is None else 0), len(told["domains"])
    layers: list[dict[str, Any]] = []
    if own:
        half = min(0.3, 0.04 * (last - first))
        layers.append(charts.layer("rect", [[own - half, None, own + half, None]], "own-turn", under=True))
    if start is not None:
        layers.append(charts.layer("across", [[start]], "start"))
    for number, (label, line) in enumerate(zip(told["methods"], lines, strict=True)):
        look = charts.style(number)
        whole = [[0, start], *line] if start is not None and len(line) > 1 else line
        marks = {
            "series": number,
            "style": look,
            "knots": f"knot-of {look}",
            "name": label,
            "exact": True,
            "stops": True,
        }
        layers.append(charts.layer("line", whole, f"trace {look}", named=label, **marks))
    digits, unit = (1, charts.PERCENT) if measure == "accuracy" else (3, "")
    return {
        "about": f"{name} over the turns",
        "height": [0, 250, 250],
        "margin": {"left": 46, "top": 10, "bottom": 26},
        "named": True,
        "x": charts.axis(
            None,
            domain=[first, max(last, first + 1)],
            values=list(range(first, last + 1)),
            names={"0": "start"},
            own=str(own),
        ),
        "y": charts.axis(None),
        "layers": layers,
        "read": {
            "head": "After turn {}, the best first: ",
            "start": None if start is None else f"The base: {start:.{digits}f}{unit}",
            "none": "No method is chosen.",
            "missing": "After turn {}: no model.",
            "best": -1 if measure == "accuracy" else 1,
            "digits": digits,
            "unit": unit,
        },
    }


def scaled(value: float, measure: str) -> float:
    """A loss, or an accuracy in percent, to six digits."""
    return float(f"{100 * value if measure == 'accuracy' else value:.6g}")


def _lines(told: Mapping[str, Any], measure: str, place: int | None) -> list[list[tuple[int, float]]]:
    """Of every method; place: the column of R, None for the mean over those of the turns so far."""
    lines: list[list[tuple[int, float]]] = []
    for one in told["methods"].values():
        line: list[tuple[int, float]] = []
        for turn, row in enumerate(one[measure]["matrix"], 1):
            value = row[place] if place is not None else _mean(row[:turn])
            if value is not None:
                line.append((turn, scaled(value, measure)))
        lines.append(line)
    return lines


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def means(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """OP after each turn as numbers, by measure and method."""
    turns = range(1, len(told["domains"]) + 1)
    return [
        {
            "title": title,
            "unit": UNITS[measure],
            "rows": [
                (label, [_written(dict(line).get(turn), measure) for turn in turns])
                for label, line in zip(told["methods"], _lines(told, measure, None), strict=True)
            ],
        }
        for measure, title in MEASURES.items()
    ]


def _written(value: float | None, measure: str) -> str:
    return "–" if value is None else f"{value:.{1 if measure == 'accuracy' else 3}f}"
