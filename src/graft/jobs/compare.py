"""compare: any two models on any text: what the second makes better and worse of it than the first, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.models.architectures import WORDS, Kind, kind_of
from graft.core.models.base_model import Base
from graft.core.models.context_length import check_windows
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import tokenize
from graft.evaluation.compare.pool_documents import Pool, pool
from graft.evaluation.compare.token_differences import Contrast, contrast
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.jobs.adapt import PAGES, Outcome
from graft.lineage.seen_text import Heritage, heritage
from graft.models.checks.find_base import find_base
from graft.models.runtime.settle_precision import settle_precision
from graft.report.comparison.stage import ComparedText, Present, number_keys, present

UNKNOWN = (
    "{side} is graft's own work, and the text it was trained on is no longer in the store: whether it has seen the "
    "documents here was not checked."
)
EMBEDDED_READ = "The embedded base was trained on most of the embedded prose, so what it makes of that is not new text."


@dataclass(frozen=True)
class Compare:
    """A comparison of two models on texts that neither needs to have been made for; nothing is trained.

    Every document is scored. Where the tokenizers differ, the text is cut where both have a border, and compared by
    these spans and by bytes.
    """

    before: str = "embedded"  # "embedded", a folder in Hugging Face form, or a hub id
    after: str = ""  # the same
    text: tuple[str, ...] = ()  # folders, files, hf://OWNER/NAME or embedded text; each is compared by itself
    reference: str = ""  # text known before: shown beside the others, and what domain terms are told by; "": none
    out: str = "compared"  # folder for report.html and summary.json
    ingest: Ingest = Ingest()
    pool: Pool = Pool()
    evaluate: Evaluate = Evaluate(max_tokens=0)
    contrast: Contrast = Contrast()
    present: Present = Present()

    def __post_init__(self) -> None:
        if not self.after:
            raise UsageError("after names no model", allowed="embedded, a folder in Hugging Face form, or a hub id")
        if not self.text:
            raise UsageError("text names no path", allowed="one or more folders or files")
        if self.evaluate.split != "test":
            raise UsageError(
                f"evaluate.split is {self.evaluate.split}",
                allowed="test: every document is scored, and none is split off",
                do="leave it out",
            )

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Paths by label, which is the last part of the path; the reference comes last."""
        named = labels([*self.text, *([self.reference] if self.reference else [])])
        return {label: (path,) for label, path in named.items()}

    def __call__(self, store: Store) -> Outcome:
        """Run every stage that is not done yet, and lay the outcome into `out`.

        Errors: UsageError before any work is done where `out` would take what is not graft's.
        """
        folder = Path(self.out).expanduser()
        texts = [path for paths in self.sources.values() for path in paths]
        for model in (self.before, self.after):
            check_out(folder, PAGES, base=model, sources=texts)
        made = settle_precision(self, store).make(store)
        put_out(folder, {name: made[-1] / name for name in PAGES})
        return Outcome(folder, json.loads((made[-1] / "summary.json").read_text(encoding="utf-8")), made)

    def number_keys(self) -> list[str]:
        """The dotted path of every number of summary.json, known before it is there."""
        return number_keys(list(self.sources))

    def make(self, store: Store) -> list[Artifact]:
        """The artifacts of every stage, in the order in which they are made."""
        names = (self.before, self.after)
        bases = [find_base(name, store) for name in names]
        _check_comparable(bases)
        for base in bases:
            check_windows(self, base)
        docs = {name: ingest(paths, name, self.ingest, store=store) for name, paths in self.sources.items()}
        known = [heritage(base, store) for base in bases]
        reference = list(docs)[-1] if self.reference else ""
        corpus = pool(docs, known, self.pool, reference=reference, store=store)
        window = self.evaluate.window or min(2048, *(base.window for base in bases))  # the same for both
        scoring = replace(self.evaluate, window=window)
        tokens = [tokenize(corpus, base, store=store) for base in bases]
        seen = [evaluate(base, one, scoring, store=store) for base, one in zip(bases, tokens, strict=True)]
        pair = (bases[0], bases[1]), (seen[0], seen[1])
        found = contrast(*pair, corpus, self.contrast, reference=reference, store=store)
        line = dict.fromkeys([one.name for one in (*docs.values(), corpus, *tokens, *seen, found)])
        every = {one.name: one for one in (*docs.values(), corpus, *tokens, *seen, found)}
        shown = ComparedText(
            models=names,
            num_parameters=(bases[0].num_parameters, bases[1].num_parameters),
            paths={name: list(paths) for name, paths in self.sources.items()},
            reference=reference,
            corpus=corpus,
            tokens=(tokens[0], tokens[1]),
            seen=(seen[0], seen[1]),
            contrast=found,
            lineage=[every[name] for name in line],
            notes=[*self._notes(bases, known, store), *(note for one in docs.values() for note in one.facts["notes"])],
        )
        return [*shown.lineage, present(shown, self.present, store=store)]

    def _notes(self, bases: Sequence[Base], known: Sequence[Heritage], store: Store) -> list[str]:
        said = [
            UNKNOWN.format(side=name) for name, one in zip((self.before, self.after), known, strict=True) if one.lost
        ]
        prose = any(path.startswith("embedded:prose") for path in (*self.text, self.reference))
        said += [EMBEDDED_READ] if prose and "embedded" in (self.before, self.after) else []
        if bases[0].fingerprint(store.prints) == bases[1].fingerprint(store.prints):
            said.append("Both are the same model, to the byte: nothing here can differ.")
        return said


def labels(paths: Sequence[str]) -> dict[str, str]:
    """Paths by a name for each: its last part without ending, in letters that a file name may have; no two alike."""
    found: dict[str, str] = {}
    for path in paths:
        last = re.sub(r"[^\w.-]", "_", re.split(r"[/:]", path.rstrip("/:"))[-1])
        plain = last if Path(path).expanduser().is_dir() else last.partition(".")[0] or last
        plain = plain.lstrip(".-") or "text"
        label, number = plain, 2
        while label in found:
            label, number = f"{plain}_{number}", number + 1
        found[label] = path
    return found


def _check_comparable(bases: Sequence[Base]) -> None:
    """Errors: UsageError where the two predict in different ways, so that their losses are of different things."""
    kinds: list[Kind] = [kind_of(base.config) for base in bases]
    if kinds[0] != kinds[1]:
        ways = [f"{base.name} {WORDS[kind]}" for base, kind in zip(bases, kinds, strict=True)]
        raise UsageError(
            f"the two models have nothing in common to compare: {'; '.join(ways)}",
            allowed="two models that predict in the same way",
            do="compare each with its own start",
        )
