"""recall: documents sampled from the base itself, to replay and to measure by where its own data are secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.models.architectures import WORDS, kind_of
from graft.core.models.base_model import Base
from graft.core.process.notes import tell_notes
from graft.core.process.precision import Precision, computed
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.ledger import Amount
from graft.core.text import documents as doc
from graft.core.tokens.cached_encoder import CachedEncoder
from graft.core.tokens.decoding import sound_text, text_tokens
from graft.data.ingest import TABLE
from graft.models.runtime.settle_precision import settle_here
from graft.readers.file_record import piece

if TYPE_CHECKING:
    from graft.models.generation.sampled_documents import Draws
    from graft.models.generation.sampling import Document

SCHEME = "sampled:"
SAMPLED = "sampled:base"
MOST_ROWS = 64  # documents at once, where the cache of so many is not too large
CACHE_BYTES = 1 << 30
TRUSTED = {"fp32": 1e-2, "bf16": 0.5}  # nats: how far a cached chance may be from the same one computed anew
MUTED_NOTED = 0.01  # chance of tokens that are no text above which it is said


@dataclass(frozen=True)
class Recall:
    """What is sampled from the base: documents from its start mark to its end mark, or to the limit.

    A document is a function of the seed and its number (up to the rounding of sums where `rows` differ); a larger
    `tokens` adds documents. At temperature 1 and top_p 1 these are draws from the base's own distribution: the mean
    loss of the base on them is its entropy, and how much higher another model's is, the Kullback-Leibler divergence
    of that model from the base, in nats per token. A document cut at the limit gets an end mark, as every document
    does, that the base did not set there.
    """

    tokens: int = 200_000  # in all, with the end tokens that the base set
    limit: int | None = None  # tokens of a document; None: the model's window less one, at most 2047
    temperature: float = 1.0  # below 1: likelier text than the base's own, and less of its tail
    top_p: float = 1.0  # only the likeliest tokens that together have this chance; 1: all
    rows: int | None = None  # documents at once; None: 64, or what 1 GiB of cache holds
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("tokens", "limit", "rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", allowed="1 or more")
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}", allowed="more than 0; 1 is the base as it is")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}", allowed="more than 0 and at most 1")

    def limit_for(self, base: Base) -> int:
        """Tokens of a document. By default one less than are read at once: with an end mark it fills a window.

        Errors: UsageError for more than the model can read.
        """
        if self.limit is not None and self.limit > base.window:
            raise UsageError(
                f"limit is {self.limit}, and the model reads at most {base.window} tokens",
                allowed=f"1 to {base.window}",
            )
        return self.limit or max(1, min(base.window, 2048) - 1)

    def rows_for(self, base: Base) -> int:
        """Documents at once."""
        return self.rows or max(1, min(MOST_ROWS, CACHE_BYTES // (self.limit_for(base) * cache_bytes(base))))


def check_sampled(source: str, paths: Sequence[str], *, allowed: bool = True) -> None:
    """Errors: UsageError where paths of a source name sampled text that cannot be had.

    A source is sampled or read, not both: what is measured on it would be neither.
    """
    sampled = [path for path in paths if path.startswith(SCHEME)]
    if not sampled or (allowed and tuple(paths) == (SAMPLED,)):
        return
    if not allowed:
        raise UsageError(f"{source} is {sampled[0]}: text of the base teaches it nothing", allowed="files or folders")
    unknown = next((path for path in sampled if path != SAMPLED), None)
    if unknown:
        raise UsageError(
            f'there is no sampled text "{unknown}"',
            allowed=SAMPLED,
            do=f'did you mean "{SAMPLED}"? A file of that name is ./{unknown}',
        )
    raise UsageError(
        f"{source} is {', '.join(paths)}: sampled text beside other text",
        allowed=f"{SAMPLED} alone, or files and folders",
        do="run twice, once with each, to see both",
    )


def cache_bytes(base: Base) -> int:
    """What attention keeps of one token in float32, by the configuration: keys and values of every layer."""

    def size(default: int, *names: str) -> int:
        return next((value for name in names if isinstance(value := base.config.get(name), int)), default)

    heads = size(12, "num_attention_heads", "n_head")
    width = size(1024, "hidden_size", "n_embd")
    per_head = size(width // heads, "head_dim")
    return 8 * size(12, "num_hidden_layers", "n_layer") * size(heads, "num_key_value_heads") * per_head


def recall(base: Base, settings: Recall = Recall(), source: str = "general", *, store: Store) -> Artifact:
    """Documents sampled from `base`, as docs.parquet: the form that `ingest` leaves, for `curate` to take.

    Beside it lie `drawn-*.npz`, one for every group of documents: token ids as they were drawn, and their nats. What a
    kill costs is the group that was being drawn. Errors: UsageError for a base that does not write from left to right,
    whose tokenizer has no mark to begin from, or whose window is smaller than the limit; FaultError when memory or the
    model's numbers fail.
    """
    if (kind := kind_of(base.config)) != "decoder":
        raise UsageError(
            f"no text can be sampled from {base.name}, which {WORDS[kind]}",
            where=str(base.folder / "config.json"),
            allowed=f"a base that {WORDS['decoder']}",
            do="give general text of your own",
        )
    settings = settle_here(settings)
    settings.limit_for(base)
    start = base.marks.start
    if start is None:
        raise UsageError(
            "the base's tokenizer has neither a start nor an end token, so there is nothing to sample text from",
            where=str(base.folder),
            allowed="a base with one of them",
            do="give general text of your own",
        )
    inputs = {"source": source, "base": base.fingerprint(store.prints)}
    return store.make(
        "docs",
        settings,
        inputs,
        __name__,
        lambda draft: _write(draft, base, settings, source, start),
        origins={"base": base.origin},
    )


def _draws(folder: Path, base: Base, settings: Recall, start: int) -> Draws:
    import torch

    from graft.models.files.weights import open_model
    from graft.models.generation.sampled_documents import Draws
    from graft.models.generation.sampling import Drawing

    opened = open_model(base.folder, computed(settings.precision), frozen=True)
    tell_notes(opened.notes)
    if computed(settings.precision) == "bf16":
        opened.hf.to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    size, end = len(opened.hf.get_input_embeddings().weight), base.marks.end  # type: ignore[arg-type, union-attr]
    mute_V = torch.ones(size, dtype=torch.bool)
    mute_V[[one for one in text_tokens(base.tokenizer) if one < size]] = False
    mute_V[start] = True
    if end is not None:
        mute_V[end] = False
    drawing = Drawing(start, end, settings.limit_for(base), settings.temperature, settings.top_p, mute_V)
    rows = settings.rows_for(base)
    trusted = TRUSTED[computed(settings.precision)]
    return Draws(folder, opened.hf, drawing, settings.seed, settings.tokens, rows, trusted, notes=[*opened.notes])


@dataclass
class Account:
    """What became of what was drawn."""

    documents: int = 0
    tokens: int = 0  # with the end tokens that the base set
    nats: float = 0.0  # under the base, summed over these tokens
    muted: float = 0.0  # chance of tokens that are no text, summed likewise
    at_limit: int = 0  # documents that the base did not end
    broken: int = 0  # documents that end where the base wrote bytes that are no UTF-8
    tokens_lost: int = 0  # behind these places
    respelled: int = 0  # documents whose text the tokenizer reads as other tokens than were drawn

    def told(self, source: str, settings: Recall) -> list[str]:
        """In sentences: what such text can say and what it cannot."""
        plain = settings.temperature == 1 and settings.top_p == 1
        nucleus = f", top_p {settings.top_p:g}" if settings.top_p < 1 else ""
        first = (
            f"{source.capitalize()} text was sampled from the base: {self.documents:,} documents, {self.tokens:,} "
            f"tokens, temperature {settings.temperature:g}{nucleus}, seed {settings.seed}. "
        )
        mean = self.nats / max(1, self.tokens)
        if plain:
            first += (
                f"Its loss on such text is its own entropy ({mean:.3f} nats per token as drawn), not its quality on "
                "real text; the rise after training is about how far the model moved from the base."
            )
        else:
            first += (
                f"This is likelier text than the base's own ({mean:.3f} nats per token as drawn), so the loss on it is "
                "neither the base's entropy nor its quality on real text."
            )
        counted = {
            "were cut at the limit and got an end mark that the base did not set": self.at_limit,
            f"end early, before bytes that are no UTF-8 ({self.tokens_lost:,} tokens left out)": self.broken,
            "are read back as other tokens than were drawn": self.respelled,
        }
        details = ", ".join(f"{count:,} {words}" for words, count in counted.items() if count)
        notes = [first, f"Of the {self.documents:,} sampled documents {details}."] if details else [first]
        muted = self.muted / max(1, self.tokens)
        if muted > MUTED_NOTED:
            notes.append(
                f"The base gave {muted:.1%} of its chances to tokens that are no text (marks, unused ids); they were "
                "left out of the sampling."
            )
        return notes


def _write(draft: Draft, base: Base, settings: Recall, source: str, start: int) -> None:
    draws, account = _draws(draft.path, base, settings, start), Account()
    fates, first_lost = {"kept": Amount()}, dict[str, str]()
    base.tokenizer.encode_special_tokens = True
    words = CachedEncoder(base.tokenizer)
    with pq.ParquetWriter(draft / TABLE, doc.SCHEMA, compression="zstd", compression_level=1) as writer:
        for documents in draws.groups(f"sampling {source}"):
            texts = [_text(document, base, account) for document in documents]
            _compare(documents, texts, words, base.marks.end, account)
            rows: list[dict[str, Any]] = []
            for number, text in enumerate(texts, account.documents):
                one = piece(text, f"sampled from {base.name}#{number}", 0)
                fate = one.dropped or "kept"
                fates[fate] = fates.get(fate, Amount()) + Amount(1, one.num_bytes)
                if one.dropped:
                    first_lost.setdefault(one.dropped, one.parent)
                rows.append(
                    doc.doc_row(
                        one.text, source=source, position=number, parent=one.parent, dropped=one.dropped,
                        num_bytes=one.num_bytes,
                    )
                )  # fmt: skip
            account.documents += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=doc.SCHEMA))
    for fate, amount in fates.items():
        draft.ledger.enter(source, amount)
        draft.ledger.settle(source, fate, amount)
    notes = [*account.told(source, settings), *draws.notes]
    draft.facts |= {"source": source, "paths": [SAMPLED], "first_lost": first_lost, "sampled": vars(account)}
    draft.facts |= {"limit": draws.drawing.limit, "rows": draws.rows, "notes": notes}


def _text(document: Document, base: Base, account: Account) -> str:
    """The text of a document, up to the first place where it is none; counted."""
    account.tokens += len(document.tokens_T)
    account.nats += float(document.nats_T.sum(dtype=np.float64))
    account.muted += float(document.muted_T.sum(dtype=np.float64))
    ids = document.ids(base.marks.end)
    account.at_limit += len(ids) == len(document.tokens_T)
    text, needed = sound_text(ids, base.tokenizer)
    if needed < len(ids):
        account.broken += 1
        account.tokens_lost += len(document.tokens_T) - needed
    return text


def _compare(
    documents: list[Document], texts: list[str], words: CachedEncoder, end: int | None, account: Account
) -> None:
    """Counts the texts that the tokenizer reads as other tokens than were drawn, up to where they are text."""
    read = words.encode(texts)
    stops = np.cumsum(read.length_D)
    for document, stop, length in zip(documents, stops, read.length_D, strict=True):
        account.respelled += read.ids[stop - length : stop].tolist() != document.ids(end)[:length]
