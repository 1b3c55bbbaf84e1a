"""What a stream's models made of every text: the matrix, its metrics with intervals, ranks, flips and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graft.continual.benchmark_scores import Quizzed, last
from graft.continual.metrics.overall_performance import OverallPerformance
from graft.continual.score_matrix import ScoreMatrix
from graft.continual.settings import Judge
from graft.core.config.errors import UsageError
from graft.core.config.plugin_labels import labelled
from graft.core.process.progress import track
from graft.core.records.evidence import Evidence, read_evidence
from graft.core.stats.bootstrap import levels
from graft.core.stats.document_resamples import Sightings
from graft.core.store.artifact import Artifact
from graft.evaluation.metrics.accuracy import Accuracy
from graft.evaluation.metrics.nats_per_token import NatsPerToken

MEASURES = {"loss": NatsPerToken(), "accuracy": Accuracy()}
COSTS = ("seconds", "tokens", "peak_memory_bytes", "parameters")


@dataclass(frozen=True)
class TurnResult:
    """One turn of one method: what was trained, what that makes of every text, and of the suite where there is one."""

    trained: Artifact
    seen: Artifact
    answers: Artifact | None = None

    @property
    def artifacts(self) -> dict[str, Artifact]:
        return {name: one for name, one in vars(self).items() if one is not None}


@dataclass
class MethodRun:
    """One method with one seed. turns: None where it waited."""

    label: str
    method: dict[str, Any]
    seed: int
    turns: list[TurnResult | None] = field(default_factory=list)

    @property
    def artifacts(self) -> list[Artifact]:
        return [one for turn in self.turns if turn for one in turn.artifacts.values()]


@dataclass(frozen=True)
class Standing:
    """Every model of a stream on every text; model 0 is the base."""

    domains: list[str]
    general: str
    learned: Sequence[MethodRun]
    seen: Mapping[str, Sightings]  # by measure
    best: Sequence[Mapping[str, np.ndarray]]  # of each model, per source: bits of what no token was likelier than
    settings: Judge
    suite: Quizzed | None = None

    @classmethod
    def of(
        cls, start: Artifact, learned: Sequence[MethodRun], settings: Judge, quizzed: Artifact | None = None
    ) -> Standing:
        """quizzed: what the base answered to the suite, where there is one.

        Errors: UsageError for a metric after a turn that the stream does not have.
        """
        sources = list(start.facts["sources"])
        late = [one.after for one in settings.metrics if isinstance(one, OverallPerformance)]
        if max(late) > len(sources) - 1:
            raise UsageError(
                f"overall_performance after turn {max(late)}", allowed=f"1 to {len(sources) - 1}, the turns there are"
            )
        taken = [turn for one in learned for turn in one.turns if turn]
        order = [start, *(turn.seen for turn in taken)]
        read: dict[str, dict[str, Evidence]] = {}
        tallies: dict[str, list[Any]] = {name: [] for name in MEASURES}
        best: list[dict[str, np.ndarray]] = []
        for artifact in track(order, "reading what was seen"):
            if artifact.name not in read:
                read = {artifact.name: read_evidence(artifact)}  # of most models only this one is in memory
            evidence = read[artifact.name]
            for name, metric in MEASURES.items():
                tallies[name].append({source: metric(one) for source, one in evidence.items()})
            best.append({source: np.packbits(one.best_N) for source, one in evidence.items()})
        seen = {name: Sightings.of(each) for name, each in tallies.items()}
        answered = [one for one in (quizzed, *(turn.answers for turn in taken)) if one]
        suite = Quizzed.of(answered, settings.draws, settings.seed) if answered else None
        return cls(sources[:-1], sources[-1], learned, seen, best, settings, suite)

    def told(self) -> dict[str, Any]:
        """Everything, as plain values: start, methods with matrix, metrics, flips and cost, by label."""
        by_label: dict[str, list[int]] = {}
        for place, one in enumerate(self.learned):
            by_label.setdefault(one.label, []).append(place)
        names = [*self.domains, self.general]
        point = {name: _table(seen, names) for name, seen in self.seen.items()}
        drawn = {name: _draws(seen, names, self.settings) for name, seen in self.seen.items()}
        methods = {label: self._method(places, point, drawn) for label, places in by_label.items()}
        self._rank(methods, by_label, point, drawn)
        counts = next(iter(self.seen.values())).count_D
        return {
            "domains": self.domains,
            "general": self.general,
            "seeds": sorted({one.seed for one in self.learned}),
            "documents": {name: len(count_D) for name, count_D in counts.items()},
            "tokens_scored": {name: int(count_D.sum()) for name, count_D in counts.items()},
            "start": {name: dict(zip(names, table[0].tolist(), strict=True)) for name, table in point.items()},
            "suite": self.suite.asked() if self.suite else None,
            "methods": methods,
        }

    def _models(self, place: int) -> list[int | None]:
        """The model after each turn of one method and seed, by its number; None where it waited."""
        first = 1 + sum(turn is not None for one in self.learned[:place] for turn in one.turns)
        found: list[int | None] = []
        for turn in self.learned[place].turns:
            found.append(first if turn else None)
            first += turn is not None
        return found

    def _scores(self, place: int, table: np.ndarray, measure: str) -> ScoreMatrix:
        """table: [..., models, sources]."""
        after = np.full((*table.shape[:-2], len(self.domains), table.shape[-1]), np.nan)
        for turn, model in enumerate(self._models(place)):
            if model is not None:
                after[..., turn, :] = table[..., model, :]
        base = table[..., 0, :]
        return ScoreMatrix(after[..., :-1], base[..., :-1], after[..., -1], base[..., -1], measure == "loss")

    def _method(
        self, places: Sequence[int], point: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        ones = [self.learned[place] for place in places]
        found: dict[str, Any] = {"settings": ones[0].method, "seeds": [one.seed for one in ones]}
        for measure in MEASURES:
            exact = [self._scores(place, point[measure], measure) for place in places]
            again = [self._scores(place, drawn[measure], measure) for place in places]
            after_TT = np.mean([np.column_stack([one.after_TT, one.general_T]) for one in exact], 0)
            found[measure] = {
                "matrix": [[_plain(value) for value in row] for row in after_TT],
                "metrics": {
                    label: self._metric(metric, exact, again)
                    for label, metric in labelled(self.settings.metrics, "metrics").items()
                },
            }
        found["general"] = self._general(places, point["loss"], drawn["loss"])
        found["flips"] = self._flips(places)
        found["cost"] = {key: float(np.mean([_cost(one)[key] for one in ones])) for key in COSTS}
        found["models"] = [[turn.trained.name if turn else None for turn in one.turns] for one in ones]
        found["suite"] = self.suite.told([self._models(place) for place in places]) if self.suite else None
        return found

    def _metric(self, metric: Any, exact: Sequence[ScoreMatrix], again: Sequence[ScoreMatrix]) -> dict[str, Any]:
        """value: the mean over seeds; interval: 95 % over documents; spread: the lowest and highest seed."""
        value_S = np.array([float(metric(one)) for one in exact])
        if not np.isfinite(value_S).all():
            return {"value": None, "interval": None, "spread": None}
        drawn_R = np.mean([metric(one) for one in again], 0)
        spread = [float(value_S.min()), float(value_S.max())] if len(value_S) > 1 else None
        used = [name for number, name in enumerate(self.domains) if _reads(metric, exact[0], number)]
        used += [self.general] if _reads(metric, exact[0], None) else []
        return {"value": float(value_S.mean()), "interval": self._interval(drawn_R, used), "spread": spread}

    def _interval(self, drawn_R: np.ndarray, used: Sequence[str]) -> list[float] | None:
        """None where one of the texts used has a single document: its like is not known. The fewest decide how wide."""
        counts = next(iter(self.seen.values())).count_D
        fewest = min(len(counts[name]) for name in used)
        drawn_R = drawn_R[np.isfinite(drawn_R)]
        if fewest < 2 or len(drawn_R) < self.settings.draws / 2:
            return None
        return [float(one) for one in np.quantile(drawn_R, levels(fewest))]

    def _general(self, places: Sequence[int], point: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
        """Relative change of the general loss from the base to the end, over seeds."""
        ends = [last(self._models(place)) for place in places]
        change_S = [float(point[end, -1] / point[0, -1] - 1) for end in ends]
        drawn_R = np.mean([drawn[:, end, -1] / drawn[:, 0, -1] - 1 for end in ends], 0)
        after = float(np.mean([point[end, -1] for end in ends]))
        return {
            "before": float(point[0, -1]),
            "after": after,
            "change": float(np.mean(change_S)),
            "interval": self._interval(drawn_R, [self.general]),
            "spread": [min(change_S), max(change_S)] if len(change_S) > 1 else None,
        }

    def _flips(self, places: Sequence[int]) -> dict[str, Any]:
        """Share of tokens that were right just after their domain's turn and are wrong at the end (lost), and the
        reverse (found); of general text against the base. Means over seeds. A token is right by luck once in the size
        of the vocabulary at most, so nothing is taken off for chance."""
        sums: dict[str, list[tuple[float, float]]] = {}
        for place in places:
            models = self._models(place)
            end = last(models)
            pairs = [(name, models[turn]) for turn, name in enumerate(self.domains[:-1])]
            for name, model in [*pairs, (self.general, 0)]:
                if model is not None:
                    sums.setdefault(name, []).append(self._flip(name, model, end))
        return {
            name: dict(zip(("lost", "found"), np.mean(each, 0).tolist(), strict=True)) for name, each in sums.items()
        }

    def _flip(self, name: str, before: int, after: int) -> tuple[float, float]:
        tokens = int(next(iter(self.seen.values())).count_D[name].sum())
        old, new = (np.unpackbits(self.best[model][name], count=tokens).astype(bool) for model in (before, after))
        return float((old & ~new).mean()), float((~old & new).mean())

    def _rank(
        self,
        methods: dict[str, dict[str, Any]],
        by_label: Mapping[str, Sequence[int]],
        point: Mapping[str, np.ndarray],
        drawn: Mapping[str, np.ndarray],
    ) -> None:
        """rank: by the mean loss over the domains at the end, [of the mean over seeds, best, worst of the seeds].

        front: among methods that learn one domain after the other, none is better on domains and general text both.
        against: the difference to the first method, paired over documents. tied: methods whose difference to this one
        may be nothing.
        """
        metric, first = OverallPerformance(), next(iter(methods))

        def level(table: np.ndarray, place: int) -> Any:
            return metric(self._scores(place, table, "loss"))

        loss = {label: [float(level(point["loss"], place)) for place in places] for label, places in by_label.items()}
        again = {
            label: np.mean([level(drawn["loss"], place) for place in places], 0) for label, places in by_label.items()
        }
        end = {label: (float(np.mean(loss[label])), one["general"]["after"]) for label, one in methods.items()}
        in_turn = {label for label, one in methods.items() if all(one["models"][0])}
        for label, one in methods.items():
            of_seed = [
                1 + sum(loss[other][k] < loss[label][k] for other in methods if k < len(loss[other]))
                for k in range(len(loss[label]))
            ]
            place = 1 + sum(end[other][0] < end[label][0] for other in methods)
            one["rank"] = [place, min(of_seed), max(of_seed)]
            one["front"] = label in in_turn and not any(
                end[other][0] <= end[label][0] and end[other][1] <= end[label][1] and end[other] != end[label]
                for other in in_turn
            )
            apart = {other: self._interval(again[label] - again[other], self.domains) for other in methods}
            one["tied"] = [other for other, ends in apart.items() if other != label and not _leaves_zero(ends)]
            difference = end[label][0] - end[first][0]
            one["against"] = {"method": first, "difference": difference, "interval": apart[first]}
        methods[first]["against"] = None


def _reads(metric: Any, exact: ScoreMatrix, column: int | None) -> bool:
    """Does a metric look at this domain, or at general text? Asked by making it look different, in either direction."""
    return any(
        not np.isclose(float(metric(exact)), float(metric(_moved(exact, column, by))), rtol=1e-12, equal_nan=True)
        for by in (1.0, -1.0)
    )


def _moved(exact: ScoreMatrix, column: int | None, by: float) -> ScoreMatrix:
    """With one text's scores changed, after each turn by another amount."""
    shift_T = by * np.arange(1.0, exact.turns + 1)
    if column is None:
        return replace(exact, general_T=exact.general_T - shift_T, general=exact.general + by)
    after_TT, start_T = exact.after_TT.copy(), exact.start_T.copy()
    after_TT[:, column] -= shift_T
    start_T[column] += by
    return replace(exact, after_TT=after_TT, start_T=start_T)


def _leaves_zero(interval: Sequence[float] | None) -> bool:
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def _table(seen: Sightings, names: Sequence[str]) -> np.ndarray:
    """[models, sources]."""
    return np.stack([seen.means(name) for name in names], -1)


def _draws(seen: Sightings, names: Sequence[str], settings: Judge) -> np.ndarray:
    """[draws, models, sources]."""
    return np.stack([seen.drawn(name, settings.draws, settings.seed) for name in names], -1)


def _cost(one: MethodRun) -> dict[str, float]:
    """What all turns of a method took, as if it had been alone: turns that methods share are counted in each."""
    facts = [turn.trained.facts for turn in one.turns if turn]
    return {
        "seconds": sum(each["training_seconds"] + each["preparing_seconds"] for each in facts),
        "tokens": sum(sum(each["tokens"].values()) for each in facts),
        "peak_memory_bytes": max(each["peak_memory_bytes"] for each in facts),
        "parameters": facts[-1]["num_parameters"],
    }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
