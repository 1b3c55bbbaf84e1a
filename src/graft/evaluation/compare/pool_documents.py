"""pool: documents of all sources as they are, every one of them to be scored; text that was trained on is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.ledger import Amount
from graft.core.text import documents as doc
from graft.core.text import ngrams
from graft.core.text.drop_reasons import Drop, Reason, facts_of
from graft.lineage.seen_text import Heritage

TABLE = "docs.parquet"
BATCH_ROWS = 1024
BY = "pool"  # who drops a copy
DROPPED = ("dropped", "dropped_by", "reason", "detail")
REASONS = (
    Reason("duplicate", "left out: the same text stands earlier in this source", copy=True),
    Reason("duplicate_of", "left out: the same text stands in another source", "duplicate of {}", copy=True),
)
SHOWN = 3  # documents that an error names


@dataclass(frozen=True)
class Pool:
    """When a document counts as one that was trained on: of its word n-grams more than `tolerance` are in that text.

    The same measure and borders as the step `overlap`, whose docstring has their sources.
    """

    seen_too: bool = False  # documents that were trained on are scored all the same, and marked
    n: int = 13  # words
    tolerance: float = 0.2  # share of a document's n-grams, 0..1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n is {self.n}", allowed="1 word or more", do="13 is usual")
        if not 0 <= self.tolerance <= 1:
            raise UsageError(f"tolerance is {self.tolerance}", allowed="a share from 0 to 1", do="0.2 is usual")


def pool(
    docs: Mapping[str, Artifact],
    trained: Sequence[Heritage],
    settings: Pool = Pool(),
    *,
    reference: str = "",
    store: Store,
) -> Artifact:
    """Kind "corpus": one table per source, SOURCE.parquet, every usable document in split "test".

    docs: source name -> artifact of `ingest`. reference: the source that is only looked at beside the others. A text
    that a source holds twice counts once, or its copies would make the interval too narrow; what the reference shares
    with another source is dropped from it.
    Facts: seen, documents per source that were trained on. Errors: UsageError where there are any and
    `settings.seen_too` is not set, and for a source with nothing left.
    """
    known = {f"{source} of {one.name}": (source, one) for each in trained for source, one in each.corpora}
    inputs: dict[str, Artifact | str] = {f"docs {source}": artifact for source, artifact in docs.items()}
    inputs |= {"order": ", ".join(docs), "reference": reference}
    inputs |= {f"trained on {words}": one for words, (_, one) in known.items()}
    return store.make(
        "corpus",
        settings,
        inputs,
        __name__,
        lambda draft: _write(draft, docs, reference, list(known.values()), settings),
    )


def _write(
    draft: Draft,
    docs: Mapping[str, Artifact],
    reference: str,
    known: Sequence[tuple[str, Artifact]],
    settings: Pool,
) -> None:
    tables = _without_copies(docs, reference)
    seen: dict[str, int] = {}
    drops: dict[Drop, None] = {}
    for source, table in tables.items():
        marks = _trained_on(table, known, settings)
        if any(marks) and not settings.seen_too:
            raise _refused(source, table, marks)
        seen[source] = sum(marks)
        notes = [
            json.dumps(json.loads(old) | {"seen": True}) if mark else old
            for old, mark in zip(table["notes"].to_pylist(), marks, strict=True)
        ]
        table = _with(table, "notes", notes)
        pq.write_table(table, draft / f"{source}.parquet", compression="zstd", compression_level=1)
        drops |= dict.fromkeys(_drops(table))
        for fate, size in zip(table["dropped"].to_pylist(), table["num_bytes"].to_pylist(), strict=True):
            draft.ledger.enter(source, Amount(1, size))
            draft.ledger.settle(source, fate or "test", Amount(1, size))
    draft.facts |= {"sources": list(docs), "seen": seen, **facts_of(drops, {BY: REASONS})}


def _drops(table: pa.Table) -> Iterator[Drop]:
    """Why documents are not used."""
    told = (table[name].to_pylist() for name in ("dropped_by", "reason", "detail", "dropped"))
    return (Drop(*one) for one in zip(*told, strict=True) if one[3])


def _without_copies(docs: Mapping[str, Artifact], reference: str) -> dict[str, pa.Table]:
    """The tables with the split set and copies marked. Errors: UsageError where all of a source are copies."""
    tables: dict[str, pa.Table] = {}
    owners: dict[str, str] = {}
    for source in sorted(docs, key=lambda one: one == reference):
        artifact = docs[source]
        table = pq.read_table(artifact / TABLE, schema=doc.SCHEMA)
        own: set[str] = set()
        columns = {name: table[name].to_pylist() for name in DROPPED}
        dropped = columns["dropped"]
        for row, one in enumerate(table["id"].to_pylist()):
            if dropped[row]:
                continue
            if one in own or (source == reference and one in owners):
                reason, detail = (REASONS[0], "") if one in own else (REASONS[1], owners[one])
                told = (reason.fate(detail), BY, reason.code, detail)
                for name, value in zip(DROPPED, told, strict=True):
                    columns[name][row] = value
            own.add(one)
            owners.setdefault(one, source)
        if all(dropped):
            raise UsageError(
                f"{source} has no document that stands nowhere else",
                where=", ".join(artifact.facts.get("paths", [artifact.name])),
                allowed="text of its own",
                do="give another path",
            )
        for name, values in columns.items():
            table = _with(table, name, values)
        table = _with(table, "source", [source] * len(dropped))
        tables[source] = _with(table, "split", ["" if fate else "test" for fate in dropped])
    return tables


def _with(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))


def _trained_on(table: pa.Table, known: Sequence[tuple[str, Artifact]], settings: Pool) -> list[bool]:
    """Of every document, whether it was trained on, as far as that is known."""
    texts, dropped = table["text"].to_pylist(), table["dropped"].to_pylist()
    grams, owner = ngrams.ngrams(texts, settings.n)
    if not known or not len(grams):
        return [False] * len(texts)
    held = ngrams.Held.of(grams)
    for source, corpus in known:
        for read in _read(corpus, source):
            held.found[held.hits(ngrams.ngrams(read, settings.n)[0])] = True
    places_D = np.bincount(owner, minlength=len(texts))
    shared_D = np.bincount(owner, weights=held.found[held.place(grams)], minlength=len(texts))
    over = (shared_D > settings.tolerance * places_D).tolist()
    return [mark and not fate for mark, fate in zip(over, dropped, strict=True)]


def _read(corpus: Artifact, source: str) -> Iterator[list[str]]:
    """The texts of a source that were for training, batch by batch."""
    with pq.ParquetFile(corpus / f"{source}.parquet") as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["text", "split", "dropped"]):
            columns = (batch.column(name).to_pylist() for name in ("text", "split", "dropped"))
            yield [text for text, split, dropped in zip(*columns, strict=True) if split == "train" and not dropped]


def _refused(source: str, table: pa.Table, marks: Sequence[bool]) -> UsageError:
    places = [parents[0] for parents, mark in zip(table["parents"].to_pylist(), marks, strict=True) if mark]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    usable = sum(not fate for fate in table["dropped"].to_pylist())
    return UsageError(
        f"{len(places)} of the {usable} documents of {source} were in the text that one of the models was trained on, "
        "so what it makes of them says nothing of new text",
        where=", ".join(places[:SHOWN]) + more,
        allowed="text that neither model was trained on",
        do="give other text, such as what was held out; or --seen-too to score and mark it all the same",
    )
