"""Facts of a page on several runs, and a comparison of two models on 10 MB of text, both made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.ledger import Amount
from graft.core.text import documents as doc
from graft.evaluation.compare.token_differences import Contrast
from graft.report.comparison.stage import ComparedText, Present, present
from graft.report.overview.pareto import fronts

WORD = "abcdefgh "


def runs_facts(number: int = 6, *, hostile: str = "") -> dict[str, Any]:
    """Runs whose gains and losses lie on a curve but for the third, which another beats; pairs with the first."""
    runs = [_run(f"run {n}{hostile}" if hostile else f"run_{n}", n, number) for n in range(number)]
    pairs = [
        {"source": source, "one": runs[0]["label"], "other": run["label"], "documents": 40, "bits": [2.0, 1.9],
         "change": 0.25, "interval": (0.0, 1.0), "verdict": "no change"}
        for source in ("domain", "general") for run in runs[1:]
    ]  # fmt: skip
    found = [vars(one) | {"documents": dict(one.documents)} for one in fronts(runs)]
    summary = {"verdict": "Of six runs one gained most; three are on the frontier.", "notes": [hostile or "A note."]}
    return {
        "summary": summary | {"fronts": found, "pairs": pairs, "runs": {}, "others": []},
        "runs": runs,
        "tables": [
            {"label": "texts", "said": hostile or "One is better.", "caption": "Two models",
             "head": {"text": "word", "change": "change", "verdict": "verdict"},
             "rows": [["law", -0.1, "improved"], [hostile or "sea", None, "no change"]]}
        ],
        "named": {run["label"]: f"runs/{run['label']}" for run in runs} | {"texts": "compared"},
        "links": {runs[0]["label"]: "../runs/0/report.html"},
        "allowed": 0.02,
        "joined": False,
        "lineage": [
            {"name": f"docs-{0:012x}", "inputs": {"path 0": hostile or "law"}, "started": "2026-01-01T00:00:00Z",
             "seconds": 1.0, "used_by": [run["label"] for run in runs]},
            *({"name": run["artifact"], "inputs": {"docs": f"docs-{0:012x}"}, "started": "2026-01-01T00:00:01Z",
               "seconds": 2.0, "used_by": [run["label"]]} for run in runs),
        ],
    }  # fmt: skip


def _run(label: str, n: int, number: int) -> dict[str, Any]:
    share = (n + 1) / number
    gain, loss = 0.3 * share + (-0.15 if n == 2 else 0.0), 0.06 * share**2 + (0.01 if n == 2 else 0.0)
    text = {"docs": "d", "documents": 40}
    steps = [[500 * k, 5.0 - gain * k / 4] for k in range(5)]
    return {
        "label": label, "artifact": f"report-{n + 1:012x}", "base": "models/small", "base_key": "b",
        "sentence": "It improved", "outcome": "improved",
        "domain": {"change": -gain, "interval": [-gain - 0.02, -gain + 0.02], "verdict": "improved",
                   "bits": [2.0, 2.0 - gain], "documents": 40},
        "general": {"change": loss, "interval": [loss - 0.003, loss + 0.003], "verdict": "worse",
                    "bits": [1.0, 1.0 + loss], "documents": 40},
        "texts": {"domain": text | {"key": "k"}, "general": text | {"key": "l"}},
        "settings": {"base": "small", "objective": "causal", "tokens": f"{1000 * (n + 1):,}", "seed": str(n)},
        "seconds": 12.0 * (number - n), "speed": 1000.0, "budget": None,
        "curve": {"domain": {"training": [[100 * k, 5.0 - gain * k / 20] for k in range(20)], "validation": steps},
                  "general": {"training": [], "validation": [[at, 4.0 + loss * at / 2000] for at, _ in steps]}},
        "blame": {"domain": {"newline": -gain / 2, "other": -gain / 2}, "general": {"digit": loss}},
        "numbers": {}, "notes": [],
    }  # fmt: skip


def ten_megabytes(root: Path) -> Artifact:
    """The report of a comparison on 5,000 documents of 2,000 bytes, each in 500 spans, with 8,000 vocabulary items."""
    store, draw = Store(root), np.random.default_rng(0)
    documents, spans = 5000, 500
    text = (WORD * 250)[:2000]
    corpus = store.make("corpus", {}, {}, (), lambda draft: _write_corpus(draft, text, documents))
    seen = [store.make("evidence", {}, {"side": side}, (), lambda draft: None) for side in ("before", "after")]
    tokens = store.make("tokens", {}, {}, (), lambda draft: _settle(draft, documents))
    ends = np.arange(4, 2001, 4)
    columns: dict[str, Any] = {
        "begin": pa.array([ends - 4] * documents, pa.list_(pa.int32())),
        "end": pa.array([ends] * documents, pa.list_(pa.int32())),
        "position": pa.array(range(documents)),
    }
    for name in ("before", "after"):
        columns[name] = pa.array(
            list(draw.exponential(2, (documents, spans)).astype("float32")), pa.list_(pa.float32())
        )
        columns[f"tokens_{name}"] = pa.array([np.ones(spans, np.int32)] * documents, pa.list_(pa.int32()))
    found = store.make(
        "contrast", Contrast(), {}, (), lambda draft: _write_contrast(draft, pa.table(columns), documents, spans)
    )
    line = [corpus, tokens, *seen, found]
    shown = ComparedText(
        ("models/one", "models/two"), (1_000_000, 2_000_000), {"law": ["texts/law"]}, "", corpus, (tokens, tokens),
        (seen[0], seen[1]), found, line, [],
    )  # fmt: skip
    return present(shown, Present(), store=store)


def _write_corpus(draft: Draft, text: str, documents: int) -> None:
    row = {"id": "x", "text": text, "source": "law", "notes": "{}", "dropped": ""}
    rows = [row | {"position": n, "parents": [f"law.jsonl#{n}"]} for n in range(documents)]
    names = [name for name in doc.SCHEMA.names if name in rows[0]]
    pq.write_table(pa.Table.from_pylist(rows).select(names), draft / "law.parquet")


def _settle(draft: Draft, documents: int) -> None:
    draft.ledger.enter("law", Amount(documents, 2000 * documents, 500 * documents))
    draft.ledger.settle("law", "test", Amount(documents, 2000 * documents, 500 * documents))


def _write_contrast(draft: Draft, table: pa.Table, documents: int, spans: int) -> None:
    pq.write_table(table, draft / "law.parquet")
    items = [
        {"source": "law", "token": n, "text": f" word{n}", "class": "other", "count": 300, "mean_change": 0.01,
         "blame": (4000.5 - n) * 1e-6}
        for n in range(8000)
    ]  # fmt: skip
    terms = [row | {"mean_change": row["blame"]} for row in items]
    sides = {"before": 2.0, "after": 2.0}
    left = {"source": "law", "left_out": "other", "items": [], "count": 9, "share": 0.5, "change": 0.1}
    left |= {"interval": [0, 1], "verdict": "worse", **sides}
    numbers = {
        "verdict": "worse", "change": 0.001, "interval": [0.0005, 0.0015], "documents": documents,
        "bytes": 2000 * documents,
        "words": 1000, "unit": "token", "units": spans * documents, **sides, "tokens": sides, "bits_per_byte": sides,
        "nats_per_word": None, "nats_per_token": sides, "perplexity": sides, "seen": 0, "cause": None,
        "left_out": {"documents": 0, "characters": 0, "marks": 0},
    }  # fmt: skip
    for name, rows in (("blame", items), ("terms", terms), ("left_out", [left]), ("texts", {"law": numbers})):
        (draft / f"{name}.json").write_text(json.dumps(rows))
    draft.facts |= {"sources": ["law"], "shared": True}
