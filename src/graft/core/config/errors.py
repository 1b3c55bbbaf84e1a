"""The errors a user can meet, each naming the value, the place, what is allowed and what to do.

GraftError
|- UsageError   the request was wrong (exit code 2); also a ValueError
|  |- UnknownKey   a setting that is not there
|  |- UsageErrors  several of them at once
|- FaultError   the request was right and something failed (exit code 1); also a RuntimeError
|- GateClosed   everything worked and a gate said no (exit code 3)
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence

from graft.core.config.plain_text import plain, plain_line

LONGEST = 4000  # characters of each part of an error
TYPED, COMPARED = 200, 50_000  # characters of a word that somebody may have mistyped; words it is compared with


class GraftError(Exception):
    """An error with a message for people: what happened, where, what is allowed, what to do."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", do: str = "") -> None:
        self.what, self.where, self.allowed, self.do = what, where, allowed, do
        super().__init__(str(self))

    def __str__(self) -> str:
        what, allowed, do = map(shortened, (self.what, self.allowed, self.do))
        lines = [f"{shortened(plain_line(self.where))}: {what}" if self.where else what]
        if allowed:
            lines.append(f"  allowed: {allowed}")
        if do:
            lines.append(f"  to do:   {do}")
        return plain("\n".join(lines))


class UsageError(GraftError, ValueError):
    """The request cannot be carried out as it was written."""

    exit_code = 2

    def at(self, where: str) -> UsageError:
        """The same at a place, where it names none itself."""
        return self if self.where else UsageError(self.what, where=where, allowed=self.allowed, do=self.do)


class UnknownKey(UsageError):
    """A setting that is not there. path: its keys, as the job has them."""

    def __init__(self, what: str, path: tuple[str | int, ...], *, where: str = "", allowed: str = "", do: str = ""):
        self.path = path
        super().__init__(what, where=where, allowed=allowed, do=do)


class UsageErrors(UsageError):
    """Several faults of one request, all of them named at once. errors: two or more, in the order of the request."""

    def __init__(self, errors: Sequence[UsageError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.what, where=first.where, allowed=first.allowed, do=first.do)

    def __str__(self) -> str:
        return "\n".join([f"{len(self.errors)} faults", *(str(error) for error in self.errors)])


def joined(errors: Iterable[UsageError]) -> UsageError:
    """One error of one or more: a single one as it is, several as UsageErrors without any inside another."""
    every = [one for error in errors for one in flat(error)]
    return every[0] if len(every) == 1 else UsageErrors(every)


def flat(error: UsageError) -> tuple[UsageError, ...]:
    """The single faults of an error."""
    return error.errors if isinstance(error, UsageErrors) else (error,)


class FaultError(GraftError, RuntimeError):
    """Something failed while a valid request was carried out; finished artifacts are intact."""

    exit_code = 1


class GateClosed(GraftError):
    """The work is done, and a condition the user set is not met."""

    exit_code = 3


def shortened(words: str, most: int = LONGEST) -> str:
    """Words as an error shows them: the midst of very many is left out, and said."""
    if len(words) <= most:
        return words
    left = len(words) - most
    return f"{words[: most * 3 // 4]} ... ({left:,} characters left out) ... {words[len(words) - most // 4 :]}"


def said(value: object, most: int = 60) -> str:
    """Any value as an error shows it, short."""
    try:
        words = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of more digits than Python writes
        return f"{type(value).__name__} that is too large to be shown"
    return words if len(words) <= most else f"{words[: most - 3]}..."


def nearest(word: str, words: Iterable[str]) -> str:
    """'did you mean "x"?' for the closest of `words`, or an empty string when nothing is close.

    Of very many words the first are looked at, and none that no person would type.
    """
    if len(word) > TYPED:
        return ""
    few = [one for one in itertools.islice(words, COMPARED) if len(one) <= TYPED]
    close = difflib.get_close_matches(word, few, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
