"""outcome: what came of one training, read off its artifacts or, where these are gone, off its summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Artifact, digest
from graft.core.store.related import beside, near
from graft.evaluation.probes.blame import by_class
from graft.evaluation.probes.forgetting import Forgetting, verdict
from graft.models.runtime.settle_precision import precision_of
from graft.report.adaptation.facts import read_curve
from graft.report.adaptation.panels import last_part, mixture, plugin
from graft.report.overview.resolve_inputs import SUMMARY
from graft.report.shared.curves import finite, thinned
from graft.report.shared.wording import count, percent, scientific

SOURCES = ("domain", "general")
POINTS = 160  # of a training curve: many are drawn over each other
STAGES = ("corpus", "tokens", "train", "evidence", "choice", "walked")  # whose settings are compared, in this order
SAID = (
    "train.objective",
    "train.tuning",
    "train.schedule",
    "train.tokens",
    "train.learning_rate",
    "train.seed",
    "train.batch_size",
    "train.sequence_length",
)


def blank(label: str) -> dict[str, Any]:
    """A run of which nothing is known yet.

    domain, general: {change, interval, verdict, bits} of its test text, None where it was not measured; texts: by
    source {key, docs, documents}, runs with the same key being scored on the same documents, those with the same docs
    on documents of the same text; settings: names and values as words, "" where one is not known; curve: by source
    points (tokens, nats per token); blame: by source and class.
    """
    return {
        "label": label, "artifact": "", "base": "", "base_key": "", "sentence": "", "outcome": "",
        "domain": None, "general": None, "texts": {}, "settings": {}, "seconds": None, "speed": None, "budget": None,
        "curve": {}, "blame": {}, "numbers": {}, "notes": [],
    }  # fmt: skip


def of_summary(label: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What summary.json alone says of an adaptation or a vocabulary extension."""
    run = blank(label)
    run |= {key: str(summary.get(key, "")) for key in ("base", "outcome")}
    run["sentence"] = str(summary.get("verdict", "")).rstrip(".")
    run["budget"] = (summary.get("budget") or {}).get("forget")
    run["numbers"] = {
        key: summary[key] for key in ("tokens", "ratio", "steps", "rate", "seed", "budget") if key in summary
    }
    for source in SOURCES:
        if isinstance(summary.get(source), dict):
            run[source] = _row(summary[source])
            run["numbers"][source] = {key: value for key, value in summary[source].items() if key != "fertility"}
    run["outcome"] = run["outcome"] or (run["domain"] or {}).get("verdict", "")
    run["notes"] = [str(note) for note in summary.get("notes") or ()]
    run["settings"] = _said(summary)
    return run


def _row(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A source's change, None where it is no number. bits: per byte, of the first and the last model."""
    if row.get("change") is None:
        return None
    bits = list((row.get("bits_per_byte") or {}).values())
    interval = row.get("interval")
    return {
        "change": row["change"],
        "interval": interval and list(interval),
        "verdict": row.get("verdict") or verdict(interval and (interval[0], interval[1])),
        "bits": [bits[0], bits[-1]] if bits else None,
        "documents": row.get("documents"),
    }


def _said(summary: Mapping[str, Any]) -> dict[str, str]:
    tokens = summary.get("tokens") or {}
    ratio = summary.get("ratio")
    if ratio is None and sum(tokens.values()):
        ratio = tokens.get("domain", 0) / sum(tokens.values())
    budget = summary.get("budget") or {}
    return {
        "base": last_part(str(summary.get("base", ""))),
        "objective": plugin(summary["objective"]) if "objective" in summary else "",
        "tuning": plugin(summary["tuning"]) if "tuning" in summary else "",
        "share of domain text": "" if ratio is None else percent(ratio),
        "tokens": count(sum(tokens.values())) if tokens else "",
        "peak rate": scientific(summary["rate"]) if summary.get("rate") else "",
        "seed": str(summary.get("seed", "")),
        "new tokens": count(summary["tokens_added"]) if "tokens_added" in summary else "none",
        "budget": percent(budget["forget"]) if budget else "none",
        "way from base to result": percent(budget["share"], 0) if budget else "all of it",
    }


def of_report(label: str, report: Artifact) -> dict[str, Any]:
    """An adaptation, with or without a budget, by its report."""
    summary = json.loads((report / SUMMARY).read_text(encoding="utf-8"))
    run: dict[str, Any] = of_summary(label, summary) | {"artifact": report.name}
    _add_evidence(run, near(report, "before"), near(report, "after"))
    _add_training(run, near(report, "trained"))
    _add_blame(run, near(report, "findings"))
    walked = [near(report, role) for role in report.manifest["inputs"] if role.startswith("walk ")]
    stages = [near(report, role) for role in ("corpus", "tokens", "trained", "after", "choice")]
    _add_settings(run, [*stages, *walked[-1:]])
    paths = json.loads(report.manifest["inputs"].get("paths", "{}"))
    run["settings"] |= {f"{name} text": ", ".join(map(last_part, where)) for name, where in paths.items()}
    return run


def of_extension(label: str, comparison: Artifact) -> dict[str, Any]:
    """A vocabulary extension, by its comparison; its changes are of bits per byte."""
    summary = json.loads((comparison / SUMMARY).read_text(encoding="utf-8"))
    run = of_summary(label, summary) | {"artifact": comparison.name}
    _add_evidence(run, near(comparison, "seen base"), near(comparison, "seen trained"))
    _add_training(run, near(comparison, "trained"))
    _add_settings(run, [near(comparison, role) for role in ("corpus", "trained", "seen trained")])
    return run


def of_findings(label: str, findings: Artifact) -> dict[str, Any]:
    """A comparison of before and after that no report was made of."""
    before, after = near(findings, "before"), near(findings, "after")
    trained = after and maker_of(after)
    run = blank(label) | {"artifact": findings.name, "numbers": _trained_by(trained)}
    path = findings / "forgetting.json"
    _add_changes(run, json.loads(path.read_text(encoding="utf-8")) if path.exists() else [])
    _add_evidence(run, before, after)
    _add_training(run, trained)
    _add_blame(run, findings)
    _add_settings(run, [trained, after])
    return run


def of_pair(label: str, trained: Artifact, before: Artifact, after: Artifact) -> dict[str, Any]:
    """A training whose evidence is there, and that nobody examined."""
    run = of_training(label, trained)
    _add_changes(run, Forgetting()(read_evidence(before), read_evidence(after)))
    _add_evidence(run, before, after)
    _add_settings(run, [trained, after])
    return run


def of_training(label: str, trained: Artifact) -> dict[str, Any]:
    """A training alone: how it was made and its curve."""
    run = blank(label) | {"artifact": trained.name, "base": str(trained.facts.get("base", ""))}
    run["settings"] = _said(
        {"base": run["base"], "tokens": trained.facts.get("tokens")}
        | ({"ratio": trained.facts.get("ratio")} if _has_domain(trained) else {})
        | {"rate": trained.facts.get("shape", {}).get("rate"), "seed": trained.manifest["settings"].get("seed", "")}
    )
    run["numbers"] = _trained_by(trained)
    _add_training(run, trained)
    _add_settings(run, [trained])
    return run


def _trained_by(trained: Artifact | None) -> dict[str, Any]:
    """The numbers of a training by the keys of a summary.json; None where it is not there any more."""
    if trained is None:
        return dict.fromkeys(("tokens", "ratio", "steps", "rate", "seed"))
    facts, shape = trained.facts, trained.facts.get("shape", {})
    known: dict[str, Any] = {"tokens": facts.get("tokens"), "seed": trained.manifest["settings"].get("seed")}
    known |= {key: shape.get(key) for key in ("steps", "rate")}
    return known | ({"ratio": facts.get("ratio")} if _has_domain(trained) else {})


def _has_domain(trained: Artifact) -> bool:
    """Whether it has a domain and general text; a turn of a stream has sources of other names, and no such ratio."""
    return "domain" in trained.facts.get("mixture", trained.facts.get("tokens") or {})


def maker_of(evidence: Artifact) -> Artifact | None:
    """The artifact that the model of this evidence lies in."""
    known = evidence.origins.get("model", "").partition("/")[0], str(evidence.facts.get("model", ""))
    return next((made for name in known if (made := beside(evidence, name))), None)


def _add_changes(run: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["source"] in SOURCES:
            run[row["source"]] = _row(row)
            run["numbers"][row["source"]] = row
    run["outcome"] = (run["domain"] or {}).get("verdict", "")
    words = [f"{name} {run[name]['change']:+.1%}" for name in SOURCES if run[name]]
    run["sentence"] = ", ".join(words)


def _add_evidence(run: dict[str, Any], before: Artifact | None, after: Artifact | None) -> None:
    if after:
        run["texts"] = texts_of(after)
        tokens = near(after, "tokens")
        corpus = tokens and near(tokens, "corpus")
        for name in SOURCES:
            docs = corpus and near(corpus, f"docs {name}")
            if docs and "paths" in docs.facts:
                run["settings"][f"{name} text"] = ", ".join(map(last_part, docs.facts["paths"]))
    if before:
        run["base_key"] = str(before.manifest["inputs"]["model"])
        run["base"] = run["base"] or str(before.facts.get("model", ""))


def _add_training(run: dict[str, Any], trained: Artifact | None) -> None:
    if trained is None:
        return
    facts = trained.facts
    run |= {"seconds": facts.get("training_seconds"), "speed": facts.get("tokens_per_second")}
    shape = facts.get("shape", {})
    if (trained / "curve.json").exists():
        curve = read_curve(trained)
        step = curve["tokens_per_step"]
        run["curve"] = {
            name: {
                kind: [[round(at * step), round(loss, 5)] for at, loss in points]
                for kind, points in (
                    ("training", thinned(curve["training"].get(name, []), POINTS)),
                    ("validation", finite(curve["validation"].get(name, []))),
                )
            }
            for name in dict.fromkeys([*curve["validation"], *curve["training"]])
        }
    settings = trained.manifest["settings"]
    shown = {key: plugin(settings[key]) for key in ("objective", "tuning", "schedule") if key in settings}
    if not _has_domain(trained):
        shown |= {"share of domain text": "", "mixture": mixture({name: n for name, n in facts["tokens"].items() if n})}
    elif "mixture" in facts:  # as it was asked for: what a run has really read differs a little from seed to seed
        shown["share of domain text"] = percent(facts["mixture"]["domain"])
    if shape:
        shown["a step"] = f"{count(shape['rows'])} rows of {count(shape['window'])}"
    run["settings"] |= shown


def _add_blame(run: dict[str, Any], findings: Artifact | None) -> None:
    if findings and (findings / "blame.json").exists():
        rows = json.loads((findings / "blame.json").read_text(encoding="utf-8"))
        for row in by_class(rows):
            run["blame"].setdefault(row["source"], {})[row["class"]] = row["blame"]


def _add_settings(run: dict[str, Any], stages: list[Artifact | None]) -> None:
    """Every setting of these stages by its dotted name, but those that are told by a name of their own."""
    for one in stages:
        if one is not None:
            for name, value in flat(one.manifest["settings"], one.kind):
                if name not in SAID:
                    run["settings"].setdefault(name, value)


def flat(values: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """Settings by dotted names, a plug-in in words."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        inner = f"{name}.{key}"
        if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
            found.append((inner, plugin(value)))
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            found.append((inner, "; ".join(map(plugin, value))))
        elif isinstance(value, dict) and value:
            found += flat(value, inner)
        else:
            found.append((inner, "–" if value is None else str(value)))
    return found


def texts_of(evidence: Artifact) -> dict[str, dict[str, Any]]:
    """By source which documents were scored. key: the same for the same documents, each scored to the same
    byte and in the same precision."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in read_evidence(evidence).items():
        docs = text_behind(evidence, name)
        measure = str(evidence.facts.get("measure", ""))
        sizes = digest([one.position_D.tolist(), one.num_bytes_D.tolist()])
        found[name] = {
            "key": digest([docs, measure, sizes, precision_of(evidence)]),
            "docs": docs,
            "documents": one.num_documents,
        }
    return found


def text_behind(evidence: Artifact, source: str) -> str:
    """The text that a source's documents were read from, wherever its files lay; places in it are the same then."""
    tokens = near(evidence, "tokens")
    corpus = tokens and near(tokens, "corpus")
    docs = corpus and near(corpus, f"docs {source}")
    if not docs:
        return f"{evidence.manifest['inputs'].get('tokens', evidence.name)} {source}"
    prints = sorted(str(value) for role, value in docs.manifest["inputs"].items() if role.startswith("path "))
    return digest([prints, docs.manifest["settings"]]) if prints else docs.name
