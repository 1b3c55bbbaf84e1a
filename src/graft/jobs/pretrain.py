"""pretrain: a new small base from text alone, so that the embedded model is something anyone can rebuild."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.curate import Curate, curate
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.models.runtime.settle_precision import settle_precision
from graft.surgery.initialize import Initialize, initialize
from graft.training.settings import Train
from graft.training.train import train


@dataclass(frozen=True)
class Pretrain:
    """A base model trained from random weights on one body of text.

    vocabulary_text is read by the tokenizer and never by the model, so that words of later domains are not spelled
    out byte by byte.
    """

    text: tuple[str, ...] = ("embedded:prose-full",)
    vocabulary_text: tuple[str, ...] = ("embedded:code",)
    out: str = "pretrained"  # folder for model/
    ingest: Ingest = Ingest()
    curate: Curate = Curate()
    initialize: Initialize = Initialize()
    tokenize: Tokenize = Tokenize()
    train: Train = Train(learning_rate=2e-3)

    def __post_init__(self) -> None:
        if not self.text:
            raise UsageError("text names no path", allowed="one or more folders or files")

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Paths by source name; the text that is trained on comes first."""
        return {"general": self.text} | ({"vocabulary": self.vocabulary_text} if self.vocabulary_text else {})

    @property
    def mixture(self) -> dict[str, float]:
        """Share of the training tokens by source."""
        return {"general": 1.0}

    def __call__(self, store: Store) -> Path:
        """Run every stage that is not done yet; returns the folder with the model.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        check_out(folder, ["model"], sources=(*self.text, *self.vocabulary_text))
        trained = settle_precision(self, store).make(store)[-1]
        notes = {"training.json": json.dumps(training_notes(trained), indent=1)}
        return put_out(folder, {"model": trained / "model"}, {"model": notes})

    def number_keys(self) -> list[str]:
        """None: it leaves a model and no summary."""
        return []

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made."""
        docs = {name: ingest(paths, name, self.ingest, store=store) for name, paths in self.sources.items()}
        corpus = curate(docs, self.curate, store=store)
        begun = initialize(corpus, self.initialize, store=store)
        start = Base(begun.name, begun / "model")
        tokens = tokenize(corpus, start, self.tokenize, store=store)
        return [*docs.values(), corpus, begun, tokens, train(start, tokens, self.mixture, self.train, store=store)]


def training_notes(trained: Artifact) -> dict[str, Any]:
    """What a later adaptation wants to know of this training: rates, tokens, and the validation log."""
    settings, facts = trained.manifest["settings"], trained.facts
    curve = json.loads((trained / "curve.json").read_text(encoding="utf-8"))
    return {
        "tokens": sum(facts["tokens"].values()),
        "peak_lr": facts["shape"]["rate"],
        "final_lr": curve[-1]["rate"],
        "schedule": settings["schedule"],
        "batch_tokens": facts["shape"]["rows"] * facts["shape"]["window"],
        "weight_decay": settings["weight_decay"],
        "betas": [settings["beta1"], settings["beta2"]],
        "log": [
            {"step": entry["step"]}
            | {f"validation_{name}": Tally(*tally).mean for name, tally in entry["validation"].items()}
            for entry in curve
            if "validation" in entry
        ],
    }
