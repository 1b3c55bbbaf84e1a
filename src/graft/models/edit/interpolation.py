"""The straight line between the weights of two models of one shape: between a base and what training made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from graft.core.config.errors import UsageError
from graft.core.process.precision import Computed
from graft.models.files.weights import open_model
from graft.models.forward.model import Model


class Line:
    """start + share * (end - start), weight by weight, in float32; share 0 is the start and 1 the end, to the bit.

    Source: Wortsman et al. 2022 (arXiv 2109.01903), who walk between a zero-shot model and its fine-tuned self and find
    points that keep most of both. Costs three copies of the weights in memory.
    Errors: UsageError where the two have not the same weights.
    """

    def __init__(self, start: Path, end: Path, precision: Computed) -> None:
        self.model = open_model(end, precision, frozen=True)
        self._end = _weights(self.model)
        self._start = _same_names(_weights(open_model(start, precision, frozen=True)), self._end, start, end)

    @torch.no_grad()
    def at(self, share: float) -> Model:
        """The model at a share of the way. It is one and the same object at every call."""
        for name, weight in self.model.hf.named_parameters():
            weight.copy_(torch.lerp(self._start[name], self._end[name], share))
        return self.model


def _weights(model: Model) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.hf.named_parameters()}


def _same_names(
    weights: Mapping[str, Tensor], others: Mapping[str, Tensor], folder: Path, other: Path
) -> Mapping[str, Tensor]:
    """The first, once they are known to fit the others."""
    for name, weight in others.items():
        if name not in weights or weights[name].shape != weight.shape:
            found = f"{tuple(weights[name].shape)}" if name in weights else "no such weight"
            raise UsageError(
                f"no line leads from one model to the other: {name} is {tuple(weight.shape)} there and {found} here",
                where=f"{folder} and {other}",
                allowed="two models with the same weights, such as a base and what was trained from it",
            )
    return weights
