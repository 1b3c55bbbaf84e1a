"""Proof of exact resume, on a user's own recipe: the same steps with and without kills, compared to the bit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError, GraftError, UsageError
from graft.core.config.settings import build, to_json
from graft.core.models.base_model import Base
from graft.core.process.notes import say
from graft.core.process.precision import computed
from graft.core.process.processes import hush, num_ranks, say_fault
from graft.core.stats.random_streams import stream
from graft.core.store.artifact import Artifact, Code, Draft, Meet, Store
from graft.models.runtime.settle_precision import settle_precision
from graft.training.settings import Train, TrainingShape
from graft.training.train import CHECKPOINTS
from graft.training.training_run import Training
from graft.training.tunings.contract import tuning_needs

NEXT_BATCHES = 100  # compared after the last step
VALIDATION_TOKENS = 2000  # per source: validation is part of what must not disturb a run, its precision is not
TRAINS_NOTHING, WITH_TRAINING = "this recipe trains nothing by itself", "give one that has a train section"
LEAST_STEPS = 6
NEAR = {"fp32": 1e-5, "bf16": 1e-3}  # of a loss: how near two orders of the same sums come
ENDED = "ended.json"  # what a child leaves beside its checkpoints when it has come to its end


class _Reached(Exception):
    """What a job was about to train."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training = training


@dataclass(frozen=True)
class _UpToTraining(Store):
    """A store that makes everything that training needs, and raises _Reached instead of training."""

    def make(
        self,
        kind: str,
        settings: Any,
        inputs: Mapping[str, Artifact | str],
        code: Code,
        build: Callable[[Draft], None],
        *,
        origins: Mapping[str, str] | None = None,
        together: Meet | None = None,
    ) -> Artifact:
        if isinstance(build, Training):
            raise _Reached(build)
        return super().make(kind, settings, inputs, code, build, origins=origins, together=together)


@dataclass(frozen=True)
class Kill:
    """One kill -9. planned: the step drawn; found: the newest checkpoint on the disk when the process was gone."""

    planned: int
    found: int
    workers: int  # of the sitting that went on from there


@dataclass(frozen=True)
class Finding:
    """One thing that was compared. differs: in words where and by how much; empty: it does not, which is `same`."""

    what: str
    compared: str
    differs: str
    same: str = "the same to the bit"


@dataclass(frozen=True)
class Proof:
    """What `verify_resume` saw."""

    steps: int
    kills: list[Kill]
    findings: list[Finding]
    passes: dict[str, float]  # how often each source's training text was read through
    notes: list[str] = field(default_factory=list)
    processes: int = 1  # the most that a sitting had

    @property
    def exact(self) -> bool:
        return not any(finding.differs for finding in self.findings)


def verify_resume(
    job: Any,
    store: Store,
    *,
    steps: int = 20,
    kills: int = 3,
    minutes: float = 30.0,
    seed: int = 0,
    processes: int = 1,
) -> Proof:
    """Train the first `steps` steps of a job twice in processes of their own, once with `kills` kills; compare.

    What training needs is made in `store`; the two runs lie in a folder of their own in it, which is removed. Batches,
    rates (the schedule is laid over the whole run), objective and tuning are the job's own; validation is short, and
    checkpoints are frequent. The first sitting has the job's number of workers, later ones another.
    processes: more than 1: a third run is killed once, and goes on in so many; its losses are compared (see NEAR).
    Errors: UsageError; FaultError when a run fails by itself, or all of it takes longer than `minutes`.
    """
    if steps < LEAST_STEPS or kills < 1:
        raise UsageError(f"{steps} steps and {kills} kills", allowed=f"{LEAST_STEPS} steps or more, 1 kill or more")
    if processes < 1:
        raise UsageError(f"processes is {processes}", allowed="1 or more")
    if num_ranks() > 1:
        raise UsageError(
            f"this is one of {num_ranks()} processes of a job",
            do="run verify-resume without torchrun; --processes starts as many as it says",
        )
    if not hasattr(job, "train"):
        raise UsageError(TRAINS_NOTHING, do=WITH_TRAINING)
    notes: list[str] = []
    for name, words in (
        ("decay_now", "the run that decay_now branches off is verified; the branch resumes by the same code"),
        ("range_test", "no range test is run: the rate is the automatic one"),
    ):
        if getattr(job.train, name):
            notes.append(words)
            job = replace(job, train=replace(job.train, **{name: None}))
    training = _training_of(settle_precision(job, store), store)
    if processes > 1:
        _check_no_dropout(training)
    training = replace(training, shape=replace(training.shape, steps=min(steps, training.shape.steps)))
    if training.shape.steps < LEAST_STEPS:
        raise UsageError(
            f"the run has {training.shape.steps} steps, too few to be killed within",
            allowed=f"{LEAST_STEPS} or more",
            do="give --set train.tokens a larger value, or train.batch_size a smaller one",
        )
    if training.shape.steps < steps:
        notes.append(f"the run has {training.shape.steps} steps in all")
    with store.scratch("verify-resume") as place:
        return _Trial(training, place, time.monotonic() + 60 * minutes).prove(kills, seed, processes, notes)


def _training_of(job: Any, store: Store) -> Training:
    """What the job would train, everything before it made."""
    try:
        job.make(_UpToTraining(store.root, store.on_made))
    except _Reached as reached:
        return reached.training
    raise UsageError(TRAINS_NOTHING, do=WITH_TRAINING)


def _check_no_dropout(training: Training) -> None:
    """Errors: UsageError where there is any: which numbers it drops depends on how rows are dealt to processes."""
    rates = {key: value for key, value in training.base.config.items() if "drop" in key}
    rates["tuning.dropout"] = tuning_needs(training.settings.tuning).dropout
    if found := [f"{key} {value}" for key, value in rates.items() if isinstance(value, float) and value > 0]:
        raise UsageError(
            f"this training has dropout ({', '.join(found)}), and other numbers are dropped in several processes, so "
            "their losses cannot be compared",
            do="leave out --processes, or set the dropout to 0 for the proof",
        )


@dataclass(frozen=True)
class _Trial:
    """The two runs. until: when time is up, on the monotonic clock."""

    training: Training
    place: Path
    until: float

    @property
    def steps(self) -> int:
        return self.training.shape.steps

    def prove(self, kills: int, seed: int, processes: int, notes: list[str]) -> Proof:
        plain, killed = self.place / "plain", self.place / "killed"
        _say(f"{self.steps} steps without a break")
        self._sit(plain, self.training.settings.workers, checkpoint_minutes=1e6)
        ended = json.loads((plain / ENDED).read_text(encoding="utf-8"))
        pace = ended["seconds"] / self.steps
        done = self._killed_run(killed, kills, seed, pace)
        if len(done) < kills:
            notes = [*notes, f"the run was through before it could be killed {kills} times: give more --steps"]
        findings = list(self._findings(plain, killed))
        if processes > 1:
            spread = self.place / "spread"
            if begun := self._killed_run(spread, 1, seed, pace, processes):
                findings.append(self._spread_finding(plain, spread, begun[0].found, processes))
            else:
                notes = [*notes, f"the run was through before it could go on in {processes} processes"]
                processes = 1
        return Proof(self.steps, done, findings, ended["passes"], notes, processes)

    def _killed_run(self, folder: Path, kills: int, seed: int, pace: float, processes: int = 1) -> list[Kill]:
        """The same run with kill -9 after drawn steps. pace: seconds per step, by which delays are drawn.

        processes: of the last sitting.
        """
        draw = stream(seed, "verify-resume")
        last = self.steps - 3 if processes == 1 else self.steps // 2  # where several are to have steps left to do
        planned = sorted(draw.choice(last, size=min(kills, last), replace=False) + 1)
        usual = self.training.settings.workers
        workers = [usual, *(number for number in (0, 1, 2, 3) if number != usual)]
        done: list[Kill] = []
        for sitting in range(len(planned) + 1):
            own = workers[sitting % len(workers)]
            at = int(planned[sitting]) if sitting < len(planned) else None
            delay = float(draw.random()) * 2 * pace
            words = f"killed {delay:.2f} s after the first checkpoint from step {at} on" if at else "to the end"
            crowd = 1 if at else processes
            _say(f"sitting {sitting + 1}, {own} worker(s), {crowd} process(es): {words}")
            often = 1.5 * pace / 60
            if self._sit(folder, own, checkpoint_minutes=often, kill_at=at, delay=delay, processes=crowd):
                break
            assert at is not None
            newest = max(_stored(folder), default=0)
            done.append(Kill(at, newest, workers[(sitting + 1) % len(workers)]))
            _say(f"killed; the newest whole checkpoint is of step {newest}")
        return done

    def _sit(
        self,
        folder: Path,
        workers: int,
        *,
        checkpoint_minutes: float,
        kill_at: int | None = None,
        delay: float = 0.0,
        processes: int = 1,
    ) -> bool:
        """A child trains in `folder` to the end, or until it is killed; returns whether it came to the end."""
        request = self.place / "request.json"
        request.write_text(json.dumps(_as_json(self._short(workers, checkpoint_minutes))), encoding="utf-8")
        began_at = max(_stored(folder), default=0)
        with self._child(request, folder, processes) as child:
            while child.poll() is None:
                if time.monotonic() > self.until:
                    raise FaultError("time is up", do="give fewer --steps or more --minutes")
                newest = max(_stored(folder), default=0)
                if kill_at is not None and newest >= kill_at and newest > began_at:
                    time.sleep(delay)
                    child.send_signal(signal.SIGKILL)
                    child.wait()
                    break
                time.sleep(0.002 if kill_at is not None else 0.05)
        if child.returncode == 0:
            return True
        if kill_at is not None and child.returncode == -signal.SIGKILL:
            return False
        raise FaultError(f"a run ended by itself with {child.returncode}", do="see what it said above")

    @contextmanager
    def _child(self, request: Path, folder: Path, processes: int) -> Generator[subprocess.Popen[bytes]]:
        folder.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        several = ["torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
        command = [sys.executable, "-m", *([*several, "-m"] if processes > 1 else ())]
        command += ["graft.launch.verify_resume", str(request), str(folder)]
        child = subprocess.Popen(command, env=environment, start_new_session=True)  # Ctrl-C is for us alone
        try:
            yield child
        finally:
            if child.poll() is None:
                if processes > 1:  # who starts them ends them, unless it is killed itself
                    child.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(60)
                child.kill()
                child.wait()

    def _short(self, workers: int, checkpoint_minutes: float) -> Training:
        """As the user's, but that the state after the last step stays, and validation is short."""
        asked = self.training.settings
        tokens = min(asked.validation_tokens or VALIDATION_TOKENS, VALIDATION_TOKENS)
        short = replace(
            asked,
            workers=workers,
            checkpoint_minutes=checkpoint_minutes,
            keep_every=self.steps,
            evaluations=min(asked.evaluations or 2, 2),
            validation_tokens=tokens,
        )
        return replace(self.training, settings=short)

    def _findings(self, plain: Path, killed: Path) -> Iterator[Finding]:
        from graft.models.files.bitwise_difference import difference

        curves = [json.loads((folder / "curve.json").read_text(encoding="utf-8")) for folder in (plain, killed)]
        yield Finding("losses, norms, rates", f"{self.steps} steps", _first_step(*curves))
        for prefix, what in (("model/", "weights"), ("optimizer/", "optimiser")):
            seen = difference(_stored(plain)[self.steps], _stored(killed)[self.steps], prefix)
            yield Finding(what, f"{seen.num_values:,} numbers in {seen.num_tensors} tensors", seen.words)
        ours, theirs = (
            json.loads((folder / ENDED).read_text(encoding="utf-8"))["batches"] for folder in (plain, killed)
        )
        first = next((k for k, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
        differs = "" if first is None else f"first in batch {self.steps + first}"
        yield Finding("next batches", f"{len(ours)} batches", differs)

    def _spread_finding(self, plain: Path, spread: Path, found: int, processes: int) -> Finding:
        ours, theirs = (json.loads((folder / "curve.json").read_text(encoding="utf-8")) for folder in (plain, spread))
        largest, differs = spread_losses(ours, theirs, NEAR[computed(self.training.settings.precision)])
        words = f"the same to {largest:.1e}"
        return Finding(f"losses in {processes} processes", f"{self.steps - found} steps", differs, words)


def _stored(folder: Path) -> dict[int, Path]:
    from graft.models.files.checkpoints import checkpoints

    return checkpoints(folder / CHECKPOINTS)


def _first_step(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Where two curves part, in words; empty where they do not."""
    for a, b in zip(ours, theirs, strict=False):
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                return f"first at step {a['step']}: {key} {a.get(key)} and {b.get(key)}"
    return "" if len(ours) == len(theirs) else f"{len(ours) - 1} and {len(theirs) - 1} steps"


def spread_losses(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], near: float) -> tuple[float, str]:
    """Of two curves the largest relative difference of a source's loss in a step, and in words where it is not near.

    What was counted has to be the same.
    """
    largest = 0.0
    for a, b in zip(ours, theirs, strict=False):
        of_a, of_b = a.get("loss", {}), b.get("loss", {})
        if {name: count for name, (_, count) in of_a.items()} != {name: count for name, (_, count) in of_b.items()}:
            return largest, f"first at step {a['step']}: other tokens are counted"
        for name, (total, _) in of_a.items():
            other = of_b[name][0]
            apart = abs(other - total) / max(abs(total), 1e-30)
            if not apart <= near:
                return (
                    largest,
                    f"first at step {a['step']}: loss of {name} {total} and {other}, more than {near:g} apart",
                )
            largest = max(largest, apart)
    return largest, "" if len(ours) == len(theirs) else f"{len(ours) - 1} and {len(theirs) - 1} steps"


def _say(words: str) -> None:
    say(f"verify-resume: {words}\n")
    sys.stderr.flush()


def _as_json(training: Training) -> dict[str, Any]:
    return {
        "base": [training.base.name, str(training.base.folder)],
        "tokens": str(training.tokens.path),
        "mixture": dict(training.mixture),
        "settings": to_json(training.settings),
        "shape": vars(training.shape),
        "shortlists": training.shortlists and str(training.shortlists.path),
    }


def _from_json(one: dict[str, Any]) -> Training:
    name, folder = one["base"]
    return Training(
        base=Base(name, Path(folder)),
        tokens=Artifact(Path(one["tokens"])),
        mixture=one["mixture"],
        settings=build(Train, one["settings"]),
        shape=TrainingShape(**one["shape"]),
        shortlists=Artifact(Path(one["shortlists"])) if one["shortlists"] else None,
    )


def _train_in(folder: Path, training: Training) -> None:
    """What a child does: train to the end as `train` does, and leave word of what comes after the last step."""
    from graft.models.runtime.parallel import gathered, rank
    from graft.packing.prefetch import ahead

    with gathered():
        run, _ = training.open(folder)
        facts = run.to_end()
        if rank():
            return
    made = ahead(run.sampler.batch, run.steps, run.steps + NEXT_BATCHES, training.settings.workers)
    batches = [_hash(batch) for batch in made]
    ended = {"batches": batches, "seconds": facts["training_seconds"], "passes": facts["passes"]}
    (folder / ENDED).write_text(json.dumps(ended), encoding="utf-8")


def _hash(batch: Any) -> str:
    """Over every tensor of a batch."""
    whole = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(vars(batch).items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def show_proof(proof: Proof) -> None:
    """The proof on the terminal."""
    from graft.core.process.console import Screen

    console = Screen(highlight=False, soft_wrap=True)
    columns = [[getattr(finding, name) for finding in proof.findings] for name in ("what", "compared")]
    widths = [max(map(len, column)) for column in columns]
    for finding in proof.findings:  # no table of rich: it would break long names of tensors
        outcome = finding.differs or finding.same
        console.print(f"{finding.what:{widths[0]}}  {finding.compared:{widths[1]}}  {outcome}")
    for number, kill in enumerate(proof.kills, 1):
        console.print(
            f"kill {number}: drawn for step {kill.planned}; went on from the checkpoint of step {kill.found} "
            f"with {kill.workers} worker(s)"
        )
    crossed = [name for name, passes in proof.passes.items() if passes > 1]
    border = f"read more than once: {', '.join(crossed)}" if crossed else "no source was read to its end"
    console.print(f"epoch border: {border} ({proof.steps} steps)")
    if proof.processes == 1:
        console.print("number of processes: not varied (--processes 2 does)")
    for note in proof.notes:
        console.print(f"note: {note}")
    console.print("exact" if proof.exact else "NOT exact")


def main(request: str, folder: str) -> int:
    """A child's life. Exit codes as the command line's."""
    hush()
    try:
        _train_in(Path(folder), _from_json(json.loads(Path(request).read_text(encoding="utf-8"))))
    except GraftError as error:
        say_fault(f"graft: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
