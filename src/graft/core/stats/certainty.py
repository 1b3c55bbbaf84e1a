"""Words for a change of which nothing says how certain it is: that is not the same as a change that is not certain."""

from __future__ import annotations

from graft.core.config.errors import UsageError

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


UNREAD = "no verdict"  # how verdicts begin where the numbers do not compare


def too_much_lost(lost: float) -> str:
    """The verdict on text of which a tokenizer loses this share."""
    return f"{UNREAD} ({lost:.0%} of the text is lost by a tokenizer)"


def undecided(subject: str, verdict: str, thing: str = "document") -> str:
    """The head of a sentence on a change without a direction: why there is none."""
    return f"{subject}: {verdict}" if verdict.startswith(UNREAD) else measured_once(subject, thing)


def check_lost_share(lost: float) -> None:
    """Errors: UsageError where the setting is no share."""
    if not 0 <= lost <= 1:
        raise UsageError(f"lost_share is {lost}", allowed="a share from 0 to 1", do="0.05 is usual")
