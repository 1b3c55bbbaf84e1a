"""What the terminal shows of shelves, artifacts and finished jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import FOLDERS, Shelf
from graft.core.config.settings_reference import settings_of
from graft.core.process.console import Screen
from graft.core.process.progress import clock
from graft.core.store.artifact import Artifact, Store
from graft.core.store.leftovers import DRAFT, Unfinished
from graft.readers.folder import shown

_SUMMARIES = {"jobs": "what a recipe can ask for: its top-level key"} | {
    name: folder.summary for name, folder in FOLDERS.items()
}


@dataclass
class Teller:
    """Says, while a job runs, which artifacts are made and which were there already."""

    console: Screen = field(default_factory=lambda: Screen(stderr=True, highlight=False))
    fresh: int = 0
    found: int = 0
    started: float = field(default_factory=time.monotonic)

    def made(self, artifact: Artifact, fresh: bool) -> None:
        self.fresh, self.found = self.fresh + fresh, self.found + (not fresh)
        took = f"{artifact.manifest['seconds']:.1f} s" if fresh else "there already"
        self.console.print(f"  {artifact.kind:9} {artifact.name}  [dim]{took}[/dim]")

    def finish(self, outcome: Any) -> None:
        """The last lines: the verdict and where the report lies, or that nothing was left to do."""
        seconds = time.monotonic() - self.started
        if not self.fresh:
            self.console.print(f"Nothing to do: all {self.found} artifacts were there already ({seconds:.1f} s).")
        console = Screen(highlight=False, soft_wrap=True)
        if hasattr(outcome, "summary"):
            console.print(f"\n[bold]{escape(outcome.summary['verdict'])}[/bold]")
            for table in (_ranking(outcome.summary), _beside(outcome.summary)):
                if table is not None:
                    console.print(table)
            said = outcome.summary.get("said", {})
            for label, verdict in said.items():
                if len(said) > 1 or outcome.summary["runs"]:  # alone it is the verdict
                    console.print(f"[bold]{escape(label)}[/bold]: {escape(verdict)}")
            for note in outcome.summary["notes"]:
                console.print(f"[dim]{escape(note)}[/dim]")
            if (outcome.out / "model").exists():  # a comparison leaves none
                console.print(f"model:   {_plain(outcome.out / 'model')}")
            console.print(f"summary: {_plain(outcome.out / 'summary.json')}")
            if (outcome.out / "report.html").exists():
                console.print(f"report:  {_plain(outcome.out / 'report.html')}")
        else:
            console.print(f"model: {_plain(outcome / 'model')}")


def _ranking(summary: Mapping[str, Any]) -> Table | None:
    """The methods of a stream in the order of their ranks; other summaries rank nothing."""
    runs = summary.get("runs")
    if not isinstance(runs, Mapping) or not runs or not all("rank" in row for row in runs.values()):
        return None
    columns = ("rank", "domains", "95 %", "general", "95 %", "forgotten", "time")
    heads = (
        Column(name, justify="right", no_wrap=name != "95 %", min_width=8 if name == "95 %" else None)
        for name in columns
    )  # intervals give way first
    table = Table(Column("method", no_wrap=True), *heads, box=None)
    for row in sorted(runs.values(), key=lambda row: row["rank"]):
        loss, intervals, general = row["loss"], row["loss_intervals"], row["general"]
        key = next(name for name in ("overall_performance", "overall_performance-after-0") if name in loss)
        lost = next((loss[name] for name in ("forgetting", "forgetting-form-max") if name in loss), None)
        best, worst = row["rank_of_seeds"]
        table.add_row(
            escape(row["label"]),
            f"{row['rank']} ({best}-{worst})" if best < worst else str(row["rank"]),
            f"{loss[key]:.3f}",
            " to ".join(f"{end:.3f}" for end in intervals[key] or ()),
            f"{general['change']:+.1%}",
            " to ".join(f"{end:+.1%}" for end in general["interval"] or ()),
            "–" if lost is None else f"{lost:+.3f}",
            clock(row["cost"]["seconds"]),
        )
    return table


def _beside(summary: Mapping[str, Any]) -> Table | None:
    """The runs of an overview, in their order; other summaries lay none side by side."""
    runs = summary.get("runs")
    if not isinstance(runs, Mapping) or not runs or "fronts" not in summary:
        return None
    best = {label for front in summary["fronts"] if len(front["runs"]) > 1 for label in front["best"]}
    heads = (Column(name, justify="right", no_wrap=name != "95 %", min_width=8 if name == "95 %" else None)
             for name in ("ratio", "tokens", "domain", "95 %", "general", "95 %"))  # fmt: skip
    longest = min(24, max(map(len, runs)) + 2 * bool(best))  # names give way last
    names = Column("run", overflow="fold", min_width=longest), Column("base", overflow="fold")
    table = Table(*names, *heads, "verdict", box=None, padding=(0, 1, 0, 0))
    for label, row in runs.items():
        tokens = sum((row.get("tokens") or {}).values())
        ratio = row.get("ratio")
        if ratio is None and tokens and "domain" in row["tokens"]:
            ratio = row["tokens"]["domain"] / tokens
        table.add_row(
            _plain(label) + (" *" if label in best else ""),
            _plain(str(row["base"]).rstrip("/").rpartition("/")[2]) or "–",
            "–" if ratio is None else f"{ratio:.0%}",
            f"{tokens:,}" if tokens else "–",
            *(cell for source in ("domain", "general") for cell in _changed(row.get(source))),
            _plain(row["outcome"]) or ("–" if row.get("general") else "not measured"),
        )
    if best:
        table.caption, table.caption_justify = "* on the frontier: no other run is better in both", "left"
    return table


def _changed(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """(a relative change, its interval)."""
    if not row or row.get("change") is None:
        return "–", ""
    return f"{row['change']:+.1%}", " to ".join(f"{end:+.1%}" for end in row.get("interval") or ())


def show_shelves() -> None:
    table = Table("shelf", "what it holds", "plug-ins", box=None)
    for name, words in _SUMMARIES.items():
        table.add_row(name, words, ", ".join(Shelf(name).names()))
    Screen().print(table)
    Screen().print("[dim]graft ls SHELF: what each does; graft show NAME: the settings of a job or plug-in[/dim]")


def show_shelf(name: str) -> None:
    """Errors: UsageError for an unknown shelf, with the nearest name."""
    known = [*_SUMMARIES, "artifacts"]
    if name not in known:
        raise UsageError(f'there is no shelf "{name}"', allowed=", ".join(known), do=nearest(name, known))
    shelf = Shelf(name)
    table = Table("name", "what it does", box=None)
    for plugin in shelf.names():
        table.add_row(plugin, shelf.summary(plugin))
    Screen().print(table)
    Screen().print(f"[dim]source: {_plain(shelf.folder)}[/dim]")


def show_artifacts(store: Store) -> None:
    """What is finished, and below it what was begun and is not."""
    console = Screen()
    artifacts = store.artifacts()
    names = {artifact.name for artifact in artifacts}
    table = Table(Column("artifact", no_wrap=True), "made", "seconds", "from", box=None)
    for artifact in artifacts:
        inputs = [value for value in artifact.manifest["inputs"].values() if value in names]
        table.add_row(
            artifact.name, artifact.manifest["started"], f"{artifact.manifest['seconds']:.1f}", ", ".join(inputs)
        )
    console.print(table if table.row_count else f"no artifacts in {_plain(store.root)}", soft_wrap=not table.row_count)
    drafts = Table(Column("unfinished", no_wrap=True), "size", "last touched", "", box=None)
    damaged = Table(Column("damaged", no_wrap=True), "size", "what is wrong", box=None)
    for draft in store.drafts():
        age, size = clock(max(0.0, time.time() - draft.changed)), f"{draft.size / 1e6:,.1f} MB"
        if draft.is_artifact:
            damaged.add_row(_plain(draft.name), size, _plain(draft.what))
            continue
        what = "" if draft.what == DRAFT else f"{draft.what}, "
        state = "being made now" if draft.busy else f"{what}left by a run that ended"
        drafts.add_row(_plain(draft.name), size, f"{age} ago", state)
    if drafts.row_count:
        console.print(drafts)
    if damaged.row_count:
        console.print(damaged)
        count = damaged.row_count
        console.print(f"[dim]{count} damaged: `graft clean` removes what cannot be read, and it is made again[/dim]")


def show_cleaned(seen: Sequence[Unfinished], gone: Sequence[Path]) -> None:
    """What was removed, what somebody is at, and what stays since it may be whole."""
    console = Screen(highlight=False, soft_wrap=True)
    for one in seen:
        why = f"  {_plain(one.what)}" * (one.what != DRAFT)
        if one.path in gone:
            console.print(f"removed  {_plain(one.name)}  {one.size / 1e6:,.1f} MB{why}")
        else:
            console.print(f"{'left    ' if one.stays else 'in use  '} {_plain(one.name)}{why}")
    freed = sum(one.size for one in seen if one.path in gone) / 1e6
    console.print(f"freed {freed:,.1f} MB" if gone else "nothing to remove")


def show_settings(name: str) -> bool:
    """Every setting of a job or a plug-in, with its default and what it is; False where there is none of this name."""
    shelf, _, alone = name.rpartition("/")
    homes = [one for one in _SUMMARIES if alone in Shelf(one).names() and shelf in ("", one)]
    for home in homes:
        kind = Shelf(home).load(alone)
        console = Screen()
        console.print(f"[bold]{home}/{alone}[/bold]  {escape((kind.__doc__ or '').partition(chr(10))[0])}")
        table = Table("setting", "default", "allowed", "what it is", box=None)
        for one in settings_of(kind):
            table.add_row(*map(escape, (one.path, one.default, one.allowed, one.words)))
        console.print(table if table.row_count else "no settings")
    return bool(homes)


def show_artifact(artifact: Artifact) -> None:
    console = Screen()
    console.print(f"[bold]{artifact.name}[/bold]  {_plain(artifact.path)}", soft_wrap=True)
    ledger = Table("source", "fate", "documents", "bytes", "tokens", box=None)
    for source, fate, amount in artifact.ledger.rows():
        ledger.add_row(source, fate, *(f"{n:,}" for n in (amount.documents, amount.bytes, amount.tokens)))
    if ledger.row_count:
        console.print(ledger)
    manifest = artifact.manifest | {"origins": artifact.origins}
    for key in ("settings", "facts", "inputs", "origins", "versions"):
        console.print(f"[bold]{key}[/bold]")
        console.print_json(json.dumps(manifest[key]))
    code = manifest["code"]
    if "modules" in code:
        console.print(
            f"[bold]code[/bold]\n{code['identity']}, over {len(code['modules'])} sources: {', '.join(code['modules'])}"
        )


def _plain(value: object) -> str:
    """Anything a user named, so that it is printed as it is: brackets are no markup, and all of it is text."""
    return escape(shown(str(value)))
