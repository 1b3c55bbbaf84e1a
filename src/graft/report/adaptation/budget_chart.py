"""What a budget bought and cost, drawn: the domain loss over the change of the general loss, a chart for each view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypedDict

from graft.report.adaptation.frontier_points import Span, Spot, allowed
from graft.report.shared import charts, wording

RADIUS = {"base": 5, "pilot": 2.6, "law": 2.6, "choice": 5.5, "place": 4, "result": 5, "taken": 7}
SHAPES = {"base": "square", "choice": "diamond"}
PINNED = ("choice", "result", "taken")  # further right than the drawing, these stand at its edge with an arrow
EDGE = 0.025  # of the width: from the edge to what is pinned there
ROUND = (1, 0.5, 0.25, 0.1, 0.05)  # ratios that are marked on the law: multiples of the first before those of the next
FEW = 12  # ratios of a law that all may be marked; of more only round ones are
ORDER = ("taken", "result", "choice", "base", "place")  # of labels, the important first; then the law's name
NAMED_WHOLE = ("taken", "base")  # the whole way has no room for the others
LAW, PILOT, RATIO = len(ORDER), len(ORDER) + 1, len(ORDER) + 2


class View(TypedDict):
    """What a drawing shows: changes of the general loss from left to right, domain losses from bottom to top."""

    name: str
    x: tuple[float, float]
    y: tuple[float, float]
    closer: bool


def chart(view: View, every: Sequence[Spot], frontier: Mapping[str, Any]) -> dict[str, Any]:
    outcome = next(one for sort in ("taken", "choice", "base") for one in every if one.sort == sort)
    seen = [one for one in every if one.sort in RADIUS and _inside(one, view)]
    return {
        "about": "Domain loss against general loss",
        "height": [0.8, 370, 470],
        "roomy": 440,
        "ring": 11,
        "margin": {"left": 46, "right": 12, "top": 40},
        "x": charts.axis(
            "general loss, change against the base →",
            domain=[100 * end for end in view["x"]],
            unit=charts.PERCENT,
            sign=True,
        ),
        "y": charts.axis("↑ domain loss, nats per token", domain=view["y"]),
        "layers": [*_ground(view, frontier["budget"]), *_lines(view, every, frontier)],
        "spot": "spot",
        "spots": [shown for one in seen if (shown := _spot(one, view, every, frontier["budget"]))],
        "ordered": True,
        "readout": "frontier-readout",
        "rest": outcome.says,
    }


def _pinned(one: Spot, view: View) -> bool:
    return one.sort in PINNED and one.change.value > view["x"][1]


def _inside(one: Spot, view: View) -> bool:
    level = view["y"][0] <= one.domain.value <= view["y"][1]
    return level and (_pinned(one, view) or view["x"][0] <= one.change.value <= view["x"][1])


def _ground(view: View, budget: float) -> list[dict[str, Any]]:
    """The side on which more is forgotten than allowed: tinted and hatched, its border named."""
    border, high = 100 * budget, view["y"][1]
    beyond = [[border, None, None, None]]
    look = {"words": f"{allowed(budget)} allowed", "lineAnchor": "bottom", "dy": -8}
    return [
        charts.layer("rect", beyond, "forbidden", under=True),
        charts.layer("rect", beyond, "hatched", under=True),
        charts.layer("upright", [[border]], "budget", under=True),
        charts.layer("upright", [[0]], "start", covers=False),
        charts.layer("text", [[border, high]], "allowed", look=look),
    ]


def _lines(view: View, every: Sequence[Spot], frontier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the law expects, dimmed and dashed beyond the budget, the pilots’ ways, and the line to the result."""
    border, inside = 100 * frontier["budget"], {"clip": [None, None]}
    law = [one for one in every if one.sort == "law"]
    tokens = {round(one.tokens or 0) for one in law}
    name = f"expected after {'up to ' if len(tokens) > 1 else ''}{wording.short(max(tokens, default=0))} tokens"
    label = {"label": [name, *(["by share of domain text"] if view["closer"] else [])], "sort": "law name", "rank": LAW}
    sides = {"": [None, border], " beyond": [border, None]}
    groups = {one.group: [each for each in every if each.group == one.group] for one in every}
    pilots = [spots for spots in groups.values() if spots[-1].sort == "pilot"]
    return [
        *(
            charts.layer("shape", band, f"ribbon{side}", clip=clip)
            for side, clip in sides.items()
            for band in _bands(law)
        ),
        *(charts.layer("line", _places(spots), "piloted", **inside) for spots in pilots),
        *(
            charts.layer("line", _places(law), f"law{side}", clip=clip, **(label if law and not side else {}))
            for side, clip in sides.items()
        ),
        charts.layer("line", _places(groups["line"]), "walked", **inside),
    ]


def _places(spots: Sequence[Spot]) -> list[list[float]]:
    return [[round(100 * one.change.value, 6), round(one.domain.value, 6)] for one in spots]


def _bands(law: Sequence[Spot]) -> list[list[list[float]]]:
    """Between both losses low and both high, wherever the law knows its interval."""
    known = [list(run) for all_known, run in groupby(law, lambda one: _known(one.change, one.domain)) if all_known]
    side = lambda run, end: [[100 * getattr(one.change, end), getattr(one.domain, end)] for one in run]  # noqa: E731
    return [[*side(run, "low"), *side(run, "high")[::-1]] for run in known if len(run) > 1]


def _known(*spans: Span) -> bool:
    return all(end is not None for span in spans for end in (span.low, span.high))


def _spot(one: Spot, view: View, every: Sequence[Spot], budget: float) -> dict[str, Any] | None:
    """A point that is read; None for a ratio of the law that is not round, where there are many."""
    roundness = next(
        (n for n, step in enumerate(ROUND) if abs((part := (one.ratio or 0) / step) - round(part)) < 1e-6), len(ROUND)
    )
    many = sum(each.sort == "law" for each in every) > FEW
    if one.sort == "law" and many and roundness >= len(ROUND) - 1:
        return None
    pinned, beyond = _pinned(one, view), one.sort == "law" and one.change.value > budget
    edge = 100 * (view["x"][1] - EDGE * (view["x"][1] - view["x"][0]))
    found: dict[str, Any] = {
        "x": [edge] if pinned else charts.percent(one.change.to_json()),
        "y": one.domain.to_json(),
        "bare": pinned or one.sort == "law",
        "r": RADIUS[one.sort],
        "look": f"{one.sort}{' beyond' if beyond else ''}",
        "says": one.says,
    }
    if one.sort in SHAPES:
        found["shape"] = SHAPES[one.sort]
    if one.sort == "taken":
        found["halo"] = True
    if one.sort == "law":
        found |= {"sparse": roundness}
    return found | _label(one, view, pinned)


def _label(one: Spot, view: View, pinned: bool) -> dict[str, Any]:
    """What stands beside a point, and how it is placed; empty for a point without a name in this view."""
    if not one.label:
        return {}
    lines = ["taken"] if one.sort == "taken" and not view["closer"] else list(one.label)
    found = {"label": [lines[0] + (" →" if pinned else ""), *lines[1:]], "sort": one.sort}
    if one.sort == "pilot":
        return found | {"rank": PILOT, "confusing": 16}
    if one.sort == "law":
        return found | {"rank": RATIO, "confusing": 16, "optional": True} if view["closer"] else {}
    named = ORDER if view["closer"] else NAMED_WHOLE
    return found | {"rank": named.index(one.sort)} if one.sort in named else {}
