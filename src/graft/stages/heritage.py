"""heritage: which text a model is known to have been trained on, read off the artifacts that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from graft.core.artifact import MANIFEST, Artifact, Store
from graft.core.base import Base
from graft.core.mark import ARTIFACT, entries_of


@dataclass(frozen=True)
class Heritage:
    """corpora: by source and corpus, what training of it or of a model before it has read ("train" documents only).

    lost: the model is graft's own work, and of what it was made from something is no longer there.
    """

    corpora: tuple[tuple[str, Artifact], ...] = ()
    lost: bool = False


def heritage(base: Base, store: Store) -> Heritage:
    """Of a model folder inside an artifact, or of one that a job handed over from this store; empty for any other."""
    name = _made_as(base)
    if not name:
        return Heritage()
    root = base.folder.parent.parent if base.folder.parent.name == name else store.root
    made = _artifact(root, name)
    if made is None:
        return Heritage(lost=True)
    corpora: dict[tuple[str, str], Artifact] = {}
    lost = False
    for one in _line(made):
        if one.kind != "train":
            continue
        tokens = _artifact(one.path.parent, str(one.manifest["inputs"]["tokens"]))
        corpus = tokens and _artifact(one.path.parent, str(tokens.manifest["inputs"]["corpus"]))
        if corpus is None:
            lost = True
            continue
        for source, count in one.facts["tokens"].items():
            if count:
                corpora[source, corpus.name] = corpus
    return Heritage(tuple((source, corpus) for (source, _), corpus in corpora.items()), lost)


def read_before(corpus: Artifact, known: Heritage, split: str = "test") -> list[str]:
    """In words, which sources of a corpus are scored on documents that the model was trained on, by their text."""
    read: dict[str, set[str]] = {}
    for source, one in known.corpora:
        table = pq.read_table(one / f"{source}.parquet", columns=["id"], filters=[("split", "=", "train")])
        read.setdefault(source, set()).update(table["id"].to_pylist())
    ids = set().union(*read.values())
    said = []
    for source in corpus.facts["sources"] if ids else ():
        table = pq.read_table(corpus / f"{source}.parquet", columns=["id"], filters=[("split", "=", split)])
        found = sum(one in ids for one in table["id"].to_pylist())
        if found:
            said.append(
                f"{source}: {found} of {len(table)} {split} documents are text that the base was trained on, so what "
                "is said of it is not of new text; give the base's own curate.split.seed, or other text."
            )
    return said


def _made_as(base: Base) -> str:
    """The artifact that a folder lies in, or was copied from; empty where it is not graft's work."""
    beside = base.folder.parent
    if ARTIFACT.fullmatch(beside.name) and (beside / MANIFEST).exists():
        return beside.name
    entry = entries_of(beside).get(base.folder.name)
    return str(entry.get("from", "")).partition("/")[0] if isinstance(entry, dict) else ""


def _line(artifact: Artifact) -> Iterator[Artifact]:
    """An artifact and all it was made from, as far as it is there."""
    waiting, seen = [artifact], {artifact.name}
    while waiting:
        one = waiting.pop()
        yield one
        for name in [*one.manifest["inputs"].values(), *one.origins.values()]:
            if name not in seen and (found := _artifact(one.path.parent, str(name))):
                seen.add(name)
                waiting.append(found)


def _artifact(root: Path, name: str) -> Artifact | None:
    if not ARTIFACT.fullmatch(name) or "/" in name or not (root / name / MANIFEST).exists():
        return None
    return Artifact(root / name)
