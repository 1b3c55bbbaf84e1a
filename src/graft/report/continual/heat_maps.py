"""The matrix of a stream on the page: heat-maps of R, one per method, and the metrics that are read off it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from graft.report.shared import wording

MEASURES = {"loss": "Loss", "accuracy": "Accuracy"}
UNITS = {"loss": "nats per token", "accuracy": "percent of the tokens"}
STRONGEST = 0.5  # opacity of the fullest cell: text on it keeps its contrast
CURVED = 0.6  # power of the opacity: with 1, beside gains of nats what was forgotten would not be seen

# Name of a metric's plug-in: its short name, and what the page says of each of its variants ("": of any other).
TOLD: dict[str, tuple[str, dict[str, str]]] = {
    "overall_performance": ("OP", {
        "": "the mean over the domains after the last turn T: of R[T][j] over all j. Chaudhry et al. 2018, TRACE; also "
        "called ACC",
        "after": "the mean over the domains seen by then, after the turn that is named",
    }),
    "learning_accuracy": ("LA", {"": "each domain just after its own turn: the mean of R[j][j]. Riemer et al. 2019"}),
    "backward_transfer": ("BWT", {
        "": "what later turns did to earlier domains: the sum of R[T][j] − R[j][j] over j < T, divided by T − 1. "
        "Lopez-Paz and Ranzato 2017",
        "divisor trace": "the same sum divided by T, as in TRACE",
    }),
    "forward_transfer": ("FWT", {
        "": "what earlier turns did for domains still to come: the mean of R[j−1][j] − base over j > 1. Lopez-Paz and "
        "Ranzato 2017, whose b is a network at random; here it is the base",
    }),
    "forgetting": ("Forgetting", {
        "": "what earlier domains lost from their best after any turn before: the mean over j < T of the best R[l][j], "
        "l < T, minus R[T][j]. Chaudhry et al. 2018",
        "form first minus last": "the same from just after their own turn: the mean of R[j][j] − R[T][j], minus BWT "
        "(gem)",
    }),
    "general_change": ("General", {"": "the score on general text at the end minus the base’s"}),
    "fuar": ("FUAR", {
        "": "what general text lost, by what the domains gained on average: 0 is no forgetting, 1 is break-even. Jang "
        "et al. 2022, who count facts; text in their place is ours",
    }),
}  # fmt: skip
LEVELS = ("overall_performance", "learning_accuracy", "fuar")  # no differences: their sign says nothing
DEFAULTS = {"backward_transfer": "divisor gem", "forgetting": "form max"}
WORSE_ABOVE = ("forgetting",)  # more than 0 is worse, of whatever measure


def names_of(told: Mapping[str, Any]) -> list[str]:
    """The columns of R: domains in the order of their turns, then the general text."""
    return [*told["domains"], told["general"]]


def ranked(told: Mapping[str, Any]) -> list[str]:
    """The methods' labels, the best first; equal ones as they were listed."""
    return sorted(told["methods"], key=lambda label: told["methods"][label]["rank"][0])


def heat_maps(told: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """A matrix per method, all on one scale of colour. Cells: the score, and its change against the base's.

    limit: the change at which the colour is full.
    """
    start = [told["start"][measure][name] for name in names_of(told)]
    matrices = {label: told["methods"][label][measure]["matrix"] for label in ranked(told)}
    changes = [
        abs(value - old)
        for matrix in matrices.values()
        for row in matrix
        for value, old in zip(row, start, strict=True)
        if value is not None
    ]
    largest = max(changes, default=0.0) or 1.0
    shown = 100 * largest if measure == "accuracy" else largest
    return {
        "measure": measure,
        "title": MEASURES[measure],
        "unit": UNITS[measure],
        "limit": f"{shown:.{1 if measure == 'accuracy' else 2}f}",
        "ends": ("lower", "higher") if measure == "loss" else ("higher", "lower"),
        "ramp": [{"sort": "gain" if at < 0 else "loss", "strength": _strength(abs(at) / 6)} for at in range(-6, 7)],
        "start": [_score(value, measure) for value in start],
        "maps": [
            {
                "label": label,
                "number": list(told["methods"]).index(label),
                "rank": told["methods"][label]["rank"][0],
                "rows": list(_rows(matrix, start, told, measure, largest)),
            }
            for label, matrix in matrices.items()
        ],
    }


def _rows(
    matrix: Sequence[Sequence[float | None]],
    start: Sequence[float],
    told: Mapping[str, Any],
    measure: str,
    largest: float,
) -> list[dict[str, Any]]:
    """One per turn; turns in which nothing was trained, together."""
    found: list[dict[str, Any]] = []
    learned = 0  # turns whose domains the last model knew
    for waited, group in groupby(enumerate(matrix, 1), key=lambda pair: all(value is None for value in pair[1])):
        turns = list(group)
        if waited:
            found.append({"turn": _turns(turns[0][0], turns[-1][0]), "name": "", "cells": None})
            continue
        for turn, row in turns:
            cells = [
                _cell(value, old, measure, largest, own=learned <= place < turn)
                for place, (value, old) in enumerate(zip(row, start, strict=True))
            ]
            name = told["domains"][turn - 1] if turn == learned + 1 else f"{_turns(learned + 1, turn)} at once"
            found.append({"turn": str(turn), "name": name, "cells": cells})
            learned = turn
    return found


def _turns(first: int, last: int) -> str:
    return f"{first} to {last}" if last > first else str(first)


def _cell(value: float | None, old: float, measure: str, largest: float, *, own: bool) -> dict[str, Any]:
    if value is None:
        return {"value": "–", "change": "", "sort": "none", "strength": "0", "own": own}
    worse = value - old if measure == "loss" else old - value
    return {
        "value": _score(value, measure),
        "change": _difference(value - old, measure),
        "sort": "gain" if worse < 0 else "loss" if worse > 0 else "none",
        "strength": _strength(abs(worse) / largest),
        "own": own,
    }


def _strength(share: float) -> str:
    return f"{STRONGEST * min(1.0, share) ** CURVED:.3f}"


def _score(value: float, measure: str) -> str:
    return f"{100 * value:.1f}" if measure == "accuracy" else f"{value:.3f}"


def _difference(value: float, measure: str) -> str:
    return wording.signed(100 * value, 1) if measure == "accuracy" else wording.signed(value, 3)


def metrics(told: Mapping[str, Any], measure: str) -> dict[str, Any]:
    """Every metric of every method: value, interval, lowest and highest seed; undefined ones with the reason."""
    labels = list(next(iter(told["methods"].values()))[measure]["metrics"])
    return {
        "measure": measure,
        "title": MEASURES[measure],
        "unit": UNITS[measure],
        "heads": [head(label) for label in labels],
        "rows": [
            {
                "label": label,
                "number": list(told["methods"]).index(label),
                "cells": [_metric(name, told["methods"][label], measure) for name in labels],
            }
            for label in ranked(told)
        ],
    }


def head(label: str) -> dict[str, str]:
    """A metric's short name, the variant that it is, and its definition in words."""
    plugin, _, variant = label.partition(" ")
    short, said = TOLD.get(plugin, (plugin.replace("_", " "), {}))
    variant = variant or DEFAULTS.get(plugin, "")
    if variant == "after 0":
        variant = ""
    words = said.get(variant) or said.get(variant.partition(" ")[0]) or said.get("", "")
    shown = variant.removeprefix("divisor ").removeprefix("form ").replace("after ", "after turn ")
    return {"name": short, "variant": shown, "words": words}


def _metric(name: str, method: Mapping[str, Any], measure: str) -> dict[str, Any]:
    found, plugin = method[measure]["metrics"][name], name.partition(" ")[0]
    value, interval, spread = found["value"], found["interval"], found["spread"]
    if value is None:
        return {"value": "–", "why": _why_not(plugin, method, measure), "order": None}
    written = _writing(plugin, measure)
    return {
        "value": written(value),
        "order": value,
        "interval": interval and " to ".join(map(written, interval)),
        "spread": spread and " to ".join(map(written, spread)),
        "sort": _certain(plugin, interval),
    }


def _writing(plugin: str, measure: str) -> Callable[[float], str]:
    if plugin == "fuar":
        return lambda value: f"{value:.2f}"
    return lambda value: (_score if plugin in LEVELS else _difference)(value, measure)


def _certain(plugin: str, interval: Sequence[float] | None) -> str:
    """Colour of a difference whose interval leaves out 0."""
    if plugin in LEVELS or plugin not in TOLD:
        return "plain"
    if not interval or interval[0] <= 0 <= interval[1]:
        return "none"
    return "gain" if (interval[0] > 0) != (plugin in WORSE_ABOVE) else "loss"


def _why_not(plugin: str, method: Mapping[str, Any], measure: str) -> str:
    waits = any(all(value is None for value in row) for row in method[measure]["matrix"])
    if plugin == "fuar":
        return "no domain gained"
    return "needs every turn" if waits else "not defined here"
