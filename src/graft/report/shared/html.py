"""The page itself: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from graft.report.adaptation import accounts, frontier, panels
from graft.report.shared import wording

FOLDERS = sorted(one for one in Path(__file__).parents[1].iterdir() if one.is_dir())  # one per page, and `shared`
SCRIPTS = ("tabs.js", "curves.js", "reading.js", "labels.js", "frontier.js", "scale.js", "tokens.js")
UNIT = {"nats": "nats per token", "things": "Vocabulary items"}
POINTS_DRAWN = 800  # of a curve; more are averaged, which keeps the page small after a long run


def render_page(facts: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    facts: see `graft.report.adaptation.facts.gather_facts`. Numbers and tables are in the markup and are read without
    JavaScript; drawings and documents are made from a block of JSON. A content policy forbids every request and every
    script but this page's own.
    """
    return fill(
        "template.html",
        SCRIPTS,
        drawn(facts),
        title=title,
        clauses=panels.headline(facts),
        outline=panels.outline(facts),
        notes=facts["notes"],
        changes=panels.changes(facts),
        cost=frontier.cost(facts),
        sources=list(facts["summary"]["tokens"]),
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


def fill(template: str, scripts: Sequence[str], data: Any, **words: Any) -> str:
    """A template of this folder as one HTML file, with these scripts, and `data` as the block of JSON they read."""
    script = "\n".join(map(web_file, scripts))
    environment = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        style=web_file("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=embedded_json(data),
        **words,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # file names may hold what UTF-8 cannot say


def web_file(name: str) -> str:
    """A script, style or template by its name, which no two pages share."""
    return next(path for folder in FOLDERS if (path := folder / name).is_file()).read_text(encoding="utf-8")


def drawn(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's scripts draw: curves, documents, and what a budget cost where there was one."""
    curve = facts["curve"]
    return {
        "marks": wording.MARKS,
        "run": facts["run"],
        "curves": {
            "tokens_per_step": curve["tokens_per_step"],
            "rate": thinned(curve["rate"]),
            "sources": {
                name: {
                    "training": thinned(curve["training"].get(name, [])),
                    "validation": finite(curve["validation"].get(name, [])),
                    "spikes": finite(curve["spikes"].get(name, [])),
                }
                for name in facts["summary"]["tokens"]
            },
        },
        "documents": facts["documents"],
        "frontier": frontier.drawn(facts.get("frontier")),
    }


def thinned(points: Sequence[Sequence[float]], most: int = POINTS_DRAWN) -> list[list[float]]:
    """At most `most` points (step, value), each the mean of equally many finite neighbours, to six digits."""
    points = finite(points)
    size = -(-len(points) // most) or 1
    runs = [points[first : first + size] for first in range(0, len(points), size)]
    return [
        [round(sum(step for step, _ in run) / len(run), 1), float(f"{sum(value for _, value in run) / len(run):.6g}")]
        for run in runs
    ]


def finite(points: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """Without the points of a run that diverged, which JSON cannot say and a curve cannot show."""
    return [point for point in points if math.isfinite(point[1])]


def embedded_json(value: Any) -> str:
    """JSON that cannot end, or comment out, the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
