"""Being asked to stop: a signal sets a mark, and the run stops where its state is whole."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from graft.core.process.interrupts import note_signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Within the context the first Ctrl-C or SIGTERM sets `asked`; a second one ends the process at once.

    At once means by the system, which waits for nothing: neither for a long operation nor for whoever catches errors.
    What is on disk is whole at any moment, so nothing is lost but the work since the last checkpoint.

    Afterwards the handlers are those of before. Signals that somebody ignores stay ignored, and outside the main
    thread, where Python lets nobody take signals, nothing is done.
    """

    def __init__(self, words: str) -> None:
        """words: said on standard error when the first signal comes."""
        self.asked = False
        self._words = words
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for one in SIGNALS:
                handler = signal.getsignal(one)
                if handler not in (None, signal.SIG_IGN):
                    self._before[one] = handler
                    signal.signal(one, self._mark)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _mark(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        note_signal(number)
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
        os.write(2, f"\n{self._words}\n".encode())  # sys.stderr may be in the middle of a line of its own
