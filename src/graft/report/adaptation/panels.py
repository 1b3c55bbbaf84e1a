"""What the page's template shows: facts put into words, and into places on an axis."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from graft.report.shared import wording
from graft.report.shared.axis import Ruler

SCORED = {
    "test": "The same held-out documents (test split), scored by the base and by the adapted model.",
    "validation": "The same documents of the validation split, scored by the base and by the adapted model.",
    "train": "The same documents of the training text, scored by the base and by the adapted model.",
}
SUM_TOLERANCE = 1e-6  # relative: to which the parts of the blame must sum to the change
SUM_NOISE = 1e-12  # nats per token: what rounding in double precision leaves of a change of nothing

BUDGET_STATUS = {True: {"sort": "gain", "shape": "✓", "word": "inside the budget"},
                 False: {"sort": "loss", "shape": "✗", "word": "no model"}}  # fmt: skip
# No arrows: of a loss down is better, and "improved" beside an arrow that points down is read twice.
STATUS = {"improved": ("gain", "✓"), "worse": ("loss", "✗"), "no change": ("none", "◆")}
UNIT, DIRECTION = "nats per token", " (lower is better)"

FATES = {
    "read": "what the files held",
    "train": "may be trained on",
    "validation": "watched while training, never trained on",
    "test": "held out, never trained on",
}

KINDS = {
    "runtime": "the precision of the job, as it was decided when it began",
    "speed": "how fast this machine trains and scores, and the tokens that fit into the time",
    "docs": "documents read from files, or sampled from the base",
    "corpus": "documents cleaned and split",
    "tokens": "token shards",
    "evidence": "nats of every scored token",
    "train": "the trained model",
    "choice": "laws of the pilots, and what followed from them",
    "walked": "the line back to the base",
    "findings": "comparison of before and after",
    "contrast": "two models’ evidence side by side",
    "features": "each document as a model sees it",
    "likeness": "how alike two texts are",
    "answers": "answers to questions, item by item",
    "stream": "the matrix of a stream of domains",
    "overview": "several runs side by side",
    "report": "this page",
}


def status(verdict: str) -> dict[str, str]:
    """Class for the colour, shape and word of a verdict: never the colour alone."""
    sort, shape = STATUS.get(verdict, ("none", "◇"))
    return {"sort": sort, "shape": shape, "word": verdict}


def headline(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict's clauses, domain first, each with its status; the words before the colon are set large."""
    sentence = wording.typeset(facts["summary"]["verdict"])
    budget = facts["summary"].get("budget")
    if budget:
        return [_clause(sentence, BUDGET_STATUS[budget["kept"]])]
    known = {row["source"]: row["verdict"] for row in facts["changes"]}
    verdicts = [known[source] for source in ("domain", "general") if source in known]
    parts = re.split(r"(?<=;) ", sentence)
    if len(parts) != len(verdicts):
        parts, verdicts = [sentence], [facts["summary"]["outcome"]]
    parts[0] = parts[0].replace(UNIT, UNIT + DIRECTION, 1)
    return [_clause(part, status(verdict)) for part, verdict in zip(parts, verdicts, strict=True)]


def _clause(part: str, shown_as: Mapping[str, str]) -> dict[str, Any]:
    """A clause cut where its parts are set differently: before the colon, its first percentage, the rest."""
    part = part[:1].upper() + part[1:].rstrip(";")
    head, colon, detail = part.partition(": ")
    if large := re.match(rf"(.*?)([{wording.MINUS}+]?[\d.]+{wording.THIN}%)(.*)", head):
        first, number, after = large.groups()
        whole = {"head": first, "number": number, "after": after, "before": detail, "change": ""}
        return whole | {"rest": "", "status": shown_as}
    found = re.match(rf"(.*?)([{wording.MINUS}+]?[\d.]+{wording.THIN}%|$)(.*)", detail, re.DOTALL)
    before, shown, rest = found.groups() if found else (detail, "", "")
    return {"head": head + colon.strip(), "before": before, "change": shown, "rest": rest, "status": shown_as}


def outline(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(label, value, fine print) of the run at a glance."""
    summary, training = facts["summary"], facts["training"]
    trained, shape = summary["tokens"], training["shape"]
    return [
        ("Base", last_part(facts["base"]), f"{wording.large(training['num_parameters'])} parameters"),
        *(
            (f"{name.capitalize()} text", names_of(paths), summary.get(f"{name}_text", ""))
            for name, paths in facts["paths"].items()
        ),
        ("Trained on", f"{wording.count(sum(trained.values()))} tokens", f"{wording.count(summary['steps'])} steps"),
        ("Mixture", mixture(trained), "of the trained tokens"),
        ("Objective", plugin(summary["objective"]), f"seed {summary['seed']}"),
        ("Peak rate", wording.scientific(summary["rate"]), f"{shape['rows']} rows of {shape['window']} tokens a step"),
        ("Training time", wording.duration(training["training_seconds"]), ""),
        ("Precision", training.get("runtime", {}).get("precision", "–"), facts["device"].partition("; precision")[0]),
        ("Speed", f"{wording.count(training['tokens_per_second'])} tokens/s", ""),
        ("Peak memory", wording.memory(training["peak_memory_bytes"]), ""),
    ]


def last_part(path: str) -> str:
    """The last part of a path; hub ids and embedded texts as they are."""
    return path if path.startswith(("hf://", "embedded")) else path.rstrip("/").rpartition("/")[2] or path


def names_of(paths: Iterable[str]) -> str:
    return ", ".join(map(last_part, paths))


def mixture(tokens: Mapping[str, int]) -> str:
    total = sum(tokens.values()) or 1
    return ", ".join(f"{wording.percent(n / total)}\u00a0{name}" for name, n in tokens.items())


def plugin(entry: Any) -> str:
    """{"swap_distill": {"alpha": 0.5}} -> 'swap_distill (alpha 0.5)'."""
    if not isinstance(entry, Mapping):
        return str(entry)
    words = []
    for name, settings in entry.items():
        said = settings.items() if isinstance(settings, Mapping) else ()
        inner = ", ".join(f"{key} {value}" for key, value in said if value not in (None, "", []))
        words.append(f"{name} ({inner})" if inner else str(name))
    return ", ".join(words)


def sort_of(value: float) -> str:
    return "gain" if value < 0 else "loss" if value > 0 else "none"


def changes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the before/after table and the axis that their intervals share."""
    axis = Ruler.of_changes(facts["changes"])
    return {
        **marked_axis(axis),
        "scored": SCORED[facts["summary"]["split"]],
        "rows": [_change_row(row, facts, axis) for row in facts["changes"]],
        "known": known_text(facts),
    }


def marked_axis(axis: Ruler) -> dict[str, Any]:
    """Its ticks, in percent, and where its 0 is."""
    ticks = axis.marks()
    digits = 0 if len(ticks) < 2 or ticks[1] - ticks[0] > 0.0099 else 1
    words = [f"{wording.signed(tick * 100, digits)}{wording.THIN}%" for tick in ticks]
    return {
        "ticks": [{"at": axis.at(tick), "word": word} for tick, word in zip(ticks, words, strict=True)],
        "zero": axis.at(0),
    }


def placed(row: Mapping[str, Any], axis: Ruler) -> dict[str, Any]:
    """A relative change in words and on the axis: its verdict, its interval and where both lie."""
    interval = row["interval"]
    return {
        "status": status(row["verdict"]),
        "change": wording.change(row["change"]),
        "interval": interval and [wording.change(end) for end in interval],
        "dot": axis.at(row["change"]),
        "span": interval and axis.between(*interval),
    }


def known_text(facts: Mapping[str, Any]) -> str:
    """How much of the scored text the training text holds too; empty where curation did not look."""
    shares = {row["source"]: facts["summary"].get(row["source"], {}).get("overlap") for row in facts["changes"]}
    words = [f"{wording.percent(share)} of {name}" for name, share in shares.items() if share is not None]
    split = facts["summary"]["split"]
    return f"Word n-grams of the {split} text that training text holds too: {', '.join(words)}." if words else ""


def _change_row(row: Mapping[str, Any], facts: Mapping[str, Any], axis: Ruler) -> dict[str, Any]:
    scored = facts["scored"].get(row["source"], {})
    bits, perplexity = row["bits_per_byte"], row["perplexity"]
    return placed(row, axis) | {
        "source": row["source"],
        "paths": names_of(facts["paths"].get(row["source"], [])),
        "nats": [f"{row[side]:.3f}" for side in ("before", "after")],
        "bits": [f"{bits[side]:.3f}" for side in ("before", "after")],
        "perplexity": [wording.number(perplexity[side]) for side in ("before", "after")],
        "documents": _of_split(row["documents"], scored.get("documents_of_split")),
        "tokens": _of_split(row["tokens"], scored.get("tokens_of_split")),
    }


def _of_split(scored: int, whole: int | None) -> dict[str, str]:
    of = wording.count(whole) if whole is not None and whole > scored else ""
    return {"scored": wording.count(scored), "of": of}


def blame(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per source: classes and items with bars, and the sums that a reader can check."""
    return [_blame_of(name, one, facts) for name, one in facts["blame"].items()]


def _blame_of(name: str, one: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    row = next((row for row in facts["changes"] if row["source"] == name), None)
    measured = row["after"] - row["before"] if row else one["total"]
    classes = Ruler.over([0.0, *(entry["blame"] for entry in one["classes"])], room=0, least=1e-9)
    lists = {side: one[side] for side in ("gained", "lost")}
    largest = max((abs(entry["blame"]) for side in lists.values() for entry in side), default=1.0) or 1.0
    shown = sum(entry["blame"] for side in lists.values() for entry in side)
    return {
        "source": name,
        "classes": [_blame_row(entry) | {"bar": classes.bar(entry["blame"])} for entry in one["classes"]],
        "lists": {
            side: [_blame_row(entry) | {"width": round(100 * abs(entry["blame"]) / largest, 2)} for entry in entries]
            for side, entries in lists.items()
        },
        "total": wording.signed(one["total"], 5),
        "measured": wording.signed(measured, 5),
        "before": f"{row['before']:.5f}" if row else "",
        "after": f"{row['after']:.5f}" if row else "",
        "seen": wording.count(sum(entry["count"] for entry in one["classes"])),
        "adds_up": math.isclose(
            sum(entry["blame"] for entry in one["classes"]), measured, rel_tol=SUM_TOLERANCE, abs_tol=SUM_NOISE
        ),
        "num_items": wording.count(one["items"]),
        "shown": wording.signed(shown, 5),
        "num_shown": wording.count(sum(map(len, lists.values()))),
        "others": wording.signed(one["total"] - shown, 5),
        "num_others": wording.count(one["items"] - sum(map(len, lists.values()))),
    }


def _blame_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "text": wording.marked(entry["text"]) if "text" in entry else [],
        "class": entry["class"],
        "count": wording.count(entry["count"]),
        "mean": wording.signed(entry["mean_change"], 3),
        "blame": wording.signed(entry["blame"], 5),
        "sort": sort_of(entry["blame"]),
    }
