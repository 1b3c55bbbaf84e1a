"""Progress for whoever watches: a bar on a terminal, a line now and then everywhere else, on standard error.

Work that counts what it does shows a `Progress`. Work that cannot count is a `phase`: while it goes on and nothing is
counted in it, its name and the time it has taken are shown. Both show nothing of what is over within two seconds.
"""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from graft.core.config.plain_text import plain

T = TypeVar("T")

QUIET_SECONDS = 2.0  # work shorter than this shows nothing
LINE_SECONDS = 10.0  # at least so long between two lines where there is no terminal
TICK_SECONDS = 0.5  # how often a phase looks whether something is to be shown
RECENT_SECONDS = 30.0  # the time left follows from what was done in these


@dataclass
class Progress:
    """Shows `label done/total` with the time left; `advance` may be called as often as wanted."""

    label: str
    total: float | None = None
    done: float = 0
    offset: float = 0  # what was done before this sitting: it took none of its time
    note: str = ""
    started: float = field(default_factory=lambda: time.monotonic())
    shown: float = 0.0

    def __post_init__(self) -> None:
        self._marks = deque([(self.started, self.done)])
        with _lock:
            _counting.append(self)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` as done and show it when it is time to."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] > RECENT_SECONDS:
            self._marks.popleft()
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Show where it stands, when it is time to."""
        terminal = sys.stderr.isatty()
        if now - self.started >= QUIET_SECONDS and now - self.shown >= (0.1 if terminal else LINE_SECONDS):
            self.shown = now
            _write(self.line(now, terminal), terminal)

    def close(self) -> None:
        """Leave the last state standing on a terminal."""
        with _lock, suppress(ValueError):
            _counting.remove(self)
        if self.shown and sys.stderr.isatty():
            _write(self.line(time.monotonic(), True), True)
            sys.stderr.write("\n")

    def left(self, now: float) -> float | None:
        """Seconds until all is done, by the rate of the last half minute; None where there is none yet.

        What takes longer than the last rate lets expect slows the rate down, so that the time left does not stand.
        """
        if not self.total:
            return None
        if self.done >= self.total:
            return 0.0
        since, before = self._marks[0]
        done = self.done - max(before, self.offset)
        left = (self.total - self.done) * (now - since) / done if done > 0 else math.inf
        return left if math.isfinite(left) else None

    def line(self, now: float, terminal: bool) -> str:
        """What is shown."""
        text = f"{self.label}  {self.done:,.0f}"
        if self.total:
            done = min(self.done, self.total)
            share, left = done / self.total, self.left(now)
            rest = f"  {clock(now - self.started)} so far" if left is None else f"  {clock(left)} left"
            text = f"{self.label}  {share:4.0%}  {done:,.0f}/{self.total:,.0f}{rest}"
            if terminal:
                filled = int(share * 24)
                text = f"{self.label}  [{'█' * filled}{'·' * (24 - filled)}] {share:4.0%}{rest}"
        return text + (f"  {self.note}" if self.note else "")


_lock = threading.Lock()
_counting: list[Progress] = []  # what counts now, the innermost last


@contextmanager
def phase(label: str) -> Generator[None]:
    """Work that may take long without counting anything: after two seconds it says that it goes on, and for how long.

    A progress in it that stands still is shown again, so that its time left follows.
    """
    over = threading.Event()
    known = len(_counting)
    ticker = threading.Thread(target=_tick, args=(label, over, known), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join(QUIET_SECONDS)
        with _lock:
            del _counting[known:]  # left open by what failed


def _tick(label: str, over: threading.Event, known: int) -> None:
    """Until `over`: show the progress that counts, or that the phase goes on."""
    started, shown, said = time.monotonic(), 0.0, False
    with suppress(ValueError, OSError):  # standard error may be closed before us
        while not over.wait(TICK_SECONDS):
            now = time.monotonic()
            terminal = sys.stderr.isatty()
            with _lock:
                inner = _counting[-1] if len(_counting) > known else None
            if inner is not None:
                started = now  # what comes after it is another part of the phase
                if now - inner.shown >= (1.0 if terminal else LINE_SECONDS):
                    inner.refresh(now)
            elif now - started >= QUIET_SECONDS and now - shown >= (TICK_SECONDS if terminal else LINE_SECONDS):
                shown, said = now, True
                _write(f"{label}  {clock(now - started)} so far", terminal)
        if said and sys.stderr.isatty():
            _write("", True)


def _write(text: str, terminal: bool) -> None:
    text = plain(text)
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
    """3725 -> '1:02:05', 65 -> '1:05'; less than nothing is nothing."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _length(items: object) -> float | None:
    return len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
