"""What one training run is made of, settled and not yet opened: the train stage builds it, others look at it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.models.named_tokens import GENERATION
from graft.core.models.weight_files import read_json
from graft.core.process.notes import tell_notes
from graft.core.process.precision import Computed, computed
from graft.core.store.artifact import Artifact, Draft
from graft.core.store.atomic_files import write_whole
from graft.core.tokens.token_shards import TokenSource
from graft.data.tokenize import sources
from graft.data.user_notes import by_place
from graft.models.runtime.settle_precision import recorded
from graft.training.settings import Train, TrainingShape, peak_rate

if TYPE_CHECKING:
    from graft.models.forward.model import Model
    from graft.packing.sampler import Sampler
    from graft.training.run import TrainingRun


@dataclass(frozen=True)
class Training:
    """A run of `train` before anything of it is opened; called with a draft, all ranks of the job build it there."""

    base: Base
    tokens: Artifact
    mixture: Mapping[str, float]
    settings: Train
    shape: TrainingShape
    shortlists: Artifact | None = None  # of the teacher, where the objective reads them
    begin: Path | None = None  # another run's checkpoint to take up

    def __call__(self, draft: Draft) -> None:
        from graft.models.runtime.numeric_faults import enough_memory
        from graft.models.runtime.parallel import gathered, rank

        with gathered():
            run, notes = self.open(draft.path)
            with by_place(self.tokens), enough_memory("training", do=_less(self.shape)):
                done = run.to_end()
            if rank() == 0:
                write_whole(draft / "model" / "training.json", json.dumps(self.notes_for_next(run), indent=1))
                self._keep_template(draft / "model")
                notes = [*notes, *self._stop_where_answers_end(draft / "model")]
            draft.facts |= {
                "base": self.base.name,
                "runtime": recorded(computed(self.settings.precision)),
                "mixture": dict(self.mixture),
                "shape": vars(self.shape),
                "notes": notes,
            } | done

    def _keep_template(self, model: Path) -> None:
        """Dialogues were written in this template, so whoever talks to the model, or trains it further, needs it."""
        said = self.tokens.manifest["settings"]
        if said.get("chat") == "template" and said.get("template"):
            write_whole(model / "chat_template.jinja", said["template"])

    def _stop_where_answers_end(self, model: Path) -> list[str]:
        """What ends an answer was trained, so generation has to stop there. Returns: that it does, in words."""
        ends = [end for end in self.tokens.facts.get("ends", {}) if end]
        trained = [number for end in ends if (number := self.base.tokenizer.token_to_id(end)) is not None]
        path = model / GENERATION
        if not trained or not path.exists():
            return []
        config = read_json(path)
        named: Any = config.get("eos_token_id", self.base.config.get("eos_token_id"))
        known: list[int] = named if isinstance(named, list) else [] if named is None else [named]
        more = [number for number in trained if number not in known]
        if not more:
            return []
        config["eos_token_id"] = [*known, *more]
        write_whole(path, json.dumps(config, indent=2))
        return [
            f"the answers end in {' and '.join(ends)}, so {GENERATION} of the outcome stops there too: eos_token_id is "
            f"{config['eos_token_id']}, and was {named}"
        ]

    def notes_for_next(self, run: TrainingRun) -> dict[str, Any]:
        """What a training that starts from the outcome wants to know: the rate it stopped at, and the peak of the
        pre-training, which an automatic rate is a share of."""
        before = self.notes_from_base
        return {
            "peak_lr": before["peak_lr"],
            "final_lr": run.curve[-1]["rate"],
            "tokens": before["tokens"] + self.shape.tokens,
            "from": self.base.name,
        }

    @property
    def notes_from_base(self) -> dict[str, Any]:
        """What is handed on of how the base was trained; it lies beside the weights and is no part of them."""
        return {"peak_lr": peak_rate(self.base), "tokens": int(self.base.training_notes.get("tokens") or 0)}

    def open(self, folder: Path) -> tuple[TrainingRun, list[str]]:
        """The run at its beginning, which keeps its checkpoints in `folder`, and notes on how it computes."""
        from graft.packing.sampler import Sampler
        from graft.training.contract import Start
        from graft.training.loop import Pace
        from graft.training.run import TrainingRun, Watch, adamw, due_steps, forget_peak
        from graft.training.teacher_top_k import Kept, Shortlists

        base, tokens, mixture, settings, shape = self.base, self.tokens, self.mixture, self.settings, self.shape
        shortlists = self.shortlists
        named = sources(tokens)
        packing = settings.row_packing
        assert settings.evaluations is not None and settings.validation_tokens is not None, "settled by `train`"
        sampler = Sampler(named, mixture, window=shape.window, rows=shape.rows, seed=settings.seed, packing=packing)
        others = [name for name in named if name not in sampler.names]
        listed = shortlists and Shortlists(
            {
                name: Kept(shortlists.path, named[name], shortlists.manifest["settings"]["words"])
                for name in sampler.names
            },
            sampler.row,
            shortlists.facts["vocabulary"],
        )
        start = Start(base, named, [*sampler.names, *others], shape.window, shape.micro_rows, settings.seed, listed)
        opener = Opener(base, named, tokens.facts["vocabulary"], computed(settings.precision))
        model = opener.trained(settings)
        forget_peak(model)
        began = time.monotonic()
        loss = settings.objective.bind(start, opener.frozen)
        preparing = time.monotonic() - began
        opener.notes.update(dict.fromkeys(_packing_notes(sampler)))
        if settings.keep_every > shape.steps:
            few = f"train.keep_every is {settings.keep_every} and the run has {shape.steps} steps: no checkpoint stays"
            opener.notes[few] = None
        tell_notes(opener.notes)
        model.hf.train()
        return TrainingRun(
            folder=folder,
            base=base,
            model=model,
            fold=settings.tuning.fold,
            sampler=sampler,
            loss=loss,
            optimizer=adamw(
                model, rate=shape.rate, betas=(settings.beta1, settings.beta2), weight_decay=settings.weight_decay
            ),
            pace=Pace(
                rate=settings.rates(shape),
                micro_rows=shape.micro_rows,
                clip=settings.clip,
                seed=settings.seed,
                workers=settings.workers,
            ),
            steps=shape.steps,
            watch=Watch(
                sources=named,
                due=due_steps(shape.steps, settings.evaluations, settings.spacing),
                max_tokens=settings.validation_tokens,
                window=shape.window,
                rows=shape.micro_rows,
            ),
            checkpoint_minutes=settings.checkpoint_minutes,
            keep_every=settings.keep_every,
            begin=self.begin,
            leave=getattr(loss, "leave", None),
            preparing=preparing,
        ), list(opener.notes)


def same_tokenizer(name: str, base: Base) -> Base:
    """The teacher of this name.

    Errors: UsageError where it reads text with another tokenizer than the base, or its head has another number of rows.
    """
    other = Base.find(name)
    if other.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        raise UsageError(
            "the teacher reads text with another tokenizer than the base, so their tokens cannot be compared",
            where=name,
            allowed=f"a model with the tokenizer of {base.name}",
            do="take a teacher of the same family, or an objective without a teacher",
        )
    _check_rows(other, base)
    return other


def _check_rows(teacher: Base, base: Base) -> None:
    """Of two models with one tokenizer. A config that does not say is found out at the first batch.

    Errors: UsageError where one head has more rows, which no token has: their chances would count on one side only.
    """
    known = base.tokenizer.get_vocab_size(with_added_tokens=True)
    theirs, ours = (one.config.get("vocab_size") for one in (teacher, base))
    if not isinstance(theirs, int) or not isinstance(ours, int) or theirs == ours:
        return
    fewer, more = sorted([(ours, base.folder), (theirs, teacher.folder)])
    changed, to = (more[1], fewer[0]) if fewer[0] >= known else (fewer[1], more[0])
    raise UsageError(
        f"the teacher and the base read the same tokenizer ({known} tokens), but the teacher's head has {theirs} rows "
        f"and the base's {ours}: one of them is padded",
        where=teacher.name,
        allowed="heads with the same number of rows",
        do=f"bring {changed} to {to} rows (transformers: model.resize_token_embeddings({to})), save it with its "
        "tokenizer files in a folder of its own, and name that",
    )


@dataclass(frozen=True)
class Opener:
    """Opens models that compute what they should on this text: a frozen one falls back where the trained one does."""

    base: Base
    sources: Mapping[str, TokenSource]
    vocabulary: int
    precision: Computed
    notes: dict[str, None] = field(default_factory=dict)

    def trained(self, settings: Train) -> Model:
        """The start, ready to be trained as `settings` has it."""

        def tune(model: Model) -> Model:
            model.seed = settings.seed
            return settings.tuning.apply(model)

        return self._open(self.base, tune)

    def frozen(self, name: str) -> Model:
        """The start ("") or another model, a folder or hub id. Errors: UsageError where its tokenizer is another."""
        if not name:
            return self._open(self.base)
        return self._open(same_tokenizer(name, self.base))

    def _open(self, base: Base, tune: Callable[[Model], Model] | None = None) -> Model:
        """A model that is tuned once its embeddings are known to suffice; else frozen."""
        from graft.models.checks.verify import check_ids
        from graft.models.files.weights import open_model

        def checked(model: Model) -> Model:
            check_ids(model, base, self.sources, self.vocabulary)
            return tune(model) if tune else model

        model = open_model(base.folder, self.precision, frozen=tune is None, tune=checked)
        self.notes.update(dict.fromkeys(model.notes))
        return model


def _packing_notes(sampler: Sampler) -> list[str]:
    """In words, what no row holds and how much of the rows is filling; none where rows are full."""
    pairs = {name: len(rows.tokens.pairs("train")) for name, rows in sampler.streams.items()}
    left_out = [
        f"{name}: {count:,} of {pairs[name]:,} pairs are not trained on: both answers with their question are longer "
        f"than a row of {sampler.window} tokens; a larger train.sequence_length takes in more"
        for name, count in sampler.left_out.items()
        if count
    ]
    return left_out + [
        f"{name}: {share:.0%} of the places in its rows are filling"
        for name, share in sampler.filling.items()
        if share > 0.1
    ]


def _less(shape: TrainingShape) -> str:
    """Which setting to lower where memory does not suffice, and to what."""
    if shape.micro_rows > 1:
        return (
            f"set train.micro_batch_size to {shape.micro_rows // 2} (it is {shape.micro_rows}): that changes no result"
        )
    if shape.window > 128:
        return f"set train.sequence_length to {shape.window // 2} (it is {shape.window})"
    return "take a smaller base, or a machine with more memory"
