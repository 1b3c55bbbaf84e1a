"""Learning curves of a run: for each source a chart, its legend, and the validation losses as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from graft.report.shared import charts, wording

POINTS_DRAWN = 800  # of a curve; more are averaged, which keeps the page small after a long run
STRIP = 66  # pixels below the losses for the learning rate

Points = Sequence[Sequence[float]]


def curves(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of every source: training, validation and spikes as rows of [tokens, loss], and the learning rate."""
    curve = facts["curve"]
    size = curve["tokens_per_step"]
    found: list[dict[str, Any]] = []
    for name in facts["summary"]["tokens"]:
        rows = {
            "training": thinned(curve["training"].get(name, [])),
            "validation": finite(curve["validation"].get(name, [])),
            "spikes": finite(curve["spikes"].get(name, [])),
            "rate": thinned(curve["rate"]),
        }
        placed = {key: [[point[0] * size, point[1]] for point in points] for key, points in rows.items()}
        found.append({"source": name, "numbers": numbers(placed["validation"]), "size": size} | placed)
    return found


def drawable(one: Mapping[str, Any]) -> bool:
    return bool(one["training"] or one["validation"])


def thinned(points: Points, most: int = POINTS_DRAWN) -> list[list[float]]:
    """At most `most` points (step, value), each the mean of equally many finite neighbours, to six digits."""
    points = finite(points)
    size = -(-len(points) // most) or 1
    runs = [points[first : first + size] for first in range(0, len(points), size)]
    return [
        [round(sum(step for step, _ in run) / len(run), 1), float(f"{sum(value for _, value in run) / len(run):.6g}")]
        for run in runs
    ]


def finite(points: Points) -> list[Sequence[float]]:
    """Without the points of a run that diverged, which JSON cannot say and a curve cannot show."""
    return [point for point in points if math.isfinite(point[1])]


def numbers(validation: Points) -> list[tuple[str, str, str, str]]:
    """(tokens, loss, change, relative change) of every look at the validation text."""
    start = validation[0][1] if validation else 1.0
    return [
        (wording.count(tokens), f"{loss:.4f}", wording.signed(loss - start, 4), wording.change(loss / start - 1))
        for tokens, loss in validation
    ]


def chart(one: Mapping[str, Any]) -> dict[str, Any]:
    """The validation loss against the base's own, on the training loss; the learning rate below."""
    training, validation, rate = one["training"], one["validation"], one["rate"]
    last = max([1, *(tokens for points in (training, validation, rate) for tokens, _ in points)])
    found: dict[str, Any] = {
        "about": f"Learning curve of {one['source']}",
        "height": [0, 354, 354],
        "margin": {"left": 44, "right": 16, "top": 24, "bottom": 36},
        "x": charts.axis("tokens trained, all sources", domain=[0, last], counted=True),
        "y": charts.axis(None, (3, 3)),
        "read": {"head": "{} tokens · ", "none": "", "missing": "", "where": True, "digits": 3},
        "layers": _layers(one),
        "strip": STRIP if rate else 0,
    }
    if validation and training:
        found["closer"] = "Validation only"
    return found | ({"note": _ended(validation)} if len(validation) > 1 else {})


def _layers(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    training, validation, rate = one["training"], one["validation"], one["rate"]
    found: list[dict[str, Any]] = []
    if training:
        smooth = {"name": "smoothed training", "stops": not validation, "digits": 3}
        loose = {"loose": bool(validation), "clip": [None, None]}
        found.append(charts.layer("line", training, "raw", **loose))
        found.append(charts.layer("line", charts.smoothed(training), "smooth", **smooth, **loose))
    if validation:
        below, start, held = _held(validation)
        found = [below, *found, start, held]
    if one["spikes"]:
        words = [f"step {wording.count(tokens / one['size'])} stands out" for tokens, _ in one["spikes"]]
        rows = [[*point, word, "spike"] for point, word in zip(one["spikes"], words, strict=True)]
        look = {"symbol": "triangle", "rotate": 180, "r": 4, "dy": -7}
        found.append(charts.layer("dot", rows, loose=True, look=look))
    if rate:
        words = f"{max(value for _, value in rate):.1e}".replace(".0e", "e").replace("e-0", f"e{wording.MINUS}")
        found.append(charts.layer("strip", rate, "rate", name="rate", digits=None, words=words))
    return found


def _held(validation: Points) -> list[dict[str, Any]]:
    """What was gained and lost against the first look, the line of the first look, and the curve with its knots."""
    start = validation[0][1]
    return [
        charts.layer("between", validation, look={"negativeFill": "var(--gained)", "positiveFill": "url(#lost)"}),
        charts.layer("across", [[start]], "start"),
        charts.layer(
            "line", validation, "held", knots="knot", name="validation", against=start, stops=True, leads=True
        ),
    ]


def _ended(validation: Points) -> dict[str, str]:
    """The last validation loss against the first, written above the curve's end, where no line runs."""
    start, end = validation[0][1], validation[-1][1]
    change = end - start
    words = f"{wording.signed(change, 3)} nats ({wording.change(change / start)}) against step 0"
    return {"class": f"end {'gain' if change < 0 else 'loss'}", "words": f"{'▼' if change < 0 else '▲'} {words}"}
