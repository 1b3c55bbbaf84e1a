"""What a curation step is, and all that it may ask of its host.

A step is a frozen dataclass of settings with one verb and `reasons`, the codes for which it drops documents, each with
a sentence. There are two kinds:

- a `DocumentStep` looks at each document by itself. Neighbours in a recipe share one pass over the text. What it says
  of a document depends on that document alone, so it is asked once.
- a `CorpusStep` looks at documents beside each other. It is asked in every round, on what is usable by then.

A step marks: it never deletes, and it does no I/O. In `notes` it may leave a tally, a pair [total, count]; curate adds
those of the kept documents up, per source and split, and divides once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from graft.core.text.drop_reasons import Reason
from graft.core.text.mark_table import Narrow

__all__ = ["CorpusStep", "Document", "DocumentStep", "Expects", "Mark", "Marks", "Narrow", "Needs", "Reason", "Sample"]

T = TypeVar("T")


class Document(NamedTuple):
    """A usable document. notes: what reading and earlier steps noted, such as "dialogue" and "label"."""

    id: str
    text: str
    source: str
    num_bytes: int
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a document step says of one document.

    reason: a declared code, where the document is to be dropped; detail: what the code leaves open.
    notes: entries to add. text: what is to stand instead of the text; changed: how many bytes of it are other ones,
    deleted and inserted ones included. Not for dialogues, whose turns are places in the text.
    """

    reason: str = ""
    detail: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    text: str | None = None
    changed: int = 0


@dataclass(frozen=True)
class Marks:
    """What a corpus step says of some documents, which are usable and named by their rows.

    reason, detail: of all of them, where they are to be dropped. notes: entries to add, one mapping a row.
    """

    rows_N: NDArray[np.int64]
    reason: str = ""
    detail: str = ""
    notes: Sequence[Mapping[str, Any]] = ()


class Texts(Protocol):
    """Applies `function` to the texts of usable documents, batch after batch in order, and gives what it returns.

    of: "train", "held out" (validation and test) or "all". The function takes (rows, texts) and depends on nothing
    else, because an engine may call it in another thread or process.
    """

    def __call__(self, function: Callable[[NDArray[np.int64], list[str]], T], of: str) -> Iterator[T]: ...


@dataclass(frozen=True)
class Needs:
    """All that a corpus step may ask.

    sources: their names; numbers of sources are places in it, and the earlier one goes first where two share a text.
    texts: see `Texts`.
    by_text: every usable document without its text, in parts: those of the same text are in one part, beside each
    other, the first of them first.
    """

    sources: Sequence[str]
    texts: Texts
    by_text: Callable[[], Iterable[Narrow]]


@dataclass(frozen=True)
class Sample:
    """Usable documents out of a source that was looked at for a moment, for a plan.

    share: of all documents of the source that these are. copied: share of documents in files that copy another file.
    """

    ids: Sequence[str]
    share: float
    copied: float


class DocumentStep(Protocol):
    """A step that looks at each document by itself."""

    reasons: tuple[Reason, ...]

    def mark(self, documents: Sequence[Document]) -> Sequence[Mark | None]:
        """One mark for each document, in their order; None where there is nothing to say."""
        ...


class CorpusStep(Protocol):
    """A step that looks at documents beside each other."""

    reasons: tuple[Reason, ...]

    def mark_corpus(self, needs: Needs) -> Iterable[Marks]:
        """Marks in any order; a document is dropped at most once."""
        ...


@runtime_checkable
class Expects(Protocol):
    """What a corpus step may offer too, for `graft plan`: what it would drop of a source that is not read yet."""

    def expect(self, sample: Sample) -> Mapping[str, float]:
        """By code, the share of the usable documents."""
        ...
