"""consult: a teacher reads the training text once, and its likeliest words for every token are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.models.base_model import Base
from graft.core.process.precision import Precision, computed
from graft.core.process.progress import Progress
from graft.core.store.artifact import Artifact, Draft, Store
from graft.data.tokenize import sources
from graft.data.user_notes import by_place
from graft.models.runtime.settle_precision import settle_here

ROW_TOKENS = 8192  # tokens read at once


@dataclass(frozen=True)
class Consult:
    """What is kept of a teacher: an approximation of it that takes 6 * words bytes per training token on disk."""

    words: int = 32
    temperature: float = 1.0
    window: int = 512  # tokens of context
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32

    def __post_init__(self) -> None:
        check_choices(self)
        if self.words < 1 or self.window < 1 or not self.temperature > 0:
            raise UsageError(
                f"words is {self.words}, window {self.window} and temperature {self.temperature}",
                allowed="1 or more words and tokens, a temperature above 0",
            )


def consult(teacher: Base, tokens: Artifact, names: Sequence[str], settings: Consult, *, store: Store) -> Artifact:
    """Kind "shortlists": of the sources `names`, the teacher's likeliest words (see graft.training.teacher_top_k)."""
    settings = settle_here(settings)
    inputs = {"teacher": teacher.fingerprint(store.prints), "tokens": tokens, "sources": ", ".join(sorted(names))}
    return store.make(
        "shortlists",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, teacher, tokens, sorted(names), settings),
        origins={"teacher": teacher.origin},
    )


def _build(draft: Draft, teacher: Base, tokens: Artifact, names: Sequence[str], settings: Consult) -> None:
    from graft.models.checks.verify import check_ids
    from graft.models.files.weights import open_model
    from graft.models.runtime.numeric_faults import enough_memory
    from graft.training.teacher_top_k import Kept, write_shortlists

    named = sources(tokens)
    model = open_model(teacher.folder, computed(settings.precision), frozen=True)
    check_ids(model, teacher, named, tokens.facts["vocabulary"])
    if settings.words >= model.head.vocabulary:
        raise UsageError(
            f"top_k is {settings.words}, and the teacher has {model.head.vocabulary} tokens in its vocabulary",
            allowed=f"1 to {model.head.vocabulary - 1}, or 0 for a teacher that runs beside the training",
        )
    rows = max(1, ROW_TOKENS // settings.window)
    for name in names:
        kept = Kept(draft.path, named[name], settings.words)
        progress = Progress(f"consult {name}", int(named[name].pairs_D[kept.documents].sum()))
        with by_place(tokens), enough_memory("the teacher", do="lower train.sequence_length"):
            for pairs in write_shortlists(
                model, kept, temperature=settings.temperature, window=settings.window, rows=rows
            ):
                progress.advance(pairs)
        progress.close()
    draft.facts |= {"teacher": teacher.name, "vocabulary": model.head.vocabulary, "sources": list(names)}
