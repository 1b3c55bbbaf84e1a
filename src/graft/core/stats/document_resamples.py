"""What many models made of the same documents, and the same drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.stats.bootstrap import resampled
from graft.core.stats.random_streams import stream
from graft.core.stats.tally import Tally


@dataclass(frozen=True)
class Sightings:
    """M models on the D documents of each source: total_MD and count_D, whose quotient of sums is the mean.

    A draw takes documents of a source with repetition, the same ones for all models, so that whatever compares models
    is paired.
    """

    total_MD: Mapping[str, np.ndarray]
    count_D: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, seen: Sequence[Mapping[str, Tally[np.ndarray]]]) -> Sightings:
        """seen: of each model its tallies by source. Errors: UsageError where they are not of the same documents."""
        counts = {name: tally.count for name, tally in seen[0].items()}
        for one in seen[1:]:
            for name, count_D in counts.items():
                if name not in one or not np.array_equal(one[name].count, count_D):
                    raise UsageError(
                        f'the models were not scored on the same documents of "{name}"',
                        do="score all of them with the same settings",
                    )
        return cls({name: np.stack([one[name].total for one in seen]) for name in counts}, counts)

    def means(self, source: str) -> np.ndarray:
        """[M]: the mean of each model."""
        return self.total_MD[source].sum(1) / self.count_D[source].sum()

    def drawn(self, source: str, draws: int, seed: int) -> np.ndarray:
        """[draws, M]: the same on documents drawn again; as it is where there is a single document."""
        total_MD, count_D = self.total_MD[source], self.count_D[source]
        if len(count_D) < 2:
            return np.tile(self.means(source), (draws, 1))
        sums_RK = resampled(np.vstack([total_MD, count_D]), draws, stream(seed, "sightings", source))
        return sums_RK[:, :-1] / sums_RK[:, -1:]
