"""The soak as a test: a short one with all others, a long one for who asks for it (`-m soak`).

It runs in a process of its own, which no other forks: its jobs are forked from one that has computed nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("run.py")


def soak(*words: object) -> dict[str, int]:
    """What was counted, by what it was."""
    command = [sys.executable, str(DRIVER), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (re.fullmatch(r" *([\d,]+)  (.+)", line) for line in done.stdout.splitlines())
    return {line[2]: int(line[1].replace(",", "")) for line in lines if line}


@pytest.mark.slow
@pytest.mark.processor_seconds(30)
def test_killed_jobs_end_with_the_same_bits():
    """Kills, two processes at once and signals, of one training and one benchmark."""
    counts = soak("--kills", 5, "--rounds", 3, "--seed", 0, "--job", "adapt", "--job", "benchmark")
    assert counts["kills"] >= 5 and counts["ends compared, every file to the bit"] >= 3
    assert counts["files compared"] > 50


@pytest.mark.soak
@pytest.mark.processor_seconds(1500)
def test_hundreds_of_kills():
    counts = soak("--kills", 200, "--seed", 1)
    assert counts["kills"] >= 200
    for way in ("signals", "read-only", "graft clean beside a job or after a kill"):
        assert counts[way] > 0
