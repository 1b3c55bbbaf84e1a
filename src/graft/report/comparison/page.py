"""The page of a comparison of two models: what its template shows, and what its scripts draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.report.adaptation import accounts, panels
from graft.report.adaptation.facts import ITEMS_SHOWN, divided
from graft.report.adaptation.panels import last_part, names_of, sort_of, status
from graft.report.shared import wording
from graft.report.shared.axis import Ruler
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "scale.js", "tokens.js")
UNITS = {
    "token": {"nats": "nats per token", "things": "Vocabulary items", "each": "vocabulary items"},
    "span": {"nats": "nats per span", "things": "Spans", "each": "spans of text"},
}
COMPARED = {"fate": "compared", "meaning": "scored by both models"}


def render_contrast(facts: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    facts: summary, blame, left_out and terms (rows by source), documents, documents_of, ledger, meanings, settings,
    versions, device, lineage, paths, reference, num_parameters, least (occurrences of a term).
    """
    summary = facts["summary"]
    unit = UNITS[summary["unit"]]
    merged = "tokens that share a character" if summary["unit"] == "token" else "tokens of the model after"
    data = {"marks": wording.MARKS, "documents": facts["documents"], "unit": "bits per byte", "merged": merged}
    data |= {"run": facts["run"]}
    ledger = accounts.ledger({"summary": {"split": "test"}} | {key: facts[key] for key in ("ledger", "meanings")})
    for row in (row for one in ledger for row in one["fates"] if row["fate"] == "test"):
        row |= COMPARED
    return fill(
        "contrast.html",
        SCRIPTS,
        data,
        title=title,
        clauses=_clauses(summary),
        notes=summary["notes"],
        outline=_outline(facts),
        changes=_changes(facts),
        spans=_spans(summary),
        unit=unit,
        blame=panels.blame({"blame": _blame(facts), "changes": _measured(summary)}),
        told=_told(facts["reference"]),
        left=[{"source": name, "rows": [_left_row(row) for row in rows]} for name, rows in facts["left_out"].items()],
        terms=[_terms(name, rows) for name, rows in facts["terms"].items()],
        least=facts["least"],
        documents=_documents(facts),
        ledger=ledger,
        models=[last_part(name) for name in (summary["before"], summary["after"])],
        settings=accounts.settings(facts),
        versions=facts["versions"],
        device=facts["device"],
        base="",
        paths={"before": [summary["before"]], "after": [summary["after"]]} | facts["paths"],
        lineage=accounts.lineage(facts),
    )


def _clauses(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One per text: the words before the colon are set large."""
    found = []
    for row in summary["texts"].values():
        head, _, detail = wording.typeset(row["sentence"]).partition(": ")
        shown = wording.change(row["change"])
        before, _, rest = detail.partition(shown)
        whole = {"head": f"{head}:", "before": before, "change": shown if shown in detail else "", "rest": rest}
        found.append(whole | {"status": status(row["verdict"])})
    return found


def _outline(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    summary = facts["summary"]
    sizes = [f"{wording.large(number)} parameters" for number in facts["num_parameters"]]
    return [
        ("Before", last_part(summary["before"]), sizes[0]),
        ("After", last_part(summary["after"]), sizes[1]),
        ("Compared by", "tokens and bytes" if summary["unit"] == "token" else "common spans and bytes", ""),
        ("Reference", names_of(facts["paths"].get(facts["reference"], [])) or "none", ""),
    ]


def _measured(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"source": name, "before": row["before"], "after": row["after"]} for name, row in summary["texts"].items()]


def _changes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the table, the reference last, and the axis that their intervals share."""
    texts = facts["summary"]["texts"]
    axis = Ruler.of_changes(texts.values())
    return panels.marked_axis(axis) | {"rows": [_change_row(name, row, facts, axis) for name, row in texts.items()]}


def _change_row(name: str, row: Mapping[str, Any], facts: Mapping[str, Any], axis: Ruler) -> dict[str, Any]:
    shown = {"bits": ("bits_per_byte", 4), "words": ("nats_per_word", 3), "nats": ("nats_per_token", 3)}
    perplexity = row["perplexity"] and [
        "beyond measure" if value is None else wording.number(value) for value in row["perplexity"].values()
    ]
    pairs = {
        key: row[unit] and [f"{value:.{digits}f}" for value in row[unit].values()]
        for key, (unit, digits) in shown.items()
    }
    return {
        **pairs,
        **panels.placed(row, axis),
        "source": f"{name} (reference)" if name == facts["reference"] else name,
        "paths": names_of(facts["paths"][name]),
        "perplexity": perplexity,
        "documents": wording.count(row["documents"]),
        "bytes": wording.count(row["bytes"]),
        "seen": row["seen"] and wording.count(row["seen"]),
    }


def _spans(summary: Mapping[str, Any]) -> str:
    if summary["unit"] == "token":
        return ""
    sizes = [
        f"{name}: {wording.count(row['units'])} spans of {row['tokens']['before'] / row['units']:.2f} tokens before "
        f"and {row['tokens']['after'] / row['units']:.2f} after, on average"
        for name, row in summary["texts"].items()
    ]
    return (
        "The tokenizers differ: the text is cut at the characters where both have a border between tokens, and the "
        f"nats of each model are summed between two cuts. {'; '.join(sizes)}."
    )


def _blame(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: divided(rows) for name, rows in facts["blame"].items()}


def _told(reference: str) -> str:
    if not reference:
        return "Without a reference text nothing is called a domain term."
    return (
        f"A domain term is much more frequent in the text than in the reference ({reference}); "
        "how much, the settings of contrast say (term_ratio)."
    )


def _left_row(row: Mapping[str, Any]) -> dict[str, Any]:
    known = row["change"] is not None
    interval = row["interval"] and " to ".join(wording.change(end) for end in row["interval"])
    return {
        "words": row["left_out"] + (":" if row["items"] else ""),
        "named": [wording.marked(text) for text in row["items"]],
        "count": wording.count(row["count"]),
        "share": ""
        if row["share"] is None
        else wording.percent(row["share"])
        if row["share"] >= 0
        else wording.change(row["share"]),
        "nats": [f"{row[side]:.3f}" for side in ("before", "after")] if known else None,
        "change": wording.change(row["change"]) if known else "",
        "interval": interval or "none",
        "status": status(row["verdict"]),
    }


def _terms(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {
        "learned": [row for row in rows[:ITEMS_SHOWN] if row["mean_change"] < 0],
        "lost": [row for row in rows[::-1][:ITEMS_SHOWN] if row["mean_change"] > 0],
    }
    largest = max((abs(row["blame"]) for side in shown.values() for row in side), default=1.0) or 1.0
    return {
        side: [
            {
                "text": wording.marked(row["text"]),
                "class": row["class"],
                "count": wording.count(row["count"]),
                "mean": wording.signed(row["mean_change"], 3),
                "blame": wording.signed(row["blame"], 5),
                "sort": sort_of(row["blame"]),
                "width": round(100 * abs(row["blame"]) / largest, 2),
            }
            for row in found
        ]
        for side, found in shown.items()
    } | {"source": name, "num_terms": wording.count(len(rows))}


def _documents(facts: Mapping[str, Any]) -> str:
    shown, of = len(facts["documents"]), facts["documents_of"]
    if shown == of:
        return f"All {wording.count(of)} documents are here, those that gained most first."
    return (
        f"{wording.count(shown)} of {wording.count(of)} documents are here, taken in turn from those that gained "
        f"most and those that lost most per span; {wording.count(of - shown)} are scored and not shown."
    )
