"""evaluate: what a model makes of every test token, recorded once as evidence."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Literal

from graft.core.artifact import Artifact, Draft, Store
from graft.core.base import Base
from graft.core.errors import UsageError
from graft.core.evidence import write_evidence
from graft.core.progress import Progress
from graft.stages.tokenize import sources

ROW_TOKENS = 8192  # tokens scored at once


@dataclass(frozen=True)
class Evaluate:
    """Score one split of every source: nats of every target token."""

    split: Literal["test", "validation", "train"] = "test"
    max_tokens: int = 300_000  # per source, whole documents spread over it; 0: all of them
    window: int | None = None  # tokens of context; None: the model's own, at most 2048
    precision: Literal["bf16", "fp32"] = "fp32"

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise UsageError(f"max_tokens is {self.max_tokens}", allowed="0 (all) or more")


def evaluate(model: Base, tokens: Artifact, settings: Evaluate = Evaluate(), *, store: Store) -> Artifact:
    """Kind "evidence": per source a Parquet file of targets and nats (see graft.core.evidence)."""
    window = settings.window or min(model.window, 2048)
    if window > model.window:
        raise UsageError(
            f"window is {window}, and the model reads at most {model.window} tokens",
            where=str(model.folder / "config.json"),
            allowed=f"1 to {model.window}",
        )
    inputs = {"model": model.fingerprint(store.prints), "tokens": tokens}
    return store.make(
        "evidence",
        settings,
        inputs,
        (sys.modules[__name__], "tensors"),
        lambda draft: _build(draft, model, tokens, settings, window),
    )


def _build(draft: Draft, model_at: Base, tokens: Artifact, settings: Evaluate, window: int) -> None:
    from graft.tensors.scoring import choose_documents, gather, pack_documents, score_documents
    from graft.tensors.verify import verify
    from graft.tensors.weights import open_model

    model = open_model(model_at.folder, settings.precision, frozen=True)
    rows = max(1, ROW_TOKENS // window)
    scored_tokens: dict[str, dict[str, int]] = {}
    for name, source in sources(tokens).items():
        documents = choose_documents(source, settings.split, settings.max_tokens)
        if not scored_tokens:
            verify(model, pack_documents(source, documents[:8], window))
        progress = Progress(f"evaluate {name}", int(source.pairs_D[documents].sum()))

        def watched(scored, progress=progress):
            for piece, nats in scored:
                progress.advance(len(nats))
                yield piece, nats

        evidence = gather(
            source, documents, watched(score_documents(model, source, documents, window=window, rows=rows))
        )
        progress.close()
        texts = {
            int(item): model_at.tokenizer.decode([int(item)], skip_special_tokens=False)
            for item in set(evidence.targets_N.tolist())
        }
        write_evidence(draft.path, replace(evidence, vocabulary=texts))
        whole = source.documents(settings.split)
        scored_tokens[name] = {
            "documents": len(documents),
            "tokens": len(evidence.nats_N),
            "documents_of_split": len(whole),
            "tokens_of_split": int(source.pairs_D[whole].sum()),
        }
    draft.facts |= {"sources": list(scored_tokens), "scored": scored_tokens, "model": model_at.name, "window": window}
