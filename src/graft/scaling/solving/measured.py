"""Usage 1 without a law: where measured general losses cross the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graft.core.config.errors import UsageError


@dataclass(frozen=True)
class Crossing:
    """The domain's largest share whose general loss is within the limit, between the measured ones.

    between: the two measured shares around it. domain_loss: interpolated as well, where it was measured, else None.
    """

    kind: Literal["binding", "slack", "infeasible"]
    ratio: float
    between: tuple[float, float]
    limit: float
    domain_loss: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "usage": "measured",
            "answer": self.kind,
            "ratio": {"value": self.ratio, "low": self.between[0], "high": self.between[1]},
            "general_ratio": 1 - self.ratio,
            "limit": self.limit,
            "domain_loss": self.domain_loss,
        }


def crossing(
    ratio_T: np.ndarray, general_T: np.ndarray, limit: float, places: Sequence[str], domain_T: np.ndarray | None = None
) -> Crossing:
    """Linear between neighbours, which keeps the order of the losses.

    "slack": the largest measured share keeps the limit, and it is the answer: nothing is said beyond it.
    Errors: UsageError for fewer than two ratios, one that stands twice, and losses that do not rise with the ratio.
    """
    order = np.argsort(ratio_T, kind="stable")
    ratio_T, general_T = ratio_T[order], general_T[order]
    if len(ratio_T) < 2:
        raise UsageError("one ratio was measured", allowed="two or more, to look between them")
    for t in range(1, len(order)):
        here, before = places[order[t]], places[order[t - 1]]
        if ratio_T[t] == ratio_T[t - 1]:
            raise UsageError(f"{here} has the ratio of {before}, {ratio_T[t]:g}", allowed="each ratio once")
        if general_T[t] < general_T[t - 1]:
            raise UsageError(
                f"general loss falls from {general_T[t - 1]:g} ({before}, ratio {ratio_T[t - 1]:g}) "
                f"to {general_T[t]:g} ({here}, ratio {ratio_T[t]:g})",
                allowed="a general loss that rises with the domain's share, so that it crosses a limit once",
                do="fit a law to noisy runs, and solve with that; --ratio-of other where the ratio is general text's",
            )
    over = np.flatnonzero(general_T > limit)
    if len(over) and over[0] == 0:
        kind, ratio, between = "infeasible", float(ratio_T[0]), (float(ratio_T[0]), float(ratio_T[0]))
    elif not len(over):
        kind, ratio, between = "slack", float(ratio_T[-1]), (float(ratio_T[-1]), float(ratio_T[-1]))
    else:
        t = int(over[0])
        part = (limit - general_T[t - 1]) / (general_T[t] - general_T[t - 1])
        ratio = float(ratio_T[t - 1] + part * (ratio_T[t] - ratio_T[t - 1]))
        kind, between = "binding", (float(ratio_T[t - 1]), float(ratio_T[t]))
    loss = None if domain_T is None else float(np.interp(ratio, ratio_T, domain_T[order]))
    return Crossing(kind, ratio, between, limit, loss)
