"""Weights into safetensors files: the header first, then every rank its own slices at their places.

The format (a length, a JSON header of types, shapes and offsets, then the bytes) says before the first byte where each
tensor lies, and a slice along the first dimension is one stretch of it. So nobody ever holds more than its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from graft.models.runtime.parallel import first_row, local, meeting, rank, ranks

FILE_BYTES = 5 << 30  # of one file at most, as far as single tensors let it
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_weights(
    weights: Mapping[str, Tensor], folder: Path, types: Mapping[str, torch.dtype], largest: int = FILE_BYTES
) -> None:
    """Write weights as transformers names its files, each in its type.

    All ranks call it with their slices; the names and the order must be the same.
    """
    sizes = {name: weight.numel() * types[name].itemsize for name, weight in weights.items()}
    files = _filled(sizes, largest)
    names = [SINGLE] if len(files) == 1 else [f"model-{i:05}-of-{len(files):05}.safetensors" for i in _from_1(files)]
    for name, inside in zip(names, files, strict=True):
        _write_file(folder / name, {one: weights[one] for one in inside}, types, sizes)
    if len(files) > 1 and rank() == 0:
        places = {one: name for name, inside in zip(names, files, strict=True) for one in inside}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _filled(sizes: Mapping[str, int], largest: int) -> list[list[str]]:
    """Names in their order, file by file."""
    files: list[list[str]] = [[]]
    room = largest
    for name, size in sizes.items():
        if files[-1] and size > room:
            files.append([])
            room = largest
        files[-1].append(name)
        room -= size
    return files


def _write_file(
    path: Path, weights: Mapping[str, Tensor], types: Mapping[str, torch.dtype], sizes: Mapping[str, int]
) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end, begin = 0, {}
    for name, weight in weights.items():
        begin[name], end = end, end + sizes[name]
        header[name] = {
            "dtype": TYPES[types[name]],
            "shape": list(weight.shape),
            "data_offsets": [begin[name], end],
        }
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % 8)
    if rank() == 0:
        with path.open("wb") as out:
            out.write(len(said).to_bytes(8, "little") + said)
            out.truncate(8 + len(said) + end)
    meeting()  # the file is there before anybody writes into it
    with path.open("r+b") as out:
        for name, weight in weights.items():
            _write_slice(out, 8 + len(said) + begin[name], weight, types[name])
        out.flush()
        os.fsync(out.fileno())
    meeting()


def _write_slice(out: BinaryIO, place: int, weight: Tensor, stored: torch.dtype) -> None:
    """This rank's rows of a tensor that begins at `place`; of one that is not split the first rank's copy."""
    own = local(weight)
    if ranks() > 1 and own is weight and rank():
        return
    rows = max(1, weight.shape[0]) if weight.dim() else 1
    out.seek(place + first_row(weight) * (weight.numel() * stored.itemsize // rows))
    out.write(own.detach().to(stored).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _from_1(files: list[list[str]]) -> range:
    return range(1, len(files) + 1)
