"""A command that is asked to stop ends as shells expect, without a traceback, wherever it is."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from fork_server import Popen, run
from graft.core.process import interrupts

ENDED = {signal.SIGINT: {-signal.SIGINT, 130}, signal.SIGTERM: {-signal.SIGTERM, 143}}
READY = "import os; os.write(1, b'ready\\n'); "
# As `python -m graft`, but said when the interpreter itself is up: what comes before is not ours.
MODULE = READY + "import runpy; runpy.run_module('graft', run_name='__main__', alter_sys=True)"


def begin(*words: object, start: type[subprocess.Popen] = subprocess.Popen) -> subprocess.Popen[str]:
    code = f"import sys; sys.argv = ['graft', *{list(map(str, words))!r}]; {MODULE}"
    process = start([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str], signum: signal.Signals, *, may_be_done: bool = True) -> str:
    """How a process ended that was sent a signal. Returns what it said."""
    _, said = process.communicate(timeout=100)
    allowed = ENDED[signum] | ({0} if may_be_done else set())
    assert process.returncode in allowed, (process.returncode, said)
    assert "Traceback" not in said and "KeyboardInterrupt" not in said, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_starting_up(signum, tmp_path):
    """From the first moment of our own code through all imports to the end, at random times."""
    draw = random.Random(int(signum))
    for _ in range(8):
        process = begin("ls", "artifacts", "--store", tmp_path)
        time.sleep(0.05 + draw.random() * 0.6)
        process.send_signal(signum)
        ended(process, signum)


def test_a_job_that_is_stopped_says_so_and_ends_with_the_signals_code(world, forks, tmp_path):
    for signum in (signal.SIGINT, signal.SIGTERM):
        process = begin(
            "adapt", world.base.folder, "--domain", world.domain, "--general", world.general, "--tokens", "100k",
            "--out", tmp_path / "out", "--store", tmp_path / f"store{signum}", "--set", "train.batch_size=4",
            start=Popen,
        )  # fmt: skip
        drafts = tmp_path / f"store{signum}" / "drafts"
        deadline = time.monotonic() + 100
        while not drafts.is_dir() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signum)
        said = ended(process, signum, may_be_done=False)
        assert "stopped" in said


def test_the_first_signal_counts():
    interrupts.forget_signals()
    assert (interrupts.signal_asked(), interrupts.exit_code(1)) == (0, 1)
    interrupts.note_signal(signal.SIGTERM)
    interrupts.note_signal(signal.SIGINT)
    assert (interrupts.signal_asked(), interrupts.exit_code(1)) == (signal.SIGTERM, 143)
    interrupts.forget_signals()


STUBBORN = """
import os, signal, sys
import graft.cli.app as cli
@cli.app.command()
def stubborn():
    try:
        os.kill(os.getpid(), {signum})
        signal.pause()
    except BaseException as error:
        {then}
sys.argv = ["graft", "stubborn"]
cli.main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "then", ["raise SystemError('error return without exception set') from error", "raise", "sys.exit('bad')"]
)
def test_whatever_an_interrupt_is_turned_into_on_its_way(forks, signum, then):
    """A library that catches it and raises something else does not make a fault of it."""
    code = STUBBORN.format(signum=int(signum), then=then)
    done = run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 128 + signum and "Traceback" not in done.stderr, done.stderr
