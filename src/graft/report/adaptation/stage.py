"""report: what an adaptation gained and cost, as summary.json for programs and report.html for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft.core.stats.certainty import check_lost_share, too_much_lost, undecided
from graft.core.stats.evaluation_size import half_of_all, half_width, larger
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.text.split import Split
from graft.report.adaptation.facts import Materials, gather_facts
from graft.report.adaptation.page import render_page
from graft.report.adaptation.provenance import provenance
from graft.report.shared.cautions import cautions, of_training

READ_BY_BASE = "embedded:prose"  # how paths begin whose text the embedded base was trained on


@dataclass(frozen=True)
class AdaptationReport:
    """How the report is made."""

    title: str = "Adaptation report"
    lost_share: float = 0.05  # of a text that its tokenizer may read as unknown; above it there is no verdict on it

    def __post_init__(self) -> None:
        check_lost_share(self.lost_share)


def write_adaptation_report(
    materials: Materials, settings: AdaptationReport = AdaptationReport(), *, store: Store
) -> Artifact:
    """Kind "report": summary.json and report.html, a page that needs nothing but itself."""
    inputs: dict[str, Artifact | str] = {
        name: getattr(materials, name) for name in ("corpus", "tokens", "trained", "before", "after", "findings")
    }
    inputs |= {"base": materials.base, "paths": json.dumps(dict(materials.paths)), "notes": "\n".join(materials.notes)}
    if materials.budgeted:
        inputs |= {"choice": materials.budgeted.choice, "taken": str(materials.budgeted.taken)}
        inputs |= {f"walk {k}": walk for k, walk in enumerate(materials.budgeted.walks)}
    return store.make("report", settings, inputs, __name__, lambda draft: _build(draft, materials, settings))


def _build(draft: Draft, materials: Materials, settings: AdaptationReport) -> None:
    summary = summarize(materials, settings.lost_share)
    (draft / "summary.json").write_text(
        json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
    )
    page = render_page(gather_facts(materials, summary), title=settings.title)
    (draft / "report.html").write_text(page, encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"]}


ROW_NUMBERS = (
    *("before", "after", "change", "interval.0", "interval.1", "documents", "tokens_scored", "overlap"),
    *("documents_of_split", "half_width", "half_width_of_all"),
    *(f"{unit}.{side}" for unit in ("bits_per_byte", "perplexity") for side in ("before", "after")),
)


BUDGET_NUMBERS = tuple(
    f"budget.{key}" for key in ("forget", "share", "looks", "ratio", "tokens", "expected_gain", "pilots.of_final")
)


def number_keys(sources: Sequence[str]) -> list[str]:
    """The dotted path of every number that a summary of these sources holds (some may be null in it)."""
    rows = [f"{source}.{key}" for source in sources for key in ROW_NUMBERS]
    return ["ratio", "steps", "rate", "seed", *(f"tokens.{source}" for source in sources), *rows]


def summarize(materials: Materials, lost_share: float = AdaptationReport.lost_share) -> dict[str, Any]:
    """The outcome in numbers: losses in nats per token on `split`, changes relative, intervals 95 %.

    ratio: share of the trained tokens that were domain text. tokens: trained on, per source (0: only measured).
    """
    trained = materials.trained
    changes = {
        row["source"]: row for row in json.loads((materials.findings / "forgetting.json").read_text(encoding="utf-8"))
    }
    for name, row in changes.items():  # base and outcome read the same tokens, so that only unknown words count
        lost = materials.tokens.facts.get("lost_text", {}).get(name, {}).get("unknown", 0.0)
        if lost > lost_share:
            row["verdict"] = too_much_lost(lost)
    split = split_of(materials)
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
        "runtime": trained.facts.get("runtime", {}),
        "split": split,
        "general_text": provenance("general", materials),
        "notes": gather_notes(materials, changes),
    }
    keys = ("before", "after", "change", "interval", "bits_per_byte", "perplexity", "documents", "verdict")
    for name, row in changes.items():
        summary[name] = {key: row[key] for key in keys} | {"tokens_scored": row["tokens"]}
        summary[name]["overlap"] = residual_overlap(materials.corpus, name, split)
        summary[name] |= _if_all(row, _there(materials, name))
    budgeted = materials.budgeted
    if budgeted:
        summary["budget"] = budgeted.summary(changes, sum(trained.facts["tokens"].values()))
        summary["verdict"] = budgeted.sentence(changes)
        summary["notes"] = [*budgeted.cautions(changes), *summary["notes"]]
        if not budgeted.taken:  # what was scored is the base
            summary |= {"outcome": "no model"}
        if not budgeted.walks:  # what was trained are pilots alone
            summary |= {"tokens": dict.fromkeys(changes, 0), "ratio": None, "steps": 0}
    return summary


def split_of(materials: Materials) -> str:
    """Which documents were scored: "test", "validation" or "train"."""
    return materials.after.manifest["settings"].get("split", "test")


def gather_notes(materials: Materials, changes: dict[str, dict[str, Any]]) -> list[str]:
    """What to know before quoting the outcome: of the job, of what was scored, and what stages noted; each once."""
    stages = [materials.tokens, materials.trained, materials.before, materials.after]
    stages += [materials.budgeted.choice, *materials.budgeted.walks] if materials.budgeted else []
    noted = [note for artifact in stages for note in artifact.facts.get("notes", ())]
    docs = {one.facts["source"]: one for one in materials.lineage if one.kind == "docs"}
    return list(
        dict.fromkeys(
            [
                *materials.notes,
                *cautions(changes, docs),
                *of_training(materials.tokens, materials.trained),
                *_larger(materials, changes),
                *split_notes(materials),
                *noted,
            ]
        )
    )


def _larger(materials: Materials, changes: dict[str, dict[str, Any]]) -> list[str]:
    """In words, what all documents of the split would give, for each source of which fewer were scored."""
    rows = [(name, row, _there(materials, name)) for name, row in changes.items()]
    return [note for name, row, there in rows if (note := larger(name, row["interval"], row["documents"], there))]


def _there(materials: Materials, name: str) -> int:
    """Documents of the scored split, those that were not scored included; 0 where the evidence does not tell."""
    return int(materials.after.facts.get("scored", {}).get(name, {}).get("documents_of_split", 0))


def _if_all(row: dict[str, Any], there: int) -> dict[str, Any]:
    """Half the width of a source's interval, and what is expected of it if all documents of the split were scored."""
    half = half_width(row["interval"])
    whole = half if half is None or row["documents"] >= there else half_of_all(half, row["documents"], there)
    return {"documents_of_split": there, "half_width": half, "half_width_of_all": whole}


def split_notes(materials: Materials) -> list[str]:
    """What makes the scored text less than unseen: the split that was scored, and what the base has read of it."""
    split, notes = split_of(materials), []
    if split == "train":
        notes.append("The train split was scored, which is trained on: new text may look different.")
    elif split == "validation":
        notes.append("The validation split was scored, which is also watched while training.")
    cut, plain = materials.corpus.manifest["settings"].get("split", {}), Split()
    held_out = cut.get("test", plain.test) + (cut.get("validation", plain.validation) if split == "validation" else 0)
    other = cut.get("seed", plain.seed) != plain.seed or held_out > plain.test + plain.validation + 1e-9
    read = [name for name, paths in materials.paths.items() if any(path.startswith(READ_BY_BASE) for path in paths)]
    if materials.base == "embedded" and other and read:
        notes.append(
            f"The embedded base has read some of the scored documents of {' and '.join(read)}: it was trained on all "
            "of the embedded prose that the default curate.split does not hold out."
        )
    return notes


def residual_overlap(corpus: Artifact, source: str, split: str) -> float | None:
    """Share of the word n-grams of a source's scored text that training text holds too; None where no step looked."""
    return corpus.facts.get("notes", {}).get("overlap", {}).get(source, {}).get(split, {}).get("mean")


def sentence(changes: dict[str, dict[str, Any]]) -> str:
    """The verdict in one sentence: what the domain loss did and what that means, then the same of general text."""
    words = [_said(name, changes[name]) for name in ("domain", "general")]
    return f"{words[0][:1].upper()}{words[0][1:]}; {words[1]}."


def _said(name: str, row: dict[str, Any]) -> str:
    text, size = "the domain" if name == "domain" else "general text", abs(row["change"])
    levels = f"{row['before']:.3f} → {row['after']:.3f} nats per token"
    head = {
        "improved": f"{name} loss fell {size:.1%}, so the model reads {text} better",
        "worse": f"{name} loss rose {size:.1%}, so the model reads {text} worse",
        "no change": f"{name} loss moved by {row['change']:+.1%}, which is no certain change",
    }.get(row["verdict"])
    if head is None:
        return f"{undecided(text, row['verdict'])}: loss {levels}, {row['change']:+.1%}"
    low, high = row["interval"]
    return f"{head}: {levels}, 95 % interval {low:+.1%} to {high:+.1%}"
