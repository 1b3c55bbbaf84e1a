"""What a budget bought and cost, for the page: facts in a row, a table, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graft.report.adaptation import budget_chart
from graft.report.adaptation.budget_chart import View
from graft.report.adaptation.frontier_points import Spot, allowed, mixed, nats, own_base, ranged, rise, spanned, spots
from graft.report.adaptation.panels import plugin
from graft.report.shared import wording

FURTHEST = 6.0  # budgets: the drawing reaches no further to the right, so that a reader can see the budget itself
LEFTMOST = 2.0  # budgets: of a law that expects the general loss to fall, no more than this is drawn
ENDS = ("choice", "place", "result", "taken")
NEARBY = 0.5  # of the chosen ratio: from there on the law is shown closer
CLOSER = 0.55  # of the whole height: where the end needs more of it, a second drawing would show nothing new
TABLED = 10  # rows of the law in the table of numbers, at most


def views(frontier: Mapping[str, Any]) -> list[View]:
    """The whole way, and closer where it ends, unless that is most of the whole."""
    across = furthest(frontier)
    every = [one for one in spots(frontier) if across[0] <= one.change.value <= across[1] or one.sort in ENDS]
    near = NEARBY * frontier["choice"]["ratio"]
    ends = [one for one in every if one.sort in ENDS or (one.sort == "law" and (one.ratio or 0) >= near)]
    whole = View(name="The whole way", x=across, y=_roomy(every), closer=False)
    if not ends:
        return [whole]
    closer = View(name="Where it ends, closer", x=across, y=_roomy(ends), closer=True)
    high, low = whole["y"][1] - whole["y"][0], closer["y"][1] - closer["y"][0]
    return [whole, closer] if low < CLOSER * high else [View(name="", x=across, y=whole["y"], closer=True)]


def furthest(frontier: Mapping[str, Any]) -> tuple[float, float]:
    """The changes of the general loss at which the drawing ends; the law may go on, and so may what is far right."""
    budget = frontier["budget"]
    every = spots(frontier)
    reached = [one.change.value for one in every if one.sort != "law"]
    right = min(max(1.2 * max(reached), 2.2 * budget), FURTHEST * budget)
    law = [max(one.change.value, -LEFTMOST * budget) for one in every if one.sort == "law"]
    left = min(-0.25 * budget, *reached, *law)
    return left - 0.04 * (right - left), right


def _roomy(spots: Iterable[Spot]) -> tuple[float, float]:
    """From below the least domain loss to above the most, with room for a mark and its label."""
    values = [one.domain.value for one in spots]
    margin = max(0.12 * (max(values) - min(values)), 0.005)
    return min(values) - margin, max(values) + margin


def drawn(frontier: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The charts, one per view; none for a report without a budget."""
    if not frontier:
        return []
    every = spots(frontier)
    return [budget_chart.chart(view, every, frontier) for view in views(frontier)]


def outside(frontier: Mapping[str, Any]) -> str:
    """In words, what lies to either side of the drawing; empty where nothing does."""
    left, right = furthest(frontier)
    every = [one for one in spots(frontier) if one.sort != "start"]
    sides = {
        "right": [one for one in every if one.change.value > right],
        "left": [one for one in every if one.change.value < left],
    }
    said = {side: "; ".join(_listed(beyond)) for side, beyond in sides.items()}
    return " ".join(f"Further {side} than the drawing reaches: {words}." for side, words in said.items() if words)


def _listed(beyond: Sequence[Spot]) -> list[str]:
    """Each by its name and change; of a pilot its last look, of the law its two ends."""
    law = [one for one in beyond if one.sort == "law"]
    last = {one.group: one for one in beyond if one.sort == "pilot"}
    named = [
        *(one for one in beyond if one.sort not in ("law", "pilot")),
        *last.values(),
        *(law if len(law) == 1 else ()),
    ]
    return [*map(placed, named), *([f"{placed(law[0])} up to {placed(law[-1])}"] if len(law) > 1 else ())]


def placed(spot: Spot) -> str:
    return f"{spot.name} ({rise(spot.change.value)})"


def other_text(frontier: Mapping[str, Any]) -> str:
    """What to know where pilots and line were measured on different parts of the validation text."""
    own, line = own_base(frontier), frontier["base"]
    if all(math.isclose(own[source], line[source], rel_tol=1e-3) for source in ("domain", "general")):
        return ""
    return (
        "Pilots and law were measured on another part of the validation text than the line: there the base’s domain "
        f"loss is {nats(own['domain'])}, here {nats(line['domain'])} nats per token. Changes are each against the base "
        "on the same text."
    )


def cost(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows of a run inside a budget; None for a report without one."""
    frontier = facts.get("frontier")
    if not frontier:
        return None
    return {
        "allowed": allowed(frontier["budget"]),
        "glance": glance(facts["summary"]["budget"]),
        "views": [view["name"] for view in views(frontier)],
        "rows": rows(frontier),
        "line": bool(frontier["line"]),
        "fine": " ".join(filter(None, (outside(frontier), other_text(frontier)))),
    }


def rows(frontier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The drawing's numbers: base, the last look at each pilot, the law at a few ratios, the choice, the line."""
    every = spots(frontier)
    law = [one for one in every if one.sort == "law"]
    step = -(-len(law) // TABLED) or 1
    tabled = {id(one) for one in law[step - 1 :: step]} | {id(one) for one in law[-1:]}
    last = {one.group: id(one) for one in every if one.sort == "pilot"}
    kept = [
        one
        for one in every
        if id(one) in tabled or id(one) in last.values() or one.sort not in ("law", "pilot", "start")
    ]
    return [
        {
            "sort": one.sort,
            "name": one.name[:1].upper() + one.name[1:],
            "tokens": "" if one.tokens is None else wording.count(one.tokens),
            "general": nats(one.general.value),
            "change": ranged(one.change, rise),
            "inside": one.change.value <= frontier["budget"],
            "domain": ranged(one.domain, nats),
        }
        for one in kept
    ]


def glance(budget: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(label, value, fine print) of the budget and what came of it."""
    pilots, met = budget["pilots"], budget["result"]
    of_final = wording.percent(pilots["of_final"], 0)
    share = budget["share"]
    way = (
        "the whole way" if share == 1 else f"{100 * share:.3g}{wording.THIN}% of the way" if share else "no model taken"
    )
    tries = f"{budget['looks']} look{'' if budget['looks'] == 1 else 's'} at the test text"
    return [
        ("Budget", allowed(budget["forget"]), "of the general loss, at most"),
        ("Chosen mixture", f"{mixed(budget['ratio'])} domain text", plugin(budget["objective"])),
        ("Final run", f"{wording.count(budget['tokens'])} tokens", "" if met else "not made"),
        ("Pilots", f"{wording.count(pilots['tokens'])} tokens", f"{pilots['runs']} runs, {of_final} of the final run"),
        *(_foreseen(source, budget["predicted"][source], met and met[source]) for source in ("domain", "general")),
        ("From base to result", way, tries),
    ]


def _foreseen(source: str, predicted: Sequence[float | None], met: float | None) -> tuple[str, str, str]:
    """Predicted against measured, and whether it came out where it was predicted."""
    label, span = f"{source.capitalize()} loss", spanned(predicted)
    if span is None:
        return label, "–" if met is None else nats(met), "the law has no value there"
    interval = f" ({nats(span.low)} to {nats(span.high)})" if span.low is not None and span.high is not None else ""
    if met is None:
        return label, nats(span.value), f"predicted{interval}"
    missed = span.low is not None and span.high is not None and not span.low <= met <= span.high
    ending = ", then measured: outside" if missed else ", then measured"
    return label, f"{nats(span.value)} → {nats(met)}", f"predicted{interval}{ending}"
