"""present: a comparison of two models, as summary.json for programs and report.html for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.process.precision import described
from graft.core.stats.certainty import check_lost_share, too_much_lost, undecided
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.text.drop_reasons import meanings
from graft.report.comparison.page import render_contrast
from graft.report.shared.wording import marked

SORTS = {"word": "the word", "item": "the item"}
NATS_PER_BIT = float(np.log(2))


@dataclass(frozen=True)
class Present:
    """How the page is made."""

    title: str = "Comparison of two models"
    documents: int = 300  # most that are on the page; the rest is counted
    spans: int = 60_000  # most coloured stretches of all documents together: about 30 bytes of page each
    lost_share: float = 0.05  # of a text that a tokenizer may lose; above it there is no verdict on it

    def __post_init__(self) -> None:
        for name in ("documents", "spans"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", allowed="1 or more")
        check_lost_share(self.lost_share)


@dataclass(frozen=True)
class ComparedText:
    """The artifacts of one comparison, and the words its user gave; of pairs the model before comes first."""

    models: tuple[str, str]
    num_parameters: tuple[int, int]
    paths: Mapping[str, list[str]]
    reference: str
    corpus: Artifact
    tokens: tuple[Artifact, Artifact]
    seen: tuple[Artifact, Artifact]
    contrast: Artifact
    lineage: list[Artifact]
    notes: Sequence[str]


def present(shown: ComparedText, settings: Present = Present(), *, store: Store) -> Artifact:
    """Kind "report": summary.json and report.html, a page that needs nothing but itself."""
    inputs: dict[str, Artifact | str] = {"contrast": shown.contrast, "corpus": shown.corpus}
    inputs |= {f"tokens {side}": one for side, one in zip(("before", "after"), shown.tokens, strict=True)}
    inputs |= {f"evidence {side}": one for side, one in zip(("before", "after"), shown.seen, strict=True)}
    inputs |= {"models": json.dumps(shown.models), "paths": json.dumps(dict(shown.paths))}
    inputs |= {"reference": shown.reference, "notes": "\n".join(shown.notes)}
    return store.make("report", settings, inputs, __name__, lambda draft: _build(draft, shown, settings))


def _build(draft: Draft, shown: ComparedText, settings: Present) -> None:
    summary = summarize(shown, settings.lost_share)
    (draft / "summary.json").write_text(
        json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
    )
    facts = _facts(shown, summary, settings)
    (draft / "report.html").write_text(render_contrast(facts, title=settings.title), encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"], "documents_shown": len(facts["documents"])}


def summarize(shown: ComparedText, lost_share: float = Present.lost_share) -> dict[str, Any]:
    """The outcome in numbers, by text; changes relative, intervals 95 %. Rows: see `token_differences`.

    Where one of the tokenizers loses more than `lost_share` of a text there is no verdict on it. Of models that read
    the same tokens only unknown words count as lost: what else is made alike is so for both.
    """
    texts = json.loads((shown.contrast / "texts.json").read_text(encoding="utf-8"))
    left_out = _by_source(shown, "left_out")
    sort = "unknown" if shown.contrast.facts["shared"] else "all"
    for name, row in texts.items():
        lost = max(one.facts.get("lost_text", {}).get(name, {}).get(sort, 0.0) for one in shown.tokens)
        if lost > lost_share:
            row["verdict"] = too_much_lost(lost)
        row["sentence"] = sentence(f"{name} (reference)" if name == shown.reference else name, row)
        row["without"] = {
            one["left_out"]: {key: one[key] for key in ("change", "interval", "verdict", "share", "count")}
            for one in left_out[name]
        }
    return {
        "verdict": " ".join(row["sentence"] for row in texts.values()),
        "runtime": shown.seen[1].facts.get("runtime", {}),
        "before": shown.models[0],
        "after": shown.models[1],
        "unit": "token" if shown.contrast.facts["shared"] else "span",
        "reference": shown.reference or None,
        "notes": list(dict.fromkeys([*shown.notes, *_notes(shown, texts)])),
        "texts": texts,
    }


ROW_NUMBERS = (
    *("change", "interval.0", "interval.1", "documents", "bytes", "words", "units", "before", "after", "seen"),
    *(f"{key}.{side}" for key in ("tokens", "bits_per_byte") for side in ("before", "after")),
    *(f"{key}.{side}" for key in ("nats_per_word", "nats_per_token", "perplexity") for side in ("before", "after")),
    *(f"left_out.{key}" for key in ("documents", "characters", "marks")),
)


def number_keys(texts: Sequence[str]) -> list[str]:
    """The dotted path of every number that a summary of these texts holds, whatever its words (some may be null)."""
    return [f"texts.{text}.{key}" for text in texts for key in ROW_NUMBERS]


def sentence(name: str, row: Mapping[str, Any]) -> str:
    """The verdict on one text, and who did it: the word or the item that makes up more of it first."""
    head = {
        "improved": f"{name} is predicted better",
        "worse": f"{name} is predicted worse",
        "no change": f"{name} shows no certain change",
    }.get(row["verdict"], undecided(name, row["verdict"]))
    bits = row["bits_per_byte"]
    said = f"{head}: {bits['before']:.4f} → {bits['after']:.4f} bits per byte, {row['change']:+.1%}"
    if row["interval"] is None:
        return f"{said} (one document: no interval)."
    said += f" (95 % interval {row['interval'][0]:+.1%} to {row['interval'][1]:+.1%})"
    cause = row["cause"]
    if not cause:
        return f"{said}."
    named = {key: cause[key] for key in ("word", "item") if cause[key]}
    if len(named) == 2 and cause["word"]["text"] == cause["item"]["text"].strip():
        del named["word"]
    parts = [
        f"{SORTS[key]} {''.join(piece for piece, _ in marked(one['text']))} ({one['class']}) makes {one['share']:.0%}"
        for key, one in sorted(named.items(), key=lambda pair: -pair[1]["share"])
    ]
    return (
        f"{said}. Of this change {', '.join(parts)}, the class {cause['class']['class']} {cause['class']['share']:.0%}."
    )


def _notes(shown: ComparedText, texts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What to know before quoting the outcome."""
    if not shown.contrast.facts["shared"]:
        yield (
            "The tokenizers differ: compared are bytes, and spans of text cut where both have a border; nats per token "
            "and perplexity are left out, since they do not compare."
        )
    for name, row in texts.items():
        if row["documents"] == 1:
            yield f"{name} is one document: there is nothing to draw an interval from, so no verdict is given."
        elif row["documents"] < 10:
            yield f"{name} has {row['documents']} documents: an interval drawn from so few is often too narrow."
        if row["seen"]:
            yield f"{row['seen']} documents of {name} were trained on: this is not what a model makes of new text."
        if any(row["left_out"].values()):
            lost = row["left_out"]
            yield (
                f"Of {name}, {lost['documents']} documents, {lost['characters']} characters and {lost['marks']} end "
                "marks were scored by one of the models alone, and are left out."
            )
    for one in (*shown.tokens, *shown.seen):
        yield from one.facts.get("notes", ())


def _by_source(shown: ComparedText, probe: str) -> dict[str, list[dict[str, Any]]]:
    rows = json.loads((shown.contrast / f"{probe}.json").read_text(encoding="utf-8"))
    return {name: [row for row in rows if row["source"] == name] for name in shown.contrast.facts["sources"]}


def _facts(shown: ComparedText, summary: dict[str, Any], settings: Present) -> dict[str, Any]:
    """See `graft.report.comparison.page.render_contrast`."""
    manifest = shown.contrast.manifest
    return {
        "summary": summary,
        "run": shown.contrast.name,
        **{probe: _by_source(shown, probe) for probe in ("blame", "left_out", "terms")},
        "documents": documents(shown, settings),
        "documents_of": sum(row["documents"] for row in summary["texts"].values()),
        "ledger": [
            {"source": source, "fate": fate} | vars(amount) for source, fate, amount in shown.tokens[0].ledger.rows()
        ],
        "meanings": meanings(one.facts for one in shown.lineage),
        "settings": {one.kind: one.manifest["settings"] for one in shown.lineage},
        "least": manifest["settings"]["least"],
        "versions": manifest["versions"],
        "device": described(shown.seen[1].manifest),
        "lineage": [
            {key: one.manifest[key] for key in ("inputs", "started", "seconds")} | {"name": one.name}
            for one in shown.lineage
        ],
        "paths": {name: list(paths) for name, paths in shown.paths.items()},
        "reference": shown.reference,
        "num_parameters": list(shown.num_parameters),
    }


def documents(shown: ComparedText, settings: Present) -> list[dict[str, Any]]:
    """Documents with "tokens" as rows (text, nats before, nats after, number of tokens after; 0: an end mark).

    All of them where there is room; else sources in turn, and of each in turn the one that gained most and the one
    that lost most per span of what is left. In the order of the sources, those that gained most first.
    """
    tables = {name: pq.read_table(shown.contrast / f"{name}.parquet") for name in shown.contrast.facts["sources"]}
    orders = {name: _from_both_ends(_changes(table)) for name, table in tables.items()}
    turns = chain.from_iterable(zip_longest(*([(name, row) for row in order] for name, order in orders.items())))
    room, chosen = settings.spans, []
    for name, row in filter(None, turns):
        size = len(tables[name]["begin"][row])
        if len(chosen) == settings.documents or (chosen and size > room):
            break
        chosen.append((name, row, min(size, room)))
        room -= size
    found = []
    for name, table in tables.items():
        picked = [(table.slice(row, 1).to_pylist()[0], size) for one, row, size in chosen if one == name]
        origins = _origins(shown, name, [row["position"] for row, _ in picked])
        found += [_document(name, row, origins[row["position"]], size) for row, size in picked]
    return sorted(found, key=lambda one: (list(tables).index(one["source"]), one["change"]))


def _changes(table: Any) -> np.ndarray:
    """Mean change per span of every document."""
    length_D = table["before"].combine_chunks().value_lengths().to_numpy()
    ends_D = np.cumsum(length_D)
    sums = []
    for side in ("before", "after"):
        running = np.append(0.0, np.cumsum(table[side].combine_chunks().flatten().to_numpy(), dtype=np.float64))
        sums.append(running[ends_D] - running[ends_D - length_D])
    return (sums[1] - sums[0]) / np.maximum(length_D, 1)


def _from_both_ends(change_D: np.ndarray) -> list[int]:
    order = np.argsort(change_D, kind="stable").tolist()
    half = -(-len(order) // 2)
    return [row for pair in zip_longest(order[:half], order[half:][::-1]) for row in pair if row is not None]


def _origins(shown: ComparedText, name: str, positions: list[int]) -> dict[int, dict[str, Any]]:
    """text, parents and notes of these documents of a source, by position."""
    columns = ["position", "text", "parents", "notes"]
    table = pq.read_table(shown.corpus / f"{name}.parquet", columns=columns, filters=[("position", "in", positions)])
    return {row["position"]: row for row in table.to_pylist()}


def _document(name: str, row: Mapping[str, Any], origin: Mapping[str, Any], size: int) -> dict[str, Any]:
    text = origin["text"]
    num_bytes = sum(
        len(text[a:b].encode("utf-8", "surrogatepass")) for a, b in zip(row["begin"], row["end"], strict=True)
    )
    bits = [sum(row[side]) / NATS_PER_BIT / max(1, num_bytes) for side in ("before", "after")]
    seen = " (trained on)" if json.loads(origin["notes"]).get("seen") else ""
    columns = ("begin", "end", "before", "after", "tokens_after")
    return {
        "source": name,
        "position": row["position"],
        "parents": origin["parents"],
        "length": sum(row["tokens_after"]),
        "before": bits[0],
        "after": bits[1],
        "change": bits[1] - bits[0],
        "label": f"{row['position']}, {bits[1] - bits[0]:+.3f} bits per byte{seen}",
        "tokens": [
            [text[a:b], round(old, 3), round(new, 3), count if b > a else 0]
            for a, b, old, new, count in list(zip(*(row[key] for key in columns), strict=True))[:size]
        ],
    }
