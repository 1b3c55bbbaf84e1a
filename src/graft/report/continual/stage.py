"""judge: a stream's matrix of scores, every metric of it with an interval, and what each method cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graft.continual.metrics.overall_performance import OverallPerformance
from graft.continual.results import COSTS, MEASURES, MethodRun, Standing
from graft.continual.settings import Judge
from graft.core.config.plugin_labels import labelled
from graft.core.config.plugins import plugin_name
from graft.core.stats.evaluation_size import narrower
from graft.core.store.artifact import Artifact, Draft, Store, digest
from graft.models.runtime.settle_precision import check_same_precision
from graft.report.continual.page import render_stream


def judge(
    start: Artifact,
    learned: Sequence[MethodRun],
    settings: Judge = Judge(),
    *,
    quizzed: Artifact | None = None,
    base: str = "",
    paths: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
    store: Store,
) -> Artifact:
    """Kind "stream": stream.json (all of it), summary.json (for programs) and report.html.

    start: what the base was seen to make of every text; its last source is the general text, the others are domains in
    the order of their turns. quizzed: what it answered to the suite, where there is one.
    """
    scored = {f"{one.label}, turn {n}": turn.seen for one in learned for n, turn in enumerate(one.turns, 1) if turn}
    check_same_precision({"the base": start} | scored)
    inputs: dict[str, Artifact | str] = {"start": start, "base": base, "notes": "\n".join(notes)}
    inputs |= {"quizzed": quizzed} if quizzed else {}
    inputs["paths"] = digest(dict(paths or {}))
    for one in learned:
        for number, turn in enumerate(one.turns, 1):
            at = f"{one.label}, seed {one.seed}, turn {number}"
            inputs |= {f"{at}: {name}": one for name, one in turn.artifacts.items()} if turn else {at: "waited"}
    scored = start.facts["scored"]
    fewer = narrower({name: (one["documents"], one["documents_of_split"]) for name, one in scored.items()})
    whole = {
        "runtime": start.facts.get("runtime", {}),
        "base": base,
        "paths": dict(paths or {}),
        "notes": [*notes, *([fewer] if fewer else [])],
    }
    return store.make(
        "stream",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, Standing.of(start, learned, settings, quizzed), settings, whole),
    )


def _build(draft: Draft, standing: Standing, settings: Judge, whole: dict[str, Any]) -> None:
    told = whole | standing.told()
    summary = summarize(told)
    (draft / "stream.json").write_text(json.dumps(told, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    (draft / "summary.json").write_text(
        json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
    )
    (draft / "report.html").write_text(render_stream(told, summary, title=settings.title), encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"], "methods": list(told["methods"])}


def key_of(label: str) -> str:
    """A label as a key of summary.json that a gate can name."""
    return re.sub(r"[^\w-]+", "-", label).strip("-")


FEW = 10  # test documents below which a note says so

NUMBERS = (
    *("rank", "general.change", "general.before", "general.after"),
    *(f"cost.{key}" for key in COSTS),
)


def stream_keys(labels: Sequence[str], settings: Judge, *, suite: bool) -> list[str]:
    """What a gate may name: a number of any method, or of one."""
    metrics = [key_of(label) for label in labelled(settings.metrics, "metrics")]
    numbers = [*NUMBERS, *(f"suite.{key}" for key in ("change", "lost", "found") if suite)]
    keys = [*numbers, *(f"{measure}.{metric}" for measure in MEASURES for metric in metrics)]
    return [*keys, *(f"{key_of(label)}.{key}" for label in labels for key in keys)]


def summarize(told: Mapping[str, Any]) -> dict[str, Any]:
    """summary.json: one row of numbers per method under "runs", the verdict, and what to know before quoting it."""
    rows: dict[str, Any] = {}
    for label, one in told["methods"].items():
        row: dict[str, Any] = {"label": label, "method": one["settings"], "rank": one["rank"][0]}
        row |= {"rank_of_seeds": one["rank"][1:], "front": one["front"], "general": one["general"]}
        for measure in MEASURES:
            metrics = {key_of(name): found for name, found in one[measure]["metrics"].items()}
            row[measure] = {name: found["value"] for name, found in metrics.items() if found["value"] is not None}
            row[f"{measure}_intervals"] = {name: found["interval"] for name, found in metrics.items()}
            row[f"{measure}_spreads"] = {name: found["spread"] for name, found in metrics.items()}
        rows[key_of(label)] = row | {key: one[key] for key in ("flips", "against", "tied", "suite", "cost")}
    keys = ("base", "domains", "seeds", "documents", "tokens_scored", "start", "suite")
    return {
        "verdict": sentence(told),
        "runtime": told.get("runtime", {}),
        **{key: told[key] for key in keys},
        "notes": [*told["notes"], *_cautions(told)],
        "runs": rows,
    }


def sentence(told: Mapping[str, Any]) -> str:
    """The verdict: who lowers the loss over the domains most, and at what price on general text."""
    methods = told["methods"]
    order = sorted(methods, key=lambda label: methods[label]["rank"][0])
    start = float(np.mean([told["start"]["loss"][name] for name in told["domains"]]))
    metric = main_metric(methods)

    def moved(label: str) -> tuple[float, str]:
        """The relative change of the mean loss over the domains; its levels, and what happened to general text."""
        one, end = methods[label], methods[label]["loss"]["metrics"][metric]["value"]
        levels = f"{start:.3f} → {end:.3f} nats per token, general loss {one['general']['change']:+.1%}"
        return end / start - 1, levels

    change, levels = moved(order[0])
    domains = f"{len(told['domains'])} domain{'s' * (len(told['domains']) != 1)}"
    lead = f": {order[0]} leads {len(methods)} methods" if len(methods) > 1 else f" with {order[0]}"
    said = f"{abs(change):.1%} {'lower' if change < 0 else 'higher'} mean loss over {domains}{lead}; {levels}"
    step_by_step = [label for label in order if all(methods[label]["models"][0])]
    if step_by_step and step_by_step[0] != order[0]:
        change, levels = moved(step_by_step[0])
        said += f"; of those that learn one domain after the other, {step_by_step[0]} leads: {change:+.1%}, {levels}"
    tied = [label for label in methods[(step_by_step or order)[0]]["tied"] if label in step_by_step]
    single = [name for name in told["domains"] if told["documents"][name] < 2]
    if tied and single:
        said += (
            f", and whether it is certainly ahead of {' and '.join(tied)} is unknown ({single[0]}: one test document)"
        )
    elif tied:
        said += f", not told apart from {' and '.join(tied)}"
    kindest = min(methods, key=lambda label: methods[label]["general"]["change"])
    if kindest not in (order[0], *step_by_step[:1]):
        said += f"; {kindest} keeps general text best, at {methods[kindest]['general']['change']:+.1%}"
    return f"{said}."


def main_metric(methods: Mapping[str, Any]) -> str:
    """The label of the metric that methods are ranked by; with other turns beside it, it names its own."""
    name = plugin_name(OverallPerformance())
    metrics = next(iter(methods.values()))["loss"]["metrics"]
    return name if name in metrics else f"{name} after 0"


def _cautions(told: Mapping[str, Any]) -> list[str]:
    documents = told["documents"]
    single = [name for name, count in documents.items() if count < 2]
    said = [f"{', '.join(single)}: one test document, so no metric that reads it has an interval."] if single else []
    few = [f"{name} {count}" for name, count in documents.items() if 2 <= count < FEW]
    said += [f"Few test documents ({', '.join(few)}): another split may say otherwise."] if few else []
    if len(told["seeds"]) == 1:
        said.append("One seed: how much the order of the methods owes to chance is not known; `seeds` takes several.")
    return said
