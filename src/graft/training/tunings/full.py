"""Every weight trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class Full:
    """All weights, a tied one once: the way to learn most and to forget most."""

    def apply(self, model: Model) -> Model:
        model.hf.requires_grad_(True)
        return model

    def fold(self, model: Model) -> Model:
        return model
