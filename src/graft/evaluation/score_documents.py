"""evaluate: what a model makes of every test token, recorded once as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.models.base_model import Base
from graft.core.process.notes import tell_notes
from graft.core.process.precision import Precision, computed
from graft.core.process.progress import Progress
from graft.core.records.evidence import write_evidence
from graft.core.stats.evaluation_size import STANDALONE
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.tokens.token_shards import TokenSource
from graft.data.tokenize import sources
from graft.data.user_notes import by_place
from graft.models.runtime.settle_precision import recorded, settle_here

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from graft.models.forward.model import Model
    from graft.models.scoring.scoring import Choice, ScoredPiece


@dataclass(frozen=True)
class Evaluate:
    """Score one split of every source: nats of every target token."""

    split: Literal["test", "validation", "train"] = "test"
    # per source, spread over it, of one document at most a 32nd (or 256 tokens); 0: all; None: what a job settles from
    # the tokens that it trains on, 131,072 where nothing is trained
    max_tokens: int | None = None
    window: int | None = None  # tokens of context; None: the model's own, at most 2048
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32

    def __post_init__(self) -> None:
        check_choices(self)
        if self.max_tokens is not None and self.max_tokens < 0:
            raise UsageError(
                f"max_tokens is {self.max_tokens}", allowed="0 (all) or more, or nothing for an automatic choice"
            )
        if self.window is not None and self.window < 1:
            raise UsageError(f"window is {self.window}", allowed="1 or more, or nothing for the model's own")


def evaluate(model: Base, tokens: Artifact, settings: Evaluate = Evaluate(), *, store: Store) -> Artifact:
    """Kind "evidence": per source a Parquet file of targets and nats (see graft.core.records.evidence)."""
    settings = settle_here(settings)
    window = settings.window or min(model.window, 2048)
    if window > model.window:
        raise UsageError(
            f"window is {window}, and the model reads at most {model.window} tokens",
            where=str(model.folder / "config.json"),
            allowed=f"1 to {model.window}",
        )
    if settings.max_tokens is None:
        settings = replace(settings, max_tokens=STANDALONE)
    inputs = {"model": model.fingerprint(store.prints), "tokens": tokens}
    return store.make(
        "evidence",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, model, tokens, settings, window),
        origins={"model": model.origin},
    )


def _build(draft: Draft, model_at: Base, tokens: Artifact, settings: Evaluate, window: int) -> None:
    from graft.models.checks.verify import check_ids
    from graft.models.files.weights import open_model
    from graft.models.runtime.numeric_faults import enough_memory
    from graft.models.scoring.scoring import ROW_TOKENS, choose_documents, gather, score_documents

    named = sources(tokens)
    model = open_model(model_at.folder, computed(settings.precision), frozen=True)
    check_ids(model, model_at, named, tokens.facts["vocabulary"])
    limit = settings.max_tokens
    assert limit is not None, "settled by `evaluate`"
    choices = {name: choose_documents(one, settings.split, limit) for name, one in named.items()}
    notes = [*model.notes, *_measure_notes(model)]
    notes += filter(None, (_cut_note(name, choice) for name, choice in choices.items()))
    tell_notes(notes)
    scored_tokens: dict[str, dict[str, int]] = {}
    for name, source in named.items():
        choice = choices[name]
        progress = Progress(f"evaluate {name}", choice.num_pairs)

        def watched(scored: Iterator[ScoredPiece], progress: Progress = progress) -> Iterator[ScoredPiece]:
            for one in scored:
                progress.advance(len(one.nats_n))
                yield one

        scored = score_documents(model, source, choice, window=window, rows=max(1, ROW_TOKENS // window))
        less = f"set evaluate.window to {window // 2} (it is {window})" if window > 128 else "take a smaller model"
        with by_place(tokens), enough_memory("scoring", do=less):
            evidence = gather(source, choice, _scored_bytes(source, choice, model_at.tokenizer), watched(scored))
        progress.close()
        texts = {
            int(item): model_at.tokenizer.decode([int(item)], skip_special_tokens=False)
            for item in set(evidence.targets_N.tolist())
        }
        write_evidence(draft.path, replace(evidence, vocabulary=texts))
        whole = source.documents(settings.split)
        scored_tokens[name] = {
            "documents": len(choice),
            "documents_cut": int(choice.cut_D.sum()),
            "tokens": len(evidence.nats_N),
            "documents_of_split": len(whole),
            "tokens_of_split": int(source.pairs_D[whole].sum()),
        }
    draft.facts |= {"sources": list(scored_tokens), "scored": scored_tokens, "model": model_at.name, "window": window}
    draft.facts |= {"runtime": recorded(computed(settings.precision))}
    draft.facts |= {"notes": notes, "measure": model.reading.measure or "nats of the next token"}


def _measure_notes(model: Model) -> list[str]:
    """In words, that the numbers are not those of predicting the next token; none where they are."""
    if not model.reading.measure:
        return []
    return [
        f"{model.hf.config.model_type}: its losses are {model.reading.measure}; bits per byte and perplexity are made "
        "of them, and none of these numbers compares with one of a model that predicts the next token"
    ]


def _cut_note(name: str, choice: Choice) -> str:
    """In words, that not all of every document was scored; empty where it was."""
    if not choice.cut_D.any():
        return ""
    return (
        f"{name}: only the first {int(choice.pairs_D.max()):,} tokens of {int(choice.cut_D.sum())} long document(s) "
        "are scored, so that none stands for much of evaluate.max_tokens, and more documents find room"
    )


def _scored_bytes(source: TokenSource, choice: Choice, tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 bytes of what is scored of each document; where that is not all of it, in proportion to decoded tokens.

    The proportion, because a tokenizer may normalise: decoding is then not quite the text that was read. Where only
    answers count, their own decoded bytes: a chat template has put more around them than the document has.
    """
    num_bytes_D = source.num_bytes_D[choice.documents_D].copy()

    def decoded(document: int, last: int | None) -> int:
        counts = source.weights(document, 1, last) != 0
        return len(tokenizer.decode(source.tokens(document, 1, last)[counts].tolist()).encode())

    for d, (document, pairs) in enumerate(zip(choice.documents_D.tolist(), choice.pairs_D.tolist(), strict=True)):
        if source.counted_D[document] < source.pairs_D[document]:
            num_bytes_D[d] = decoded(document, pairs + 1)
        elif choice.cut_D[d]:
            num_bytes_D[d] = round(num_bytes_D[d] * decoded(document, pairs + 1) / max(1, decoded(document, None)))
    return num_bytes_D
