"""Which of the processes of one job this is: torchrun and its like say so in the environment."""

from __future__ import annotations

import os
import sys
import time
import traceback
from types import TracebackType

from graft.core.config.plain_text import plain

SECONDS_TO_FAIL = 5.0  # within which all ranks fail that fail alike
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # only together do they speak of a job of several


def num_ranks() -> int:
    """How many processes do this job; 1 where nothing says otherwise."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in NAMES) else 1


def rank() -> int:
    """The number of this one. 0 makes what one process makes, and is the only one that speaks."""
    return int(os.environ["RANK"]) if num_ranks() > 1 else 0


def local_rank() -> int:
    """The number of this one on its machine: which accelerator it has."""
    return int(os.environ.get("LOCAL_RANK", "0")) if num_ranks() > 1 else 0


def hush() -> None:
    """Every rank but the first says nothing from here on, except why it ended: all of them would say the same."""
    if rank():
        sys.excepthook = _say_unforeseen
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process lives


def say_fault(words: str) -> None:
    """The last words of this process, on standard error: all ranks that failed alike say them once.

    Another rank than the first waits to be ended with the rest of the job, as the first one's failure does to it; who
    is still there then has failed alone, and has to be heard.
    """
    if rank():
        time.sleep(SECONDS_TO_FAIL)
        words = f"process {rank()} of {num_ranks()}: {words}"
    out = sys.__stderr__ if rank() else sys.stderr
    assert out is not None
    out.write(plain(words))
    out.flush()


def _say_unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    say_fault("".join(traceback.format_exception(kind, error, trace)))
