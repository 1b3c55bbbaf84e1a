"""kin: the artifacts that one was made from, and those that were made from it, as far as they lie in the same store."""

from __future__ import annotations

from collections.abc import Iterator

from graft.core.store.artifact import Artifact, Store, artifact_at
from graft.core.store.ownership import ARTIFACT


def near(artifact: Artifact, role: str) -> Artifact | None:
    """The input of this role, where it is an artifact that is there."""
    return beside(artifact, str(artifact.manifest["inputs"].get(role, "")))


def beside(artifact: Artifact, name: str) -> Artifact | None:
    """The artifact of this name in the same store; None: there is none, it is damaged, or the name is another's."""
    return artifact_at(artifact.path.parent / name) if ARTIFACT.fullmatch(name) and "/" not in name else None


def ancestry(artifact: Artifact) -> list[Artifact]:
    """An artifact and everything that it was made from, in the order in which it was made."""
    found = {artifact.name: artifact}
    waiting = [artifact]
    while waiting:
        one = waiting.pop()
        for name in map(str, (*one.manifest["inputs"].values(), *one.origins.values())):
            if name not in found and (made := beside(one, name)):
                found[name] = made
                waiting.append(made)
    return sorted(found.values(), key=lambda one: (one.manifest["started"], one.name))


def made_from(artifact: Artifact, role: str, kind: str) -> Iterator[Artifact]:
    """Artifacts of a kind that have this one as the input of a role, the newest first."""
    for one in reversed(Store(artifact.path.parent).artifacts()):
        if one.kind == kind and one.manifest["inputs"].get(role) == artifact.name:
            yield one
