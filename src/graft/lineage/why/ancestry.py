"""What an artifact was made from, as a tree down to the files and models that came from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from graft.core.process.console import Screen
from graft.core.store.artifact import Artifact
from graft.core.store.lineage import LineageGraph
from graft.lineage.training_runs import base_of
from graft.readers.folder import shown


def ancestry(artifact: Artifact, family: LineageGraph) -> dict[str, Any]:
    """{name, made_from: [{role, name, again, made_from}]}; again: it stands further up with all of its own.

    An origin stands for the hash of its input; below a folder of results stands what it was copied from.
    """
    return {"name": artifact.name, "made_from": _made_from(artifact, family, {artifact.name})}


def _made_from(artifact: Artifact, family: LineageGraph, seen: set[str]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for role, value in artifact.manifest["inputs"].items():
        known = family.get(str(value))
        name = known.name if known else str(artifact.origins.get(role, value))
        inner = known or family.get(name)
        if inner is None and role == "base" and artifact.kind == "train":
            inner = base_of(artifact, family)
        entry: dict[str, Any] = {"role": role, "name": name, "again": name in seen, "made_from": []}
        if inner is not None and inner.name not in seen:
            seen |= {inner.name, name}
            entry["made_from"] = _made_from(inner, family, seen)
        told.append(entry)
    return told


def show_ancestry(told: Mapping[str, Any]) -> None:
    tree = Tree(f"[bold]{_plain(told['tree']['name'])}[/bold]")
    _grow(tree, told["tree"])
    Screen(width=10_000).print(tree)  # paths are not cut: a terminal wraps them


def _grow(tree: Tree, told: Mapping[str, Any]) -> None:
    for one in told["made_from"]:
        again = " [dim](above)[/dim]" if one["again"] else ""
        _grow(tree.add(f"[dim]{_plain(one['role'])}:[/dim] {_plain(one['name'])}{again}"), one)


def _plain(value: object) -> str:
    """Anything a user named, so that it is printed as it is: brackets are no markup, and all of it is text."""
    return escape(shown(str(value)))
