"""Handing results over: files and folders are copied beside their place first and then moved into it whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from graft.core.errors import UsageError


def put_out(folder: Path, contents: Mapping[str, Path]) -> Path:
    """Copy each path of `contents` to folder/NAME, replacing what is there; returns the folder.

    Copies, not links: whoever edits the result must not reach into the store. Errors: UsageError when the folder
    cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, origin in contents.items():
            partial = folder / f".{name}.partial"
            _remove(partial)
            if origin.is_dir():
                shutil.copytree(origin, partial)
            else:
                shutil.copyfile(origin, partial)
            _remove(folder / name)
            os.replace(partial, folder / name)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"cannot write results: {error.strerror}", where=str(folder), do="choose another --out folder"
        ) from error
    return folder


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
