"""A soak: jobs are killed, stopped, starved of disk and of the right to write, at random, until they are through.

    python tests/soak/run.py --kills 200 --seed 0

Each round takes a job, disturbs it a few times in the ways below, and then runs the same command to its end. Weights,
numbers and every other file must be those of an undisturbed run to the bit, times and memory aside; after every
disturbance all that lies in the store must be known to `graft clean`, and in the end it must leave nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from soak import checks  # noqa: E402 - found by the paths above
from soak.jobs import Child, Place, command, fork, names, prepare  # noqa: E402

STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
BYTES_OF_A_STORE = 24 << 20  # on a small disk of its own, once there is room


class Broken(AssertionError):
    """Something is not as it must be. Its words say what, and how it came about."""


@dataclass
class Soak:
    """A soak in a folder. kills: how many processes are killed with SIGKILL in all. rounds: at least so many."""

    root: Path
    kills: int
    seed: int = 0
    rounds: int = 8
    jobs: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    wanted: dict[str, dict[str, str]] = field(default_factory=dict)

    def __call__(self) -> Counter[str]:
        """Raises: Broken."""
        self.draw = random.Random(self.seed)
        self.place = Place(self.root)
        self.place.make()
        for name in self.jobs:
            began = time.monotonic()
            self._finish(name, self.root / f"plain-{name}")
            self.seconds[name] = time.monotonic() - began
            self.wanted[name] = checks.contents(self.root / f"plain-{name}")
        others = [self._two_at_once, self._signalled, self._full, self._read_only]
        ways = [way for other in others for way in (self._killed, other)]
        turn = 0
        while self.counts["kills"] < self.kills or turn < self.rounds:
            name, way = self.jobs[turn % len(self.jobs)], ways[turn % len(ways)]
            folder = self.root / f"round-{turn}"
            way(name, folder)
            self.counts[f"rounds of {name}"] += 1
            shutil.rmtree(folder)
            turn += 1
        return self.counts

    def _killed(self, name: str, folder: Path) -> None:
        """SIGKILL at random times, now and then with the store listed or cleaned in between."""
        for _ in range(self.draw.randint(4, 12)):
            if not self._kill(self._begin(name, folder), name):
                break
            self._check_store(name, folder)
            if self.draw.random() < 0.2:
                self._beside(name, folder)
        self._through(name, folder)

    def _two_at_once(self, name: str, folder: Path) -> None:
        """Two processes on one store, one or both of them killed, and lists and cleanings beside them."""
        for _ in range(self.draw.randint(2, 4)):
            one = self._begin(name, folder)
            time.sleep(self.draw.random() * 0.2)
            other = self._begin(name, folder, log="other.log")
            if self.draw.random() < 0.5:
                self._beside(name, folder)
            self._kill(one, name)
            if self.draw.random() < 0.7:
                self._kill(other, name)
            elif code := other.wait():
                self._break(name, f"one of two processes ended with {code}", other)
            self._check_store(name, folder)
        self._through(name, folder)

    def _signalled(self, name: str, folder: Path) -> None:
        """Ctrl-C and SIGTERM at random times, now and then twice."""
        for _ in range(self.draw.randint(2, 5)):
            child = self._begin(name, folder)
            code = child.wait_at_most(self._delay(name))
            if code is None:
                signum = self.draw.choice([signal.SIGINT, signal.SIGTERM])
                os.kill(child.pid, signum)
                if self.draw.random() < 0.3:
                    time.sleep(self.draw.random() * 0.1)
                    _send(child.pid, signum)
                code = child.wait()
                self.counts["signals"] += 1
            if code not in (0, *STOPPED) or "Traceback" in child.said:
                self._break(name, f"a signal ended it with {code}", child)
            self._check_store(name, folder)
        self._through(name, folder)

    def _full(self, name: str, folder: Path) -> None:
        """A disk without room, in bytes or in inodes, at a random place; room is made, and it goes on."""
        (folder / "store").mkdir(parents=True)
        wanted = [path for path in (self.root / f"plain-{name}" / "store").rglob("*") if path.is_file()]
        share = self.draw.uniform(0.1, 0.9)
        if self.draw.random() < 0.5:
            limit, what = f"nr_inodes={max(8, int(share * len(wanted)))}", "no inodes"
        else:
            limit, what = f"size={int(share * sum(path.stat().st_size for path in wanted))}", "no room"
        with mounted(folder / "store", limit) as remount:
            most = None if remount else int(share * max(path.stat().st_size for path in wanted))
            child = self._begin(name, folder, most_bytes=most)
            code = child.wait()
            if code not in (0, 1) or "Traceback" in child.said or (code and "no room to write" not in child.said):
                self._break(name, f"{what}: it ended with {code}", child)
            self.counts[what if code else f"{what} and it was enough"] += 1
            if remount:
                remount(f"size={BYTES_OF_A_STORE},nr_inodes=100000")
            self._check_store(name, folder)
            self._through(name, folder)

    def _read_only(self, name: str, folder: Path) -> None:
        """Killed at a random time, then the store may only be read, then it may be written again."""
        (folder / "store").mkdir(parents=True)
        with mounted(folder / "store", f"size={BYTES_OF_A_STORE}") as remount:
            self._kill(self._begin(name, folder), name)
            if remount:
                remount("ro")
                child = self._begin(name, folder)
                code = child.wait()
                if code not in (0, 2) or "Traceback" in child.said or (code and "write to the store" not in child.said):
                    self._break(name, f"a store that may only be read: it ended with {code}", child)
                listed = fork(command("ls", "artifacts", "--store", folder / "store"), folder / "ls.log")
                if listed.wait():
                    self._break(name, "a store that may only be read is not listed", listed)
                self.counts["read-only"] += 1
                remount("rw")
            self._check_store(name, folder)
            self._through(name, folder)

    def _begin(self, name: str, folder: Path, log: str = "log", most_bytes: int | None = None) -> Child:
        return fork(self.place.job(name, folder), folder / log, most_bytes=most_bytes)

    def _delay(self, name: str) -> float:
        """Seconds until a disturbance: anywhere in the job, and more often early in what is left of it."""
        return 0.7 * self.draw.random() ** 1.5 * self.seconds[name]

    def _kill(self, child: Child, name: str) -> bool:
        """Kill it after a while; False where it was through before."""
        code = child.wait_at_most(self._delay(name))
        if code is None:
            os.kill(child.pid, signal.SIGKILL)
            code = child.wait()
        if code not in (0, -signal.SIGKILL):
            self._break(name, f"it ended with {code} before it was killed", child)
        self.counts["kills"] += code == -signal.SIGKILL
        return bool(code)

    def _beside(self, name: str, folder: Path) -> None:
        """List or clean the store, whoever is at it."""
        words = self.draw.choice([("clean",), ("ls", "artifacts")])
        child = fork(command(*words, "--store", folder / "store"), folder / "beside.log")
        if child.wait():
            self._break(name, f"graft {' '.join(words)} beside it failed", child)
        self.counts[f"graft {words[0]} beside a job or after a kill"] += 1

    def _finish(self, name: str, folder: Path) -> None:
        child = self._begin(name, folder)
        if code := child.wait():
            self._break(name, f"undisturbed it ended with {code}", child)

    def _through(self, name: str, folder: Path) -> None:
        """The same command to its end: the same bits, and nothing left."""
        self._finish(name, folder)
        if differing := checks.differences(checks.contents(folder), self.wanted[name]):
            raise Broken(f"{name}, seed {self.seed}, {folder.name}: not as undisturbed: {', '.join(differing[:8])}")
        if left := checks.left_after_cleaning(folder):
            raise Broken(f"{name}, seed {self.seed}, {folder.name}: left after cleaning: {', '.join(left[:8])}")
        self.counts["ends compared, every file to the bit"] += 1
        self.counts["files compared"] += len(self.wanted[name])

    def _check_store(self, name: str, folder: Path) -> None:
        if found := checks.unknown(folder / "store"):
            raise Broken(f"{name}, seed {self.seed}, {folder.name}: unknown to clean: {', '.join(found[:8])}")

    def _break(self, name: str, what: str, child: Child) -> None:
        raise Broken(f"{name}, seed {self.seed}, {child.log.parent.name}: {what}\n{child.said[-3000:]}")


@contextmanager
def mounted(folder: Path, limit: str) -> Generator[Callable[[str], None] | None]:
    """A small disk of its own, and how to change its limits; None where nothing can be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield lambda changed: subprocess.run(["mount", "-o", f"remount,{changed}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _send(pid: int, signum: int) -> None:
    """A signal to a child that nobody has waited for yet: its number is still its own."""
    os.kill(pid, signum)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="processes that are killed with SIGKILL")
    parser.add_argument("--seed", type=int, default=0, help="of jobs, ways and times")
    parser.add_argument("--rounds", type=int, default=8, help="at least so many; 8 go once through all ways")
    parser.add_argument("--job", action="append", default=[], help="only this one; may be repeated")
    asked = parser.parse_args(words)
    began = time.monotonic()
    prepare()
    with tempfile.TemporaryDirectory(prefix="graft-soak-") as folder:
        soak = Soak(Path(folder), asked.kills, asked.seed, asked.rounds, tuple(names(asked.job)))
        try:
            counts = soak()
        except Broken as broken:
            print(f"broken after {dict(soak.counts)}\n{broken}", file=sys.stderr)
            return 1
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    for what, count in sorted(counts.items()):
        print(f"{count:7,}  {what}")
    print(f"{sum(one.ru_utime + one.ru_stime for one in used):7.0f}  processor-seconds")
    print(f"{time.monotonic() - began:7.0f}  seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
