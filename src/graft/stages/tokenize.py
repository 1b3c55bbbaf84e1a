"""tokenize: a corpus becomes token shards, written once per tokenizer, resumable shard by shard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.artifact import Artifact, Draft, Store
from graft.core.base import Base, Marks
from graft.core.doc import SPLITS
from graft.core.errors import UsageError
from graft.core.fingerprint import Fingerprints
from graft.core.ledger import Amount, Ledger
from graft.core.progress import Progress
from graft.core.shards import TokenSource

COLUMNS = ["text", "position", "num_bytes", "split", "dropped"]


@dataclass(frozen=True)
class Tokenize:
    """How text becomes token ids.

    A document is stored as  start t1 .. tn end  (see graft.core.shards). Text is text: a special token spelled out in
    a document ("<|endoftext|>") is read as the characters it is made of, so that no document can forge a border.
    """

    shard_bytes: int = 8_000_000  # UTF-8 bytes of text per shard: what a kill can cost

    def __post_init__(self) -> None:
        if self.shard_bytes < 1:
            raise UsageError(f"shard_bytes is {self.shard_bytes}", allowed="1 or more")


def tokenize(corpus: Artifact, base: Base, settings: Tokenize = Tokenize(), *, store: Store) -> Artifact:
    """Kind "tokens": for every source of the corpus its shards, and the ledger in documents, bytes and tokens.

    Documents marked as dropped are counted in tokens too, and not written.
    """
    memory = Fingerprints(store.root / "fingerprints.json")
    inputs = {"corpus": corpus, "tokenizer": base.tokenizer_fingerprint(memory)}
    return store.make("tokens", settings, inputs, (sys.modules[__name__],), lambda draft: _write(draft, corpus, base, settings))


def sources(tokens: Artifact) -> dict[str, TokenSource]:
    """The sources of a tokens artifact, in the order of the corpus."""
    return {name: TokenSource(tokens.path, name) for name in tokens.facts["sources"]}


def _write(draft: Draft, corpus: Artifact, base: Base, settings: Tokenize) -> None:
    size = base.tokenizer.get_vocab_size(with_added_tokens=True)
    dtype = "uint16" if size <= 1 << 16 else "uint32"
    (draft / "tokens.json").write_text(json.dumps({"dtype": dtype, "start": base.marks.start, "end": base.marks.end}))
    draft.facts |= {"sources": list(corpus.facts["sources"]), "vocabulary": size, "base": base.name}
    base.tokenizer.encode_special_tokens = True
    for source in corpus.facts["sources"]:
        file = pq.ParquetFile(corpus / f"{source}.parquet")
        progress = Progress(f"tokenize {source}", corpus.ledger.read[source].bytes)
        draft.ledger.enter(source, corpus.ledger.read[source])
        tokens = Amount()
        for number, shard in enumerate(_cut(file, settings.shard_bytes)):
            ledger = _write_shard(draft, source, number, shard, base, dtype)
            for fate, amount in ledger.fates[source].items():
                draft.ledger.settle(source, fate, amount)
                tokens += Amount(tokens=amount.tokens)
            progress.advance(sum(shard["num_bytes"].to_pylist()))
        draft.ledger.enter(source, tokens)
        progress.close()


def _cut(file: pq.ParquetFile, shard_bytes: int) -> Iterator[pa.Table]:
    """The corpus table in runs of whole documents of about `shard_bytes`; the cuts depend on the text alone."""
    held: list[pa.Table] = []
    held_bytes = 0
    for batch in file.iter_batches(batch_size=1024, columns=COLUMNS):
        table = pa.Table.from_batches([batch])
        sizes = table["num_bytes"].to_numpy()
        first = 0
        for row, size in enumerate(sizes):
            held_bytes += int(size)
            if held_bytes >= shard_bytes:
                yield pa.concat_tables([*held, table.slice(first, row + 1 - first)])
                held, held_bytes, first = [], 0, row + 1
        held.append(table.slice(first))
    rest = pa.concat_tables(held) if held else None
    if rest is not None and rest.num_rows:
        yield rest


def _write_shard(draft: Draft, source: str, number: int, shard: pa.Table, base: Base, dtype: str) -> Ledger:
    """Encode one shard, or find it done: its index is written last and so is the mark that it is whole."""
    stem = draft / f"{source}-{number:05}"
    index_path, ledger_path = stem.with_suffix(".npz"), stem.with_suffix(".json")
    if ledger_path.exists():
        return Ledger.from_json(json.loads(ledger_path.read_text()))
    encoded = encode(base, shard["text"].to_pylist())
    split, dropped = shard["split"].to_pylist(), shard["dropped"].to_pylist()
    sizes, positions = shard["num_bytes"].to_pylist(), shard["position"].to_pylist()
    ledger = Ledger()
    kept: list[int] = []
    for i, ids in enumerate(encoded):
        amount = Amount(1, sizes[i], max(len(ids) - 1, 0) if sizes[i] else 0)
        ledger.enter(source, amount)
        ledger.settle(source, f"dropped: {dropped[i]}" if dropped[i] else split[i], amount)
        if not dropped[i]:
            kept.append(i)
    np.concatenate([np.zeros(0, dtype), *(encoded[i] for i in kept)]).astype(dtype).tofile(stem.with_suffix(".bin"))
    np.savez(
        index_path,
        length=np.array([len(encoded[i]) for i in kept], np.int64),
        split=np.array([SPLITS.index(split[i]) for i in kept], np.int8),
        num_bytes=np.array([sizes[i] for i in kept], np.int64),
        position=np.array([positions[i] for i in kept], np.int64),
    )
    ledger_path.write_text(json.dumps(ledger.to_json()))
    return ledger


def encode(base: Base, texts: list[str]) -> list[np.ndarray]:
    """Each text as stored tokens, the start and end marks included where the tokenizer has them."""
    marks: Marks = base.marks
    before = [] if marks.start is None else [marks.start]
    after = [] if marks.end is None else [marks.end]
    encodings = base.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(before + encoding.ids + after, dtype=np.uint32) for encoding in encodings]
