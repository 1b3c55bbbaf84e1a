"""Checkpoints: folders `step-00000123/` that are there whole or not at all, written by every rank at once.

A folder holds what training changes (weights that train, buffers), the optimiser's state by the name of its weight,
and `facts.json` (step, curve, seconds: whatever whoever drives the run keeps beside them). torch.distributed.checkpoint
writes each rank's shards and reads any part of them, so that another number of ranks can go on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from graft.core.store.atomic_files import naming_full_disk, write_whole
from graft.models.forward.model import Model
from graft.models.runtime.parallel import meeting, rank, ranks

FACTS = "facts.json"
NAME = re.compile(r"step-(\d{8,})")


def checkpoints(folder: Path) -> dict[int, Path]:
    """The whole checkpoints below `folder` by the number of steps done, in order."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.glob("step-*")]
    return dict(sorted((int(match[1]), path) for match, path in found if match and (path / FACTS).exists()))


def facts_of(checkpoint: Path) -> dict[str, Any]:
    """What was kept beside the tensors: `step` and whatever else was given."""
    return json.loads((checkpoint / FACTS).read_text(encoding="utf-8"))


def save_checkpoint(folder: Path, model: Model, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> Path:
    """Write folder/step-N, N being facts["step"]; called by all ranks together. It has its name once it is whole.

    Errors: FaultError when the disk is full.
    """
    final = folder / f"step-{facts['step']:08}"
    partial = final.with_name(f"{final.name}.partial")
    model.root.rest()
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir(parents=True)
    meeting()
    with naming_full_disk(partial), _plainly():
        save(_state(model, optimizer), storage_writer=FileSystemWriter(partial), no_dist=ranks() == 1)
    if rank() == 0:
        write_whole(partial / FACTS, json.dumps(facts, allow_nan=False))
        _settle(partial)
        shutil.rmtree(final, ignore_errors=True)  # the same step once more
        partial.replace(final)
        _settle(folder)
    meeting()
    return final


def load_checkpoint(checkpoint: Path, model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's tensors into the model and the optimiser, in place; returns its facts.

    However many ranks wrote it, each reads the shards it needs.
    """
    model.root.rest()
    reader = FileSystemReader(checkpoint)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.hf.named_parameters()}
    parameters = {names[one]: one for group in optimizer.param_groups for one in group["params"]}
    for key, stored in reader.read_metadata().state_dict_metadata.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            name, _, part = rest.rpartition("/")
            state = optimizer.state[parameters[name]]
            state[part] = _like(parameters[name], cast(TensorStorageMetadata, stored))
    with _plainly():
        load(_state(model, optimizer), storage_reader=reader, no_dist=ranks() == 1)
    return facts_of(checkpoint)


def drop_checkpoints(folder: Path, keep: Callable[[int], bool] = lambda step: False) -> None:
    """Remove every checkpoint that is not kept, and what a killed process left of one."""
    if rank():
        return
    for step, path in checkpoints(folder).items():
        if not keep(step):
            gone = path.with_name(f"{path.name}.partial")  # a kill in the midst leaves no half of a checkpoint
            path.replace(gone)
    for path in folder.glob("*.partial"):
        shutil.rmtree(path)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def changing(model: Model) -> dict[str, Tensor]:
    """What a checkpoint holds of the model: weights that train, a tied one once, and what is no weight."""
    trained = {name for name, weight in model.hf.named_parameters() if weight.requires_grad}
    still = {name for name, _ in model.hf.named_parameters(remove_duplicate=False)} - trained
    return {name: value for name, value in model.hf.state_dict().items() if name not in still}


def _state(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors of a checkpoint under one flat name each: model/NAME, optimizer/NAME/PART."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.hf.named_parameters()}
    return {f"model/{name}": value for name, value in changing(model).items()} | {
        f"optimizer/{names[parameter]}/{part}": value
        for parameter, state in optimizer.state.items()
        for part, value in state.items()
    }


def _like(parameter: Tensor, stored: TensorStorageMetadata) -> Tensor:
    """Room for a part of the optimiser's state: split over ranks as its weight is, where it is as large."""
    dtype = stored.properties.dtype
    if stored.size == parameter.shape:
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    return torch.zeros(stored.size, dtype=dtype, device=parameter.device)


@contextmanager
def _plainly() -> Generator[None]:
    """torch wraps what fails into an exception that is nobody's; the first failure itself leaves here."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


def _settle(folder: Path) -> None:
    """The names of the files in a folder are on the disk, as the files already are."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
