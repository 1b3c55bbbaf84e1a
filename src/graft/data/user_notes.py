"""tell: what a run has to say, in its user's terms: notes once, and faults by the file and row they came from."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import pyarrow.parquet as pq

from graft.core.process.notes import tell, tell_notes
from graft.core.store.artifact import Artifact

__all__ = ["by_place", "places", "tell", "tell_notes"]


@contextmanager
def by_place(tokens: Artifact) -> Generator[None]:
    """Faults of a batch name documents by position; what leaves here names the places they were read from."""
    from graft.models.runtime.numeric_faults import AtDocuments

    try:
        yield
    except AtDocuments as fault:
        raise fault.at(places(tokens, fault.documents)) from fault


def places(tokens: Artifact, documents: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """path#row of documents given by (source, position), as far as the corpus of these tokens still says so."""
    corpus = tokens.path.parent / str(tokens.manifest["inputs"]["corpus"])
    wanted: dict[str, list[int]] = {}
    for source, position in documents:
        wanted.setdefault(source, []).append(position)
    found: dict[tuple[str, int], str] = {}
    for source, positions in wanted.items():
        table_path = corpus / f"{source}.parquet"
        if table_path.exists():
            table = pq.read_table(table_path, columns=["position", "parents"], filters=[("position", "in", positions)])
            for row in table.to_pylist():
                if row["parents"]:
                    found[source, row["position"]] = " + ".join(row["parents"])
    return found
