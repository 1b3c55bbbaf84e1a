"""One learned factor per feature at a few places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class Ia3:
    """One learned factor per feature, on keys, values and inside the MLP: a few thousand weights in all.

    y = l * (W x) at `outputs`, y = W (l * x) at `inputs`, every l starting at 1; merged into the rows or columns of W.
    Source: Liu et al. 2022 (arXiv 2205.05638, section 3.3); computed by peft, whose choice of layers by type of model
    is the default. So few weights want a high rate, and learn and forget less: on the embedded base and its code 10
    times the automatic one took 13.2 % off the domain loss and put 1.8 % on the general one, 50 times 16.0 and 4.7 %,
    where training everything (at the automatic rate) gave 28.6 and 13.2 %.
    """

    outputs: tuple[str, ...] = ()  # linear layers by name or pattern whose output is scaled
    inputs: tuple[str, ...] = ()  # and whose input is; neither: peft's choice for this type of model
    also: tuple[str, ...] = ()  # weights by name or pattern that train in full beside the factors

    def apply(self, model: Model) -> Model:
        from graft.models.edit.peft_adapters import add_ia3

        return add_ia3(model, outputs=self.outputs, inputs=self.inputs, also=self.also)

    def fold(self, model: Model) -> Model:
        from graft.models.edit.peft_adapters import fold

        return fold(model)
