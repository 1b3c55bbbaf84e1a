"""The answer of `graft similarity` on texts that never were: the more alike a text, the less its loss falls."""

from __future__ import annotations

from typing import Any

import numpy as np

from graft.evaluation.similarity.advise import Advise
from graft.evaluation.similarity.measure_similarity import by_name
from graft.evaluation.similarity.query import correlations
from graft.evaluation.similarity.runs import AdaptationRun

NAMES = ("novels", "letters", "law", "chemistry", "medicine", "python", "recipes", "patents", "physics", "sermons")
# By measure: at a text unlike the reference, at one alike, half the interval, whether larger is closer.
ENDS = {
    "mean_cosine": (0.90, 0.995, 0.004, True),
    "mmd": (0.5, 0.0, 0.03, False),
    "frechet": (180.0, 8.0, 9.0, False),
    "ngram_overlap": (0.01, 0.22, 0.02, True),
    "two_sample": (0.0, 0.45, 0.05, True),
    "base_loss": (1.4, -0.3, 0.08, False),
}


def made_likened(texts: int = 5, *, runs: int = 1, parts: bool = False) -> dict[str, Any]:
    """runs: on each text; parts: whether the reference is two paths."""
    draw = np.random.default_rng(4)
    names = [f"{NAMES[k % len(NAMES)]}{k // len(NAMES) or ''}" for k in range(texts)]
    likeness = {name: float(share) for name, share in zip(names, np.linspace(1, 0, texts), strict=True)}
    rows = {name: [_row(measure, share, draw) for measure in ENDS] for name, share in likeness.items()}
    made = [_run(name, share, number, draw) for name, share in likeness.items() for number in range(runs)]
    size = {"documents": 60, "of": 900, "cut": 12, "bytes": 81234, "left_out": 0}
    advise = Advise()
    return {
        "model": "models/small",
        "reference": {
            "paths": ["known/novels", "known/news"] if parts else ["known"],
            **size,
            "parts": [{"part": one, "documents": 30, "error": 0.05} for one in ("novels", "news")] if parts else [],
        },
        "texts": [
            {
                "text": name,
                "path": f"texts/{name}",
                **size,
                "in_reference_too": 3 * (number == 0),
                "artifact": f"likeness-{number:012x}",
                "measures": rows[name],
                "parts": [
                    {"part": one, "measures": {row["measure"]: row["value"] for row in rows[name]}}
                    for one in ("novels", "news")
                ]
                if parts
                else [],
                **advise(by_name(rows[name]), [run for run in made if run.text == name]),
            }
            for number, name in enumerate(names)
        ],
        "runs": [run.told() for run in made],
        "runs_left_out": ["runs/old: it started from another model than --model"] if runs else [],
        "correlations": correlations(rows, made) if runs else [],
        "notes": [f"{names[0]}: 3 of the documents read stand in the reference too"],
        "settings": {
            "ingest": {"text_field": "text"},
            "embed": {"documents": 60, "tokens": 512, "precision": "fp32"},
            "liken": {"draws": 500, "seed": 0},
            "advise": {"told_apart": advise.told_apart, "excess": advise.excess},
        },
    }


def _row(measure: str, likeness: float, draw: np.random.Generator) -> dict[str, Any]:
    unlike, alike, half, larger = ENDS[measure]
    value = unlike + (alike - unlike) * likeness + half * float(draw.normal()) / 2
    interval = [value - 1.1 * half, value + 0.9 * half]
    if measure in ("two_sample", "ngram_overlap"):
        value, interval = max(value, 0.0), [max(end, 0.0) for end in interval]
    found = {"measure": measure, "value": value, "corrected": value - 0.02 * half, "interval": interval, "note": ""}
    return found | {"larger_is_closer": larger}


def _run(text: str, likeness: float, number: int, draw: np.random.Generator) -> AdaptationRun:
    change = 0.02 - 0.16 * (1 - likeness) + 0.02 * float(draw.normal())
    low, high = change - 0.012, change + 0.011
    verdict = "improved" if high < 0 else "worse" if low > 0 else "no change"
    name = f"runs/{text}-{number}"
    return AdaptationRun(name, text, change, (low, high), verdict, 3e-4 / (number + 1), 0.2, f"report-{hash_of(name)}")


def hash_of(name: str) -> str:
    """Twelve digits, as artifacts have."""
    return f"{sum(map(ord, name)):012x}"
