"""What the terminal shows of shelves, artifacts and finished jobs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from graft.core.artifact import Artifact, Store
from graft.core.errors import UsageError, nearest
from graft.core.shelf import HOUSE, Shelf

SHELVES = {
    "objectives": "what training minimises",
    "schedules": "the learning rate over a run",
    "steps": "curation of documents",
    "metrics": "numbers read off evidence",
    "probes": "comparisons of before and after",
}


@dataclass
class Teller:
    """Says, while a job runs, which artifacts are made and which were there already."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
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
        console = Console(highlight=False, soft_wrap=True)
        if hasattr(outcome, "summary"):
            console.print(f"\n[bold]{outcome.summary['verdict']}[/bold]")
            for note in outcome.summary["notes"]:
                console.print(f"[dim]{note}[/dim]")
            console.print(f"model:   {outcome.out / 'model'}")
            console.print(f"summary: {outcome.out / 'summary.json'}")
            console.print(f"report:  {outcome.out / 'report.html'}")
        else:
            console.print(f"model: {outcome / 'model'}")


def show_shelves() -> None:
    table = Table("shelf", "what it holds", "plug-ins", box=None)
    for name, words in SHELVES.items():
        table.add_row(name, words, ", ".join(Shelf(name).names()))
    Console().print(table)


def show_shelf(name: str) -> None:
    """Errors: UsageError for an unknown shelf, with the nearest name."""
    if name not in SHELVES:
        raise UsageError(
            f'there is no shelf "{name}"', allowed=", ".join([*SHELVES, "artifacts"]), do=nearest(name, SHELVES)
        )
    shelf = Shelf(name)
    table = Table("name", "what it does", box=None)
    for plugin in shelf.names():
        table.add_row(plugin, shelf.summary(plugin))
    Console().print(table)
    Console().print(f"[dim]source: {HOUSE / name}[/dim]")


def show_artifacts(store: Store) -> None:
    table = Table("artifact", "made", "seconds", "from", box=None)
    for artifact in store.artifacts():
        inputs = [value for value in artifact.manifest["inputs"].values() if (store.root / value).is_dir()]
        table.add_row(
            artifact.name, artifact.manifest["started"], f"{artifact.manifest['seconds']:.1f}", ", ".join(inputs)
        )
    Console().print(table if table.row_count else f"no artifacts in {store.root}")


def show_artifact(artifact: Artifact) -> None:
    console = Console()
    console.print(f"[bold]{artifact.name}[/bold]  {artifact.path}")
    ledger = Table("source", "fate", "documents", "bytes", "tokens", box=None)
    for source, fate, amount in artifact.ledger.rows():
        ledger.add_row(source, fate, *(f"{n:,}" for n in (amount.documents, amount.bytes, amount.tokens)))
    if ledger.row_count:
        console.print(ledger)
    for key in ("settings", "facts", "inputs", "versions"):
        console.print(f"[bold]{key}[/bold]")
        console.print_json(json.dumps(artifact.manifest[key]))


def show_ancestry(artifact: Artifact, store: Store) -> None:
    Console().print(_branch(Tree(f"[bold]{artifact.name}[/bold]"), artifact, store, set()))


def _branch(tree: Tree, artifact: Artifact, store: Store, seen: set[str]) -> Tree:
    """Adds the inputs of an artifact, each artifact's own inputs once."""
    for role, value in artifact.manifest["inputs"].items():
        inner = tree.add(f"[dim]{role}:[/dim] {value}")
        if (store.root / value / "manifest.json").exists():
            if value in seen:
                inner.label = f"{inner.label} [dim](above)[/dim]"
            else:
                seen.add(value)
                _branch(inner, Artifact(store.root / value), store, seen)
    return tree
