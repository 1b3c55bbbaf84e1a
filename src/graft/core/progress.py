"""Progress for whoever watches: a bar on a terminal, a line now and then everywhere else, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

QUIET_SECONDS = 2.0  # work shorter than this shows nothing
LINE_SECONDS = 10.0  # at least so long between two lines where there is no terminal


@dataclass
class Progress:
    """Shows `label done/total` with the time left; `advance` may be called as often as wanted."""

    label: str
    total: float | None = None
    done: float = 0
    offset: float = 0  # what was done before this sitting: it took none of its time
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    shown: float = 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` as done and show it when it is time to."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self.started >= QUIET_SECONDS and now - self.shown >= (0.1 if terminal else LINE_SECONDS):
            self.shown = now
            self._show(terminal)

    def close(self) -> None:
        """Leave the last state standing on a terminal."""
        if self.shown and sys.stderr.isatty():
            self._show(True)
            sys.stderr.write("\n")

    def _show(self, terminal: bool) -> None:
        seconds = time.monotonic() - self.started
        text = f"{self.label}  {self.done:,.0f}"
        if self.total:
            share = min(1.0, self.done / self.total)
            left = seconds * (self.total - self.done) / max(self.done - self.offset, 1e-9)
            text = f"{self.label}  {share:4.0%}  {self.done:,.0f}/{self.total:,.0f}  {clock(left)} left"
            if terminal:
                filled = int(share * 24)
                text = f"{self.label}  [{'█' * filled}{'·' * (24 - filled)}] {share:4.0%}  {clock(left)} left"
        if self.note:
            text += f"  {self.note}"
        if terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps could not be taken back
        sys.stderr.write(f"\r\x1b[2K{text}" if terminal else text + "\n")
        sys.stderr.flush()


def track(items: Iterable[T], label: str, total: float | None = None) -> Iterator[T]:
    """`items`, one by one, with progress shown."""
    progress = Progress(label, total if total is not None else _length(items))
    for item in items:
        yield item
        progress.advance()
    progress.close()


def clock(seconds: float) -> str:
    """3725 -> '1:02:05', 65 -> '1:05'."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _length(items: object) -> float | None:
    return len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
