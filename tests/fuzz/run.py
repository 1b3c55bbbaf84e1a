"""Many inputs that are nearly right, and what comes of them: a result, a refusal in words, or a finding.

    python tests/fuzz/run.py                        a few hundred cases of every target
    python tests/fuzz/run.py --cases 20000          so many in all
    python tests/fuzz/run.py --only csv json --seed 7 --keep found/

A finding is a traceback, a case that takes more than 10 seconds, a gigabyte more than before, or something wrong that
was accepted. Its input is kept. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from targets import TARGETS, beside

from graft.core.config.errors import GraftError

SECONDS, MEMORY = 10, 1 << 30


class TooLong(BaseException):
    """A case that takes more than SECONDS."""


@dataclass
class Found:
    """Of one target: how many cases ended how, and the findings, each with the file that its input is kept in."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, Path]] = field(default_factory=list)


@contextlib.contextmanager
def within_seconds() -> Generator[None]:
    def over(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)  # of a machine that does other work
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.signal(signal.SIGPROF, over)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(name: str, cases: int, seed: int, keep: Path) -> Found:
    """`cases` inputs of one target. What is known of the memory is the largest it ever was, so growth counts once."""
    target, found = TARGETS[name], Found()
    seeds = target.seeds()
    with tempfile.TemporaryDirectory() as top:
        for number in range(cases):
            draw = random.Random(f"{name} {seed} {number}")
            content = draw.choice(target.changes)(draw.choice(seeds), draw)
            folder = Path(top) / "store" / "docs-abcdefabcdef" if name == "manifest" else Path(top) / "base"
            beside(folder, target.file)
            path = folder / target.file
            path.write_bytes(content)
            end = _end(name, path)
            found.ends[end.partition(":")[0]] += 1
            if end.startswith("finding"):
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{name.replace(' ', '-')}-{seed}-{number}-{target.file}"
                kept.write_bytes(content)
                found.findings.append((end, kept))
            shutil.rmtree(Path(top) / "store", ignore_errors=True)
    return found


def _end(name: str, path: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = io.StringIO()
    try:
        with within_seconds(), contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            TARGETS[name].tried(path)
    except GraftError as error:
        return "refused" if str(error).strip() else "finding: an error without words"
    except TooLong:
        return f"finding: more than {SECONDS} seconds"
    except AssertionError:
        return "finding: accepted, " + traceback.format_exc(limit=-1)
    except Exception:
        return "finding: " + traceback.format_exc(limit=-4)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return "accepted" if more < MEMORY else f"finding: {more:,} bytes of memory"


def main() -> int:
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument("--cases", type=int, default=5000, help="in all")
    read.add_argument("--seed", type=int, default=0)
    read.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    read.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for inputs of findings")
    asked = read.parse_args()
    quiet()
    findings = 0
    for name in asked.only:
        found = fuzz(name, max(1, asked.cases // len(asked.only)), asked.seed, asked.keep)
        print(f"{name:20} " + ", ".join(f"{count:,} {end}" for end, count in sorted(found.ends.items())), flush=True)
        for end, kept in found.findings[:3]:
            print(f"    {kept}: {end}", flush=True)
        findings += len(found.findings)
    print(f"{findings} findings")
    return int(findings > 0)


def quiet() -> None:
    """Libraries that log what they think of broken input."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
