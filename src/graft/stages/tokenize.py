"""tokenize: a corpus becomes token shards, written once per tokenizer, resumable shard by shard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core import edges, encoder
from graft.core.artifact import Artifact, Draft, Store
from graft.core.base import Base, Marks
from graft.core.doc import SPLITS
from graft.core.encoder import Encoded, Encoder
from graft.core.errors import UsageError
from graft.core.files import whole, write_whole
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
    inputs = {"corpus": corpus, "tokenizer": base.tokenizer_fingerprint(store.prints)}
    code = (sys.modules[__name__], encoder, edges)
    return store.make(
        "tokens",
        settings,
        inputs,
        code,
        lambda draft: _write(draft, corpus, base, settings),
        origins={"tokenizer": base.origin},
    )


def sources(tokens: Artifact) -> dict[str, TokenSource]:
    """The sources of a tokens artifact, in the order of the corpus."""
    return {name: TokenSource(tokens.path, name) for name in tokens.facts["sources"]}


def _write(draft: Draft, corpus: Artifact, base: Base, settings: Tokenize) -> None:
    size = base.tokenizer.get_vocab_size(with_added_tokens=True)
    dtype = _dtype(base, size)
    write_whole(draft / "tokens.json", json.dumps({"dtype": dtype, "start": base.marks.start, "end": base.marks.end}))
    draft.facts |= {"sources": list(corpus.facts["sources"]), "vocabulary": size, "base": base.name}
    base.tokenizer.encode_special_tokens = True
    words = Encoder(base.tokenizer)
    for source in corpus.facts["sources"]:
        progress = Progress(f"tokenize {source}", corpus.ledger.read[source].bytes)
        draft.ledger.enter(source, corpus.ledger.read[source])
        tokens = Amount()
        with pq.ParquetFile(corpus / f"{source}.parquet") as file:
            for number, shard in enumerate(_cut(file, settings.shard_bytes)):
                ledger = _write_shard(f"{draft / source}-{number:05}", source, shard, words, base.marks, dtype)
                for fate, amount in ledger.fates[source].items():
                    draft.ledger.settle(source, fate, amount)
                    tokens += Amount(tokens=amount.tokens)
                progress.advance(ledger.read[source].bytes)
        draft.ledger.enter(source, tokens)
        progress.close()


def _dtype(base: Base, size: int) -> str:
    """The narrowest type that holds every id; ids can have gaps, so their number alone does not say."""
    if size > 1 << 16:
        return "uint32"
    taken = base.tokenizer.get_vocab(with_added_tokens=True).values()
    largest = max(*taken, base.marks.start or 0, base.marks.end or 0)
    return "uint16" if largest < 1 << 16 else "uint32"


def _cut(file: pq.ParquetFile, shard_bytes: int) -> Iterator[pa.Table]:
    """The corpus table in runs of whole documents of about `shard_bytes`; the cuts depend on the text alone."""
    held: list[pa.Table] = []
    held_bytes = 0
    for batch in file.iter_batches(batch_size=256, columns=COLUMNS):
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


def _write_shard(stem: str, source: str, shard: pa.Table, words: Encoder, marks: Marks, dtype: str) -> Ledger:
    """Encode one shard, or find it done: its ledger is written last and is the mark that the rest is whole."""
    mark = Path(f"{stem}.json")
    if mark.exists():
        return Ledger.from_json(json.loads(mark.read_text()))
    texts = shard["text"].to_pylist()
    ids, length_D = with_marks(words.encode(texts), marks)
    split, dropped = shard["split"].to_pylist(), shard["dropped"].to_pylist()
    kept_D = np.array([not reason for reason in dropped])
    index = {name: shard[name].to_numpy()[kept_D] for name in ("num_bytes", "position")}
    index["split"] = np.array([SPLITS.index(split[i]) for i in np.flatnonzero(kept_D)], np.int8)
    index["length"] = length_D[kept_D]
    with whole(Path(f"{stem}.bin")) as out:
        out.write((ids if kept_D.all() else ids[np.repeat(kept_D, length_D)]).astype(dtype).data)
    with whole(Path(f"{stem}.npz")) as out:
        np.savez(out, **index)
    fates = [reason or name for name, reason in zip(split, dropped, strict=True)]
    tokens_D = np.where([bool(text) for text in texts], np.maximum(length_D - 1, 0), 0)
    ledger = _settle(source, fates, shard["num_bytes"].to_numpy(), tokens_D)
    write_whole(mark, json.dumps(ledger.to_json()))
    return ledger


def with_marks(encoded: Encoded, marks: Marks) -> Encoded:
    """Each text as a stored document: the start and end marks around it, where the tokenizer has them."""
    around = [(0, marks.start), (1, marks.end)]
    borders = np.concatenate([[0], np.cumsum(encoded.length_D)])
    places = [borders[side : len(borders) - 1 + side] for side, token in around if token is not None]
    tokens = [token for _, token in around if token is not None]
    if not tokens:
        return encoded
    ids = np.insert(encoded.ids, np.stack(places, 1).ravel(), np.tile(tokens, len(encoded.length_D)))
    return Encoded(ids, encoded.length_D + len(tokens))


def _settle(source: str, fates: list[str], bytes_D: np.ndarray, tokens_D: np.ndarray) -> Ledger:
    """What became of the documents of a shard; its tokens are targets, and a document without text has none.

    Bytes alone do not say: a document that could not be decoded has those that were there, and no text.
    """
    ledger = Ledger()
    fate_D = np.array(fates, object)
    for fate in dict.fromkeys(fates):
        of = fate_D == fate
        amount = Amount(int(of.sum()), int(bytes_D[of].sum()), int(tokens_D[of].sum()))
        ledger.enter(source, amount)
        ledger.settle(source, fate, amount)
    return ledger
