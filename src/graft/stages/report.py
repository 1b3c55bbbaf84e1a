"""report: what an adaptation gained and cost, as summary.json for programs and report.html for people."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from graft.core.artifact import Artifact, Draft, Store
from graft.page import accounts, facts, panels, render, spelling, wording
from graft.page.facts import Materials, gather_facts
from graft.page.render import render_page


@dataclass(frozen=True)
class Report:
    """How the report is made."""

    title: str = "Adaptation report"


def report(materials: Materials, settings: Report = Report(), *, store: Store) -> Artifact:
    """Kind "report": summary.json and report.html, a page that needs nothing but itself."""
    inputs: dict[str, Artifact | str] = {
        name: getattr(materials, name) for name in ("corpus", "tokens", "trained", "before", "after", "findings")
    }
    inputs |= {"base": materials.base, "paths": json.dumps(dict(materials.paths)), "notes": "\n".join(materials.notes)}
    inputs["page"] = render.page_hash()
    code = (sys.modules[__name__], accounts, facts, panels, render, spelling, wording)
    return store.make("report", settings, inputs, code, lambda draft: _build(draft, materials, settings))


def _build(draft: Draft, materials: Materials, settings: Report) -> None:
    summary = summarize(materials)
    (draft / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False))
    page = render_page(gather_facts(materials, summary), title=settings.title)
    (draft / "report.html").write_text(page, encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"]}


def summarize(materials: Materials) -> dict[str, Any]:
    """The outcome in numbers: losses in nats per token on the test split, changes relative, intervals 95 %.

    ratio: share of the trained tokens that were domain text. tokens: trained on, per source (0: only measured).
    """
    trained = materials.trained
    changes = {row["source"]: row for row in json.loads((materials.findings / "forgetting.json").read_text())}
    summary: dict[str, Any] = {
        "verdict": sentence(changes),
        "outcome": changes["domain"]["verdict"],
        "base": materials.base,
        "seed": trained.manifest["settings"]["seed"],
        "objective": trained.manifest["settings"]["objective"],
        "tokens": {name: trained.facts["tokens"].get(name, 0) for name in changes},
        "ratio": trained.facts["ratio"],
        "steps": trained.facts["shape"]["steps"],
        "rate": trained.facts["shape"]["rate"],
        "notes": materials.notes,
    }
    keys = ("before", "after", "change", "interval", "bits_per_byte", "perplexity", "documents", "verdict")
    for name, row in changes.items():
        summary[name] = {key: row[key] for key in keys} | {"tokens_scored": row["tokens"]}
        summary[name]["overlap"] = residual_overlap(materials.corpus, name)
    return summary


def residual_overlap(corpus: Artifact, source: str) -> float | None:
    """Share of the word n-grams of a source's test text that training text holds too; None where no step looked."""
    return corpus.facts.get("notes", {}).get("overlap", {}).get(source, {}).get("test", {}).get("mean")


def sentence(changes: dict[str, dict[str, Any]]) -> str:
    """The verdict in one sentence: what the domain gained, and what the general text paid."""
    domain, general = changes["domain"], changes["general"]
    gained = {
        "improved": f"The model improved on the domain: {_change(domain)}",
        "worse": f"The model became worse on the domain: {_change(domain)}",
    }.get(domain["verdict"], f"The domain shows no certain change: {_change(domain)}")
    paid = {
        "worse": f"it paid with general text: {_change(general)}",
        "improved": f"general text improved too: {_change(general)}",
    }.get(general["verdict"], f"general text shows no certain change: {_change(general)}")
    return f"{gained}; {paid}."


def _change(row: dict[str, Any]) -> str:
    words = f"loss {row['before']:.3f} → {row['after']:.3f} nats per token, {row['change']:+.1%}"
    if row["interval"] is None:
        return words + " (one document: no interval)"
    low, high = row["interval"]
    return words + f" (95 % interval {low:+.1%} to {high:+.1%})"
