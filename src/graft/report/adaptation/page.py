"""The page of one adaptation: facts in, one HTML file out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.report.adaptation import accounts, frontier, panels
from graft.report.shared import curves, wording
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "scale.js", "tokens.js")
UNIT = {"nats": "nats per token", "things": "Vocabulary items"}


def render_page(facts: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    facts: see `graft.report.adaptation.facts.gather_facts`. Numbers and tables are in the markup and are read without
    JavaScript; drawings and documents are made from a block of JSON. A content policy forbids every request and every
    script but this page's own.
    """
    sources = curves.curves(facts)
    drawings = [*frontier.drawn(facts.get("frontier")), *map(curves.chart, filter(curves.drawable, sources))]
    return fill(
        "template.html",
        SCRIPTS,
        {"marks": wording.MARKS, "run": facts["run"], "documents": facts["documents"], "charts": drawings},
        title=title,
        clauses=panels.headline(facts),
        outline=panels.outline(facts),
        notes=facts["notes"],
        changes=panels.changes(facts),
        cost=frontier.cost(facts),
        curves=sources,
        run=facts["run"],
        spikes=accounts.spikes(facts),
        blame=panels.blame(facts),
        unit=UNIT,
        num_documents=len(facts["documents"]),
        ledger=accounts.ledger(facts),
        use=accounts.use(facts),
        settings=accounts.settings(facts),
        versions=facts["versions"],
        device=facts["device"],
        base=facts["base"],
        paths=facts["paths"],
        lineage=accounts.lineage(facts),
    )
