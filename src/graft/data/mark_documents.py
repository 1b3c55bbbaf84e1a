"""mark_documents: the steps of a recipe say what they say of documents, are checked, and it is written down."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import plugin_name
from graft.core.text import dialogue
from graft.core.text.documents import doc_id
from graft.core.text.drop_reasons import CODE, Reason
from graft.core.text.mark_table import MarkTable, joined_notes
from graft.core.text.marked_text import MarkedText
from graft.core.text.split import Split
from graft.data.steps.contract import Document, Mark, Marks, Needs

OF_DOCUMENTS, OF_CORPUS = "mark", "mark_corpus"
VERBS = {OF_DOCUMENTS: {"reasons", OF_DOCUMENTS}, OF_CORPUS: {"reasons", OF_CORPUS, "expect"}}
OF_READING = (dialogue.NOTE, "label")  # entries of notes that no step may change
NO_NOTES: Mapping[str, Any] = MappingProxyType({})


def is_of_documents(step: Any) -> bool:
    return callable(getattr(type(step), OF_DOCUMENTS, None))


def check_step(step: Any) -> None:
    """Raises: UsageError, which names the step, where it is not one of the two kinds of `graft.data.steps.contract`."""
    name, kind = plugin_name(step), type(step)
    if not is_dataclass(step):
        raise UsageError(f'step "{name}" is no dataclass', allowed="a frozen dataclass of settings")
    public = {key for one in kind.__mro__[:-1] for key in vars(one) if not key.startswith("_")}
    settings = {one.name for one in fields(step)}
    verbs = [verb for verb in VERBS if verb in public - settings]
    known = VERBS[verbs[0]] if verbs else set().union(*VERBS.values())
    strange = sorted(public - settings - known)
    if strange:
        raise UsageError(
            f'step "{name}" has an attribute "{strange[0]}", which nothing reads',
            allowed=", ".join(sorted(known)) + ", its settings, and names that begin with _",
            do=nearest(strange[0], known) or "annotate it with its type, if it is a setting; begin helpers with _",
        )
    if len(verbs) != 1:
        raise UsageError(
            f'step "{name}" has {"both its verbs" if verbs else "no verb"}',
            allowed=f"{OF_DOCUMENTS}(documents), of each document by itself, or {OF_CORPUS}(needs)",
            do="see graft.data.steps.contract",
        )
    _check_reasons(name, getattr(kind, "reasons", None), settings)


def _check_reasons(name: str, reasons: Any, settings: set[str]) -> None:
    declares = isinstance(reasons, tuple) and all(isinstance(one, Reason) for one in reasons)
    if "reasons" in settings or not declares:
        raise UsageError(
            f'step "{name}" declares no reasons' if reasons is None else f'reasons of step "{name}" is {reasons!r}',
            allowed="a tuple of Reason, annotated as ClassVar; () where it drops nothing",
            do='reasons: ClassVar[tuple[Reason, ...]] = (Reason("short", "left out: few words"),)',
        )
    codes = [one.code for one in reasons]
    for one in reasons:
        if not CODE.fullmatch(one.code) or not one.sentence or codes.count(one.code) > 1:
            raise UsageError(
                f'step "{name}" declares the reason "{one.code}"' + ("" if one.sentence else " without a sentence"),
                allowed="codes of lower-case letters, digits and _, each once and with a sentence",
            )


@dataclass
class Marking:
    """What steps have written into a table of marks. rewritten: by step, counts of what it rewrote."""

    marks: MarkTable
    text: MarkedText
    split: Split
    rewritten: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    shrunk: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])  # bytes, by source and step

    def by_document(self, steps: Sequence[Any], advance: Callable[[], None]) -> None:
        """Several neighbouring steps in one pass over the text of what is usable."""
        each = [CheckedStep(step) for step in steps]
        columns = ["id", "text", "num_bytes", "notes"]
        for rows_N, batch in self.text.batches(columns, lambda chunk: self.marks.columns["drop"][chunk] == 0):
            alive = dict(zip(rows_N.tolist(), self._documents(rows_N, batch), strict=True))
            for step in each:
                self._mark(step, alive)
        for _ in steps:
            advance()

    def _documents(self, rows_N: NDArray[np.int64], batch: Any) -> Iterator[Document]:
        sources = [self.marks.sources[number] for number in self.marks.sources_of(rows_N).tolist()]
        added = (self.marks.columns["extra_at"][rows_N] >= 0).tolist()
        rewritten = (self.marks.columns["text_at"][rows_N] >= 0).tolist()
        told = zip(
            rows_N.tolist(), batch["id"].to_pylist(), self.text.texts(rows_N, batch), sources,
            batch["num_bytes"].to_pylist(), batch["notes"].to_pylist(), added, rewritten, strict=True,
        )  # fmt: skip
        for row, one, text, source, size, raw, more, other in told:
            raw = joined_notes(raw, self.marks.extra(row)[0]) if more else raw
            notes = NO_NOTES if raw == "{}" else json.loads(raw)
            if other:
                one, size = doc_id(text), int(self.marks.columns["num_bytes"][row])
            yield Document(one, text, source, size, notes)

    def _mark(self, step: CheckedStep, alive: dict[int, Document]) -> None:
        """Let a step mark documents, by row; those that it drops are taken out, and those it rewrites replaced."""
        dropped: dict[tuple[str, str], list[int]] = {}
        for (row, document), mark in zip(list(alive.items()), step.marks(list(alive.values())), strict=True):
            if mark is None:
                continue
            if mark.notes:
                self.marks.note(row, step.as_json(mark.notes))
                alive[row] = document._replace(notes={**document.notes, **mark.notes})
            if mark.reason:
                dropped.setdefault((mark.reason, mark.detail), []).append(row)
                del alive[row]
            elif mark.text is not None and mark.text != document.text:
                alive[row] = self._rewrite(step.name, row, alive[row], mark.text, mark.changed)
        for (code, detail), rows in dropped.items():
            self.marks.drop(np.array(rows), step.name, step.reasons[code], detail)

    def _rewrite(self, name: str, row: int, document: Document, text: str, changed: int) -> Document:
        one = doc_id(text)
        shrunk = self.marks.rewrite(row, one, text, self.split.place(one))
        source = self.marks.sources.index(document.source)
        self.shrunk[source, name] = self.shrunk.get((source, name), 0) + shrunk
        counts = self.rewritten.setdefault(name, Counter())
        counts.update(documents=1, changed_bytes=changed, shrunk_bytes=shrunk)
        return document._replace(id=one, text=text, num_bytes=document.num_bytes - shrunk)

    def by_corpus(self, step: Any) -> None:
        """One step that looks at documents beside each other."""
        one = CheckedStep(step)
        needs = Needs(tuple(self.marks.sources), self.text.apply, self.marks.by_text)
        for found in step.mark_corpus(needs):
            rows_N = one.rows(found, self.marks)
            for row, notes in zip(rows_N.tolist(), found.notes, strict=False):
                self.marks.note(row, one.as_json(notes))
            if found.reason:
                self.marks.drop(rows_N, one.name, one.reasons[found.reason], found.detail)


class CheckedStep:
    """A step, and what it may say."""

    def __init__(self, step: Any) -> None:
        self.name = plugin_name(step)
        self.reasons: dict[str, Reason] = {one.code: one for one in step.reasons}
        self._step = step

    def fate(self, code: str, detail: str = "") -> str:
        """What the ledger counts a drop as. Raises: UsageError for a code that is not declared."""
        self._check_drop(code, detail)
        return self.reasons[code].fate(detail)

    def marks(self, documents: Sequence[Document]) -> Sequence[Mark | None]:
        """Raises: UsageError for another number of marks, and for what is none."""
        found = self._step.mark(documents)
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise self._wrong(f"gave back a {type(found).__name__}", "a list of marks, one for each document")
        if len(found) != len(documents):
            raise self._wrong(
                f"was given {len(documents)} documents and gave back {len(found)} marks",
                "one mark for each document, in their order, or None; it never deletes or adds any",
            )
        for document, mark in zip(documents, found, strict=True):
            if mark is not None:
                self._check(document, mark)
        return found

    def _check(self, document: Document, mark: Mark) -> None:
        if type(mark) is not Mark:
            raise self._wrong(
                f"gave back a {type(mark).__name__} for a document", "graft.data.steps.contract.Mark, or None"
            )
        self._check_drop(mark.reason, mark.detail)
        if mark.text is not None:
            self._check_text(document, mark, mark.text)

    def _check_text(self, document: Document, mark: Mark, text: Any) -> None:
        if not isinstance(text, str) or not text.strip() or not _is_utf8(text):
            raise self._wrong(
                f"rewrites {document.id} as {str(text)[:40]!r}", "text in UTF-8, and some",
                "give a reason to drop the document instead",
            )  # fmt: skip
        if mark.reason or dialogue.NOTE in document.notes:
            what = "drops" if mark.reason else "rewrites the dialogue"
            also = " and rewrites it too" if mark.reason else ", whose turns are places in its text"
            raise self._wrong(f"{what} {document.id}{also}", "one of both; and no dialogue is rewritten")
        if type(mark.changed) is not int or (mark.changed <= 0 and text != document.text):
            raise self._wrong(f"rewrites {document.id} with changed = {mark.changed!r}", "the number of bytes changed")

    def _check_drop(self, reason: Any, detail: Any) -> None:
        words = isinstance(reason, str) and isinstance(detail, str) and _is_utf8(detail)
        if not words or (detail and not reason):
            raise self._wrong(f"gave the reason {reason!r} and the detail {detail!r}", "text, and no detail alone")
        if reason and reason not in self.reasons:
            raise self._wrong(
                f'gave the reason "{reason}", which it does not declare',
                ", ".join(self.reasons) or "none, since its reasons are ()",
                nearest(reason, self.reasons) or "add it to `reasons`, with a sentence",
            )

    def as_json(self, notes: Any) -> str:
        """Raises: UsageError for notes that are none."""
        if not isinstance(notes, Mapping) or any(type(key) is not str or key in OF_READING for key in notes):
            raise self._wrong(f"gave the notes {notes!r}", f"a mapping by names other than {', '.join(OF_READING)}")
        try:
            return json.dumps(dict(notes), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"gave notes that are no JSON: {error}", "numbers, text, lists and mappings") from error

    def rows(self, found: Any, marks: MarkTable) -> NDArray[np.int64]:
        """The rows of a corpus step's marks. Raises: UsageError where they are none, or not usable."""
        if type(found) is not Marks:
            raise self._wrong(f"gave back a {type(found).__name__}", "graft.data.steps.contract.Marks")
        rows_N = np.asarray(found.rows_N)
        if rows_N.ndim != 1 or (len(rows_N) and rows_N.dtype.kind not in "iu"):
            raise self._wrong(
                f"gave rows of type {rows_N.dtype}, shape {rows_N.shape}", "row numbers, in one dimension"
            )
        self._check_drop(found.reason, found.detail)
        if found.notes and len(found.notes) != len(rows_N):
            raise self._wrong(f"gave {len(found.notes)} notes for {len(rows_N)} documents", "one for each row, or none")
        rows_N = rows_N.astype(np.int64)
        inside = bool(len(rows_N) == 0 or (rows_N.min() >= 0 and rows_N.max() < len(marks)))
        usable = inside and not marks.columns["drop"][rows_N].any()
        if not usable or (found.reason and len(np.unique(rows_N)) != len(rows_N)):
            raise self._wrong("marked rows that are not usable, or twice", "each usable row once, as `needs` names it")
        return rows_N

    def _wrong(self, what: str, allowed: str, do: str = "") -> UsageError:
        return UsageError(f'step "{self.name}" {what}', allowed=allowed, do=do)


def _is_utf8(text: str) -> bool:
    return "\0" not in text and re.search("[\ud800-\udfff]", text) is None


def groups(steps: Iterable[Any]) -> list[tuple[bool, list[Any]]]:
    """The plan: (whether they look at documents by themselves, neighbouring steps that share a pass)."""
    found: list[tuple[bool, list[Any]]] = []
    for step in steps:
        alone = is_of_documents(step)
        if alone and found and found[-1][0]:
            found[-1][1].append(step)
        else:
            found.append((alone, [step]))
    return found
