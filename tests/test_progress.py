"""Progress that can be believed, phases that are never silent, and an end at once where one is asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from fork_server import Popen
from graft.core.process import progress as module
from graft.core.process.progress import Progress, clock, phase
from graft.core.store.artifact import Store
from graft.data.curate import Curate, curate
from graft.data.ingest import ingest
from graft.training.run import Stopped
from graft.training.settings import Train
from graft.training.signals import Stop
from graft.training.train import train


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_the_time_left_follows_the_recent_rate(monkeypatch):
    """Of a run that slows down to a tenth half way, what is expected is the slow rate, not the mean."""
    hands = Clock(monkeypatch)
    one = Progress("train", 200)
    for _ in range(100):
        hands.now += 1
        one.advance()
    assert one.left(hands.now) == pytest.approx(100, rel=0.05)
    for _ in range(10):
        hands.now += 10
        one.advance()
    assert one.left(hands.now) == pytest.approx(900, rel=0.1)
    assert one.left(hands.now + 30) > one.left(hands.now)  # nothing comes: it takes longer


@given(steps=st.lists(st.floats(0, 50), max_size=30), total=st.floats(1, 100), offset=st.floats(0, 100))
@budget(max_examples=200, deadline=None)
def test_nothing_is_negative_or_more_than_all(steps, total, offset):
    one = Progress("curating", total, done=offset, offset=offset)
    for amount in steps:
        one.done += amount
        one._marks.append((one._marks[-1][0] + 1, one.done))
        line = one.line(one._marks[-1][0], terminal=False)
        share, done, of = re.search(r"(\d+)%  ([\d,]+)/([\d,]+)", line).groups()
        assert int(share) <= 100 and int(done.replace(",", "")) <= int(of.replace(",", ""))
        assert "-" not in line
        left = one.left(one._marks[-1][0])
        assert left is None or left >= 0
    one.close()


def test_what_was_done_before_took_none_of_this_sitting_s_time(monkeypatch):
    hands = Clock(monkeypatch)
    one = Progress("train", 100, done=90, offset=90)
    hands.now += 10
    one.advance(5)
    assert one.left(hands.now) == pytest.approx(10)


def test_a_clock_knows_no_less_than_nothing():
    assert [clock(seconds) for seconds in (-1, -7200, 0, 59.9, 3725)] == ["0:00", "0:00", "0:00", "0:59", "1:02:05"]


def test_work_that_counts_nothing_says_that_it_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    with phase("fitting laws"):
        time.sleep(0.5)
    said = capsys.readouterr().err
    assert said.startswith("fitting laws  0:00 so far\n") and said.count("\n") == 1  # a line now and then
    with phase("short"):
        pass
    assert capsys.readouterr().err == ""


def test_a_phase_shows_what_counts_in_it_and_forgets_it_after_a_fault(monkeypatch, capsys):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    before = list(module._counting)
    with pytest.raises(RuntimeError), phase("curating"):
        one = Progress("overlap", 10)
        one.advance(5)
        time.sleep(0.3)
        raise RuntimeError
    said = capsys.readouterr().err
    assert "overlap   50%  5/10" in said and "curating" not in said
    assert module._counting == before


def test_every_artifact_is_made_in_a_phase(tmp_path, monkeypatch, capsys):
    """So no stage, however it is written, is silent for long."""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.02)
    Store(tmp_path).make("findings", {}, {}, (), lambda draft: time.sleep(0.4))
    assert "comparing  0:00 so far" in capsys.readouterr().err


def test_curation_in_several_rounds_never_passes_its_total(tmp_path, monkeypatch):
    """A small source goes through the steps again; seen once: 16 of 2 done, -1:59:49 left."""
    seen: list[tuple[str, float, float]] = []
    plain = Progress.advance
    monkeypatch.setattr(
        Progress,
        "advance",
        lambda self, *asked: (plain(self, *asked), seen.append((self.label, self.done, self.total))),
    )
    monkeypatch.setattr("graft.data.curate._lacking", lambda marks: True)
    (tmp_path / "text").mkdir()
    for i in range(6):
        (tmp_path / "text" / f"{i}.txt").write_text(f"text number {i} of six that are all short\n" * (i + 1))
    store = Store(tmp_path / "store")
    curate({"domain": ingest([str(tmp_path / "text")], "domain", store=store)}, Curate(), store=store)
    rounds = [(done, total) for label, done, total in seen if label == "curating"]
    assert max(done for done, _ in rounds) == 16 and all(done <= total for done, total in rounds)


def test_a_look_at_validation_text_hears_of_a_stop(world, tmp_path, monkeypatch):
    """It is given up at the next piece, and not after the last."""
    from graft.training import run as running

    settings = Train(
        tokens=64 * 4 * 4,
        sequence_length=64,
        batch_size=4,
        learning_rate=1e-3,
        precision="fp32",
        evaluations=1,
        validation_tokens=0,
    )
    pieces: list[int] = []
    plain = running.mean_nats

    def watched(*asked, heard, **how):
        def stopping(count: int) -> None:
            pieces.append(count)
            if len(pieces) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            heard(count)

        return plain(*asked, heard=stopping, **how)

    with monkeypatch.context() as patch:
        patch.setattr(running, "mean_nats", watched)
        with pytest.raises(KeyboardInterrupt):
            train(world.base, world.tokens, {"domain": 1.0}, settings, store=Store(tmp_path))
    assert len(pieces) == 3
    stopped = train(world.base, world.tokens, {"domain": 1.0}, settings, store=Store(tmp_path))
    whole = train(world.base, world.tokens, {"domain": 1.0}, settings, store=world.store)
    assert (stopped / "curve.json").read_bytes() == (whole / "curve.json").read_bytes()
    assert issubclass(Stopped, Exception)


AT_ONCE = textwrap.dedent(
    """
    import sys, time
    {before}
    try:
        while True:
            try:
                print("ready", flush=True)
                time.sleep(60)
            except BaseException:  # what a library may do
                print("first", flush=True)
    finally:
        time.sleep(60)
    """
)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "before",
    [
        "from graft.cli.app import stop_once; import signal; [signal.signal(one, stop_once) for one in (2, 15)]",
        "from graft.training.signals import Stop; stop = Stop('first').__enter__()",
    ],
    ids=["anywhere", "in training"],
)
def test_a_second_interrupt_ends_the_process_whatever_it_is_at(forks, before, signum):
    """Killed by the system, which a shell shows as 130: nobody can catch it, and no operation is waited for."""
    process = Popen(
        [sys.executable, "-c", AT_ONCE.format(before=before)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    assert "first" in (process.stdout.readline() + process.stdout.readline())
    process.send_signal(signum)
    assert process.wait(30) == -signum


def test_a_first_interrupt_is_only_noted(capfd):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Stop("stopping") as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopping" in capfd.readouterr().err
