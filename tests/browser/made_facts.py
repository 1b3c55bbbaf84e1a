"""Facts of a report, made by hand: small enough to check every number by eye."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<!--<script>",
    "<img src=x onerror='window.broken = 2'>",
    "]]></style>{{ 7 * 7 }}",
    "\u2028\u202egnp.exe",
)

DOCUMENT = [
    ["§", 9.0, 1.0, 1],
    [" the", 2.0, 2.0, 1],
    [" cat", 4.0, 5.5, 1],
    ["\n", 3.0, 0.5, 1],
    ["    ", 1.0, 1.25, 1],
    ["日", 8.0, 7.0, 3],
    ["<|end|>", 2.0, 1.5, 0],
]


def small_facts() -> dict[str, Any]:
    """Domain improved, general worse; classes, items, documents, ledger and lineage of a few rows each."""
    changes = [
        change_row("domain", 5.0, 4.0, [-0.25, -0.15], documents=8, tokens=1000),
        change_row("general", 4.0, 4.1, [0.01, 0.04], documents=3, tokens=2000),
    ]
    return {
        "summary": {
            "verdict": "Domain loss fell 20.0%, so the model reads the domain better: 5.000 → 4.000 nats per token,"
            " 95 % interval -25.0% to -15.0%; general loss rose 2.5%, so the model reads general text worse: 4.000 →"
            " 4.100 nats per token, 95 % interval +1.0% to +4.0%.",
            "outcome": "improved",
            "base": "models/small",
            "seed": 3,
            "split": "test",
            "objective": {"stay_close": {"kl_weight": 0.1}},
            "tokens": {"domain": 9000, "general": 1000},
            "steps": 20,
            "rate": 0.0005,
            "domain": {"overlap": 0.025},
            "general": {"overlap": None},
        },
        "notes": [],
        "base": "models/small",
        "paths": {"domain": ["texts/law"], "general": ["embedded:prose"]},
        "training": {
            "mixture": {"domain": 0.9, "general": 0.1},
            "shape": {"window": 125, "rows": 4, "steps": 20, "rate": 0.0005},
            "tokens": {"domain": 9000, "general": 1000},
            "passes": {"domain": 1.5, "general": 0.05},
            "available": {"domain": 6000, "general": 20000},
            "tokens_per_second": 1234.5,
            "peak_memory_bytes": 2_500_000_000,
            "training_seconds": 83.2,
            "num_parameters": 3_344_064,
        },
        "run": "train-0123456789ab",
        "curve": {
            "tokens_per_step": 500,
            "training": {
                "domain": [[step, 5 - step / 20] for step in range(1, 21)],
                "general": [[step, 4 + (step % 3) / 10] for step in range(2, 21, 2)],
            },
            "spikes": {"domain": [[7, 4.65, 4.2]], "general": []},
            "rate": [[step, 0.0005 * min(1, step / 4)] for step in range(1, 21)],
            "validation": {"domain": [[0, 5.1], [10, 4.5], [20, 4.08]], "general": [[0, 4.0], [10, 4.2], [20, 4.1]]},
        },
        "changes": changes,
        "blame": {"domain": blame_of("domain", -1.0), "general": blame_of("general", 0.1)},
        "documents": [
            document("domain", "gained most", DOCUMENT),
            document("domain", "in the middle", [["x", 1.0, 1.0, 1]] * 30, length=45),
            document("general", "lost most", [["y", 1.0, 2.0, 1], ["\r\n", 1.0, 1.0, 1], [" z", 0.5, 3.5, 1]]),
        ],
        "scored": {
            "domain": {"documents": 8, "tokens": 1000, "documents_of_split": 16, "tokens_of_split": 2100},
            "general": {"documents": 3, "tokens": 2000, "documents_of_split": 3, "tokens_of_split": 2000},
        },
        "ledger": [
            fate("domain", "read", 100, 30000, 8000),
            fate("domain", "train", 80, 24000, 6000),
            fate("domain", "test", 16, 5000, 2000),
            fate("domain", "dropped: empty", 4, 1000, 0),
            fate("general", "read", 30, 90000, 22000),
            fate("general", "train", 27, 80000, 20000),
            fate("general", "test", 3, 10000, 2000),
        ],
        "meanings": {"dropped: empty": "left out: no text in it"},
        "settings": {"train": {"schedule": {"warm_stable_decay": {"warmup": 0.05}}, "window": None}, "corpus": {}},
        "versions": {"python": "3.11.7", "torch": "2.9"},
        "device": "x86_64, 2 cores",
        "lineage": [
            made("docs-aa", {"source": "domain", "path 0": "0123456789abcdef01234567 89abcdef0123456789abcdef"}),
            made("evidence-bb", {"documents": "docs-aa"}),
            made("findings-cc", {"before": "evidence-bb", "after": "evidence-bb"}),
        ],
    }


def hostile_facts() -> dict[str, Any]:
    """The same with text in every place a user's text can come from that tries to be markup or script."""
    facts = small_facts()
    facts["notes"] = list(HOSTILE)
    facts["base"] = facts["paths"]["domain"][0] = HOSTILE[0]
    facts["device"] = facts["summary"]["objective"] = HOSTILE[2]
    facts["settings"] = {HOSTILE[0]: {HOSTILE[1]: HOSTILE[2]}}
    facts["lineage"][0]["inputs"][HOSTILE[2]] = HOSTILE[0]
    facts["ledger"][3]["fate"] = "dropped: " + HOSTILE[2]
    facts["meanings"]["dropped: " + HOSTILE[2]] = HOSTILE[0]
    facts["documents"][0]["parents"] = [*HOSTILE, "\udcff.txt#1"]
    facts["documents"][0]["tokens"] = [[text, 2.0, 1.0, 1] for text in HOSTILE]
    for row, text in zip(facts["blame"]["domain"]["gained"], HOSTILE, strict=False):
        row["text"] = text
    return facts


def one_document_facts() -> dict[str, Any]:
    """A domain of one document, which has no interval."""
    facts = small_facts()
    facts["changes"][0] |= {"interval": None, "documents": 1, "verdict": "no interval (one document)"}
    facts["scored"]["domain"] |= {"documents": 1, "documents_of_split": 1}
    facts["summary"] |= {
        "verdict": "The domain was measured on one document, so how certain its change is remains unknown: loss 5.000"
        " → 4.000 nats per token, -20.0%; general loss rose 2.5%, so the model reads general text worse: 4.000 → 4.100"
        " nats per token, 95 % interval +1.0% to +4.0%.",
        "outcome": "no interval (one document)",
    }
    return facts


def change_row(
    source: str, before: float, after: float, interval: list[float], *, documents: int, tokens: int
) -> dict[str, Any]:
    return {
        "source": source,
        "documents": documents,
        "tokens": tokens,
        "before": before,
        "after": after,
        "change": after / before - 1,
        "interval": interval,
        "bits_per_byte": {"before": before / 3, "after": after / 3},
        "perplexity": {"before": math.exp(before), "after": math.exp(after)},
        "verdict": "improved" if after < before else "worse",
    }


def blame_of(source: str, total: float) -> dict[str, Any]:
    """Two classes and 20 items on the side that moved most, one on the other; the classes sum to `total`."""
    much, little = ("gained", "lost") if total < 0 else ("lost", "gained")
    texts = ["\n    ", " the", "\t", "�", "", *(f" word{n}" for n in range(15))]
    share = 1.2 * total / len(texts)
    lists = {much: [item(text, share, 10) for text in texts], little: [item(" cat", -0.2 * total, 40)]}
    classes = [
        {"source": source, "class": "newline", "count": 240, "mean_change": 5 * total, "blame": 1.2 * total},
        {"source": source, "class": "other", "count": 760, "mean_change": -0.3 * total, "blame": -0.2 * total},
    ]
    return lists | {"classes": classes, "items": 50, "total": total}


def item(text: str, blame: float, count: int) -> dict[str, Any]:
    return {"text": text, "class": "other", "count": count, "mean_change": blame * 1000 / count, "blame": blame}


def document(source: str, why: str, tokens: list[list[Any]], *, length: int | None = None) -> dict[str, Any]:
    return {
        "why": why,
        "source": source,
        "position": 1,
        "parents": ["law.jsonl#2"],
        "length": length or sum(max(1, row[3]) for row in tokens),
        "before": 3.0,
        "after": 2.5,
        "tokens": tokens,
    }


def fate(source: str, name: str, documents: int, num_bytes: int, tokens: int) -> dict[str, Any]:
    return {"source": source, "fate": name, "documents": documents, "bytes": num_bytes, "tokens": tokens}


def made(name: str, inputs: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "inputs": inputs, "started": "2026-01-02T03:04:05Z", "seconds": 1.5}


RATIO_LAW = {
    0.33: (4.08, 4.01),
    0.5: (3.93, 4.08),
    0.67: (3.83, 4.15),
    0.8: (3.77, 4.25),
    0.9: (3.72, 4.36),
    1.0: (3.67, 5.13),
}
PILOTS = {
    1.0: [(5.344, 4.070), (5.148, 4.090), (4.983, 4.124), (4.803, 4.197)],
    0.67: [(5.424, 4.069), (5.241, 4.089), (5.035, 4.101), (4.884, 4.104)],
    0.33: [(5.440, 4.063), (5.298, 4.069), (5.166, 4.071), (5.045, 4.074)],
}
PLACES = {1.0: (3.767, 4.210), 0.86: (3.830, 4.146), 0.8: (3.880, 4.122)}


def budget_facts(*, law_steps: int = 0) -> dict[str, Any]:
    """A run inside a budget of 2 %: three pilots, a law, a result beyond the budget, and a place on the line taken.

    law_steps: so many ratios of the law, evenly spread, between those that are known; 0: the six alone.
    """
    known = sorted(RATIO_LAW)
    ratios = [n / law_steps for n in range(1, law_steps + 1)] if law_steps else known
    law = [law_point(ratio) for ratio in ratios]
    base = {"domain": 5.830, "general": 4.053}
    looks = [6144, 10240, 16384, 24576]
    frontier = {
        "budget": 0.02,
        "base": base,
        "pilots": [
            {
                "objective": "causal",
                "ratio": ratio,
                "points": [
                    {"tokens": 0.0} | base,
                    *({"tokens": n, "domain": d, "general": g} for n, (d, g) in zip(looks, points, strict=True)),
                ],
            }
            for ratio, points in PILOTS.items()
        ],
        "law": law,
        "choice": law_point(0.8) | {"objective": "causal"},
        "line": [place(share, *losses, base) for share, losses in PLACES.items()],
        "taken": 0.8,
    }
    facts = small_facts() | {"frontier": frontier}
    facts["summary"]["verdict"] = (
        "Domain loss -33.4%, general loss +1.68% where 2 % are allowed: inside the budget, 80% of the way from the base"
        " to the trained model."
    )
    facts["summary"]["budget"] = {
        "forget": 0.02,
        "kept": True,
        "share": 0.8,
        "looks": 1,
        "ratio": 0.8,
        "objective": {"causal": {}},
        "tokens": 400_000,
        "predicted": {source: frontier["choice"][source] for source in base},
        "result": {"domain": 3.767, "general": 4.210},
        "expected_gain": 0.33,
        "pilots": {"runs": 3, "tokens": 73_728, "of_final": 0.18432},
        "advice": "",
    }
    return facts


def law_point(ratio: float) -> dict[str, Any]:
    """Straight between the known ratios; intervals of 2 % to either side of the domain loss, 1 % of the general one."""
    known = sorted(RATIO_LAW)
    domain, general = (
        float(np.interp(ratio, known, [RATIO_LAW[one][side] for one in known])) for side in (0, 1)
    )  # fmt: skip
    return {
        "ratio": ratio,
        "tokens": 400_000,
        "domain": [domain, 0.98 * domain, 1.02 * domain],
        "general": [general, 0.99 * general, 1.01 * general],
    }


def place(share: float, domain: float, general: float, base: dict[str, float]) -> dict[str, float]:
    """A place on the line, its bound a little above what was measured."""
    change = {"domain": domain / base["domain"] - 1, "general": general / base["general"] - 1}
    return {
        "share": share,
        "domain": domain,
        "general": general,
        **{f"{source}_change": change[source] for source in change},
        **{f"{source}_bound": change[source] + 0.002 for source in change},
    }
