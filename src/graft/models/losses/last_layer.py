"""The head of a model whose last layer is no plain linear layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class LastLayer:
    """hidden -> logits by the model's last layer itself, where that is no plain linear layer (adapters)."""

    layer: nn.Module
    vocabulary: int

    def logits(self, hidden_ND: Tensor) -> Tensor:
        logits_NV = self.layer(hidden_ND)
        return logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
