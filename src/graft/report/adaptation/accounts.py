"""What the page says of where text went and what was made from what: ledger, use in training, settings, lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from graft.core.stats.outliers import Spikes
from graft.core.store.ledger import REWRITTEN
from graft.core.text.drop_reasons import MARK
from graft.report.adaptation.panels import FATES, KINDS
from graft.report.shared import wording

UNITS = ("documents", "bytes", "tokens")
SPIKES_SHOWN = 6  # steps named in words


def ledger(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per source: read, every fate with its share of the tokens, and whether the fates sum to what was read."""
    split = facts["summary"]["split"]
    meanings = FATES | facts["meanings"] | {split: f"{FATES[split]}; compared on this page"}
    by_source = groupby(facts["ledger"], key=lambda row: row["source"])
    return [_ledger_of(name, list(rows), meanings) for name, rows in by_source]


def _ledger_of(name: str, rows: list[dict[str, Any]], meanings: Mapping[str, str]) -> dict[str, Any]:
    read = next(row for row in rows if row["fate"] == "read")
    fates = [row for row in rows if row["fate"] != "read"]
    sums = {unit: sum(row[unit] for row in fates) for unit in UNITS}
    return {
        "source": name,
        "read": _ledger_row(read, read, meanings),
        "fates": [_ledger_row(row, read, meanings) for row in fates],
        "sum": {unit: wording.count(sums[unit]) for unit in UNITS},
        "adds_up": all(sums[unit] == read[unit] for unit in UNITS),
    }


def _ledger_row(row: Mapping[str, Any], read: Mapping[str, Any], meanings: Mapping[str, str]) -> dict[str, Any]:
    unit = "tokens" if read["tokens"] else "bytes"
    share = row[unit] / read[unit] if read[unit] else 0.0
    fate = row["fate"]
    return {unit: wording.count(row[unit]) for unit in UNITS} | {
        "fate": fate,
        "meaning": meanings.get(fate, _meaning(fate)),
        "share": wording.percent(share),
        "width": round(100 * share, 2),
    }


def _meaning(fate: str) -> str:
    """Of a fate that has no words of its own."""
    if fate.startswith(REWRITTEN):
        return f"bytes by which {fate.removeprefix(REWRITTEN)} made texts shorter"
    return f"left out: {fate.removeprefix(MARK)}" if fate.startswith(MARK) else ""


def use(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per source: tokens trained of those there were, and how often each was seen on average."""
    training = facts["training"]
    total = sum(training["tokens"].values()) or 1
    asked = sum(training["mixture"].values()) or 1
    return [
        {
            "source": name,
            "trained": wording.count(trained),
            "available": wording.count(training["available"].get(name, 0)),
            "passes": f"{training['passes'].get(name, 0):.3g}",
            "asked": wording.percent(training["mixture"].get(name, 0) / asked),
            "got": wording.percent(trained / total),
        }
        for name, trained in (dict.fromkeys(facts["summary"]["tokens"], 0) | dict(training["tokens"])).items()
    ]


def settings(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per stage: dotted names and values."""
    return [{"stage": stage, "rows": list(_flat(values))} for stage, values in facts["settings"].items()]


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list) and values and isinstance(values[0], Mapping):
        for value in values:
            yield from _flat(value, name)
    elif name:
        yield name, "–" if values is None else "no settings" if values == {} else str(values)


def lineage(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Artifacts in the order they were made, with inputs that are artifacts apart from those that came from outside."""
    names = {one["name"] for one in facts["lineage"]}
    roles = {
        name: f" ({role})"
        for one in facts["lineage"]
        if one["name"].startswith("findings-")
        for role, name in one["inputs"].items()
    }
    return [
        {
            "name": one["name"],
            "kind": KINDS.get(one["name"].rpartition("-")[0], "") + roles.get(one["name"], ""),
            "made_from": [(key, value) for key, value in one["inputs"].items() if value in names],
            "outside": [(key, _shortened(value)) for key, value in one["inputs"].items() if value not in names],
            "started": one["started"].replace("T", " ").removesuffix("Z"),
            "seconds": wording.duration(one["seconds"]),
        }
        for one in facts["lineage"]
    ]


def _shortened(value: str) -> str:
    """Fingerprints are long and say nothing to the eye; their beginning tells two apart."""
    words = value.split(" ")
    return " ".join(f"{word[:10]}…" if len(word) > 20 and word.isalnum() else word for word in words)


def spikes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The steps whose loss stands out, those that do most first, and by which rule; `steps` is how many there are."""
    found = [
        (loss - usual, f"{source} step {wording.count(step)} ({loss:.3f} against {usual:.3f})")
        for source, points in facts["curve"]["spikes"].items()
        for step, loss, usual in points
    ]
    words = [said for _, said in sorted(found, reverse=True)]
    more = f" and {len(words) - SPIKES_SHOWN} more" if len(words) > SPIKES_SHOWN else ""
    return {"steps": len(words), "words": ", ".join(words[:SPIKES_SHOWN]) + more, "rule": Spikes().rule}
