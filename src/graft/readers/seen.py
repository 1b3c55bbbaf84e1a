"""What was seen in reading a source: counts by what became of it, and the words for what is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from graft.core.config.errors import UsageError, nearest
from graft.core.store.ledger import Amount
from graft.core.text import dialogue
from graft.readers.file_record import (
    EMPTY,
    EXPANDS,
    NO_FIELD,
    NOT_TEXT,
    RAGGED,
    SAMPLED_OUT,
    TOO_LARGE,
    UNREAD_KIND,
    FileRecord,
)

MARK = "dropped: "
NAMES_SHOWN = 12
TO_DO = {
    NO_FIELD: "set ingest.text_field (--text-field)",
    NOT_TEXT: "set ingest.text_field (--text-field)",
    EXPANDS: "unpack it, if it is text",
    TOO_LARGE: "split it: a row or a page may have 32 MB",
    RAGGED: "it has more or fewer cells than the header: quote text that holds the delimiter",
}


class ReadCounts:
    """Counts of pieces by fate; of the losses the first place of each, and what may help."""

    def __init__(self) -> None:
        self.fates: dict[str, Amount] = {"kept": Amount()}
        self.fields: Counter[str] = Counter()
        self.first_lost: dict[str, str] = {}
        self.hints: dict[str, str] = {}
        self.noted: Counter[str] = Counter()  # documents with such an entry in their notes

    def count(self, one: FileRecord) -> None:
        fate = one.dropped or "kept"
        self.fates[fate] = self.fates.get(fate, Amount()) + Amount(1, one.num_bytes)
        if one.dropped:
            self.first_lost.setdefault(one.dropped, one.parent)
            self.fields.update(one.fields)
            if one.hint and one.dropped not in self.hints:
                beside = one.parent == self.first_lost[one.dropped]
                self.hints[one.dropped] = one.hint if beside else f"{one.parent}: {one.hint}"
        elif one.notes != "{}":
            notes = json.loads(one.notes)
            self.noted.update([*notes, *notes.get(dialogue.NOTE, {})])

    @property
    def unread(self) -> dict[str, int]:
        """Files of kinds that are not read, by kind."""
        found = {fate: amount.documents for fate, amount in self.fates.items() if fate.startswith(UNREAD_KIND)}
        return {fate.removeprefix(UNREAD_KIND): count for fate, count in found.items()}

    @property
    def lost(self) -> dict[str, Amount]:
        """What was read and cannot be used, by fate."""
        apart = {"kept", SAMPLED_OUT}
        return {fate: one for fate, one in self.fates.items() if fate not in apart and not fate.startswith(UNREAD_KIND)}

    @property
    def only_empty(self) -> bool:
        """Whether all that is lost are documents without text, which is worth saying while reading and not later."""
        return set(self.lost) <= {EMPTY}

    def notes(self, source: str, encodings: Mapping[str, str], *, lasting: bool = False) -> list[str]:
        """A sentence each for files that are not read, documents that cannot be used, and encodings that were guessed.

        encodings: by file, of those that are not in UTF-8. lasting: of what is worth saying beside results too.
        """
        notes: list[str] = []
        if self.unread:
            files = _files(sum(self.unread.values()))
            notes.append(f"{source}: {files} of kinds that are not read: {_listed(self.unread)}.")
        if self.lost and not (lasting and self.only_empty):
            count = sum(one.documents for one in self.lost.values())
            read = count + self.fates["kept"].documents
            words = ", ".join(self._words(fate, amount.documents) for fate, amount in self.lost.items())
            notes.append(f"{source}: {count:,} of {read:,} documents could not be used: {words}.")
        guessed = {file: name.partition(" ")[0] for file, name in encodings.items() if name.endswith("(guessed)")}
        if guessed:
            names = ", ".join(dict.fromkeys(guessed.values()))
            notes.append(
                f"{source}: {_files(len(guessed))} not in UTF-8, read as {names}, which is a guess "
                f"(first: {next(iter(guessed))}); where it is wrong, set ingest.encoding (--encoding)."
            )
        return notes

    def _words(self, fate: str, count: int) -> str:
        place = f"first: {self.first_lost[fate]}" if self.first_lost.get(fate) else ""
        inner = "; ".join(filter(None, (place, TO_DO.get(fate, ""), self.hints.get(fate, ""))))
        return f"{count:,} {fate.removeprefix(MARK)}{f' ({inner})' if inner else ''}"

    def check(self, source: str, text_field: str, where: str) -> None:
        """Errors: UsageError unless at least one document is usable."""
        if self.fates["kept"].documents:
            return
        words = ", ".join(f"{one.documents} x {fate.removeprefix(MARK)}" for fate, one in self.lost.items())
        if NO_FIELD in self.lost:
            names = [name for name, _ in self.fields.most_common(NAMES_SHOWN)]
            raise UsageError(
                f'no row has a field "{text_field}" with text in it ({words})',
                where=f"{where}, first at {self.first_lost[NO_FIELD]}",
                allowed=f"text_field: one of the fields that are there: {', '.join(names) or 'there are none'}; or the "
                "fields of a dialogue: messages, prompt and response, instruction and output, chosen and rejected ...",
                do=nearest(text_field, names) or "set text_field (--text-field) to the one with the text",
            )
        raise UsageError(
            f"no usable document for source {source!r} ({words or 'the files have no rows'})",
            where=where,
            allowed="text in UTF-8, UTF-16 or Windows-1252, or in the encoding that ingest.encoding (--encoding) names",
            do="; ".join(self.hints.values())
            or "look at " + (", ".join(dict.fromkeys(self.first_lost.values())) or "the files"),
        )


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _listed(counts: Mapping[str, int]) -> str:
    """ "7 .pdf, 3 .docx", the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda pair: -pair[1]))
