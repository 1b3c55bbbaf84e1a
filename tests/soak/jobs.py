"""The commands of a soak: small whole jobs over a small world, each in a process forked from one that knows torch.

The parent imports and computes nothing: a library's threads do not survive a fork, so they must not be there before.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TRAIN = "{sequence_length: 64, batch_size: 4, micro_batch_size: 4, learning_rate: 2e-3, evaluations: 1"
TRAIN += ", precision: fp32, checkpoint_minutes: 0"
RECIPES = {
    "adapt": """
adapt:
  base: {base}
  domain: {domain}
  general: {general}
  curate: {{split: {{test: 0.2}}}}
  train: {train}, tokens: 6k, validation_tokens: 600}}
  evaluate: {{max_tokens: 2000}}
  out: {out}
""",
    "versus": """
compare:
  before: {base}
  after: {knowing}
  text: [{domain}, {general}]
  pool: {{seen_too: true}}
  out: {out}
""",
    "benchmark": """
eval:
  model: {knowing}
  against: {base}
  suite: {suite}
  out: {out}
""",
    "stream": """
continual:
  base: {base}
  domains: {{law: {domain}, mirror: [{mirror}]}}
  general: {general}
  methods: [naive, replay: {{share: 25%}}]
  curate: {{split: {{test: 0.2}}}}
  train: {train}, tokens: 1k, validation_tokens: 600}}
  evaluate: {{max_tokens: 1000}}
  judge: {{draws: 100}}
  out: {out}
""",
    "budget": """
budget:
  forget: 20%
  pilots: {{share: 0.5, validation_tokens: 600}}
  adapt:
    base: {knowing}
    domain: {domain}
    general: {general}
    curate: {{split: {{test: 0.2}}}}
    train: {train}, tokens: 10k, validation_tokens: 600}}
    evaluate: {{max_tokens: 2000}}
    out: {out}
""",
}


def prepare() -> None:
    """Import all that the jobs import, and start nothing of it."""
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    os.environ.update({"GRAFT_PRECISION": "fp32", "GRAFT_DEVICE": "cpu", "NO_COLOR": "1"})
    import importlib

    import graft.cli.app  # noqa: F401
    from graft.core.config.plugins import HOUSE

    for path in sorted(HOUSE.rglob("*.py")):
        name = "graft." + ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        if path.stem not in ("__main__", "__init__"):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


@dataclass(frozen=True)
class Child:
    """A process that is at a job. log: what it says."""

    pid: int
    log: Path

    def wait(self) -> int:
        """How it ended: an exit code, or less than 0 where a signal ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_at_most(self, seconds: float) -> int | None:
        """The same; None where it is not over by then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        return None

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def fork(work: Callable[[], None], log: Path, *, most_bytes: int | None = None) -> Child:
    """`work` in a child process, which ends as a command line does. most_bytes: that a file may have."""
    sys.stdout.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # not in the midst of the fork
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return Child(pid, log)
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*words: object) -> Callable[[], None]:
    """`graft WORDS`."""

    def work() -> None:
        from graft.cli.app import main

        sys.argv = ["graft", *map(str, words)]
        main()

    return work


@dataclass(frozen=True)
class Place:
    """A folder with the texts and models of the jobs."""

    root: Path

    def make(self) -> None:
        """Made by a child, since the parent computes nothing."""
        child = fork(self._fill, self.root / "world.log")
        if child.wait():
            raise RuntimeError(child.said)

    def _fill(self) -> None:
        from conftest import WORDS, make_world, write_texts
        from graft.core.store.artifact import Store
        from graft.training.settings import Train
        from graft.training.train import train

        world = make_world(self.root / "world")
        settings = Train(
            tokens=64 * 4 * 60, sequence_length=64, batch_size=4, learning_rate=1e-2, precision="fp32", evaluations=1
        )
        taught = train(world.base, world.tokens, {"general": 1.0}, settings, store=Store(self.root / "world" / "store"))
        write_texts(self.root / "mirror", [word[::-1] for word in WORDS], 60, seed=3)
        rows = [
            {"id": str(k), "question": f"which {WORDS[k % 20]}", "choices": WORDS[k % 15 : k % 15 + 4], "answer": k % 4}
            for k in range(40)
        ]
        (self.root / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        places = {"base": world.base.folder, "knowing": taught / "model", "domain": world.domain}
        places |= {"general": world.general, "mirror": self.root / "mirror", "suite": self.root / "suite.jsonl"}
        (self.root / "places.json").write_text(json.dumps({name: str(path) for name, path in places.items()}))

    def job(self, name: str, folder: Path) -> Callable[[], None]:
        """The command of a job whose store and results are in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "recipe.yaml"
        places = json.loads((self.root / "places.json").read_text())
        recipe.write_text(RECIPES[name].format(out=folder / "out", train=TRAIN, **places))
        return command("run", recipe, "--store", folder / "store")


def names(chosen: Sequence[str]) -> list[str]:
    """The jobs that are asked for; all where none is."""
    unknown = sorted(set(chosen) - set(RECIPES))
    if unknown:
        raise SystemExit(f"no such job: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    return list(chosen) or list(RECIPES)
