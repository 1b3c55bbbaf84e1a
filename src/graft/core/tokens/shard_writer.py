"""Documents to one token shard, and the ledger of what became of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graft.core.models.base_model import BoundaryTokens
from graft.core.store.atomic_files import whole, write_whole
from graft.core.store.ledger import Amount, Ledger
from graft.core.text.dialogue import Dialogue
from graft.core.text.documents import SPLITS
from graft.core.tokens.cached_encoder import CachedEncoder, Encoded
from graft.core.tokens.dialogue_encoder import REFUSED, DialogueEncoder, Stored
from graft.core.tokens.token_shards import ALONE, NO_LABEL, weights_of


class TokenRun(NamedTuple):
    """S stored documents end to end: N tokens, who each document belongs to (a row of the table), its part in a pair.

    weights_N, role_S: None where all tokens count, and where all documents stand alone. ends_S, lost_S: what `Stored`
    has of each dialogue; empty where there is none.
    """

    ids_N: NDArray[np.uint32]
    length_S: NDArray[np.int64]
    owner_S: NDArray[np.int64]
    weights_N: NDArray[np.uint8] | None = None
    role_S: NDArray[np.int8] | None = None
    ends_S: Sequence[tuple[str, ...]] = ()
    lost_S: Sequence[tuple[str, ...]] = ()

    @classmethod
    def of_documents(cls, encoded: Encoded) -> TokenRun:
        """One stored document for every row."""
        return cls(encoded.ids, encoded.length_D, np.arange(len(encoded.length_D)))

    @classmethod
    def of_stored(cls, stored_D: Sequence[Sequence[Stored]]) -> TokenRun:
        """Any number of stored documents for every row."""
        stored = [one for of in stored_D for one in of]
        weights_N = np.concatenate([np.zeros(0, np.uint8), *(one.weights_N for one in stored)])
        role_S = np.array([one.role for one in stored], np.int8)
        return cls(
            np.concatenate([np.zeros(0, np.uint32), *(one.ids_N for one in stored)]),
            np.array([len(one.ids_N) for one in stored], np.int64),
            np.repeat(np.arange(len(stored_D)), [len(of) for of in stored_D]),
            None if weights_N.all() else weights_N,
            None if (role_S == ALONE).all() else role_S,
            [one.ends for one in stored],
            [one.lost for one in stored],
        )

    def keep(self, kept_S: NDArray[np.bool_]) -> TokenRun:
        """Those documents alone."""
        if kept_S.all():
            return self
        kept_N = np.repeat(kept_S, self.length_S)
        return TokenRun(
            self.ids_N[kept_N],
            self.length_S[kept_S],
            self.owner_S[kept_S],
            None if self.weights_N is None else self.weights_N[kept_N],
            None if self.role_S is None else self.role_S[kept_S],
            [one for one, kept in zip(self.ends_S, kept_S, strict=False) if kept],
            [one for one, kept in zip(self.lost_S, kept_S, strict=False) if kept],
        )

    @property
    def counted_S(self) -> NDArray[np.int64]:
        """Targets that count: tokens of weight above 0, but for each document's first, which nothing predicts."""
        assert self.weights_N is not None, "all count"
        counts_N = (self.weights_N > 0).astype(np.int64)
        ends_S = np.cumsum(self.length_S)
        counts_N[(ends_S - self.length_S)[self.length_S > 0]] = 0
        before_N = np.concatenate([[0], np.cumsum(counts_N)])
        return before_N[ends_S] - before_N[ends_S - self.length_S]


@dataclass
class ShardWriter:
    """Writes the shards of one tokens artifact.

    dtype: of the ids on disk. labels: names, of which documents keep the place. dialogues: how dialogues are stored;
    None: as any text.
    """

    words: CachedEncoder
    marks: BoundaryTokens
    dtype: str
    labels: list[str] = field(default_factory=list)
    dialogues: DialogueEncoder | None = None

    def write(self, stem: str, source: str, shard: pa.Table) -> Ledger:
        """Encode one shard, or find it done: its ledger is written last and is the mark that the rest is whole."""
        mark = Path(f"{stem}.json")
        if mark.exists():
            return Ledger.from_json(json.loads(mark.read_text(encoding="utf-8")))
        texts, notes = shard["text"].to_pylist(), shard["notes"].to_pylist()
        split, dropped = shard["split"].to_pylist(), shard["dropped"].to_pylist()
        spoken = [Dialogue.noted(*one) for one in zip(texts, notes, strict=True)] if self.dialogues else []
        if any(spoken):
            run, refused = self._mixed(texts, spoken)
            dropped = [reason or REFUSED * (row in refused) for row, reason in enumerate(dropped)]
        else:
            run = TokenRun.of_documents(with_marks(self.words.encode(texts), self.marks))
        tokens_D = np.bincount(run.owner_S, np.maximum(run.length_S - 1, 0), len(texts)).astype(np.int64)
        fates = [reason or name for name, reason in zip(split, dropped, strict=True)]
        ledger = _settle(source, fates, shard["num_bytes"].to_numpy(), np.where(list(map(bool, texts)), tokens_D, 0))
        self._write(stem, shard, run.keep(np.array([not reason for reason in dropped], bool)[run.owner_S]))
        write_whole(mark, json.dumps(ledger.to_json()))
        return ledger

    def _write(self, stem: str, shard: pa.Table, run: TokenRun) -> None:
        split = shard["split"].to_pylist()
        index = {name: shard[name].to_numpy()[run.owner_S] for name in ("num_bytes", "position")}
        index["split"] = np.array([SPLITS.index(split[row]) for row in run.owner_S], np.int8)
        index["length"] = run.length_S
        if run.role_S is not None:
            index["role"] = run.role_S
        if run.weights_N is not None:
            index["counted"] = run.counted_S
        if self.labels:
            index["label"] = self._labels(shard["notes"].to_pylist())[run.owner_S]
        if any(run.ends_S) or any(run.lost_S):
            counted = {"ends": Counter(chain(*run.ends_S)), "lost": Counter(chain(*run.lost_S))}
            write_whole(turns_of(Path(f"{stem}.bin")), json.dumps(counted))
        with whole(Path(f"{stem}.bin")) as out:
            out.write(run.ids_N.astype(self.dtype).data)
        if run.weights_N is not None:
            with whole(weights_of(Path(f"{stem}.bin"))) as out:
                out.write(run.weights_N.data)
        with whole(Path(f"{stem}.npz")) as out:
            np.savez(out, **index)

    def _mixed(self, texts: list[str], spoken: list[Dialogue | None]) -> tuple[TokenRun, set[int]]:
        """The rows in order, dialogues as they are stored; and the rows refused, which count as their plain text."""
        assert self.dialogues is not None, "asked for where there are dialogues"
        rows = [row for row, one in enumerate(spoken) if one]
        told: dict[int, list[Stored]] = {}
        for row, found in zip(rows, self.dialogues.encode([one for one in spoken if one]), strict=True):
            if not isinstance(found, str):
                told[row] = found
        refused = {row for row in rows if row not in told}
        plain = [row for row in range(len(texts)) if row not in told]
        encoded = with_marks(self.words.encode([texts[row] for row in plain]), self.marks)
        parts = np.split(encoded.ids, np.cumsum(encoded.length_D)[:-1])
        for row, ids_N in zip(plain, parts, strict=False):  # no rows are still one part, an empty one
            told[row] = [Stored(ids_N, np.ones(len(ids_N), np.uint8))]
        return TokenRun.of_stored([told[row] for row in range(len(texts))]), refused

    def _labels(self, notes: list[str]) -> NDArray[np.int32]:
        number = {name: place for place, name in enumerate(self.labels)}
        found = [json.loads(one).get("label") if '"label"' in one else None for one in notes]
        return np.array([NO_LABEL if label is None else number[label] for label in found], np.int32)


def turns_of(shard: Path) -> Path:
    """The file beside a shard that counts what ends the answers of its dialogues, and what they lost."""
    return shard.with_suffix(".turns.json")


def with_marks(encoded: Encoded, marks: BoundaryTokens) -> Encoded:
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
