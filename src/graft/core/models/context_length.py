"""Whether the rows that a job asks for fit into the model, told before any work. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graft.core.config.errors import UsageError, joined
from graft.core.models.base_model import Base

# Parts of a job that read the base, and the setting of each that says how many tokens at once.
LENGTHS = {"train": "sequence_length", "evaluate": "window", "answer": "window", "walk_back": "window"}


def check_windows(job: Any, base: Base) -> None:
    """Raises: UsageError naming every window of a job that is larger than the model's."""
    faults = [
        UsageError(
            f"{path} is {window}, and the model reads at most {base.window} tokens",
            where=str(base.folder / "config.json"),
            allowed=f"1 to {base.window}, or nothing for the model's own",
        )
        for path, window in _windows(job)
        if window > base.window
    ]
    if faults:
        raise joined(faults)


def _windows(job: Any) -> Iterator[tuple[str, int]]:
    for name, setting in LENGTHS.items():
        length = getattr(getattr(job, name, None), setting, None)
        if isinstance(length, int):
            yield f"{name}.{setting}", length
