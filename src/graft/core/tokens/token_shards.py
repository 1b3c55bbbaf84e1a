"""Token shards: written once per (text, tokenizer), read through memory maps ever after.

A source is a run of shards. Each shard is a flat file of token ids (`NAME.bin`, uint16 or uint32) and an index of its
documents (`NAME.npz`). A document lies there as  start t1 t2 .. tn end ; its *pairs* are (input, target) neighbours,
so n tokens give n + 1 targets (n where the tokenizer has no end token or no start token).

Where not all tokens of a shard count, `NAME.weights.bin` lies beside it: a byte for every stored token, how much it
counts as a target. The rejected answer of a preference pair is a document of its own right after the chosen one.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graft.core.text.documents import SPLITS

OPEN = 64  # maps of a source kept open at once: each takes one of the files that a process may have open (often 1,024)
INDEX_FIELDS = ("length", "split", "num_bytes", "position")
ALONE, CHOSEN, REJECTED = range(3)  # what a document is in a pair, in `role` of the index
NO_LABEL = -1
ONE = np.ones(1, np.uint8)


@dataclass(frozen=True)
class TokenSource:
    """All documents of one source as tokens. D documents.

    length_D: stored tokens; num_bytes_D: UTF-8 length; position_D: place in the source; pairs_D: (input, target) pairs,
    its stored tokens less one; counted_D: how many of these have a target of weight above 0; role_D: ALONE, CHOSEN or
    REJECTED; label_D: index into `labels`, or NO_LABEL.
    """

    folder: Path
    name: str

    @cached_property
    def shards(self) -> list[Path]:
        """Its .bin files in order; another source may be called "NAME-something"."""
        own = re.compile(re.escape(self.name) + r"-\d{5,}")
        found = [path for path in self.folder.glob("*.bin") if own.fullmatch(path.stem)]
        return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))

    @cached_property
    def _said(self) -> dict[str, Any]:
        return json.loads((self.folder / "tokens.json").read_text(encoding="utf-8"))

    @property
    def labels(self) -> list[str]:
        """Names of the labels that documents have."""
        return self._said.get("labels", [])

    @cached_property
    def _maps(self) -> OrderedDict[Path, np.ndarray]:
        return OrderedDict()

    def _map(self, path: Path, dtype: np.dtype) -> np.ndarray:
        """What lies in a file; of the maps that are open, the one used longest ago makes room."""
        found = self._maps.pop(path, None)
        if found is None:
            empty = not path.stat().st_size
            found = np.zeros(0, dtype) if empty else np.memmap(path, dtype=dtype, mode="r")
            while len(self._maps) >= OPEN:
                self._maps.popitem(last=False)
        self._maps[path] = found
        return found

    @cached_property
    def _index(self) -> dict[str, np.ndarray]:
        parts = [_read_index(path.with_suffix(".npz")) for path in self.shards]
        fields = (*INDEX_FIELDS, "counted", "role", "label")
        index = {key: np.concatenate([part[key] for part in parts]) for key in fields}
        index["shard"] = np.concatenate([np.full(len(part["length"]), i) for i, part in enumerate(parts)])
        index["start"] = np.concatenate([np.cumsum(part["length"]) - part["length"] for part in parts])
        return index

    @property
    def length_D(self) -> np.ndarray:
        return self._index["length"]

    @property
    def num_bytes_D(self) -> np.ndarray:
        return self._index["num_bytes"]

    @property
    def position_D(self) -> np.ndarray:
        return self._index["position"]

    @cached_property
    def pairs_D(self) -> np.ndarray:
        return np.maximum(self.length_D - 1, 0)

    @property
    def counted_D(self) -> np.ndarray:
        return self._index["counted"]

    @property
    def role_D(self) -> np.ndarray:
        return self._index["role"]

    @property
    def label_D(self) -> np.ndarray:
        return self._index["label"]

    def documents(self, split: str) -> np.ndarray:
        """Indices of the documents of one split, in source order; rejected answers are not among them."""
        return np.flatnonzero((self._index["split"] == SPLITS.index(split)) & (self.role_D != REJECTED))

    def pairs(self, split: str) -> np.ndarray:
        """Indices of the chosen documents of one split, in source order; the rejected one of each is the next."""
        return np.flatnonzero((self._index["split"] == SPLITS.index(split)) & (self.role_D == CHOSEN))

    def tokens(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """Stored tokens first..last (exclusive) of a document; a view of the map, not a copy."""
        shard, begin, stop = self._place(document, first, last)
        return self._map(self.shards[shard], self._dtype)[begin:stop]

    def weights(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """How much each of these stored tokens counts as a target (uint8); a view. A document's first is never one."""
        shard, begin, stop = self._place(document, first, last)
        path = self._weight_files[shard]
        return np.broadcast_to(ONE, max(0, stop - begin)) if path is None else self._map(path, ONE.dtype)[begin:stop]

    @cached_property
    def weighted(self) -> bool:
        """Whether any shard has weights; where none has, every token counts."""
        return any(self._weight_files)

    def _place(self, document: int, first: int, last: int | None) -> tuple[int, int, int]:
        """(shard, place of the first token in it, place after the last one)."""
        begin = int(self._index["start"][document])
        end = begin + int(self.length_D[document])
        return int(self._index["shard"][document]), begin + first, end if last is None else min(end, begin + last)

    @cached_property
    def _dtype(self) -> np.dtype:
        return np.dtype(self._said["dtype"])

    @cached_property
    def _weight_files(self) -> list[Path | None]:
        """The weights of every shard; None where all of its tokens count."""
        return [path if path.exists() else None for path in map(weights_of, self.shards)]


def weights_of(shard: Path) -> Path:
    """The file with the weights of a shard's tokens."""
    return shard.with_suffix(".weights.bin")


def _read_index(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        index = {key: stored[key] for key in stored.files}
    index.setdefault("counted", np.maximum(index["length"] - 1, 0))
    index.setdefault("role", np.full(len(index["length"]), ALONE, np.int8))
    index.setdefault("label", np.full(len(index["length"]), NO_LABEL, np.int32))
    return index
