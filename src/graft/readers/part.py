"""A part of much text: which files are read, and of files with rows every so many-th row, by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from graft.readers.file_record import Fields, File
from graft.readers.folder import Listing, read
from graft.readers.open_compressed import COMPRESSIONS

ROWED = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")  # of these, rows can be left out
INFLATION = 4  # bytes of text in a byte of a compressed file, roughly
SPREAD = 64  # files that a part is spread over, where there are so many
PEEKED_FILES, PEEKED_ROWS = 4, 64  # looked into for the length of a row
AT_MOST = 8  # times the bytes asked for, where documents are so long that too few would be among them


@dataclass(frozen=True)
class SourcePart:
    """How much of a text is wanted: about so many bytes of it, and at least so many documents, drawn by a seed."""

    num_bytes: int
    documents: int
    seed: int = 0

    def of(self, found: Listing, fields: Fields) -> tuple[Listing, list[File]] | None:
        """(what is read, files that are not), or None where a part would be more than half of all.

        Files are drawn by a hash of their names. Of a file with rows every so many-th row is taken, so that a part of
        it spreads over all of it; other files are read whole.
        """
        sizes = {file.name: _expected(file) for file in found.files}
        order = sorted(found.files, key=lambda file: self._place(file.name))
        length = _row_length(order, fields)
        need = max(self.num_bytes, min(self.documents * length, AT_MOST * self.num_bytes))
        if sum(sizes.values()) <= 2 * need:
            return None
        share = need / min(SPREAD, len(order))
        while sum(_taken(file, sizes[file.name], share) for file in order) < need:
            share *= 2
        taken, chosen = 0.0, dict[str, File]()
        for file in order:
            if taken >= need:
                break
            part = _taken(file, sizes[file.name], share)
            every = max(1, int(sizes[file.name] / part)) if file.suffix in ROWED else 1
            chosen[file.name] = replace(file, every=every, first=int(self._place(file.name) * every))
            taken += sizes[file.name] / every
        kept = [chosen[file.name] for file in found.files if file.name in chosen]
        return replace(found, files=kept), [file for file in found.files if file.name not in chosen]

    def _place(self, name: str) -> float:
        """Where in 0..1 a file falls."""
        written = f"{self.seed}\0{name}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big") / 2**64


def _expected(file: File) -> float:
    """Bytes of text, by rule of thumb."""
    return file.size * (INFLATION if file.path.suffix in COMPRESSIONS else 1)


def _taken(file: File, size: float, share: float) -> float:
    return min(size, share) if file.suffix in ROWED else size


def _row_length(order: Sequence[File], fields: Fields) -> float:
    """Bytes of a document, by a look at the first rows of a few files; of other files they are the documents."""
    rowed = [file for file in order if file.suffix in ROWED][:PEEKED_FILES]
    if not rowed:
        return sum(map(_expected, order)) / max(1, len(order))
    seen = [one.num_bytes for file in rowed for one in islice(read(file, fields), PEEKED_ROWS) if not one.dropped]
    return sum(seen) / max(1, len(seen))
