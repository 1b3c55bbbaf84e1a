"""The command line in the process of the test: what a user types, and what it prints and ends with.

Importing torch in a child process costs seconds of processor time, so a child is started only where the exit status
of a real process, a signal or the cost of importing is the point: `call_process`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from graft.cli import app as cli


def call(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`graft WORDS` in this process. Its environment, working folder, signal handlers and streams are put back."""
    out, err = io.StringIO(), io.StringIO()
    command = ["graft", *map(str, words)]
    with (
        process_state(cwd, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        sys.argv = command
        status = _exit_status()
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def call_process(
    *words: object, cwd: Path | None = None, timeout: float = 500, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "graft", *map(str, words)],
        capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=os.environ | environment,
    )  # fmt: skip


def _exit_status() -> int:
    """What the process would end with. As there, a fault that was not foreseen leaves its traceback on stderr."""
    try:
        cli.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def process_state(cwd: Path | None, environment: dict[str, str]) -> Iterator[None]:
    """Another working folder and environment for a while; all that a command changes of the process is undone."""
    before = dict(os.environ), sys.argv, Path.cwd()
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    os.environ.update(environment)
    if cwd is not None:
        os.chdir(cwd)
    _forget_notes()
    try:
        yield
    finally:
        os.chdir(before[2])
        sys.argv = before[1]
        os.environ.clear()
        os.environ.update(before[0])
        for one, handler in handlers.items():
            signal.signal(one, handler)


def _forget_notes() -> None:
    """A process prints each note once; every command here is to print its own."""
    tell = sys.modules.get("graft.data.user_notes")
    if tell is not None:
        tell.tell.cache_clear()
