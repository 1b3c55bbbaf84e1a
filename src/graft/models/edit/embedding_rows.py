"""Rows for new tokens: how they begin, and training that reaches none but them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.core.config.errors import UsageError
from graft.core.stats.random_streams import stream
from graft.models.forward.model import Model
from graft.models.runtime import parallel

EXTENDED = "graft_extended_from"  # in config.json: the id of the first token that was added
Beginning = Literal["mean", "random_like"]


@torch.no_grad()
def grow_rows(model: Model, parts: Mapping[int, Sequence[int]], start: Beginning, seed: int) -> None:
    """Give the tokens in `parts` rows in the embedding, the head and the head's bias; every other row stays as it is.

    parts: new id -> the old tokens that it stands for; the ids follow each other. start "mean": each row is the mean
    of the rows of its old tokens. "random_like": normal, with the mean and the standard deviation of the old rows,
    column by column, to compare with. Rows between the matrix's end and the first new id, of tokens that never had
    any, get the mean of all.
    """
    hf: Any = model.hf
    first, last = min(parts), max(parts)
    before = [(matrix.detach().clone(), name) for matrix, name in _matrices(hf)]
    if last >= min(len(matrix) for matrix, _ in before):
        with torch.random.fork_rng():  # what transformers draws for the new rows is overwritten
            hf.resize_token_embeddings(max(last + 1, len(before[0][0])), mean_resizing=False)
    setattr(hf.config, EXTENDED, first)
    for (matrix, name), (old, _) in zip(_matrices(hf), before, strict=True):
        known = old[:first].float()
        matrix[: len(old)] = old
        matrix[len(known) : first] = known.mean(0).to(matrix.dtype)
        for token, of in parts.items():
            if start == "mean":
                row = known[list(of)].mean(0)
            else:
                draw = torch.as_tensor(stream(seed, "new rows", name, token).standard_normal(known.shape[1:]))
                row = known.mean(0) + known.std(0) * draw.float().to(known.device)
            matrix[token] = row.to(matrix.dtype)


def _matrices(hf: Any) -> list[tuple[Tensor, str]]:
    """What has an entry per token, a tied matrix once: (tensor, its place)."""
    found: dict[int, tuple[Tensor, str]] = {}
    for place, module in (("embedding", hf.get_input_embeddings()), ("head", hf.get_output_embeddings())):
        for name in ("weight", "bias"):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                found.setdefault(id(tensor), (tensor, f"{place} {name}"))
    return list(found.values())


@torch.no_grad()
def old_rows(model: Model, first: int) -> list[Tensor]:
    """Copies of what the embedding, the head and its bias hold for the ids below `first`."""
    return [tensor[:first].detach().clone() for tensor, _ in _matrices(model.hf)]


@torch.no_grad()
def old_logits(model: Model, texts: Sequence[Sequence[int]], first: int) -> Tensor:
    """Logits over the ids below `first`, of all tokens of some texts: [N, V]."""
    model.hf.eval()
    rows = [torch.tensor([list(text)], device=model.device) for text in texts]
    return torch.cat([model.hf(input_ids=row, use_cache=False).logits[0, :, :first].float().cpu() for row in rows])


def open_rows(model: Model, first: int | None) -> None:
    """Only rows of ids from `first` on take gradients; None: where the model's configuration says it was extended.

    Errors: UsageError for a model that was not extended, or has no row with such an id.
    """
    hf: Any = model.hf
    begin = getattr(hf.config, EXTENDED, None) if first is None else first
    if begin is None:
        raise UsageError(
            "only new rows are to train, and the model has none: its vocabulary was not extended",
            where=str(hf.config.name_or_path),
            allowed=f'a model made by `extend`, whose config.json says "{EXTENDED}"',
            do="extend the model first, or set train.tuning.new_rows.first to the id of its first new token",
        )
    size = min(len(tensor) for tensor, _ in _matrices(hf))
    if not 0 <= begin < size:
        raise UsageError(
            f"the first new row is {begin}, and the model has rows for {size} tokens", allowed=f"0 to {size - 1}"
        )
    hf.requires_grad_(False)
    hf.graft_rows = OpenRows(hf, begin)


def close_rows(model: Model) -> None:
    """Back to whole matrices, tied where they were."""
    hf: Any = model.hf
    hf.graft_rows.close()
    del hf.graft_rows


class OpenRows(nn.Module):
    """Matrices of which the rows from `first` on are parameters, and nothing before them is.

    A parameter is the matrix's own memory from that row on, so a step of any optimiser, decay and moments included,
    reaches no other, and nothing is copied. When tokens come in, the matrices are put in their places anew, as
    functions of the parameters. Costs the gradient of the whole matrix for a moment, of which all but the new rows is
    let go. Where ranks hold slices of the parameters, each rank holds all old rows, and copies them for every pass.
    """

    def __init__(self, hf: Any, first: int) -> None:
        super().__init__()
        self.first = first
        self.rows = nn.ParameterList()
        self.homes: list[list[tuple[nn.Module, str]]] = []  # of each matrix; two where it is tied
        for number, (tensor, _) in enumerate(_matrices(hf)):
            homes = list(_homes(hf, tensor))
            self.register_buffer(f"whole{number}", tensor.detach(), persistent=False)
            self.rows.append(nn.Parameter(tensor.detach()[first:]))
            self.homes.append(homes)
            for module, name in homes:  # as a buffer: whatever ties weights finds it under its name
                del module._parameters[name]
                module.register_buffer(name, tensor.detach(), persistent=False)
        self.hook = hf.get_input_embeddings().register_forward_pre_hook(lambda *_: self.join())
        self.join()

    def join(self) -> None:
        for number, homes in enumerate(self.homes):
            rows, whole = self.rows[number], self.get_buffer(f"whole{number}")
            if _in_place(rows, whole, self.first):
                joined = _Join.apply(rows, whole, self.first)
            else:
                joined = torch.cat([whole[: self.first], parallel.whole(rows)])
            for module, name in homes:
                setattr(module, name, joined)

    def close(self) -> None:
        """Plain parameters again."""
        self.hook.remove()
        for number, homes in enumerate(self.homes):
            rows, whole = self.rows[number].detach(), self.get_buffer(f"whole{number}")
            if not _in_place(rows, whole, self.first):
                whole[self.first :] = parallel.whole(rows)
            parameter = nn.Parameter(whole)
            for module, name in homes:
                del module._buffers[name]
                module.register_parameter(name, parameter)


def _in_place(rows: Tensor, whole: Tensor, first: int) -> bool:
    """Whether the parameter still is the matrix's memory; it is not where the model was moved or split over ranks."""
    return not isinstance(rows, DTensor) and rows.data_ptr() == whole[first:].data_ptr()


def _homes(hf: nn.Module, wanted: Tensor) -> Iterator[tuple[nn.Module, str]]:
    for module in hf.modules():
        for name, parameter in module._parameters.items():
            if parameter is wanted:
                yield module, name


class _Join(torch.autograd.Function):
    """The whole matrix, as a function of the rows from `first` on, which lie in its own memory."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, whole: Tensor, first: int) -> Tensor:
        ctx.first = first
        return whole.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return upstream[0][ctx.first :].clone(), None, None
