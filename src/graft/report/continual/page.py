"""The page of a stream of domains: what its template shows, and what its scripts draw."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.report.adaptation import accounts
from graft.report.adaptation.panels import Axis, last_part, marked_axis, status
from graft.report.adaptation.panels import names_of as names_of_paths
from graft.report.continual import forgotten_tokens as kept
from graft.report.continual import heat_maps as matrices
from graft.report.continual.axis import Ruler
from graft.report.continual.heat_maps import MEASURES, names_of, ranked
from graft.report.shared import wording
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "curves.js", "labels.js", "sorting.js", "trade.js", "turns.js")
OVERALL = ("overall_performance", "overall_performance after 0")  # labels of the metric that methods are ranked by
TICK_WIDTH = 26.0  # percent of an axis that the words of a tick take


def render_stream(told: Mapping[str, Any], summary: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    told: see `graft.continual.results.Standing.told`, with base, paths (by source) and notes. Of summary the verdict
    and the notes are shown.
    """
    methods = told["methods"]
    return fill(
        "stream.html",
        SCRIPTS,
        {
            "methods": list(methods),
            "ranked": [list(methods).index(label) for label in ranked(told)],
            "trade": _trade(told),
            "turns": {measure: _charts(told, measure) for measure in MEASURES},
        },
        title=title,
        clauses=_clauses(told, summary),
        notes=summary["notes"],
        outline=_outline(told),
        standing=_standing(told),
        metrics=[matrices.metrics(told, measure) for measure in MEASURES],
        heat_maps=[matrices.heat_maps(told, measure) for measure in MEASURES],
        charts=[
            {"measure": measure, "title": title, "unit": matrices.UNITS[measure], "charts": _charts(told, measure)}
            for measure, title in MEASURES.items()
        ],
        means=_means(told),
        columns=names_of(told),
        domains=told["domains"],
        general=told["general"],
        seeds=told["seeds"],
        flips=kept.flips(told),
        suite=kept.suite(told),
        settings=accounts.settings({"settings": {label: one["settings"] for label, one in methods.items()}}),
        base=told["base"],
        paths=told["paths"],
        models=list(_models(told)),
    )


def overall(method: Mapping[str, Any], measure: str = "loss") -> dict[str, Any]:
    """OP after the last turn: {value, interval, spread}."""
    metrics = method[measure]["metrics"]
    return next(metrics[label] for label in OVERALL if label in metrics)


def base_mean(told: Mapping[str, Any], measure: str = "loss") -> float:
    """The base's mean score over the domains."""
    return sum(told["start"][measure][name] for name in told["domains"]) / len(told["domains"])


def _clauses(told: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict, its first words set large."""
    head, bracket, rest = wording.typeset(summary["verdict"]).partition(" (")
    word = f"{len(told['methods'])} method{'s' if len(told['methods']) > 1 else ''}"
    shown = {"sort": "none", "shape": "◇", "word": word}
    return [{"head": head, "before": bracket.strip() + rest, "change": "", "rest": "", "status": shown}]


def _outline(told: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sources = names_of(told)
    documents, tokens = ([told[key][name] for name in sources] for key in ("documents", "tokens_scored"))
    turns = sorted({round(one["cost"]["tokens"] / len(told["domains"])) for one in told["methods"].values()})
    spoken = " to ".join(wording.count(count) for count in dict.fromkeys((turns[0], turns[-1])))
    seeds = ", ".join(map(str, told["seeds"]))
    return [
        ("Base", last_part(told["base"]), ""),
        ("Domains, in order", " → ".join(told["domains"]), f"{len(told['domains'])} turns"),
        ("Text in no domain", told["general"], names_of_paths(told["paths"].get(told["general"], []))),
        ("Trained on", f"{spoken} tokens", "a turn and method"),
        ("Seeds", str(len(told["seeds"])), seeds),
        ("Scored", f"{wording.count(sum(documents))} documents", f"{wording.count(sum(tokens))} test tokens"),
    ]


def _standing(told: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the table of methods, the best first, and the axes that their intervals share."""
    methods, start = told["methods"], base_mean(told)
    ends = [end for one in methods.values() for end in _ends(overall(one))]
    ruler = Ruler.over([start, *ends])
    changes = [one["general"] for one in methods.values()]
    axis = Axis([end for one in changes for end in (one["change"], *(one["interval"] or ()))], least=0.01, room=0.06)
    first, general = next(iter(methods)), marked_axis(axis)
    return {
        "start": f"{start:.3f}",
        "zero": ruler.at(start),
        "ticks": _apart(ruler.ticks(), 0.0),
        "general": general | {"ticks": _apart(general["ticks"], general["zero"])},
        "general_before": f"{told['start']['loss'][told['general']]:.3f}",
        "first": first,
        "rows": [_row(label, methods[label], list(methods).index(label), start, ruler, axis) for label in ranked(told)],
    }


def _apart(ticks: list[dict[str, Any]], zero: float) -> list[dict[str, Any]]:
    """Those that do not touch: every second or third where there are many, the one at `zero` among them."""
    if len(ticks) < 2:
        return ticks
    every = math.ceil(TICK_WIDTH / (ticks[1]["at"] - ticks[0]["at"]))
    return ticks[next((place for place, tick in enumerate(ticks) if tick["at"] >= zero), 0) % every :: every]


def _ends(found: Mapping[str, Any]) -> list[float]:
    return [found["value"], *(found["interval"] or ())]


def _row(label: str, one: Mapping[str, Any], number: int, start: float, ruler: Ruler, axis: Axis) -> dict[str, Any]:
    found, general, cost, against = overall(one), one["general"], one["cost"], one["against"]
    place, best, worst = one["rank"]
    return {
        "label": label,
        "number": number,
        "front": one["front"],
        "rank": place,
        "ranks": f"{best} to {worst} by seed" if best != worst else "in every seed",
        "loss": {
            "value": f"{found['value']:.3f}",
            "order": found["value"],
            "interval": found["interval"] and " to ".join(f"{end:.3f}" for end in found["interval"]),
            "spread": found["spread"] and " to ".join(f"{end:.3f}" for end in found["spread"]),
            "sort": "gain" if found["value"] < start else "loss",
            "dot": ruler.at(found["value"]),
            "span": found["interval"] and ruler.between(*found["interval"]),
        },
        "against": against
        and {
            "value": wording.signed(against["difference"], 3),
            "order": against["difference"],
            "interval": against["interval"] and " to ".join(wording.signed(end, 3) for end in against["interval"]),
            "status": status(_verdict(against["interval"])),
        },
        "general": {
            "value": wording.change(general["change"]),
            "order": general["change"],
            "interval": general["interval"] and " to ".join(map(wording.change, general["interval"])),
            "spread": general["spread"] and " to ".join(map(wording.change, general["spread"])),
            "status": status(_verdict(general["interval"])),
            "dot": axis.at(general["change"]),
            "span": general["interval"]
            and [
                axis.at(general["interval"][0]),
                round(axis.at(general["interval"][1]) - axis.at(general["interval"][0]), 3),
            ],
        },
        "seconds": cost["seconds"],
        "took": wording.duration(cost["seconds"]),
        "tokens": wording.count(cost["tokens"]),
        "bytes": cost["peak_memory_bytes"],
        "memory": wording.memory(cost["peak_memory_bytes"]),
        "parameters": wording.large(cost["parameters"]),
    }


def _verdict(interval: Sequence[float] | None) -> str:
    """Of a change of a loss."""
    if not interval:
        return "no interval"
    return "improved" if interval[1] < 0 else "worse" if interval[0] > 0 else "no change"


def _trade(told: Mapping[str, Any]) -> dict[str, Any]:
    """Marks of the drawing; x the mean domain loss, y the change of the general loss: [value, low, high, least seed,
    most seed]."""
    methods = told["methods"]
    spots = [
        {
            "run": number,
            "label": label,
            "x": _spread(overall(one), "value"),
            "y": _spread(one["general"], "change"),
            "best": one["front"],
            "says": _says(label, one),
        }
        for number, (label, one) in enumerate(methods.items())
    ]
    return {"spots": spots, "start": base_mean(told)}


def _spread(found: Mapping[str, Any], key: str) -> list[float | None]:
    return [found[key], *(found["interval"] or (None, None)), *(found["spread"] or (None, None))]


def _says(label: str, one: Mapping[str, Any]) -> str:
    found, general = overall(one), one["general"]
    loss = f" ({found['interval'][0]:.3f} to {found['interval'][1]:.3f})" if found["interval"] else ""
    change = (
        f" ({wording.change(general['interval'][0])} to {wording.change(general['interval'][1])})"
        if general["interval"]
        else ""
    )
    beaten = "on the frontier: no other method is better in both" if one["front"] else "not on the frontier"
    return (
        f"{label}: mean loss over the domains {found['value']:.3f}{loss}, general loss "
        f"{wording.change(general['change'])}{change}; {beaten}"
    )


def _charts(told: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    """A drawing for each text and one for the mean over the domains seen so far. lines: by method [turn, score].

    own: the turn of the domain, 0 for none; start: the score of the base, None where there is none to compare.
    """
    found = [
        {"name": "Mean over the domains seen so far", "own": 0, "start": None, "lines": _lines(told, measure, None)}
    ]
    for place, name in enumerate(names_of(told)):
        own = place + 1 if place < len(told["domains"]) else 0
        start = told["start"][measure][name]
        found.append({"name": name, "own": own, "start": start, "lines": _lines(told, measure, place)})
    return found


def _lines(told: Mapping[str, Any], measure: str, place: int | None) -> list[list[tuple[int, float]]]:
    """Of every method; place: the column of R, None for the mean over those of the turns so far."""
    lines: list[list[tuple[int, float]]] = []
    for one in told["methods"].values():
        line: list[tuple[int, float]] = []
        for turn, row in enumerate(one[measure]["matrix"], 1):
            value = row[place] if place is not None else _mean(row[:turn])
            if value is not None:
                line.append((turn, float(f"{value:.6g}")))
        lines.append(line)
    return lines


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _means(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """OP after each turn as numbers, by measure and method."""
    turns = range(1, len(told["domains"]) + 1)
    return [
        {
            "title": title,
            "unit": matrices.UNITS[measure],
            "rows": [
                (label, [_written(dict(line).get(turn), measure) for turn in turns])
                for label, line in zip(told["methods"], _lines(told, measure, None), strict=True)
            ],
        }
        for measure, title in MEASURES.items()
    ]


def _written(value: float | None, measure: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if measure == "accuracy" else f"{value:.3f}"


def _models(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The models of every method and seed, by turn."""
    for label, one in told["methods"].items():
        for seed, names in zip(one["seeds"], one["models"], strict=True):
            yield {"label": label, "seed": seed, "names": names}
