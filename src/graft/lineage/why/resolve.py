"""What a user means by ARTIFACT: its name, a folder of results, or a model that lies somewhere."""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.models.base_model import EMBEDDED, Base
from graft.core.store.artifact import Artifact, Store
from graft.core.store.lineage import LineageGraph, made_as
from graft.core.store.manifest import MANIFEST
from graft.core.store.ownership import entries_of
from graft.lineage.training_runs import with_model

AT_STEP = re.compile(r"(.+)@(\d+)")
ALLOWED = "an artifact (graft ls artifacts), a folder that graft adapt left, or a model that graft made"
BEST_FIRST = ("report.html", "summary.json", "model", "adapter")  # entries of a folder of results


def split_step(words: str) -> tuple[str, int | None]:
    """'train-4f@37' -> ('train-4f', 37)."""
    found = AT_STEP.fullmatch(words)
    return (found[1], int(found[2])) if found and not os.path.exists(words) else (words, None)  # noqa: PTH110


def resolve(words: str, store: Store) -> tuple[Artifact, LineageGraph]:
    """The artifact meant, and the family it belongs to.

    Errors: UsageError for what is none, among others a model that Graft did not make, or not in this store.
    """
    path = Path(words).expanduser()
    if not os.path.exists(path / MANIFEST) and os.path.exists(path):  # noqa: PTH110 - Path's raises for long names
        artifact = _handed_over(words, path, store)
    elif words in EMBEDDED:
        raise _not_ours(words)
    else:
        artifact = store.get(str(path) if os.path.exists(path) else words)  # noqa: PTH110
    return artifact, LineageGraph(artifact.path.parent)


def _handed_over(words: str, path: Path, store: Store) -> Artifact:
    """The artifact that results were copied from."""
    entries = entries_of(path) if path.is_dir() else {}
    name = next((str(entries[entry]["from"]) for entry in BEST_FIRST if entries.get(entry, {}).get("from")), "")
    name = name.partition("/")[0] or made_as(str(path.absolute()))
    beside = path.absolute().parent.parent / name
    if name and (beside / MANIFEST).exists():
        return Artifact(beside)
    if name:
        found = LineageGraph(store.root).get(name)
        if found is None:
            raise UsageError(
                f"this comes from {name}, which is not in the store",
                where=words,
                allowed="results whose artifacts are there",
                do=f"give the store it was made in with --store (this one is {store.root}), or make it again",
            )
        return found
    if not (path / "config.json").exists():
        raise UsageError("graft did not make this", where=words, allowed=ALLOWED)
    known = with_model(Base(words, path.resolve()).fingerprint(store.prints), LineageGraph(store.root))
    if known is None:
        raise _not_ours(words)
    return known


def _not_ours(words: str) -> UsageError:
    return UsageError(
        "this model was not made in this store, so nothing is known of what it was trained on",
        where=words,
        allowed=ALLOWED,
        do="give the --store it was made in, if Graft made it",
    )
