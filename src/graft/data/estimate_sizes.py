"""survey: a first look at text, enough to foretell its size before anything is made of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graft.core.text import documents as doc
from graft.data.ingest import Ingest, Intake, look_up
from graft.readers import hub
from graft.readers.file_record import FileRecord
from graft.readers.folder import Listing
from graft.readers.open_compressed import COMPRESSIONS

MEASURED = 8  # bytes of text counted for every byte kept: a long look at sizes, a short one at words
SAMPLED_FILES = 16  # the budget is spread over at least so many files, where there are so many
INFLATION = 4  # bytes of text in a byte of a compressed file, roughly


@dataclass(frozen=True)
class Survey:
    """What a look at the beginnings of some files shows.

    bytes_total: of the files on disk, as compressed as they are; of the source code, for embedded text. share_seen: how
    much of bytes_total was read, 0..1; 0 for a data set of the hub, which is not downloaded. num_docs, text_bytes:
    usable documents, and bytes of UTF-8 text, in what was read. docs: some of these documents (rows of
    graft.core.text.documents), evenly spread over them; the last one of a long plain
        text file is its beginning.
    dropped: how many documents of what was read could not be used, by reason.
    exact: everything was read, and num_docs and text_bytes are the truth.
    """

    files: int
    bytes_total: int
    share_seen: float
    num_docs: int
    text_bytes: int
    docs: list[dict]
    dropped: dict[str, int]
    exact: bool

    @property
    def text_total(self) -> float:
        """Bytes of text in all, foretold; NaN when nothing was read."""
        return self.text_bytes / self.share_seen if self.share_seen else float("nan")


@dataclass(frozen=True)
class Sample:
    """One thing to look into: its size on disk, how much text to take from it, and the pieces it begins with."""

    size: int
    allowance: int
    pieces: Iterator[tuple[int, FileRecord]]


def survey(
    paths: Sequence[str], settings: Ingest = Ingest(), budget_seconds: float = 0.5, budget_bytes: int = 2_000_000
) -> Survey:
    """A look at the beginnings of some files, the same ones every time; writes nothing.

    budget_bytes: of text in `docs`; up to MEASURED times as much is counted. budget_seconds: an emergency brake, the
    only thing that can make two looks differ. Errors: as `ingest`, where they show before reading.
    """
    deadline = time.monotonic() + budget_seconds
    remote = [path for path in paths if path.startswith(hub.SCHEME)]
    intakes = [look_up(path) for path in paths if path not in remote]
    sizes = [hub.sizes(path) for path in remote] + [(intake.num_files, intake.size) for intake in intakes]
    bytes_total = sum(size for _, size in sizes)
    expected = sum(_text_expected(intake) for intake in intakes)
    kept_share = min(1.0, budget_bytes / max(1.0, min(expected, MEASURED * budget_bytes)))
    docs: list[dict] = []
    dropped: Counter[str] = Counter()
    num_docs = text_bytes = seen_total = 0
    exact = not remote
    for sample in (sample for intake in intakes for sample in _samples(intake, budget_bytes // len(intakes), settings)):
        if text_bytes >= MEASURED * budget_bytes or time.monotonic() > deadline:
            exact = False
            break
        seen = within = 0
        for read_bytes, one in sample.pieces:
            seen += read_bytes
            if one.dropped:
                dropped[one.dropped] += 1
            else:
                if math.floor((num_docs + 1) * kept_share) > math.floor(num_docs * kept_share):
                    docs.append(
                        doc.doc_row(one.text, source="", position=len(docs), parent=one.parent, notes=one.notes)
                    )
                num_docs += 1
                within += one.num_bytes
            if within >= sample.allowance or time.monotonic() > deadline:
                exact = exact and seen >= sample.size
                break
        else:
            seen = sample.size
        seen_total += seen
        text_bytes += within
    exact = exact and seen_total >= bytes_total
    share = 1.0 if exact else min(1.0, seen_total / max(1, bytes_total))
    return Survey(
        sum(count for count, _ in sizes), bytes_total, share, num_docs, text_bytes, docs, dict(dropped), exact
    )


def _text_expected(intake: Intake) -> float:
    """Bytes of text in all, by rule of thumb."""
    return sum(file.size * (INFLATION if file.path.suffix in COMPRESSIONS else 1) for file in intake.found.files)


def _samples(intake: Intake, budget: int, settings: Ingest) -> Iterator[Sample]:
    """Each file, in an order that has nothing to do with names; of embedded text every so many-th module."""
    if intake.embedded:
        thinned = replace(intake.embedded, every=max(1, 2 * intake.size // (budget * intake.embedded.sparse)))
        one = replace(intake, embedded=thinned)
        yield Sample(thinned.size_read, MEASURED * budget, one.pieces(settings.fields))
        return
    files = sorted(intake.found.files, key=lambda file: doc.exact_id(file.name))
    allowance = max(1, MEASURED * budget // min(len(files), SAMPLED_FILES))
    for file in files:
        one = replace(intake, found=Listing([replace(file, limit=allowance)]))
        yield Sample(file.size, allowance, one.pieces(settings.fields))
