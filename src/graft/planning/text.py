"""How much text a job has: as its artifacts know it, counted where it is small, else foretold from a look at it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.store.ledger import Ledger
from graft.core.text.dialogue import Dialogue
from graft.core.text.documents import SPLITS
from graft.data.curate import curate
from graft.data.estimate_sizes import INFLATION, survey
from graft.data.ingest import Intake, in_part, ingest, look_up
from graft.data.tokenize import tokenize
from graft.jobs.adapt import Adapt
from graft.jobs.continual import GENERAL, Continual
from graft.jobs.extend import Extend
from graft.jobs.pretrain import Pretrain
from graft.planning.expected_drops import expect_drops
from graft.readers import hub
from graft.readers.folder import kinds_of
from graft.readers.open_compressed import COMPRESSIONS
from graft.readers.part import SourcePart
from graft.synthesis.sample_base import SAMPLED
from graft.training.general_text_needed import kept_bytes

Job = Adapt | Extend | Pretrain | Continual

SMALL_BYTES = 3_000_000  # of text in all sources together that are counted: a few seconds of one core
BYTES_PER_TOKEN = 4.0  # of text, where there is no tokenizer to ask yet
COPIES_HASHED = 32  # pairs of files of one size that are compared, to tell copies from chance


@dataclass(frozen=True)
class SourceForecast:
    """One source. exact: counted, by an earlier run or now; else foretold from `share_seen` of it.

    sampled: not there yet, to be drawn from the base. unread: files that no reader takes, by reason.
    """

    paths: list[str]
    documents: float
    text_bytes: float
    tokens: float
    splits: dict[str, float]  # tokens
    dropped: dict[str, float]  # documents by reason
    exact: bool
    share_seen: float = 1.0
    sampled: bool = False
    needed: float = 1.0  # share of what is there that is read, because more is not needed
    split_documents: dict[str, float] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def per_test_document(self) -> float:
        """Tokens of a test document, on average."""
        return self.splits["test"] / max(1.0, self.split_documents["test"])


def sources_of(
    job: Job, base: Any, there: Sequence[Artifact], replay: float | None = None
) -> dict[str, SourceForecast]:
    """Every source of a job, as exactly as it can be known now. there: artifacts of the job that are made.

    replay: largest share of general text among the trainings; None: that of the settings.
    """
    made = {one.kind: one for one in reversed(there)}
    if "tokens" in made:
        known = {name: _of_ledger(made["tokens"].ledger, name, list(paths)) for name, paths in job.sources.items()}
    else:
        known = _counted(job, base, replay)
    if not known and "corpus" in made:  # documents are counted, and tokens are not
        known = {
            name: replace(_of_ledger(made["corpus"].ledger, name, list(paths)), exact=False)
            for name, paths in job.sources.items()
        }
    found: dict[str, SourceForecast] = {}
    for name, paths in job.sources.items():
        if name in known:
            found[name] = known[name]
        elif paths == (SAMPLED,) and isinstance(job, Adapt):
            found[name] = _sampled(job, base)
        else:
            part = _part(job, {one: source.text_bytes for one, source in found.items()}, replay)
            found[name] = _in_part(_foretell(job, base, paths), paths, part if name == GENERAL else None, job)
    return found


def _part(job: Job, kept: Mapping[str, float], replay: float | None) -> SourcePart | None:
    """How much general text a job reads. kept: bytes of usable text of the domains, as far as they are known."""
    if isinstance(job, Pretrain) or len(kept) < len(job.sources) - 1:
        return None
    if isinstance(job, Continual):
        return job.part(kept)
    return job.part(kept["domain"], job.replay if replay is None else replay)


def _in_part(source: SourceForecast, paths: Sequence[str], part: SourcePart | None, job: Job) -> SourceForecast:
    """The part of a source that is read."""
    if part is None or not _local(paths):
        return source
    there = sum(_text_expected(one) for one in _intakes(paths) if not one.embedded)
    each = replace(part, num_bytes=part.num_bytes // len(paths))
    read = sum(
        file.size * (INFLATION if file.path.suffix in COMPRESSIONS else 1) / file.every
        for one in _intakes(paths)
        if not one.embedded
        for file in in_part(one, each, job.ingest).found.files
    )
    if not there or read >= there:
        return source
    share = read / there
    tokens = source.tokens * share
    per_byte = source.tokens / max(1.0, source.text_bytes)
    usable = 1 - sum(source.dropped.values()) / max(1.0, source.documents)
    return replace(
        source,
        needed=share,
        documents=source.documents * share,
        text_bytes=source.text_bytes * share,
        tokens=tokens,
        dropped={reason: count * share for reason, count in source.dropped.items()},
        splits=_splits(job, tokens * usable, per_byte),
        split_documents=_split_documents(job, source.documents * share * usable),
    )


def _of_ledger(ledger: Ledger, name: str, paths: list[str]) -> SourceForecast:
    """What was counted of a source; where no tokenizer has read it yet, its tokens by rule of thumb."""
    read, fates = ledger.read[name], ledger.fates[name]
    splits = {split: fates[split] for split in SPLITS if split in fates}
    per_byte = 0.0 if read.tokens else 1 / BYTES_PER_TOKEN
    return SourceForecast(
        paths=paths,
        documents=read.documents,
        text_bytes=read.bytes,
        tokens=read.tokens or read.bytes * per_byte,
        splits={split: (one.tokens or one.bytes * per_byte) if (one := splits.get(split)) else 0 for split in SPLITS},
        dropped={fate: amount.documents for fate, amount in fates.items() if fate not in SPLITS and amount.documents},
        exact=True,
        split_documents={split: splits[split].documents if split in splits else 0 for split in SPLITS},
    )


def _counted(job: Job, base: Any, replay: float | None) -> dict[str, SourceForecast]:
    """Sources that are small, by the stages themselves in a store that is thrown away. Errors: as theirs."""
    intakes = {name: _intakes(paths) for name, paths in job.sources.items() if _local(paths)}
    sizes = {name: sum(map(_text_expected, found)) for name, found in intakes.items()}
    small: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name]):
        if sum(sizes[one] for one in (*small, name)) <= SMALL_BYTES:
            small.append(name)
    if not small:
        return {}
    with _passing_store() as store:
        docs: dict[str, Artifact] = {}
        for name in [name for name in job.sources if name in small]:
            kept = {one: kept_bytes(made) for one, made in docs.items()}
            part = _part(job, kept, replay) if name == GENERAL else None
            docs[name] = ingest(job.sources[name], name, job.ingest, part=part, store=store)
        if len(docs) == len(job.sources):
            made = curate(docs, job.curate, store=store)
        else:  # one by one: what becomes of them together is not known before all are read
            parts = [curate({name: one}, job.curate, store=store) for name, one in docs.items()]
            return {
                name: _of_ledger(_tokens(job, base, part, store).ledger, name, list(job.sources[name]))
                for name, part in zip(docs, parts, strict=True)
            }
        ledger = _tokens(job, base, made, store).ledger
    return {name: _of_ledger(ledger, name, list(job.sources[name])) for name in docs}


def _tokens(job: Job, base: Any, corpus: Artifact, store: Store) -> Artifact:
    """The corpus as tokens; the corpus itself where the base and its tokenizer are still to be made."""
    return tokenize(corpus, base, job.tokenize, store=store) if isinstance(base, Base) else corpus


@contextmanager
def _passing_store() -> Generator[Store]:
    with tempfile.TemporaryDirectory(prefix="graft-plan-") as folder:
        yield Store(Path(folder))


def _local(paths: Sequence[str]) -> bool:
    return not any(path.startswith(hub.SCHEME) or path == SAMPLED for path in paths)


def _intakes(paths: Sequence[str]) -> list[Intake]:
    return [look_up(path) for path in paths]


def _text_expected(intake: Intake) -> float:
    """Bytes of text, by rule of thumb."""
    if intake.embedded:
        return float("inf")  # most of its source code is no text, and all of it would have to be read
    return sum(file.size * (INFLATION if file.path.suffix in COMPRESSIONS else 1) for file in intake.found.files)


def _unread(intakes: Sequence[Intake]) -> dict[str, int]:
    skipped = sum((one.found.skipped for one in intakes), Counter[str]())
    kinds = (kind for one in intakes for kind in kinds_of(one.found.unread).values())
    return dict(skipped + Counter(f"unread kind: {kind}" for kind in kinds))


def _sampled(job: Adapt, base: Any) -> SourceForecast:
    """What is drawn from the base: as many tokens as are asked for; how long documents get, the base alone knows."""
    tokens = job.recall.tokens
    documents = max(2, tokens / job.recall.limit_for(base))
    return SourceForecast(
        paths=[SAMPLED],
        documents=documents,
        text_bytes=tokens * BYTES_PER_TOKEN,
        tokens=tokens,
        splits=_splits(job, tokens, 1 / BYTES_PER_TOKEN),
        dropped={},
        exact=False,
        share_seen=0.0,
        sampled=True,
        split_documents=_split_documents(job, documents),
    )


def _splits(job: Job, tokens: float, per_byte: float) -> dict[str, float]:
    """Tokens by split, of usable text. per_byte: tokens in a byte of it."""
    split = job.curate.split
    most = split.most * per_byte if split.most else float("inf")
    test, validation = min(tokens * split.test, most), min(tokens * split.validation, most)
    return {"train": tokens - test - validation, "validation": validation, "test": test}


def _split_documents(job: Job, documents: float) -> dict[str, float]:
    """Documents by split, as far as their number alone tells."""
    split = job.curate.split
    test, validation = max(min(1.0, documents), documents * split.test), documents * split.validation
    return {"train": max(0.0, documents - test - validation), "validation": validation, "test": test}


def _foretell(job: Job, base: Any, paths: tuple[str, ...]) -> SourceForecast:
    seen = survey(paths, job.ingest, budget_seconds=1.0, budget_bytes=400_000)
    scale = 1 / seen.share_seen if seen.share_seen else 1.0
    text_bytes = seen.text_total if seen.share_seen else seen.bytes_total  # nothing seen: by the size of the files
    texts = [text for row in seen.docs for text in _stored(row, paired=job.tokenize.pairs)]
    sample_bytes = sum(row["num_bytes"] for row in seen.docs)
    per_byte = 1 / BYTES_PER_TOKEN
    if isinstance(base, Base) and texts:
        encoded = base.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        per_byte = sum(len(one.ids) + 1 for one in encoded) / max(1, sample_bytes)
    documents = (seen.num_docs + sum(seen.dropped.values())) * scale
    tokens = text_bytes * per_byte
    dropped = {reason: count * scale for reason, count in seen.dropped.items()}
    share = len(seen.docs) / max(1, seen.num_docs) * (seen.share_seen or 1.0)
    expected = expect_drops(job.curate.steps, seen.docs, share, _copies(paths, documents))
    for fate, part in expected.shares.items():
        dropped[fate] = dropped.get(fate, 0.0) + part * seen.num_docs * scale
    usable = max(0.0, documents - sum(dropped.values()))
    return SourceForecast(
        paths=list(paths),
        documents=documents,
        text_bytes=text_bytes,
        tokens=tokens,
        splits=_splits(job, tokens * expected.left, per_byte),
        dropped=dropped,
        exact=False,
        share_seen=seen.share_seen,
        split_documents=_split_documents(job, usable),
        unread=_unread(_intakes([path for path in paths if _local([path])])),
    )


def _copies(paths: Sequence[str], documents: float) -> float:
    """Share of documents that lie in files which copy another file, by files of one size and a look into some."""
    sizes: dict[tuple[str, int], list[Path]] = {}
    files = [file for path in paths if _local([path]) for file in _intakes([path])[0].found.files]
    for file in files:
        sizes.setdefault((file.suffix, file.size), []).append(file.path)
    alike = [group for group in sizes.values() if len(group) > 1]
    if not alike:
        return 0.0
    looked = alike[:: max(1, len(alike) // COPIES_HASHED)][:COPIES_HASHED]
    same = sum(_beginning(group[0]) == _beginning(group[1]) for group in looked) / len(looked)
    return min(1.0, same * sum(len(group) - 1 for group in alike) / max(1, len(files))) if documents else 0.0


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(1 << 16)
    except OSError:
        return str(path).encode()  # like no other


def _stored(row: Mapping[str, Any], *, paired: bool) -> list[str]:
    """The texts of a document that are turned into tokens: of a pair, where both sides are wanted, two."""
    one = Dialogue.noted(row["text"], row["notes"]) if paired else None
    return [row["text"]] if one is None or one.rejected is None else [row["text"], one.worse.text]
