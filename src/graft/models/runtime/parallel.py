"""Training by several processes at once: who they are, what they add up, and how a model is split over them (FSDP2).

Only inside `gathered()` are there several: everything here, asked outside of it or in a job of one process, answers as
for one. What each rank holds of a weight is a slice along its first dimension (a DTensor); gradients are sums over
ranks, never means, because the loop divides once by what all ranks counted.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from graft.core.config.errors import FaultError
from graft.core.process import precision as runtime
from graft.core.process.processes import num_ranks

T = TypeVar("T")
W = TypeVar("W", bound=Tensor)

TIMEOUT = timedelta(minutes=15)  # within one exchange: more than the slowest of them takes, reading a model from disk
PATIENCE = timedelta(seconds=60)  # of one look for the word of rank 0, which may take as long as it likes
LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out|socket", re.IGNORECASE)
GONE = "another process of this job ended or does not answer"

M_MMAP_THRESHOLD = -3  # glibc's malloc.h
MAPPED_BYTES = 1 << 20  # blocks from here on go back to the system when they are freed

_meetings = count()
_gathered = False


def ranks() -> int:
    """How many processes work together right now."""
    return dist.get_world_size() if _gathered else 1


def rank() -> int:
    """Which of them this is; the first one writes and speaks."""
    return dist.get_rank() if _gathered else 0


def device() -> torch.device:
    """Where this process computes (see graft.core.process.precision)."""
    return torch.device(runtime.device())


def meet(word: bool) -> bool:
    """What rank 0 says, on every rank; others wait for it as long as rank 0 lives. In a job of one process: `word`.

    For Store.make(together=...). The store of the process group carries it, since rank 0 may wait for hours on a lock
    that some other job holds, and no collective waits that long.
    """
    if num_ranks() == 1:
        return word
    with naming_lost_ranks():
        _join()
        board, key = dist.distributed_c10d._get_default_store(), f"graft-meeting-{next(_meetings)}"
        if dist.get_rank() == 0:
            board.set(key, "yes" if word else "no")
            return word
        while True:
            try:
                board.wait([key], PATIENCE)
            except dist.DistStoreError:
                continue
            return board.get(key) == b"yes"


def _join() -> None:
    """The process group of this job: gloo between processors, and nccl between NVIDIA's accelerators."""
    if dist.is_initialized():
        return
    here = device()
    if here.type == "cuda":
        torch.cuda.set_device(here)
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT, device_id=here)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
        _give_memory_back()
    atexit.register(dist.destroy_process_group)


def _give_memory_back() -> None:
    """glibc keeps freed memory in pieces once it has seen large blocks freed, and blocks put together for a moment
    would add up to the whole model: measured, 784 MB instead of 271 for half of 208 MB of weights, saved and read back.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


@contextmanager
def gathered() -> Generator[None]:
    """All ranks of the job work together in here: each of them must come, and do the same in the same order."""
    global _gathered
    if num_ranks() == 1:
        yield
        return
    with naming_lost_ranks():
        _join()
        _gathered = True
        try:
            yield
        finally:
            _gathered = False


@contextmanager
def naming_lost_ranks() -> Generator[None]:
    """Errors: FaultError in place of what the exchange says when another process is gone."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if not isinstance(error, dist.DistError) and not ("gloo" in str(error).lower() and LOST.search(str(error))):
            raise
        raise FaultError(
            f"{GONE} ({str(error).strip().splitlines()[0][:200]})",
            do="look for the first error of the job; the same command goes on from the last checkpoint",
        ) from error


def agreed(value: T) -> T:
    """Rank 0's value on every rank."""
    if ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def everyone(value: T) -> list[T]:
    """The values of all ranks, in the order of their numbers."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values


def added(numbers: Sequence[float]) -> list[float]:
    """The sums over ranks of each of some numbers, in double precision."""
    if ranks() == 1:
        return list(numbers)
    summed = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.tolist()


def everywhere(upstream: Tensor) -> Tensor:
    """A gradient summed over ranks: for what reads a weight's own slice on each rank, such as a pull on every weight.

    To be called in the backward of such a function, equally often on all ranks; a gradient that comes through the
    model's forward is summed by FSDP and needs none.
    """
    if ranks() == 1:
        return upstream
    summed = upstream.detach().clone()
    dist.all_reduce(summed)
    return summed


def local(tensor: Tensor) -> Tensor:
    """This rank's slice of a tensor, sharing its memory; all of it where it is not split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from all ranks, differentiable; itself where it is not split. All ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def first_row(tensor: Tensor) -> int:
    """Where this rank's slice begins along the first dimension."""
    if not isinstance(tensor, DTensor):
        return 0
    size = -(-tensor.shape[0] // ranks())
    return min(rank() * size, tensor.shape[0])


def norm_of(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of tensors as if they were one, each slice of them counted once."""
    norm = float(torch.nn.utils.get_total_norm([local(tensor) for tensor in tensors]))
    return norm if ranks() == 1 else math.sqrt(added([norm * norm])[0])


def meeting() -> None:
    """Nobody goes on before all are here."""
    added([0.0])


class NotInSlices(Exception):
    """A model that has to be whole before it can be split."""


class Root(nn.Module):
    """What all of a model's work happens in: FSDP puts the weights that no block holds together on entering it.

    Embedding, last norm and head then stay whole until the backward, or `rest`: so that the head can be read beside
    the hidden states. In one process it only calls.
    """

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__()
        self.hf = hf
        self._inside = False

    def within(self, work: Callable[..., T], *arguments: Any) -> T:
        """work(*arguments) where the weights are; tensors that a backward starts from must be in what it returns."""
        if self._inside:
            return work(*arguments)
        self._inside = True
        try:
            return self(work, *arguments)
        finally:
            self._inside = False

    def forward(self, work: Callable[..., T], *arguments: Any) -> T:
        return work(*arguments)

    def rest(self) -> None:
        """Every weight a slice again: what was put together does not see what happens to the slices."""
        if isinstance(self, FSDPModule):
            self.reshard()


def root_of(hf: PreTrainedModel) -> Root:
    """The root of a model, made where there is none."""
    return hf.__dict__.get("graft_root") or Root(hf)


def split(hf: PreTrainedModel) -> bool:
    """Split a model's weights over the ranks, in place: a group for each block, and one for the rest.

    Weights on the meta device become slices there, to be filled; others become slices on this rank's device, block
    by block, and what was whole is freed. Returns whether there was anything to do.
    """
    if ranks() == 1 or "graft_root" in hf.__dict__:
        return False
    hf.tie_weights()
    before = [
        (weight, module, name) for module in hf.modules() for name, weight in module.named_parameters(recurse=False)
    ]
    mesh = _mesh()
    groups: list[FSDPModule] = [fully_shard(block, mesh=mesh) for block in blocks(hf)]
    root = fully_shard(Root(hf), mesh=mesh)
    hf.__dict__["graft_root"] = root  # not as a module: the model is the root's, and not the other way round
    for group in (*groups, root):
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)
    for weight, module, name in before:
        weight.graft_place = (module, name)  # type: ignore[attr-defined]
        weight.data = weight.data.new_empty(0)  # whoever still holds it holds no memory
    return True


def now(weight: W) -> W:
    """What stands where a weight stood before its model was split: the slice, or the whole of it while a model runs."""
    place = getattr(weight, "graft_place", None)
    return weight if place is None else getattr(*place)


def blocks(hf: PreTrainedModel) -> list[nn.Module]:
    """The modules that are split each for itself: what transformers names as not to be cut, none inside another."""
    names = set(hf._no_split_modules or ())
    found = {name: module for name, module in hf.named_modules() if type(module).__name__ in names}
    inner = {name for name in found for outer in found if name.startswith(f"{outer}.")}
    embeddings = {id(hf.get_input_embeddings()), id(hf.get_output_embeddings())}
    return [
        module
        for name, module in found.items()
        if name not in inner and not any(id(part) in embeddings for part in module.modules())
    ]


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh(device().type, (ranks(),))


@contextmanager
def loading_slices(fit: Callable[[PreTrainedModel], bool] | bool) -> Generator[dict[str, Any]]:
    """What to give to from_pretrained so that each rank reads its slices alone; nothing in one process.

    fit: whether it is to be split, or who is asked that of the model without weights. transformers
    splits a model between its making on the meta device and the reading of its files where it is given a
    DistributedConfig; the splitting is ours here, since its plan leaves the head to the model's own forward.
    """
    if ranks() == 1 or fit is False or not hasattr(PreTrainedModel, "maybe_distribute_model"):
        yield {}
        return
    from transformers.distributed.configuration_utils import DistributedConfig

    def splitting(cls: type[PreTrainedModel], model: PreTrainedModel, *_: Any) -> PreTrainedModel:
        del model.config.distributed_config  # type: ignore[attr-defined] - of this loading: it is not to be saved
        if callable(fit) and not fit(model):
            raise NotInSlices
        split(model)
        return model

    PreTrainedModel.maybe_distribute_model = classmethod(splitting)  # type: ignore[method-assign]
    try:
        yield {"distributed_config": DistributedConfig(fsdp_size=ranks())}
    finally:
        del PreTrainedModel.maybe_distribute_model  # the mixin's own is behind it
