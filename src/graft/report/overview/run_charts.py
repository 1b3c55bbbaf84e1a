"""Charts of a page on several runs: what each gained on the domain against what it cost, and their learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.report.overview.settings_table import SOURCES
from graft.report.shared import charts, wording

DRAWN_AT_FIRST = 8  # learning curves that are drawn before anybody chooses: as many as there are colours


def drawn(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The page's charts: frontiers, then learning curves by source, with the runs that buttons choose from."""
    labels = [run["label"] for run in facts["runs"]]
    by_source = curves(facts["runs"])
    drawable = sorted({one["run"] for found in by_source.values() for one in found})
    overlaid = [_overlaid(source, found, labels) for source, found in by_source.items()]
    fronts = [_front(one, facts) for one in shared(facts)]
    return {"charts": [*fronts, *overlaid]} | charts.choices(labels, drawable, drawable[:DRAWN_AT_FIRST])


def shared(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Frontiers of two runs or more."""
    return [one for one in facts["summary"]["fronts"] if len(one["runs"]) > 1]


def _front(front: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """To the right what the domain gained, up what general text lost, in percent; runs that none beats are joined."""
    runs = {run["label"]: (number, run) for number, run in enumerate(facts["runs"]) if run["label"] in front["runs"]}
    gained, lost = "domain loss: gained against the base →", "↑ general loss, change against the base"
    places = {
        label: [-100 * run["domain"]["change"], 100 * run["general"]["change"]] for label, (_, run) in runs.items()
    }
    families = [[places[label] for label in family] for family in _families([run for _, run in runs.values()])]
    return {
        "about": "General loss against domain gain",
        "height": [0.7, 340, 520],
        "r": 5.5,
        "margin": {"left": 52, "top": 36, "bottom": 46},
        "x": charts.axis(gained, room=0.1, least=0.4, unit=charts.PERCENT),
        "y": charts.axis(lost, (4, 4), room=0.1, least=0.4, unit=charts.PERCENT, sign=True),
        "layers": [
            *(_limit(facts["allowed"]) if facts["allowed"] else ()),
            charts.layer("upright", [[0]], "start"),
            charts.layer("across", [[0]], "start", covers=False),
            charts.layer("line", sorted(places[label] for label in front["best"]), "unbeaten"),
            *(_seeds(families) if facts["joined"] else ()),
        ],
        "spots": [
            charts.spot(
                number,
                charts.ends(run["domain"], turned=True),
                charts.ends(run["general"]),
                label,
                _says(run, label in front["best"]),
                pale=label not in front["best"],
            )
            for label, (number, run) in runs.items()
        ],
        "rest": f"On the frontier: {', '.join(front['best'])}.",
    }


def _limit(allowed: float) -> list[dict[str, Any]]:
    """Above what is allowed: tinted, its border named."""
    look = {"words": f"{wording.percent(allowed, 2)} allowed", "frameAnchor": "left", "textAnchor": "start"}
    return [
        charts.layer("rect", [[None, 100 * allowed, None, None]], "forbidden", under=True),
        charts.layer("across", [[100 * allowed]], "budget", under=True),
        charts.layer(
            "text", [[None, 100 * allowed]], "allowed", look=look | {"lineAnchor": "bottom", "dx": 5, "dy": -4}
        ),
    ]


def _seeds(families: Sequence[Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    """Runs that differ in their seed alone: each joined to the mean of all."""
    means = [[sum(place[axis] for place in family) / len(family) for axis in (0, 1)] for family in families]
    lines = [[*place, *mean] for family, mean in zip(families, means, strict=True) for place in family]
    diamond = {"symbol": "square", "rotate": 45, "r": 4}
    return [
        charts.layer("link", lines, "seeds", covers=False),
        charts.layer("dot", means, "seeds mean", look=diamond),
    ]


def _says(run: Mapping[str, Any], best: bool) -> str:
    words: list[str] = []
    for name in SOURCES:
        interval = run[name]["interval"]
        ends = f" ({wording.change(interval[0])} to {wording.change(interval[1])})" if interval else ""
        words.append(f"{name} loss {wording.change(run[name]['change'])}{ends}")
    beaten = "no other run is better in both" if best else "another run is better in both"
    return f"{run['label']}: {', '.join(words)}; {beaten}"


def _families(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Runs that differ in their seed alone."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        key = tuple(sorted((name, value) for name, value in run["settings"].items() if name != "seed"))
        groups.setdefault(key, []).append(run["label"])
    return [labels for labels in groups.values() if len(labels) > 1]


def curves(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By source the curves of the runs that have one."""
    names = dict.fromkeys(name for run in runs for name in run["curve"])
    found = {
        name: [
            {"run": number} | run["curve"][name]
            for number, run in enumerate(runs)
            if any(run["curve"].get(name, {}).values())
        ]
        for name in names
    }
    return {name: drawn for name, drawn in found.items() if drawn}


def _overlaid(source: str, found: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Learning curves over each other, at heights of validation where there is any: steps may leave the frame."""
    layers: list[dict[str, Any]] = []
    for one in found:
        look, inside = charts.style(one["run"]), {"series": one["run"], "clip": [None, None]}
        named = {"name": labels[one["run"]], "stops": True}
        if one["training"]:
            thin = charts.layer("line", charts.smoothed(one["training"]), f"trace thin {look}", **inside)
            layers.append(thin | ({} if one["validation"] else named))
        if one["validation"]:
            held = {"counts": True, "knots": f"knot-of {look}"}
            layers.append(charts.layer("line", one["validation"], f"trace {look}", **inside, **held, **named))
    return {
        "about": f"Learning curves on {source}",
        "height": [0, 336, 336],
        "margin": {"left": 44, "right": 16},
        "x": charts.axis(
            "tokens trained, all sources",
            domain=[0, max(row[0] for one in layers for row in one["rows"])],
            counted=True,
        ),
        "y": charts.axis(None, (4, 4)),
        "layers": layers,
        "read": {
            "head": "{} tokens, the lowest first: ",
            "end": "At the end, the lowest first: ",
            "none": "No run is chosen.",
            "where": True,
            "best": 1,
            "digits": 3,
        },
    }
