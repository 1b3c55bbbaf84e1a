"""Lists and counts in words, for notes and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MANY_NAMED = 5  # names that a note shows


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY_NAMED} more" if len(names) > MANY_NAMED else ""
    return ", ".join(names[:MANY_NAMED]) + more


def said(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count} {why}" for why, count in counts.items())
