"""What a run has to say on standard error, each line once in a process."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache

from graft.core.config.plain_text import plain


def tell_notes(notes: Iterable[str]) -> None:
    """Each note once on standard error, however many stages come to it."""
    for note in notes:
        tell(f"note: {note}")


@cache
def tell(words: str) -> None:
    """A line on standard error, once in a process."""
    say(f"graft: {words}\n")


def say(words: str) -> None:
    """Words on standard error, as often as they are said; their lines end in them."""
    sys.stderr.write(plain(words))
