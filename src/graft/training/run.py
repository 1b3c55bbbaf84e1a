"""A training run: drives the loop, watches validation text, keeps checkpoints, and shows how it goes."""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from graft.core.config.errors import FaultError
from graft.core.models.base_model import Base
from graft.core.process.notes import say
from graft.core.process.progress import Progress
from graft.core.stats.tally import Tally
from graft.core.tokens.token_shards import TokenSource
from graft.models.files.checkpoints import checkpoints, drop_checkpoints, load_checkpoint, save_checkpoint
from graft.models.files.weights import NUM_TEXTS, TEXT_TOKENS, save_model
from graft.models.forward.model import Model
from graft.models.runtime.numeric_faults import enough_memory
from graft.models.runtime.parallel import added, agreed, everyone, rank, ranks
from graft.models.scoring.scoring import choose_documents, mean_nats
from graft.packing.sampler import Sampler
from graft.training.loop import Loss, Pace, Step, run
from graft.training.signals import Stop

CHECKPOINTS = "checkpoints"
AGREED_EVERY = 16  # pieces of text between two moments at which several ranks hear of a stop in a look


class Stopped(Exception):
    """A look at validation text was given up, because the run is to stop."""


@dataclass(frozen=True)
class Watch:
    """Validation text: nats per token of every source, before the first step and after those that are `due`."""

    sources: Mapping[str, TokenSource]
    due: Set[int]
    max_tokens: int  # per source
    window: int
    rows: int

    def look(self, model: Model, stop: Stop) -> dict[str, Tally[float]]:
        """Errors: Stopped as soon as a stop is asked for."""
        training = model.hf.training
        model.hf.eval()
        choices = {name: choose_documents(one, "validation", self.max_tokens) for name, one in self.sources.items()}
        progress = Progress("validation", sum(choice.num_pairs for choice in choices.values()))
        pieces = 0

        def heard(count: int) -> None:
            nonlocal pieces
            progress.advance(count)
            pieces += 1
            if (ranks() == 1 or pieces % AGREED_EVERY == 0) and added([stop.asked])[0]:
                raise Stopped

        seen = {}
        try:
            for name, choice in choices.items():
                if len(choice):
                    source = self.sources[name]
                    seen[name] = mean_nats(model, source, choice, window=self.window, rows=self.rows, heard=heard)
        finally:
            progress.close()
            model.root.rest()
            model.hf.train(training)
        return seen


@dataclass
class TrainingRun:
    """Everything a run is made of. Its state on disk is the step number, the weights, the optimiser and the curve."""

    folder: Path
    base: Base
    model: Model
    fold: Callable[[Model], Model]  # what training put into the model is taken out again
    sampler: Sampler
    loss: Loss
    optimizer: torch.optim.Optimizer
    pace: Pace
    steps: int
    watch: Watch
    checkpoint_minutes: float
    keep_every: int = 0  # steps between checkpoints that stay; 0: none does
    begin: Path | None = None  # the checkpoint to take up where there is none of its own: another run's
    leave: Callable[[Model, Path], None] | None = None  # writes beside the weights what a next run is to know of this
    done: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0  # of stepping, over all sittings
    preparing: float = 0.0  # seconds that the objective took before the first step and after the last, in this sitting
    latest: dict[str, list[float]] = field(default_factory=dict)  # the last validation in the curve

    def to_end(self) -> dict[str, Any]:
        """Run what is left, save the model, and say what the run was.

        Ctrl-C and SIGTERM end it with KeyboardInterrupt once the step in hand is done and saved, so that what is on
        disk is never half of anything; a second one ends the process at once. A look at validation text is given up,
        and taken when the run goes on.
        """
        self._resume()
        with Stop("stopping after this step; once more: at once, going back to the last checkpoint") as stop:
            if not self.curve:
                self.curve.append({"step": 0})
            if "validation" not in self.curve[-1] and (not self.done or self.done in self.watch.due):
                self._look_again(stop)
            self._steps(stop)
        if self.done != self.steps:
            raise FaultError(
                f"training ended after {self.done} of {self.steps} steps",
                where=str(self.folder),
                do="run again: it goes on from the last checkpoint",
            )
        self._drop_optimizer()
        trained = sum(p.numel() for p in self.model.parameters())
        if self.model.adapter is not None:
            self.model.adapter.save(self.folder / "adapter")
        self.model = self.fold(self.model)
        with enough_memory("writing the model", do="free some and run again: the training is done and kept"):
            difference = save_model(self.model, self.base.folder, self.folder / "model", self._texts())
        if self.leave is not None:  # may take as long as many steps, so a kill in it must find a checkpoint
            began = time.monotonic()
            self.leave(self.model, self.folder / "model")
            self.preparing += time.monotonic() - began
        drop_checkpoints(self.folder / CHECKPOINTS, keep=self._stays)
        return self._facts() | {"reload_difference": difference, "num_trained": trained}

    def _look_again(self, stop: Stop) -> None:
        """The look before the first step, or the one that was given up when the run was stopped."""
        try:
            self._note_validation(stop)
        except Stopped:
            say(f"\nstopped at the look after step {self.done} of {self.steps}\n")
            raise KeyboardInterrupt from None
        if self.done:
            self._save()

    def _steps(self, stop: Stop) -> None:
        """Every step that is left, each noted, watched and saved when it is time to."""
        progress = Progress("train", self.steps, done=self.done, offset=self.done)
        saved = last = time.monotonic()
        for step in run(self.model, self.loss, self.sampler, self.optimizer, self.pace, self.done, self.steps):
            now = time.monotonic()
            self.done, self.seconds, last = step.number, self.seconds + now - last, now
            self._note(step)
            progress.advance(1, self._words(step))
            if step.number in self.watch.due:
                with suppress(Stopped):
                    self._note_validation(stop)
                last = time.monotonic()
            due = last - saved >= 60 * self.checkpoint_minutes or step.number == self.steps or self._stays(step.number)
            asked, due = map(bool, added([stop.asked, due and rank() == 0]))  # any rank may be told to stop
            if asked or due:
                self._save()
                saved = last = time.monotonic()
            if asked:
                say(f"\nstopped after step {self.done} of {self.steps}\n")
                raise KeyboardInterrupt
        progress.close()

    def _resume(self) -> None:
        newest = agreed(max(checkpoints(self.folder / CHECKPOINTS).items(), default=(0, self.begin)))[1]
        if newest is None:
            return
        facts = load_checkpoint(newest, self.model, self.optimizer)
        self.done, self.curve, self.seconds = facts["step"], facts["curve"], facts["seconds"]
        self.latest = next(entry["validation"] for entry in reversed(self.curve) if "validation" in entry)
        say(f"going on after step {self.done} of {self.steps}\n")

    def _drop_optimizer(self) -> None:
        """Moments and gradients go before the model is written and read back: both need room of the same size."""
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()

    def _save(self) -> None:
        facts = {"step": self.done, "curve": self.curve, "seconds": self.seconds}
        save_checkpoint(self.folder / CHECKPOINTS, self.model, self.optimizer, facts)
        drop_checkpoints(self.folder / CHECKPOINTS, keep=lambda step: step == self.done or self._stays(step))

    def _stays(self, step: int) -> bool:
        """Does the checkpoint after this step stay, so that another run can take it up?"""
        return bool(self.keep_every) and step % self.keep_every == 0

    def _note(self, step: Step) -> None:
        losses = {name: [tally.total, tally.count] for name, tally in step.losses.items()}
        self.curve.append({"step": step.number, "loss": losses, "norm": step.norm, "rate": step.rate})

    def _note_validation(self, stop: Stop) -> None:
        """Errors: Stopped where a stop is asked for; then nothing is noted."""
        seen = self.watch.look(self.model, stop)
        self.latest = {name: [tally.total, tally.count] for name, tally in seen.items()}
        self.curve[-1]["validation"] = self.latest

    def _words(self, step: Step) -> str:
        speed = self.done * self.sampler.rows * self.sampler.window / max(self.seconds, 1e-9)
        words = f"loss {step.loss:.3f}  {speed:,.0f} tokens/s  {peak_memory(self.model) / 1e9:.1f} GB"
        first = self.curve[0]["validation"]
        for name in list(first)[:3] if self.latest is not first else []:
            before, after = (Tally(*one[name]).mean for one in (first, self.latest))
            words += f"  {name} {after / before - 1:+.1%}"
        return words

    def _texts(self) -> torch.Tensor:
        """A few rows of training text, for the comparison after saving."""
        rows = torch.cat([self.sampler.batch(k).tokens_BT for k in range(-(-NUM_TEXTS // self.sampler.rows))])
        return rows[:NUM_TEXTS, :TEXT_TOKENS]

    def _facts(self) -> dict[str, Any]:
        tokens = self.sampler.tokens_by_source(self.steps)
        if rank() == 0:
            (self.folder / "curve.json").write_text(json.dumps(self.curve, allow_nan=False), encoding="utf-8")
        total = sum(tokens.values())
        return {
            "tokens": tokens,
            "passes": {name: tokens[name] / stream.pairs for name, stream in self.sampler.streams.items()},
            "available": {name: stream.pairs for name, stream in self.sampler.streams.items()},
            "ratio": tokens[self.sampler.names[0]] / total,
            "tokens_per_second": total / max(self.seconds, 1e-9),
            "peak_memory_bytes": max(everyone(peak_memory(self.model))),  # of one process
            "training_seconds": self.seconds,
            "preparing_seconds": self.preparing,
            "kept": list(checkpoints(self.folder / CHECKPOINTS)),
            "num_parameters": sum(p.numel() for p in self.model.hf.parameters()),
        }


def due_steps(steps: int, evaluations: int, spacing: Literal["even", "thinning"]) -> set[int]:
    """After which of a run's steps validation text is looked at; always the last.

    thinning: each lies the same factor farther than the one before, the first at one step or a sixty-fourth of them.
    Of few checkpoints, these tell most about how a loss falls with the tokens (Que et al. 2024, arXiv 2406.01375).
    """
    if spacing == "even":
        return {-(-steps * i // evaluations) for i in range(1, evaluations + 1)}
    first = max(1.0, steps / 64)
    last = max(1, evaluations - 1)
    return {round(first * (steps / first) ** (i / last)) for i in range(evaluations)} | {steps}


def forget_peak(model: Model) -> None:
    """What was held before this run is not its memory: from now on `peak_memory` speaks of what comes."""
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    elif sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library, or a /proc that may not be written
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text(
                "5", encoding="utf-8"
            )  # proc(5): sets the peak back to what is held now


def peak_memory(model: Model) -> int:
    """Most bytes held at once since `forget_peak`: by the accelerator where there is one, else by this process."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def adamw(model: Model, *, rate: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW (Loshchilov and Hutter 2019); matrices decay, vectors do not: not even those stored as a column."""
    matrices = [p for p in model.parameters() if sum(side > 1 for side in p.shape) >= 2]
    vectors = [p for p in model.parameters() if sum(side > 1 for side in p.shape) < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, betas=betas, fused=True)
