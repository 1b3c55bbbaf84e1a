"""Finished adaptations, as far as they tell what training on a text changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ownership import entries_of

SUMMARY = "summary.json"
ALLOWED = "the --out folder of graft adapt, or a report artifact (graft ls artifacts), its whole line in the store"


@dataclass(frozen=True)
class AdaptationRun:
    """One adaptation. change: relative, of the domain's test loss, with its interval; negative is better."""

    name: str
    text: str  # which of the texts it was trained on
    change: float
    interval: tuple[float, float] | None
    verdict: str
    rate: float | None
    replay: float | None
    report: str = ""  # the artifact that it was read from

    def told(self) -> dict[str, Any]:
        return {
            "run": self.name, "text": self.text, "change": self.change, "interval": self.interval,
            "verdict": self.verdict, "rate": self.rate, "replay": self.replay, "report": self.report,
        }  # fmt: skip


def read_runs(
    named: Sequence[str], texts: Mapping[str, Artifact], model: str, store: Store
) -> tuple[list[AdaptationRun], list[str]]:
    """The runs of these names that started from this model and were trained on one of these texts, and why others not.

    texts: artifacts of `ingest` by name; a run is known by the contents of its files, wherever they lay. model: its
    fingerprint. A report that is named twice counts once. Errors: UsageError for what is no finished run.
    """
    runs: list[AdaptationRun] = []
    left: list[str] = []
    seen: set[str] = set()
    for name in named:
        report = _report(name, store)
        if report.name in seen:
            left.append(f"{name}: the same run again ({report.name})")
            continue
        seen.add(report.name)
        found = _read(name, report, texts, model)
        if isinstance(found, AdaptationRun):
            runs.append(found)
        else:
            left.append(f"{name}: {found}")
    return runs, left


def _report(name: str, store: Store) -> Artifact:
    folder = Path(name).expanduser()
    origin = str(entries_of(folder).get(SUMMARY, {}).get("from", "")) if folder.is_dir() else ""
    if origin:
        path = store.root / origin.partition("/")[0]
        if not (path / "manifest.json").exists():
            raise UsageError(
                f"the report of this run, {path.name}, is not in the store",
                where=f"--runs {name}",
                allowed=ALLOWED,
                do=f"give the store it was made in with --store (this one is {store.root})",
            )
        return Artifact(path)
    try:
        report = store.get(name)
    except UsageError as error:
        raise UsageError("this is no finished run", where=f"--runs {name}", allowed=ALLOWED) from error
    if report.kind != "report" or not (report / SUMMARY).exists():
        raise UsageError(f"this is {report.name}, no report", where=f"--runs {name}", allowed=ALLOWED)
    return report


def _read(name: str, report: Artifact, texts: Mapping[str, Artifact], model: str) -> AdaptationRun | str:
    """The run, or why it does not count."""
    corpus = _input(report, "corpus", name)
    if _input(report, "before", name).manifest["inputs"]["model"] != model:
        return "it started from another model than --model"
    docs = _input(corpus, "docs domain", name)
    mine = _contents(docs)
    text = next((one for one, other in texts.items() if _contents(other) == mine), None)
    if text is None:
        return "its domain text is none of TEXT"
    summary = json.loads((report / SUMMARY).read_text(encoding="utf-8"))
    domain = summary["domain"]
    if domain["change"] is None:
        return "its change is not a number"
    interval = domain["interval"]
    return AdaptationRun(
        name, text, float(domain["change"]), None if interval is None else (interval[0], interval[1]),
        str(domain["verdict"]), summary.get("rate"),
        None if summary.get("ratio") is None else 1 - float(summary["ratio"]), report.name,
    )  # fmt: skip


def _input(artifact: Artifact, role: str, name: str) -> Artifact:
    path = artifact.path.parent / str(artifact.manifest["inputs"].get(role, ""))
    if not (path / "manifest.json").exists() or path == artifact.path.parent:
        raise UsageError(f"{artifact.name} has no {role} beside it", where=f"--runs {name}", allowed=ALLOWED)
    return Artifact(path)


def _contents(docs: Artifact) -> tuple[tuple[str, ...], str]:
    """Fingerprints of the files that documents were read from, and of which field."""
    inputs = docs.manifest["inputs"]
    prints = sorted(str(value) for role, value in inputs.items() if role.startswith("path "))
    return tuple(prints), json.dumps(docs.manifest["settings"], sort_keys=True)
