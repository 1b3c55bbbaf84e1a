"""Some weights train, the others stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.core.config.errors import UsageError

if TYPE_CHECKING:
    from graft.models.forward.model import Model


@dataclass(frozen=True)
class Freeze:
    """Weights by name: what fits `train` and does not fit `freeze` trains, and the rest stays to the bit.

    A pattern is a run of whole parts of a weight's dotted name, with * and ?: "mlp", "layers.3", "*norm*". A tied
    weight is one weight under several names: it is frozen under all of them or none.
    """

    train: tuple[str, ...] = ("*",)
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.train:
            raise UsageError("train names no weight", allowed='one or more names or patterns; "*" is all')

    def apply(self, model: Model) -> Model:
        """Errors: UsageError for a pattern that fits no weight, for a tied weight that is asked for under one name
        and frozen under another, and where nothing is left to train."""
        from graft.models.edit.parameter_patterns import chosen, fits, names_of

        weights = names_of(model.hf)
        names = [name for several in weights.values() for name in several]
        asked = {*chosen(self.train, names, where="tuning freeze: train", what="weights")}
        frozen = {*chosen(self.freeze, names, where="tuning freeze: freeze", what="weights")}
        for weight, several in weights.items():
            held = [name for name in several if name in frozen]
            for name in several:
                alone = [p for p in self.train if fits(name, p) and not any(fits(one, p) for one in held)]
                if held and alone and name not in held:
                    raise UsageError(
                        f'"{name}" is to train and "{held[0]}" to stay, and they are one tied weight',
                        where="tuning freeze",
                        do="leave one of the two out of the settings",
                    )
            weight.requires_grad_(not held and any(name in asked for name in several))
        if not any(weight.requires_grad for weight in weights):
            raise UsageError(
                f"nothing is left to train: train is {list(self.train)} and freeze {list(self.freeze)}",
                where="tuning freeze",
                do="name fewer weights in freeze, or more in train",
            )
        return model

    def fold(self, model: Model) -> Model:
        return model
