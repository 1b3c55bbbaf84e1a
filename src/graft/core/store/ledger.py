"""Where every document, byte and token went; it adds up exactly or the stage fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

UNITS = ("documents", "bytes", "tokens")
REWRITTEN = "rewritten by "  # and a step: a fate of no document, of the bytes by which it made texts shorter


@dataclass(frozen=True)
class Amount:
    """A number of documents, bytes (of UTF-8 text) and tokens (targets to predict, end tokens included).

    Bytes are below 0 in one place: where a step made texts longer.
    """

    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.documents + other.documents, self.bytes + other.bytes, self.tokens + other.tokens)


@dataclass
class Ledger:
    """Per source: what was read, and what became of it ("train", "test", "dropped: empty", ...)."""

    read: dict[str, Amount] = field(default_factory=dict)
    fates: dict[str, dict[str, Amount]] = field(default_factory=dict)

    def enter(self, source: str, amount: Amount) -> None:
        """Count `amount` as read from `source`."""
        self.read[source] = self.read.get(source, Amount()) + amount
        self.fates.setdefault(source, {})

    def settle(self, source: str, fate: str, amount: Amount) -> None:
        """Count `amount` of `source` as having met `fate`."""
        fates = self.fates.setdefault(source, {})
        fates[fate] = fates.get(fate, Amount()) + amount

    def check(self) -> None:
        """Stop (AssertionError: a fault of ours) unless read = the sum of the fates, in every unit of every source."""
        assert set(self.read) == set(self.fates), f"sources read {set(self.read)} but settled {set(self.fates)}"
        for source, read in self.read.items():
            settled = sum(self.fates[source].values(), Amount())
            assert settled == read, f"ledger of {source!r} does not add up: read {read}, settled {settled}"

    def rows(self) -> Iterator[tuple[str, str, Amount]]:
        """(source, "read" or a fate, amount), sources and fates in the order in which they were entered."""
        for source, read in self.read.items():
            yield source, "read", read
            for fate, amount in self.fates[source].items():
                yield source, fate, amount

    def to_json(self) -> dict[str, Any]:
        return {
            source: {
                "read": vars(read),
                "fates": {fate: vars(amount) for fate, amount in self.fates[source].items()},
            }
            for source, read in self.read.items()
        }

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Ledger:
        ledger = cls()
        for source, entry in entries.items():
            ledger.enter(source, Amount(**entry["read"]))
            for fate, amount in entry["fates"].items():
                ledger.settle(source, fate, Amount(**amount))
        return ledger
