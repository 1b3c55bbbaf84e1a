"""Token shards: written once per (text, tokenizer), read through memory maps ever after.

A source is a run of shards. Each shard is a flat file of token ids (`NAME.bin`, uint16 or uint32) and an index of its
documents (`NAME.npz`). A document lies there as  start t1 t2 .. tn end ; its *pairs* are (input, target) neighbours,
so n tokens give n + 1 targets (n where the tokenizer has no end token or no start token).
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.core.doc import SPLITS

OPEN = 64  # maps of a source kept open at once: each takes one of the files that a process may have open (often 1,024)
INDEX_FIELDS = ("length", "split", "num_bytes", "position")


@dataclass(frozen=True)
class TokenSource:
    """All documents of one source as tokens. D documents.

    length_D: stored tokens; split_D: index into SPLITS; num_bytes_D: UTF-8 length; position_D: place in the source.
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
    def _dtype(self) -> np.dtype:
        return np.dtype(json.loads((self.folder / "tokens.json").read_text())["dtype"])

    @cached_property
    def _maps(self) -> OrderedDict[int, np.ndarray]:
        return OrderedDict()

    def _map(self, shard: int) -> np.ndarray:
        """The tokens of a shard; of the maps that are open, the one used longest ago makes room."""
        found = self._maps.pop(shard, None)
        if found is None:
            path = self.shards[shard]
            empty = not path.stat().st_size
            found = np.zeros(0, self._dtype) if empty else np.memmap(path, dtype=self._dtype, mode="r")
            while len(self._maps) >= OPEN:
                self._maps.popitem(last=False)
        self._maps[shard] = found
        return found

    @cached_property
    def _index(self) -> dict[str, np.ndarray]:
        parts = [_read_index(path.with_suffix(".npz")) for path in self.shards]
        index = {key: np.concatenate([part[key] for part in parts]) for key in INDEX_FIELDS}
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

    @property
    def pairs_D(self) -> np.ndarray:
        """(input, target) pairs of each document: its stored tokens less one."""
        return np.maximum(self.length_D - 1, 0)

    def documents(self, split: str) -> np.ndarray:
        """Indices of the documents of one split, in source order."""
        return np.flatnonzero(self._index["split"] == SPLITS.index(split))

    def tokens(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """Stored tokens first..last (exclusive) of a document; a view of the map, not a copy."""
        begin = int(self._index["start"][document])
        end = begin + int(self.length_D[document])
        stop = end if last is None else min(end, begin + last)
        return self._map(int(self._index["shard"][document]))[begin + first : stop]


def _read_index(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {key: stored[key] for key in INDEX_FIELDS}
