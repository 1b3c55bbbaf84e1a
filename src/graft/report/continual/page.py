"""The page of a stream of domains: what its template shows, and what its scripts draw."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.report.adaptation import accounts
from graft.report.adaptation.panels import last_part, marked_axis, status
from graft.report.adaptation.panels import names_of as names_of_paths
from graft.report.continual import forgotten_tokens as kept
from graft.report.continual import heat_maps as matrices
from graft.report.continual import turns
from graft.report.continual.heat_maps import MEASURES, names_of, ranked
from graft.report.shared import charts, wording
from graft.report.shared.axis import Ruler
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "sorting.js")
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
        {"charts": [_trade(told), *(chart for measure in MEASURES for chart in turns.drawn(told, measure))]}
        | charts.choices(list(methods), [list(methods).index(label) for label in ranked(told)], range(len(methods))),
        title=title,
        clauses=_clauses(told, summary),
        notes=summary["notes"],
        outline=_outline(told),
        standing=_standing(told),
        metrics=[matrices.metrics(told, measure) for measure in MEASURES],
        heat_maps=[matrices.heat_maps(told, measure) for measure in MEASURES],
        charts=[
            {"title": title, "unit": matrices.UNITS[measure], "charts": turns.texts(told)}
            for measure, title in MEASURES.items()
        ],
        means=turns.means(told),
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
    head, _, rest = wording.typeset(summary["verdict"]).partition("; ")
    word = f"{len(told['methods'])} method{'s' if len(told['methods']) > 1 else ''}"
    shown = {"sort": "none", "shape": "◇", "word": word}
    return [{"head": head, "before": rest, "change": "", "rest": "", "status": shown}]


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
    axis = Ruler.of_changes(changes)
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


def _row(label: str, one: Mapping[str, Any], number: int, start: float, ruler: Ruler, axis: Ruler) -> dict[str, Any]:
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
            "span": general["interval"] and axis.between(*general["interval"]),
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
    """To the left what the domains gained, down what general text kept; thick from the lowest seed to the highest."""
    methods, start = told["methods"], base_mean(told)
    points = {
        label: (_spread(overall(one), "value"), _spread(one["general"], "change", 100))
        for label, one in methods.items()
    }
    front = sorted((points[label][0][0], points[label][1][0], label) for label, one in methods.items() if one["front"])
    words = f"The base: mean loss over the domains {start:.3f}"
    base = charts.spot(0, [start], [0.0], "base", words, pale=True, look="", kind="base-mark", shape="times")
    gained, lost = (
        "← better: mean loss over the domains, nats per token",
        "↓ better: general loss, change against the base",
    )
    return {
        "about": "General loss against the mean loss over the domains",
        "height": [0.5, 360, 540],
        "r": 5.5,
        "margin": {"left": 52, "right": 16, "top": 30, "bottom": 46},
        "x": charts.axis(gained, room=0.08, least=0.002, anchor="start"),
        "y": charts.axis(lost, room=0.08, least=0.2, unit=charts.PERCENT, sign=True),
        "layers": [
            charts.layer("across", [[0]], "start", covers=False),
            charts.layer("line", [[x, y] for x, y, _ in front], "unbeaten"),
        ],
        "spots": [
            *(
                charts.spot(number, *points[label], label, _says(label, one), pale=not one["front"])
                for number, (label, one) in enumerate(methods.items())
            ),
            base,
        ],
        "rest": f"On the frontier: {', '.join(label for _, _, label in front)}.",
    }


def _spread(found: Mapping[str, Any], key: str, scale: float = 1.0) -> list[Any]:
    """[value, low, high, lowest seed, highest seed]; None for what is not known."""
    ends = [found[key], *(found["interval"] or (None, None)), *(found["spread"] or (None, None))]
    return [end if end is None else round(scale * end, 6) for end in ends]


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


def _models(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The models of every method and seed, by turn."""
    for label, one in told["methods"].items():
        for seed, names in zip(one["seeds"], one["models"], strict=True):
            yield {"label": label, "seed": seed, "names": names}
