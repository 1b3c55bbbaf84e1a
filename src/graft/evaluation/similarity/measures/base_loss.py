"""How much harder a text is to predict for the model as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from graft.core.records.features import Features


@dataclass(frozen=True)
class BaseLoss:
    """The model's bits per byte on the text less those on the reference: 0 for a text that it knows as well.

    Bits per byte of a text are all its bits over all its bytes. Part of the difference is not of what the model has
    read but of the text: some texts are harder to predict for any model.
    """

    larger_is_closer: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def __call__(self, text: Features, reference: Features) -> float:
        return _bits_per_byte(text) - _bits_per_byte(reference)


def _bits_per_byte(one: Features) -> float:
    return float((one.times_D @ one.bits_D) / (one.times_D @ one.bytes_D))
