"""curate: documents of all sources are split and go through the steps; what is dropped stays in the table, marked."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.process.progress import Progress
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.text import documents as doc
from graft.core.text.drop_reasons import Reason
from graft.core.text.mark_table import SPLIT_NAMES, MarkTable
from graft.core.text.marked_text import MarkedText
from graft.core.text.split import Split
from graft.data.assign_splits import assign_splits, limit_held_out
from graft.data.mark_documents import Marking, check_step, groups
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.data.steps.overlap import Overlap
from graft.data.write_corpus import fates_of, write_corpus

TABLE = "docs.parquet"
SCRATCH = "marks.partial"  # what is called so is removed before an artifact is finished
ROUNDS = 8  # how often a small source may put another document in the place of one that a step dropped


@dataclass(frozen=True)
class Curate:
    """Which documents are used, and for what."""

    # in this order; see `graft ls steps`
    steps: Annotated[tuple[Any, ...], Shelf("steps")] = (ExactDuplicates(), Overlap())
    split: Split = field(default_factory=Split)

    def __post_init__(self) -> None:
        for step in self.steps:
            check_step(step)


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
    scratch = draft / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed: marks are made anew
    tables = {source: artifact / TABLE for source, artifact in docs.items()}
    marks = MarkTable.read(scratch, tables, settings.split)
    try:
        marking = Marking(marks, MarkedText(tables, marks), settings.split)
        _require_two(marks, assign_splits(marks, settings.split), docs)
        _mark(marking, settings)
        _require_splits(marks, docs)
        reasons: dict[str, Sequence[Reason]] = {plugin_name(step): step.reasons for step in settings.steps}
        write_corpus(draft, marking, reasons)
    finally:
        marks.close()
    shutil.rmtree(scratch)


def _mark(marking: Marking, settings: Curate) -> None:
    """Let all steps mark, in as many rounds as it takes."""
    marks, plan = marking.marks, groups(settings.steps)
    progress = Progress("curating", len(settings.steps))
    for number in range(ROUNDS):
        again = [group for group in plan if number == 0 or not group[0]]
        progress.total = progress.done + sum(len(steps) for _, steps in again)
        if limit_held_out(marks, settings.split) or marks.changed:
            assign_splits(marks, settings.split)
        for alone, steps in again:
            if marks.changed:
                assign_splits(marks, settings.split)
            progress.note = ", ".join(map(plugin_name, steps))
            if alone:
                marking.by_document(steps, progress.advance)
            else:
                marking.by_corpus(steps[0])
                progress.advance()
        if not _lacking(marks):
            break
    progress.close()


def _left(marks: MarkTable, source: str) -> Counter[str]:
    """Usable documents by split."""
    counts = np.zeros(len(SPLIT_NAMES), np.int64)
    for chunk in marks.chunks(marks.rows(source)):
        usable = marks.columns["drop"][chunk] == 0
        counts += np.bincount(marks.columns["split"][chunk][usable], minlength=len(counts))
    return Counter(dict(zip(SPLIT_NAMES, counts.tolist(), strict=True)))


def _lacking(marks: MarkTable) -> bool:
    """Whether a source is without a test document, or without one for validation though it has three documents."""
    every = [_left(marks, source) for source in marks.sources]
    return any(not left["test"] or (not left["validation"] and left.total() > 2) for left in every)


def _require_two(marks: MarkTable, num_texts: Sequence[int], docs: Mapping[str, Artifact]) -> None:
    for source, count in zip(marks.sources, num_texts, strict=True):
        usable = _left(marks, source).total()
        if usable and not count:
            others = [one for one in _sharing(marks, source) if one != source]
            raise UsageError(
                f"{' and '.join([*others, source])} are the same text: {source} has none that is not there too",
                where=_paths(docs[source]),
                allowed="sources with text of their own",
                do=f"give {source} another path",
            )
        if count < 2:
            raise UsageError(
                f"source {source!r} has {count} usable document{'' if count == 1 else 's'} of its own "
                f"({usable} with repetitions, {len(marks.rows(source))} in all)",
                where=_paths(docs[source]),
                allowed="two or more different documents: one to train on, one to test on",
                do="give more documents, or split the file into several at its chapters or sections",
            )


def _sharing(marks: MarkTable, source: str) -> list[str]:
    """The sources that have usable texts of this one, in their order."""
    number, found = marks.sources.index(source), set[int]()
    for part in marks.by_text():
        text_N = np.cumsum(~part.same_N)
        shared_N = np.isin(text_N, text_N[part.sources_N == number])
        found |= set(part.sources_N[shared_N].tolist())
    return [marks.sources[one] for one in sorted(found)]


def _require_splits(marks: MarkTable, docs: Mapping[str, Artifact]) -> None:
    for source in docs:
        left = _left(marks, source)
        for name in ("train", "test"):
            if not left[name]:
                lost = {fate: one.documents for fate, one in fates_of(marks, source).items() if fate not in doc.SPLITS}
                words = ", ".join(f"{count} x {fate}" for fate, count in Counter(lost).most_common())
                raise UsageError(
                    f"source {source!r} has no {name} document left ({words})",
                    where=_paths(docs[source]),
                    allowed="one or more after all steps",
                    do="give more documents that differ, or set the steps to drop less",
                )


def _paths(artifact: Artifact) -> str:
    return ", ".join(artifact.facts.get("paths", [artifact.name]))
