"""Anchors: how much each weight matters to a text, and a pull on weights back to where they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.core.config.errors import UsageError
from graft.core.process.progress import Progress
from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally
from graft.models.forward.model import Model
from graft.models.losses.head import Projection, Reader
from graft.models.losses.token_losses import weighted_sums
from graft.models.runtime.parallel import everywhere, first_row, local, rank, ranks, whole
from graft.packing.batch import Batch
from graft.packing.wide import wide, widest

FILE = "importance.safetensors"  # beside the weights that it belongs to


def fisher(model: Model, batch: Batch, targets: Literal["model", "text"], seed: int) -> dict[str, Tensor]:
    """Diagonal of the Fisher information per counted token, by weight, float32.

    F = sum_b g_b^2 / sum_b count_b, where g_b is the gradient of -log p of all counted targets of row b together, a
    backward pass per row. Targets "model": drawn from the model itself at every place of the text; gradients of
    different places are then uncorrelated, so the square of their sum is on average the sum of their squares, and F
    is the Fisher information without bias. "text": those of the text, the empirical Fisher, in which they are not.
    Leaves the model frozen and without gradients.
    """
    model.hf.eval()
    model.hf.requires_grad_(True)
    found = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in model.hf.named_parameters()}
    progress, count = Progress("importance of weights", len(batch)), 0.0
    for b in range(len(batch)):
        row = batch.rows(b, b + 1).to(model.device)
        nats = model.root.within(_nats, model, row, targets, seed)
        (nats / ranks()).backward()  # every rank reads this row, and gradients add up over ranks
        for name, weight in model.hf.named_parameters():
            if weight.grad is not None:
                gradient = local(weight.grad).float()
                local(found[name]).addcmul_(gradient, gradient)
                weight.grad = None
        count += float(row.weights_BT.sum())
        progress.advance()
    progress.close()
    model.hf.requires_grad_(False)
    for squares in found.values():
        local(squares).div_(max(count, 1.0))
    return found


def _nats(model: Model, row: Batch, targets: Literal["model", "text"], seed: int) -> Tensor:
    hidden_1TD = model.hidden(row)
    targets_1T = row.targets_BT
    if targets == "model":
        lot_1T = widest(stream(seed, "fisher", int(row.row_B)).random(row.tokens_BT.shape), model.device)
        targets_1T = drawn(hidden_1TD.detach(), model.head, lot_1T)
    return weighted_sums(hidden_1TD, model.head, targets_1T, row.weights_BT).total_B.sum()


@torch.no_grad()
def drawn(hidden_BTD: Tensor, head: Projection, lot_BT: Tensor) -> Tensor:
    """A token for every place from the model's own distribution there; lot_BT: numbers in 0 .. 1, float64."""
    hidden_ND, lot_N1 = hidden_BTD.flatten(0, 1), lot_BT.flatten().unsqueeze(1)
    reader = Reader(head, len(hidden_ND), hidden_ND.device)
    parts = [
        torch.searchsorted(reader.read(hidden_ND[part]).p_NV.to(lot_N1.dtype).cumsum(1), lot_N1[part]).squeeze(1)
        for part in reader.parts
    ]
    return torch.cat(parts).clamp_(max=head.vocabulary - 1).view(lot_BT.shape)


class _Pull(torch.autograd.Function):
    """penalty_weight / 2 * sum F d^2 with d = weight - star, for one weight; its gradient is penalty_weight * F * d.

    Keeps no tensor but those there are. F None: 1 everywhere.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, star: Tensor, importance: Tensor | None, penalty_weight: float) -> Tensor:
        ctx.save_for_backward(weight, star, importance)
        ctx.penalty_weight = penalty_weight
        squares = (weight - star).square_()
        if importance is not None:
            squares.mul_(importance)
        return squares.sum(dtype=wide(weight.device)) * (penalty_weight / 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, star, importance = ctx.saved_tensors
        gradient = weight - star
        if importance is not None:
            gradient.mul_(importance)
        return gradient.mul_((upstream[0] * ctx.penalty_weight).to(gradient.dtype)), None, None, None


class _Everywhere(torch.autograd.Function):
    """A sum over what every rank holds of the weights. Its upstream is summed too: a rank's slice is pulled on by the
    rows of all ranks, and its gradient comes from here alone."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return everywhere(value).clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return everywhere(upstream[0])


@dataclass(frozen=True, eq=False)
class Anchors:
    """Where the weights were, and how much each matters; importance None: all alike."""

    stars: Mapping[str, Tensor]
    importance: Mapping[str, Tensor] | None  # of every star, split over ranks as the star is
    penalty_weight: float

    def penalty(self, model: Model) -> Tensor:
        """penalty_weight / 2 * sum F (weight - star)^2 over what trains, float64.

        Errors: UsageError where the model has other weights than the start, trained or not.
        """
        weights = dict(model.hf.named_parameters())
        self._check(weights)
        pulls = [self._pull(name, weight) for name, weight in weights.items() if weight.requires_grad]
        return _Everywhere.apply(torch.stack(pulls).sum())  # type: ignore[return-value]

    def _check(self, weights: Mapping[str, Tensor]) -> None:
        """A name alone does not say that a weight is the same: where blocks were put in, later ones took new names."""
        other = [
            name
            for name in sorted(weights.keys() | self.stars.keys())
            if name not in weights or name not in self.stars or weights[name].shape != self.stars[name].shape
        ]
        if other:
            shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
            raise UsageError(
                f"the model that trains has other weights than the start, and an anchor holds each one where it was: "
                f"{shown}",
                where="objective anchor",
                allowed="a tuning that puts nothing into the model: full, freeze",
                do="take tuning full or freeze, or another objective: adapters, new blocks and new rows are new",
            )

    def _pull(self, name: str, weight: nn.Parameter) -> Tensor:
        """Of this rank's slice of a weight; while a model runs, some are whole."""
        star, mine = self.stars[name], local(weight)
        if mine.shape != local(star).shape:
            mine = mine.narrow(0, first_row(star), len(local(star)))
        importance = None if self.importance is None else local(self.importance[name])
        return _Pull.apply(mine, local(star), importance, self.penalty_weight)  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Anchored:
    """A loss with the pull of anchors: per row total + penalty * count, so that the one division leaves the penalty.

    However a batch is cut, the penalty stands once beside the mean.
    """

    plain: Callable[[Model, Batch], Tally[Tensor]]
    anchors: Anchors
    new: Callable[[Model], Mapping[str, Tensor]] | None = None  # importance to the text that was trained on
    decay: float = 1.0

    def __call__(self, model: Model, batch: Batch) -> Tally[Tensor]:
        tally = self.plain(model, batch)
        penalty = self.anchors.penalty(model).to(tally.total.dtype)
        return Tally(tally.total + penalty * tally.count, tally.count)

    def leave(self, model: Model, folder: Path) -> None:
        """Writes, where a next run is to go on from it, decay * F + the importance to the text trained on."""
        if self.new is None or self.anchors.importance is None:
            return
        old, kept = self.anchors.importance, {}
        for name, value in self.new(model).items():
            local(value).add_(local(old[name]), alpha=self.decay)
            together = whole(value)
            if rank() == 0:
                kept[name] = together.cpu()
        if rank() == 0:
            save_file(kept, folder / FILE)


def read_importance(folder: Path, stars: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """What a run left beside the weights, float32, split over ranks as the stars are; None where there is nothing.

    Each rank reads its own rows. Errors: UsageError where the file says nothing of a weight, or has it in another
    shape.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = {name: torch.zeros_like(star, dtype=torch.float32) for name, star in stars.items()}
    with safe_open(path, framework="pt") as file:
        held = set(file.keys())
        for name, value in found.items():
            if name not in held or list(file.get_slice(name).get_shape()) != list(value.shape):
                raise UsageError(
                    f"the importance of weights says nothing of {name}, of shape {list(value.shape)}",
                    where=str(path),
                    do="remove the file if it belongs to another model; the start is then treated as by form ewc",
                )
            own, first = local(value), first_row(value)
            if not isinstance(value, DTensor):
                own.copy_(file.get_tensor(name))
            elif len(own):
                own.copy_(file.get_slice(name)[first : first + len(own)])
    return found
