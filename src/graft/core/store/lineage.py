"""Which artifact was made from which, up and down, read off the manifests of one store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from graft.core.store.artifact import Artifact, artifact_at
from graft.core.store.leftovers import artifact_folders
from graft.core.store.manifest import MANIFEST
from graft.core.store.ownership import ARTIFACT, entries_of


@dataclass(frozen=True)
class LineageGraph:
    """The artifacts that lie in one folder, and how they hang together."""

    root: Path

    @cached_property
    def _known(self) -> dict[str, Artifact]:
        found = (artifact_at(folder) for folder in artifact_folders(self.root))
        return {one.name: one for one in found if one is not None}

    def get(self, name: str) -> Artifact | None:
        """The artifact of this whole name; None where it is not there (any more), or is damaged."""
        return artifact_at(self.root / name) if ARTIFACT.fullmatch(name) and "/" not in name else None

    def input(self, artifact: Artifact, role: str) -> Artifact | None:
        """What an artifact was made from in this role; None where that is not there, or nothing was."""
        return self.get(str(artifact.manifest["inputs"].get(role, "")))

    def parents(self, artifact: Artifact) -> Iterator[tuple[str, Artifact]]:
        """(role, artifact) of everything an artifact was made from that is there, models in folders included.

        A model folder that was handed over counts as the artifact that its mark names.
        """
        given = [*artifact.manifest["inputs"].items(), *artifact.origins.items()]
        for role, value in given:
            found = self.get(str(value)) or self.get(made_as(str(value)))
            if found is not None:
                yield role, found

    def children(self, artifact: Artifact) -> Iterator[tuple[str, Artifact]]:
        """(role, artifact) of everything that names this one among its inputs, oldest first."""
        ordered = sorted(self._known.values(), key=lambda one: (one.manifest["started"], one.name))
        for one in ordered:
            for role, value in one.manifest["inputs"].items():
                if value == artifact.name:
                    yield role, one


def made_as(path: str) -> str:
    """The artifact that a folder or file lies in, or was copied from; empty where graft did not make it."""
    place = Path(path)
    if "/" not in path:
        return ""
    if ARTIFACT.fullmatch(place.parent.name) and (place.parent / MANIFEST).exists():
        return place.parent.name
    entry = entries_of(place.parent).get(place.name)
    return str(entry.get("from", "")).partition("/")[0] if isinstance(entry, dict) else ""
