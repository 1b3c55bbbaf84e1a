"""heritage: which text a model is known to have been trained on, read off the artifacts that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.store.lineage import LineageGraph, made_as
from graft.lineage.training_runs import base_of, with_model


@dataclass(frozen=True)
class Heritage:
    """corpora: by source and corpus, what training of it or of a model before it has read ("train" documents only).

    lost: the model is graft's own work, and of what it was made from something is no longer there.
    """

    corpora: tuple[tuple[str, Artifact], ...] = ()
    lost: bool = False


def heritage(base: Base, store: Store) -> Heritage:
    """Of a model that graft made, in an artifact, handed over by a job, or copied: known by its mark or its content.

    Followed down the whole chain of bases that were trained one from the other. Empty for any other model.
    """
    name = made_as(str(base.folder))
    root = base.folder.parent.parent if base.folder.parent.name == name else store.root
    family = LineageGraph(root)
    made = family.get(name) if name else with_model(base.fingerprint(store.prints), family)
    if made is None:
        return Heritage(lost=bool(name))
    corpora: dict[tuple[str, str], Artifact] = {}
    lost = False
    for one in _line(made, family):
        if one.kind != "train":
            continue
        tokens = family.input(one, "tokens")
        corpus = tokens and family.input(tokens, "corpus")
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


def _line(artifact: Artifact, family: LineageGraph) -> Iterator[Artifact]:
    """An artifact and all it was made from, as far as it is there; of a training also what made its base."""
    waiting, seen = [artifact], {artifact.name}
    while waiting:
        one = waiting.pop()
        yield one
        found = [parent for _, parent in family.parents(one)]
        found += filter(None, [base_of(one, family)]) if one.kind == "train" else []
        for parent in found:
            if parent.name not in seen:
                seen.add(parent.name)
                waiting.append(parent)
