"""gather: one page on any set of artifacts: runs side by side, what each gained and forgot, and what it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.store import related as kin
from graft.core.store.artifact import Artifact, Draft, Store, digest
from graft.core.store.related import ancestry
from graft.report.overview import artifact_readers as recount
from graft.report.overview import paired_runs as pair
from graft.report.overview import pareto as front
from graft.report.overview import resolve_inputs as given
from graft.report.overview.artifact_readers import Told, behind, made_of
from graft.report.overview.page import render_overview
from graft.report.overview.pareto import fronts, sentence
from graft.report.overview.resolve_inputs import Given


@dataclass(frozen=True)
class Gather:
    """How runs are laid side by side."""

    pairs: int = 120  # of runs, per text, that are compared document by document; of more, each with the best alone
    seeds: Literal["apart", "joined"] = (
        "apart"  # joined: runs that differ in their seed alone are drawn with their mean
    )
    seed: int = 0  # of the resampling

    def __post_init__(self) -> None:
        check_choices(self)
        if self.pairs < 0:
            raise UsageError(f"pairs is {self.pairs}", allowed="0 or more")


@dataclass(frozen=True)
class Request:
    """What the page is about. notes: on what was asked for. out: the folder that its links start from.

    allowed: the rise of the general loss at which a line is drawn; None: what the runs' own budgets say.
    """

    given: Sequence[Given]
    notes: Sequence[str]
    title: str
    out: Path
    allowed: float | None = None

    @property
    def links(self) -> dict[str, str]:
        """Addresses of the runs' own pages, seen from the folder of this one."""
        pages = {one.label: one.page for one in self.given if one.page}
        return {label: quote(os.path.relpath(page.resolve(), self.out.resolve())) for label, page in pages.items()}


def gather(request: Request, settings: Gather = Gather(), *, store: Store) -> Artifact:
    """Kind "overview": summary.json and report.html, a page that needs nothing but itself, and links to others."""
    inputs: dict[str, Artifact | str] = {"title": request.title}
    for one in request.given:
        inputs[f"run {one.label}"] = one.artifact or f"summary {digest(one.summary)}"
        if one.artifact and one.artifact.kind == "train":
            inputs |= {f"{role} of {one.label}": made for role, made in made_of(one.artifact).items()}
        if one.artifact:  # what was removed from the store since is not on the page, and what was put back is
            there = behind(one.artifact)
            inputs[f"there of {one.label}"] = f"{len(there)} artifacts, {digest(there)}"
    inputs |= {"allowed": str(request.allowed), "links": json.dumps(request.links), "notes": "\n".join(_found(request))}
    inputs["named"] = json.dumps({one.label: one.named for one in request.given})
    return store.make("overview", settings, inputs, __name__, lambda draft: _build(draft, request, settings))


def _found(request: Request) -> list[str]:
    return [*request.notes, *(note for one in request.given for note in one.notes)]


def _build(draft: Draft, request: Request, settings: Gather) -> None:
    told, again = _told(request.given)
    runs = [one.run for one in told.values() if one.run]
    pairs, left = pair.pair({label: one.seen for label, one in told.items() if one.seen}, settings.pairs, settings.seed)
    found = fronts(runs)
    notes = [*_found(request), *again, *(note for one in told.values() for note in one.notes), *_apart(runs), *left]
    said = {label: one.said for label, one in told.items() if one.said}
    summary: dict[str, Any] = {
        "verdict": sentence(runs, found, pairs, len(told) - len(runs), said if len(told) == 1 else {}),
        "notes": list(dict.fromkeys(notes)),
        "runs": {run["label"]: _numbers(run) for run in runs},
        "fronts": [asdict(one) for one in found],
        "pairs": pairs,
        "others": [label for label, one in told.items() if not one.run],
        "said": said,
    }
    text = json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False)
    (draft / given.SUMMARY).write_text(text, encoding="utf-8")
    page = render_overview(_facts(request, told, summary, settings), title=request.title)
    (draft / given.PAGE).write_text(page, encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"], "runs": len(runs)}


def _told(every: Sequence[Given]) -> tuple[dict[str, Told], list[str]]:
    """What each tells, and notes on a training and its own report given both, which are one run."""
    found: dict[str, Told] = {}
    homes: dict[str, str] = {}
    notes: list[str] = []
    for one in every:
        told = recount.recount(one)
        home = str(told.run["artifact"]) if told.run else ""
        if home and home in homes:
            notes.append(f"{one.label} is the run {homes[home]} again, and is shown once.")
            continue
        homes[home] = one.label
        found[one.label] = told
    return found, notes


def _numbers(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run in summary.json: the numbers of its own summary by the same keys, and how it was made.

    A text that was not measured is None there, which closes a gate on it; left out is what this kind of run never has.
    """
    told = {key: run[key] for key in ("artifact", "base", "outcome", "settings", "seconds", "notes")}
    return told | dict.fromkeys(front.ROLES) | run["numbers"]


def _apart(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on runs that cannot be ranked with others."""
    measured = [run for run in runs if run["domain"] and run["general"]]
    notes: list[str] = []
    for key, words in (
        ("base_key", "start from different bases"),
        ("texts", "were scored on different documents or in different precisions"),
    ):
        kinds: dict[str, list[str]] = {}
        for run in measured:
            value = run[key] if key == "base_key" else [run["texts"].get(role, {}).get("key") for role in front.ROLES]
            if value and value != [None, None]:
                kinds.setdefault(json.dumps(value), []).append(run["label"])
        if len(kinds) > 1:
            named = "; ".join(", ".join(labels) for labels in kinds.values())
            notes.append(f"Some runs {words}, and stand on frontiers of their own: {named}.")
    return notes


def _facts(request: Request, told: Mapping[str, Told], summary: Mapping[str, Any], settings: Gather) -> dict[str, Any]:
    """See `graft.report.overview.page.render_overview`."""
    budgets = {one.run["budget"] for one in told.values() if one.run and one.run["budget"]}
    own = budgets.pop() if len(budgets) == 1 else None
    return {
        "summary": summary,
        "runs": [one.run for one in told.values() if one.run],
        "tables": [{"label": label, "said": one.said} | asdict(one.table) for label, one in told.items() if one.table],
        "named": {one.label: one.named for one in request.given if one.label in told},
        "links": request.links,
        "allowed": own if request.allowed is None else request.allowed,
        "joined": settings.seeds == "joined",
        "lineage": _lineage([one for one in request.given if one.label in told], told),
    }


def _lineage(every: Sequence[Given], told: Mapping[str, Told]) -> list[dict[str, Any]]:
    """Every artifact that any of them came from, once, in the order in which they were made, and who uses it."""
    users: dict[str, list[str]] = {}
    artifacts: dict[str, Artifact] = {}
    for one in every:
        run = told[one.label].run
        made = one.artifact and kin.beside(one.artifact, str(run["artifact"]) if run else "")
        line = ancestry(made or one.artifact) if one.artifact else []
        for artifact in line:
            artifacts[artifact.name] = artifact
            users.setdefault(artifact.name, []).append(one.label)
    return [
        {key: one.manifest[key] for key in ("inputs", "started", "seconds")}
        | {"name": one.name, "used_by": users[one.name]}
        for one in sorted(artifacts.values(), key=lambda one: (one.manifest["started"], one.name))
    ]
