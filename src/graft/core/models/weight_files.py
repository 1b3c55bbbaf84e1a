"""The weights of a model folder without reading them: which files count, and what their headers say."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
HEADER_BYTES = 100_000_000  # the format allows no longer header
JSON_BYTES = 100_000_000  # the largest configurations and indexes have a hundredth of it
POINTER = b"version https://git-lfs"
LFS_DO = "run `git lfs pull` in that folder, or download the file from the hub"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Errors: UsageError with the place where it breaks."""
    try:
        if path.stat().st_size > JSON_BYTES:
            raise UsageError(
                f"this file has {path.stat().st_size:,} bytes", where=str(path), allowed=f"up to {JSON_BYTES:,}"
            )
        found = json.loads(path.read_bytes())
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair can be written as JSON, and is no text
    except json.JSONDecodeError as error:
        raise UsageError(
            f"this is no JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}", do=_again(path)
        ) from error
    except UnicodeError as error:
        raise UsageError("this is no JSON in UTF-8", where=str(path), do=_again(path)) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets as deep
        raise UsageError(f"this JSON cannot be read: {error}", where=str(path), do=_again(path)) from error
    except OSError as error:
        raise UsageError(f"cannot read this file: {error.strerror}", where=str(path)) from error
    if not isinstance(found, dict):
        raise UsageError("this is JSON, but no object", where=str(path), allowed="{...}", do=_again(path))
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load: the single file, else the index's shards, else all there are.

    Errors: UsageError when the index is broken or names a file that is not there.
    """
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if not (folder / INDEX).exists():
        return sorted(folder.glob("*.safetensors"))
    placed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise UsageError('the index has no "weight_map"', where=str(folder / INDEX), do=_again(folder / INDEX))
    outside = next((name for name in placed.values() if not isinstance(name, str) or Path(name).name != name), None)
    if outside is not None:
        raise UsageError(
            f"the index names {outside!r}, which is no file of this folder",
            where=str(folder / INDEX),
            allowed="names of files beside the index",
            do=_again(folder / INDEX),
        )
    files = [folder / name for name in sorted(set(placed.values()))]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(files)} weight files are missing, first {missing[0]}",
            where=str(folder / INDEX),
            do="download the model again",
        )
    return files


def weight_types(path: Path) -> dict[str, str]:
    """Type of every stored tensor as the format names it (F32, BF16 ...). Errors: those of `weight_entries`."""
    return {name: kind for name, (kind, _) in weight_entries(path).items()}


def weight_entries(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of every stored tensor, from the file's header.

    Errors: UsageError for a pointer of git-lfs, a header that cannot be read, and a file that was cut off.
    """
    header = _header(path)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        found = {name: (str(entry["dtype"]), [int(side) for side in entry["shape"]]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise _broken(path, "its safetensors header cannot be read") from error
    size, whole = path.stat().st_size, 8 + len(header) + end
    if whole > size:
        raise _broken(path, f"it has {size:,} bytes of {whole:,}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # offsets that overlap or do not fit the shapes, bytes too many
            return found
    except (SafetensorError, OSError) as error:
        raise _broken(path, str(error)) from error


def _header(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError("this is no file", where=str(path), allowed="a safetensors file")
    try:
        with path.open("rb") as stream:
            start = stream.read(len(POINTER))
            if start == POINTER:
                raise UsageError("this is a pointer of git-lfs and not the weights", where=str(path), do=LFS_DO)
            (length,) = struct.unpack("<Q", start[:8]) if len(start) >= 8 else (0,)
            if not 2 <= length <= min(HEADER_BYTES, path.stat().st_size - 8):
                raise _broken(path, "it has no safetensors header")
            stream.seek(8)
            return stream.read(length)
    except OSError as error:
        raise UsageError(f"cannot read this file: {error.strerror}", where=str(path)) from error


def _broken(path: Path, how: str) -> UsageError:
    return UsageError(f"this weight file is broken: {how}", where=str(path), do="download or save it again")


def _again(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            pointer = stream.read(len(POINTER)) == POINTER
    except OSError:
        pointer = False
    return LFS_DO if pointer else "mend it, or download the model again"
