"""The errors a user can meet, each naming the value, the place, what is allowed and what to do.

GraftError
|- UsageError   the request was wrong (exit code 2); also a ValueError
|- FaultError   the request was right and something failed (exit code 1); also a RuntimeError
|- GateClosed   everything worked and a gate said no (exit code 3)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraftError(Exception):
    """An error with a message for people: what happened, where, what is allowed, what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", do: str = "") -> None:
        self.what, self.where, self.allowed, self.do = what, where, allowed, do
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.do:
            lines.append(f"  to do:   {self.do}")
        return "\n".join(lines)


class UsageError(GraftError, ValueError):
    """The request cannot be carried out as it was written."""

    exit_code = 2


class FaultError(GraftError, RuntimeError):
    """Something failed while a valid request was carried out; finished artifacts are intact."""

    exit_code = 1


class GateClosed(GraftError):
    """The work is done, and a condition the user set is not met."""

    exit_code = 3


def nearest(word: str, words: Iterable[str]) -> str:
    """'did you mean "x"?' for the closest of `words`, or an empty string when nothing is close."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
