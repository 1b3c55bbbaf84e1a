"""Where two checkpoints of the same run differ: every tensor to the bit, one at a time, without a model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load


@dataclass(frozen=True)
class Difference:
    """What was compared below one prefix of names, and the first tensor that is not the same in both."""

    num_tensors: int
    num_values: int
    num_different: int = 0  # tensors
    first: str = ""
    size: float = 0.0  # the largest absolute difference in the first

    @property
    def words(self) -> str:
        """Empty where nothing differs."""
        if not self.num_different:
            return ""
        return f"{self.num_different} of {self.num_tensors} differ, first {self.first} by up to {self.size:.3g}"


def difference(ours: Path, theirs: Path, prefix: str) -> Difference:
    """Compare the tensors of two checkpoint folders whose names begin with `prefix` ("model/", "optimizer/")."""
    readers = FileSystemReader(ours), FileSystemReader(theirs)
    kept = [cast(dict[str, TensorStorageMetadata], reader.read_metadata().state_dict_metadata) for reader in readers]
    names = sorted({name for one in kept for name in one if name.startswith(prefix)})
    values, different = 0, list[tuple[str, float]]()
    for name in names:
        if any(name not in one for one in kept):
            different.append((f"{name}, which only one of them has,", float("inf")))
            continue
        a, b = (_read(reader, name, one[name]) for reader, one in zip(readers, kept, strict=True))
        values += a.numel()
        if not same_bits(a, b):
            size = float((a.double() - b.double()).abs().max()) if a.shape == b.shape else float("inf")
            different.append((name, size))
    first, size = different[0] if different else ("", 0.0)
    return Difference(len(names), values, len(different), first, size)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the bit: a NaN equals itself, and 0 is not -0."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    return torch.equal(*(one.reshape(-1).contiguous().view(torch.uint8) for one in (a, b)))


def _read(reader: FileSystemReader, name: str, stored: TensorStorageMetadata) -> Tensor:
    state: dict[str, Any] = {name: torch.empty(stored.size, dtype=stored.properties.dtype)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(state, storage_reader=reader, no_dist=True)
    return state[name]
