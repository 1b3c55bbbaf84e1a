"""The points of the plot of domain loss against general loss, each with its numbers in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from graft.report.shared import wording

Sort = Literal["base", "start", "pilot", "law", "choice", "place", "result", "taken"]


@dataclass(frozen=True)
class Span:
    """A number, and what it lies between with the confidence that its maker asked for; None: not known."""

    value: float
    low: float | None = None
    high: float | None = None

    def per(self, whole: float) -> Span:
        """As a relative change against `whole`."""
        low, high = (None if end is None else end / whole - 1 for end in (self.low, self.high))
        return Span(self.value / whole - 1, low, high)

    def to_json(self) -> list[float | None]:
        return [None if one is None else round(one, 6) for one in (self.value, self.low, self.high)]


@dataclass(frozen=True)
class Spot:
    """One point of the drawing: nats per token of validation text, and the change of the general ones against the base.

    group: points of one group are joined by a line, in their order. name: what it is; label: what stands beside it.
    """

    sort: Sort
    group: str
    name: str
    general: Span
    domain: Span
    change: Span
    tokens: float | None = None
    ratio: float | None = None
    label: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """All numbers of the point in one line."""
        tokens = "" if self.tokens is None else f", {wording.count(self.tokens)} tokens"
        return (
            f"{self.name[:1].upper()}{self.name[1:]}{tokens}: "
            f"general loss {ranged(self.change, rise)} against the base "
            f"({self.general.value:.3f} nats per token), domain loss {ranged(self.domain, nats)} nats per token"
        )


def nats(value: float) -> str:
    return f"{value:.3f}"


def rise(share: float) -> str:
    """0.0171 -> '+1.71 %': two digits, because budgets are a few percent."""
    return f"{wording.signed(100 * share, 2)}{wording.THIN}%"


def allowed(budget: float) -> str:
    return f"{100 * budget:.3g}{wording.THIN}%"


def mixed(ratio: float) -> str:
    """0.8 -> '80 %'."""
    return f"{100 * ratio:.3g}{wording.THIN}%"


def ranged(span: Span, say: Callable[[float], str]) -> str:
    """The number, with what it lies between or stays below."""
    value = say(span.value)
    if span.low is not None and span.high is not None:
        return f"{value} ({say(span.low)} to {say(span.high)})"
    return f"{value} (at most {say(span.high)})" if span.high is not None else value


def spanned(values: Sequence[float | None]) -> Span | None:
    """[value, low, high] with anything not finite left out, and an interval of no width too; None without a value."""
    value, *ends = [one if one is not None and math.isfinite(one) else None for one in values]
    if value is None:
        return None
    low, high = (*ends, None, None)[:2]
    return Span(value) if low is None or high is None or low == high else Span(value, low, high)


def spots(frontier: Mapping[str, Any]) -> list[Spot]:
    """Every point there is, those that are joined one after the other; a loss that is no number has no point."""
    base = frontier["base"]
    start = Span(base["general"]), Span(base["domain"])
    first = Spot("base", "line", "the base", *start, Span(0.0), label=("base", nats(base["domain"])))
    return [first, *_pilots(frontier), *_law(frontier), *_line(frontier)]


def _pilots(frontier: Mapping[str, Any]) -> list[Spot]:
    """Per run its looks; the first, where it is the base's own ("start"), is what the others are a change against."""
    several = len({run["objective"] for run in frontier["pilots"]}) > 1
    found: list[Spot] = []
    for number, run in enumerate(frontier["pilots"]):
        own = own_base(frontier, run)["general"]
        objective = f", {run['objective']}" if several else ""
        name = f"pilot with {mixed(run['ratio'])} domain text{objective}"
        points = [(spanned([one["general"]]), spanned([one["domain"]]), one["tokens"]) for one in run["points"]]
        looks = [
            Spot(
                "pilot" if tokens else "start",
                f"pilot {number}",
                name,
                general,
                domain,
                general.per(own),
                tokens,
                run["ratio"],
            )
            for general, domain, tokens in points
            if general and domain
        ]
        if looks and looks[-1].sort == "pilot":
            ending = replace(looks[-1], label=(f"pilot {mixed(run['ratio'])}{objective}",))
            found += [*looks[:-1], ending]
    return found


def own_base(frontier: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> Mapping[str, float]:
    """The base as a pilot saw it (any, where none is named), else as the line did: the texts of the two may differ."""
    runs = [run] if run else frontier["pilots"]
    looks = [one for each in runs for one in each["points"] if one["tokens"] == 0]
    return looks[0] if looks else frontier["base"]


def _law(frontier: Mapping[str, Any]) -> list[Spot]:
    """The law over the ratios, and the choice, which is a point of it."""
    own = own_base(frontier)["general"]
    found: list[Spot] = []
    choice = frontier["choice"]
    for one in [*sorted(frontier["law"], key=lambda one: one["ratio"]), choice]:
        general, domain = spanned(one["general"]), spanned(one["domain"])
        if not general or not domain:
            continue
        change, place = general.per(own), mixed(one["ratio"])
        if one is choice:
            name, label = (
                f"predicted for the run chosen, with {place} domain text",
                (f"predicted, {place}", _short(change, domain)),
            )
        else:
            name, label = f"the law at {place} domain text", (place,)
        sort, group = ("choice", "choice") if one is choice else ("law", "law")
        found.append(Spot(sort, group, name, general, domain, change, one["tokens"], one["ratio"], label))
    return found


def _line(frontier: Mapping[str, Any]) -> list[Spot]:
    """Places between base and result, the nearest to the base first; changes as they were measured there."""
    base, taken = frontier["base"]["general"], frontier["taken"]
    found: list[Spot] = []
    for place in sorted(frontier["line"], key=lambda place: place["share"]):
        general, domain = spanned([place["general"]]), spanned([place["domain"]])
        if not general or not domain:
            continue
        bound = place.get("general_bound")
        known = place.get("general_change", general.value / base - 1)
        change = Span(known, None, bound if bound is not None and math.isfinite(bound) else None)
        share, way = place["share"], f"{100 * place['share']:.3g}{wording.THIN}%"
        sort: Sort = "taken" if share == taken else "result" if share == 1 else "place"
        where = "the result of the run" if share == 1 else f"the model {way} of the way from base to result"
        head = "the result" if share == 1 else f"{way} of the way"
        label = {"taken": (f"taken: {head}", _short(change, domain)), "result": ("result", _short(change, domain))}
        name = f"taken, {where}" if sort == "taken" else where
        found.append(Spot(sort, "line", name, general, domain, change, label=label.get(sort, (f"{way} of the way",))))
    return found


def _short(change: Span, domain: Span) -> str:
    return f"{rise(change.value)}, {nats(domain.value)}"
