"""write_corpus: the tables of a corpus, with all marks put in, and the sums over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.process.progress import track
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Draft
from graft.core.store.ledger import REWRITTEN, Amount
from graft.core.text import documents as doc
from graft.core.text.drop_reasons import Reason, facts_of
from graft.core.text.mark_table import NOTHING, SPLIT_NAMES, MarkTable, hexadecimal, joined_notes
from graft.core.text.marked_text import MarkedText
from graft.data.mark_documents import Marking

BATCH_ROWS = 4096
PLAIN = ("source", "split", "dropped", "dropped_by", "reason", "detail", "notes")  # whose values recur
Sums = dict[str, dict[str, dict[str, Tally[float]]]]  # by note, source and split


def write_corpus(draft: Draft, marking: Marking, reasons: Mapping[str, Sequence[Reason]]) -> None:
    """SOURCE.parquet for every source, the ledger, and the facts. reasons: of the steps, by name."""
    marks, sums = marking.marks, Sums()
    for source, path in track(list(marking.text.tables.items()), "writing the corpus"):
        for fate, amount in fates_of(marks, source).items():
            draft.ledger.enter(source, amount)
            draft.ledger.settle(source, fate, amount)
        _write_table(draft / f"{source}.parquet", path, source, marking.text, sums)
    for (number, step), shrunk in marking.shrunk.items():
        amount = Amount(bytes=shrunk)  # below 0 where texts have grown: what was read is still the sum of all
        draft.ledger.enter(marks.sources[number], amount)
        draft.ledger.settle(marks.sources[number], REWRITTEN + step, amount)
    draft.facts |= {"sources": marks.sources, "notes": _means(sums), **facts_of(marks.drops[1:], reasons)}
    if marking.rewritten:
        draft.facts["rewritten"] = {step: dict(counts) for step, counts in marking.rewritten.items()}


def fates_of(marks: MarkTable, source: str) -> dict[str, Amount]:
    """What became of the source's documents: the three splits, then the reasons, as they come up."""
    fates = {name: Amount() for name in doc.SPLITS}
    for chunk in marks.chunks(marks.rows(source)):
        drops_N, splits_N = marks.columns["drop"][chunk], marks.columns["split"][chunk]
        keys_N = np.where(drops_N > 0, len(SPLIT_NAMES) + drops_N.astype(np.int64), splits_N)
        keys, firsts, places_N = np.unique(keys_N, return_index=True, return_inverse=True)
        counts = np.bincount(places_N)
        sizes = np.zeros(len(keys), np.int64)
        np.add.at(sizes, places_N, marks.columns["num_bytes"][chunk])
        for place in np.argsort(firsts).tolist():
            key = int(keys[place])
            fate = SPLIT_NAMES[key] if key < len(SPLIT_NAMES) else marks.drops[key - len(SPLIT_NAMES)].fate
            amount = Amount(int(counts[place]), int(sizes[place]))
            fates[fate] = fates.get(fate, Amount()) + amount
    return fates


def _write_table(out: Path, path: Path, source: str, text: MarkedText, sums: Sums) -> None:
    """The source's table with the marks put in, batch by batch."""
    own = text.marks.rows(source).start
    packed: Any = {"compression": "zstd", "compression_level": 1, "use_dictionary": list(PLAIN)}
    with pq.ParquetWriter(out, doc.SCHEMA, **packed) as writer, pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            chunk = slice(own, own + len(batch))
            columns = _columns(batch, source, chunk, text)
            _add_up(columns, source, sums)
            writer.write_table(pa.table(columns, schema=doc.SCHEMA), row_group_size=BATCH_ROWS)
            own = chunk.stop


def _columns(batch: pa.RecordBatch, source: str, chunk: slice, text: MarkedText) -> dict[str, pa.Array]:
    """The columns of the document table for some rows."""
    marks = text.marks
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["source"] = pa.array([source] * len(batch), pa.string())
    columns["split"] = marks.strings("split", chunk)
    for name, field in (("dropped", "fate"), ("dropped_by", "by"), ("reason", "reason"), ("detail", "detail")):
        columns[name] = marks.strings(field, chunk)
    added = np.flatnonzero(marks.columns["extra_at"][chunk] != NOTHING).tolist()
    if added:
        notes, details = batch.column("notes").to_pylist(), columns["detail"].to_pylist()
        for place in added:
            more, detail = marks.extra(chunk.start + place)
            details[place] = detail or details[place]
            notes[place] = joined_notes(notes[place], more) if more else notes[place]
        columns |= {"notes": pa.array(notes, pa.string()), "detail": pa.array(details, pa.string())}
    if (marks.columns["text_at"][chunk] != NOTHING).any():
        texts = text.texts(np.arange(chunk.start, chunk.stop), batch)
        ids = hexadecimal(marks.columns["id"][chunk])
        columns |= {"text": pa.array(texts, pa.large_string()), "id": pa.array(ids, pa.string())}
        columns["num_bytes"] = pa.array(marks.columns["num_bytes"][chunk])
    return columns


def _add_up(columns: Mapping[str, pa.Array], source: str, sums: Sums) -> None:
    """Add the tallies that steps noted about kept documents."""
    names = ("notes", "dropped", "split")
    for raw, dropped, split in zip(*(columns[name].to_pylist() for name in names), strict=True):
        if dropped or raw == "{}":
            continue
        for name, value in json.loads(raw).items():
            if isinstance(value, list) and len(value) == 2:
                splits = sums.setdefault(name, {}).setdefault(source, {})
                splits[split] = splits.get(split, Tally(0.0, 0.0)) + Tally(*value)


def _means(sums: Sums) -> dict[str, Any]:
    """{note: {source: {split: {total, count, mean}}}}."""
    return {
        name: {
            source: {
                split: {"total": tally.total, "count": tally.count, "mean": tally.mean if tally.count else 0.0}
                for split, tally in splits.items()
            }
            for source, splits in sources.items()
        }
        for name, sources in sums.items()
    }
