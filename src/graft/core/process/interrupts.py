"""Which signal asked this process to stop, for whoever says how it ended."""

from __future__ import annotations

_asked: list[int] = []


def note_signal(number: int) -> None:
    """A signal came; called by handlers."""
    _asked.append(number)


def forget_signals() -> None:
    """Nothing was asked yet: a command begins."""
    _asked.clear()


def signal_asked() -> int:
    """The first signal that asked to stop; 0 where none did."""
    return _asked[0] if _asked else 0


def exit_code(usual: int) -> int:
    """The exit code of a command that did not end well: 128 + the signal where one asked it to stop, as in shells."""
    return 128 + _asked[0] if _asked else usual
