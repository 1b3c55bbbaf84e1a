"""curate: documents of all sources are split and go through the steps; what is dropped stays in the table, marked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.process.progress import Progress, track
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.ledger import Amount
from graft.core.text import documents as doc
from graft.core.text.split import Split
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.data.steps.overlap import Overlap

TABLE = "docs.parquet"
MARKS = ("split", "dropped", "notes")  # the columns that curation changes
BATCH_ROWS = 4096
ROUNDS = 8  # how often a small source may put another document in the place of one that a step dropped


@dataclass(frozen=True)
class Curate:
    """Which documents are used, and for what."""

    # in this order; see `graft ls steps`
    steps: Annotated[tuple[Any, ...], Shelf("steps")] = (ExactDuplicates(), Overlap())
    split: Split = field(default_factory=Split)


@dataclass
class Decisions:
    """What curation has found so far, one entry per document of all sources, in row order.

    first_row: of each source, and the end of the last one.
    """

    sources: list[str]
    first_row: list[int]
    ids: list[str]
    sizes: list[int]
    split: list[str]
    dropped: list[str]
    notes: list[str]
    beyond: set[str] = field(default_factory=set)  # ids that are not held out, because enough are

    @classmethod
    def read(cls, docs: Mapping[str, Artifact]) -> Decisions:
        marks = cls(list(docs), [0], [], [], [], [], [])
        for artifact in docs.values():
            table = pq.read_table(artifact / TABLE, columns=["id", "num_bytes", "position", *MARKS])
            assert table["position"].to_pylist() == list(range(len(table))), artifact.name
            marks.ids += table["id"].to_pylist()
            marks.sizes += table["num_bytes"].to_pylist()
            for name in MARKS:
                getattr(marks, name).extend(table[name].to_pylist())
            marks.first_row.append(len(marks.ids))
        return marks

    def rows(self, source: str) -> range:
        number = self.sources.index(source)
        return range(self.first_row[number], self.first_row[number + 1])

    def owners(self) -> dict[str, str]:
        """The first source that has it, for every text that is usable now."""
        found: dict[str, str] = {}
        for source in self.sources:
            for row in self.rows(source):
                if not self.dropped[row]:
                    found.setdefault(self.ids[row], source)
        return found

    def limit(self, split: Split) -> None:
        """Settle what is beyond the limit, for all steps of a round: none may see it come back from training."""
        if sum(self.sizes) > split.most:
            self.beyond = split.beyond(self.owners(), dict(zip(self.ids, self.sizes, strict=True)))

    def assign(self, split: Split) -> dict[str, int]:
        """Split what is usable now, each text counting for the first source that has it; texts per source."""
        owners = self.owners()
        splits = split.assign(owners, self.beyond)
        for row, one in enumerate(self.ids):
            if not self.dropped[row]:
                self.split[row] = splits[one]
        counts = Counter(owners.values())
        return {source: counts[source] for source in self.sources}

    def lacking(self) -> bool:
        """Whether a source is without a test document, or without one for validation though it has three documents."""
        for source in self.sources:
            left = Counter(self.split[row] for row in self.rows(source) if not self.dropped[row])
            if not left["test"] or (not left["validation"] and left.total() > 2):
                return True
        return False

    def fates(self, source: str) -> dict[str, Amount]:
        """What became of the source's documents: the three splits, then the reasons."""
        fates = {name: Amount() for name in doc.SPLITS}
        for row in self.rows(source):
            fate = self.dropped[row] or self.split[row]
            fates[fate] = fates.get(fate, Amount()) + Amount(1, self.sizes[row])
        return fates


def curate(docs: Mapping[str, Artifact], settings: Curate = Curate(), *, store: Store) -> Artifact:
    """One table per source, SOURCE.parquet: all documents by position, `split` set, the dropped ones marked.

    docs: source name -> artifact of `ingest`. Where two sources have the same text, the earlier one in `docs` keeps it.
    Splits are given before every step, over what is usable by then, and what is beyond the split's limit once for all
    steps; where they leave a source without a test or validation document, the next ones by hash take their place and
    the steps run again. Errors: UsageError for a source with fewer than two usable documents or nothing of its own,
    and for a step that loses documents.
    """
    for source in docs:
        if not re.fullmatch(r"\w[\w.-]*", source):
            raise UsageError(f'a source is called "{source}"', allowed="letters, digits, _, - and ., as in a file name")
    inputs: dict[str, Artifact | str] = {f"docs {source}": artifact for source, artifact in docs.items()}
    inputs["order"] = ", ".join(docs)
    return store.make("corpus", settings, inputs, __name__, lambda draft: _write(docs, settings, draft))


def _write(docs: Mapping[str, Artifact], settings: Curate, draft: Draft) -> None:
    marks = Decisions.read(docs)
    _require_two(marks, marks.assign(settings.split), docs)
    progress = Progress("curating", len(settings.steps))
    for number in range(ROUNDS):
        progress.total = len(settings.steps) * (number + 1)
        marks.limit(settings.split)
        for step in settings.steps:
            marks.assign(settings.split)
            progress.note = plugin_name(step)
            _apply(step, docs, marks)
            progress.advance()
        if not marks.lacking():
            break
    progress.close()
    _require_splits(marks, docs)
    for source, artifact in track(list(docs.items()), "writing the corpus"):
        for fate, amount in marks.fates(source).items():
            draft.ledger.enter(source, amount)
            draft.ledger.settle(source, fate, amount)
        _copy(artifact, marks, source, draft)
    draft.facts |= {"sources": list(docs), "notes": _tallies(marks)}


def _frame(docs: Mapping[str, Artifact], marks: Decisions) -> Any:
    """The documents as a Daft data frame, texts still on disk; see graft.data.steps for its columns."""
    from graft.core.text.daft_frames import col, daft, parquet

    whole = None
    for source, artifact in docs.items():
        frame = parquet(artifact / TABLE).exclude(*MARKS)
        frame = frame.with_columns(
            {"source": daft.lit(source), "row": col("position") + daft.lit(marks.rows(source).start)}
        )
        whole = frame if whole is None else whole.concat(frame)
    assert whole is not None
    found = {"row": pa.array(range(len(marks.ids)), pa.int64())}
    found |= {name: pa.array(getattr(marks, name), pa.string()) for name in MARKS}
    return whole.join(daft.from_arrow(pa.table(found)), on="row", how="left")


def _apply(step: Any, docs: Mapping[str, Artifact], marks: Decisions) -> None:
    """Let a step mark documents. Errors: UsageError when it gives back other rows than it was given."""
    after = step(_frame(docs, marks)).select("row", "dropped", "notes").to_arrow().sort_by("row")
    if after["row"].to_pylist() != list(range(len(marks.ids))):
        raise UsageError(
            f'step "{plugin_name(step)}" was given {len(marks.ids)} documents and gave back {len(after)}',
            allowed="a step that marks documents in `dropped`; it never deletes or adds any",
        )
    marks.dropped, marks.notes = after["dropped"].to_pylist(), after["notes"].to_pylist()


def _require_two(marks: Decisions, num_texts: Mapping[str, int], docs: Mapping[str, Artifact]) -> None:
    for source, count in num_texts.items():
        usable = [row for row in marks.rows(source) if not marks.dropped[row]]
        if usable and not count:
            ids = {marks.ids[row] for row in usable}
            others = [one for one in docs if any(marks.ids[row] in ids for row in marks.rows(one)) and one != source]
            raise UsageError(
                f"{' and '.join([*others, source])} are the same text: {source} has none that is not there too",
                where=_paths(docs[source]),
                allowed="sources with text of their own",
                do=f"give {source} another path",
            )
        if count < 2:
            raise UsageError(
                f"source {source!r} has {count} usable document{'' if count == 1 else 's'} of its own "
                f"({len(usable)} with repetitions, {len(marks.rows(source))} in all)",
                where=_paths(docs[source]),
                allowed="two or more different documents: one to train on, one to test on",
                do="give more documents, or split the file into several at its chapters or sections",
            )


def _require_splits(marks: Decisions, docs: Mapping[str, Artifact]) -> None:
    for source in docs:
        left = Counter(marks.split[row] for row in marks.rows(source) if not marks.dropped[row])
        for name in ("train", "test"):
            if not left[name]:
                lost = Counter(marks.dropped[row] for row in marks.rows(source) if marks.dropped[row])
                words = ", ".join(f"{count} x {fate}" for fate, count in lost.most_common())
                raise UsageError(
                    f"source {source!r} has no {name} document left ({words})",
                    where=_paths(docs[source]),
                    allowed="one or more after all steps",
                    do="give more documents that differ, or set the steps to drop less",
                )


def _paths(artifact: Artifact) -> str:
    return ", ".join(artifact.facts.get("paths", [artifact.name]))


def _copy(artifact: Artifact, marks: Decisions, source: str, draft: Draft) -> None:
    """The source's table with the marks put in, batch by batch."""
    row = marks.rows(source).start
    with pq.ParquetWriter(draft / f"{source}.parquet", doc.SCHEMA, compression="zstd", compression_level=1) as writer:
        for batch in pq.ParquetFile(artifact / TABLE).iter_batches(BATCH_ROWS):
            end = row + len(batch)
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["source"] = pa.array([source] * len(batch), pa.string())
            columns |= {name: pa.array(getattr(marks, name)[row:end], pa.string()) for name in MARKS}
            writer.write_table(pa.table(columns, schema=doc.SCHEMA))
            row = end


def _tallies(marks: Decisions) -> dict[str, Any]:
    """What steps noted about kept documents: {note: {source: {split: {total, count, mean}}}}."""
    sums: dict[str, dict[str, dict[str, Tally[float]]]] = {}
    for source in marks.sources:
        for row in marks.rows(source):
            if marks.dropped[row] or marks.notes[row] == "{}":
                continue
            for name, value in json.loads(marks.notes[row]).items():
                if isinstance(value, list) and len(value) == 2:
                    splits = sums.setdefault(name, {}).setdefault(source, {})
                    known = splits.get(marks.split[row], Tally(0.0, 0.0))
                    splits[marks.split[row]] = known + Tally(*value)
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
