"""Words for a change of which nothing says how certain it is: that is not the same as a change that is not certain."""

from __future__ import annotations

UNKNOWN = "no interval"  # how verdicts begin where nothing can be resampled


def no_interval(thing: str = "document") -> str:
    """The verdict on a change that was measured on one `thing`."""
    return f"{UNKNOWN} (one {thing})"


def is_unknown(verdict: str) -> bool:
    """Whether a verdict says that there is no interval."""
    return verdict.startswith(UNKNOWN)


def measured_once(subject: str, thing: str = "document") -> str:
    """The head of a sentence whose end gives the number."""
    return f"{subject} was measured on one {thing}, so how certain its change is remains unknown"
