"""The command line in process is the command line: the same words, and the same end, as in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from command import call, call_process
from graft.cli import app as cli
from graft.core.config.errors import FaultError

LAW = Path(__file__).parents[1] / "docs" / "laws_example.csv"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["ls", "objectives"], 0),
        (["show", "nothing-of-the-kind", "--store", "nowhere"], 2),
        (["adapt"], 2),
        (["adapt", "embedded", "--domain", "nowhere.txt", "--fail-if", "general.change"], 2),
    ],
)
def test_a_process_of_its_own_says_the_same(words: list[str], status: int, tmp_path: Path) -> None:
    inside, outside = (run(*words, cwd=tmp_path, COLUMNS="100") for run in (call, call_process))
    assert inside.returncode == outside.returncode == status
    for mine, other in ((inside.stdout, outside.stdout), (inside.stderr, outside.stderr)):
        assert mine == other
    assert "Traceback" not in outside.stderr


def test_a_fault_ends_with_1_and_what_was_not_foreseen_leaves_its_traceback(monkeypatch) -> None:
    def broken(error: BaseException):
        def app(**_: str) -> None:
            raise error

        return app

    monkeypatch.setattr(cli, "app", broken(FaultError("it broke", do="mend it")))
    known = call()
    assert known.returncode == 1 and known.stderr.startswith("graft: it broke") and "Traceback" not in known.stderr
    monkeypatch.setattr(cli, "app", broken(ZeroDivisionError("by nothing")))
    unforeseen = call()
    assert unforeseen.returncode == 1 and "ZeroDivisionError: by nothing" in unforeseen.stderr


def test_nothing_of_a_command_is_left_in_the_process(tmp_path: Path) -> None:
    before = dict(os.environ), Path.cwd(), sys.argv, signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr
    done = call("ls", cwd=tmp_path, GRAFT_STORE="elsewhere", OMP_WAIT_POLICY="ACTIVE")
    assert done.returncode == 0 and "objectives" in done.stdout
    after = dict(os.environ), Path.cwd(), sys.argv, signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr
    assert after == before
