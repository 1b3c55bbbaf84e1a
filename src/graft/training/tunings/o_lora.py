"""Low-rank adapters that keep out of the way of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError
from graft.training.tunings.contract import Needs
from graft.training.tunings.lora import Lora

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class OLora:
    """LoRA whose inputs are held apart from those that earlier adapters listen to.

    Adds penalty_weight * sum over earlier adapters i and layers of sum_jk (A_i A^T)_jk^2 to the mean loss per counted
    token, A_i being fixed. Source: Wang et al. 2023 (arXiv 2310.14152), whose earlier adapters stand beside the frozen
    base; here they are merged into it: start from the model that the last of them gave. The square is the paper's; code
    in use also sums |(A_i A^T)_jk|, which pulls as hard on the last bit as on the first and is not what this computes.
    The default strength is ours; which one suits raw text and other sizes is not published. Not to be confused with
    orthonormal LoRA (OLoRA), which is another start for A and B.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0  # of what goes into A
    targets: tuple[str, ...] = ()  # layers by name or pattern; none: every linear layer but the head
    also: tuple[str, ...] = ()  # weights by name or pattern that train in full beside the adapters
    rank_stabilised: bool = False
    penalty_weight: float = 0.5  # 0: LoRA, to the bit
    earlier: tuple[str, ...] = ()  # folders in PEFT's form of adapters trained before; none: LoRA, the first of a line

    def __post_init__(self) -> None:
        assert self._lora  # its errors are ours
        if self.penalty_weight < 0:
            raise UsageError(f"penalty_weight is {self.penalty_weight}", allowed="0 or more")

    def needs(self) -> Needs:
        return Needs(
            adapters=self._read, placeless=replace(self, earlier=()) if self.earlier else None, dropout=self.dropout
        )

    @property
    def _read(self) -> tuple[str, ...]:
        return self.earlier if self.penalty_weight else ()

    def apply(self, model: Model) -> Model:
        """Errors: as LoRA's; UsageError where an earlier adapter has no layer in common with this one, or of another
        size."""
        from graft.models.edit.peft_adapters import factors_against, orthogonality

        self._lora.apply(model)
        pairs = [pair for folder in self._read for pair in factors_against(model, folder)]
        if pairs:
            model.penalties.append(orthogonality(pairs, self.penalty_weight))
        return model

    def fold(self, model: Model) -> Model:
        return self._lora.fold(model)

    @property
    def _lora(self) -> Lora:
        return Lora(self.rank, self.alpha, self.dropout, self.targets, self.also, self.rank_stabilised)
