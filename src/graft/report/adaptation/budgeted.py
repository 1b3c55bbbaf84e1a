"""What a budget adds to a report: pilots, laws, the choice, the line and what was taken of it, as plain JSON values."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.core.store.artifact import Artifact

SOURCES = ("domain", "general")


@dataclass(frozen=True)
class Budgeted:
    """The artifacts of a run inside a budget.

    walks: every walk back, the last one being what counts; taken: whether a model is handed over.
    """

    pilots: list[Artifact]
    choice: Artifact
    walks: list[Artifact]
    taken: bool

    @property
    def line(self) -> list[Artifact]:
        return [*self.pilots, self.choice, *self.walks]

    @property
    def share(self) -> float:
        """How far along the line from the base to the result the handed-over model lies; 0: none is."""
        return self.walks[-1].facts["share"] if self.taken else 0.0

    def summary(self, changes: Mapping[str, Mapping[str, Any]], trained_tokens: int) -> dict[str, Any]:
        """The "budget" of summary.json; `changes` are those of the test text.

        confidence: with which validation text keeps the budget, one-sided.
        predicted: what the laws expect of the whole run, on validation text, as [value, low, high]; result: what that
        run came to there before any walk back (none where it was not made); predicted_change, result_change: against
        the base on the same text, of which laws and walk back saw different parts. looks: how often test text was
        scored for the decision.
        """
        choice, facts = self.choice.facts["choice"], self.choice.facts
        end = self._places()[0] if self.walks else None
        return {
            "forget": facts["budget"],
            "confidence": self.walks[-1].manifest["settings"]["confidence"] if self.walks else None,
            "kept": self.taken and changes["general"]["change"] <= facts["budget"],
            "share": self.share,
            "looks": sum(walk.facts["share"] > 0 for walk in self.walks),
            "ratio": choice["ratio"],
            "objective": choice["settings"],
            "tokens": choice["tokens"],
            "predicted": {source: choice[source] for source in SOURCES},
            "result": end and {source: end[source] for source in SOURCES},
            "predicted_change": {source: choice[source][0] / facts["base"][source] - 1 for source in SOURCES},
            "result_change": end and {source: end[f"{source}_change"] for source in SOURCES},
            "expected_gain": facts["expected_gain"],
            "pilots": {
                "runs": len(self.pilots),
                "tokens": facts["pilot_tokens"],
                "of_final": facts["pilot_tokens"] / (trained_tokens if self.walks else choice["tokens"]),
            },
            "advice": self.advice,
        }

    @property
    def advice(self) -> str:
        """What to do where no model is handed over; empty where one is."""
        if self.taken:
            return ""
        if not self.walks and self._all_worse():
            return (
                "every pilot made the domain worse: lower train.rewarm or train.learning_rate, or give more tokens; a "
                "base that is at home in the text cannot gain"
            )
        if not self.walks:
            return (
                "the base is at home in this text already; if you want the run all the same, lower choose.worth or "
                "run graft adapt without --forget"
            )
        return "allow more to be forgotten, give more tokens of general text, or a lower train.learning_rate"

    def sentence(self, changes: Mapping[str, Mapping[str, Any]]) -> str:
        """The verdict on the budget in one sentence."""
        facts = self.choice.facts
        allowed = f"{100 * facts['budget']:.3g} %"
        if not self.walks:
            return (
                f"Not worth it: inside a budget of {allowed} the pilots expect the domain loss to change by "
                f"{-facts['expected_gain']:+.2%}, from {facts['base']['domain']:.3f} nats per token."
            )
        if not self.taken:
            return f"No model was found that improves the domain and raises the general loss by at most {allowed}."
        domain, general = changes["domain"], changes["general"]
        walked = "" if self.share == 1 else f", {self.share:.0%} of the way from the base to the trained model"
        return (
            f"Domain loss {domain['change']:+.1%}{_unknown(domain)}, general loss {general['change']:+.2%}"
            f"{_unknown(general)} where {allowed} are allowed: inside the budget{walked}."
        )

    def cautions(self, changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What to know of a kept budget: that it is kept by the mean, where the interval reaches beyond."""
        interval, budget = changes["general"]["interval"], self.choice.facts["budget"]
        if not self.taken or interval is None or interval[1] <= budget:
            return []
        return [
            f"The budget is kept by the mean over the test documents; the 95 % interval of the general change reaches "
            f"{interval[1]:+.2%}."
        ]

    def _all_worse(self) -> bool:
        return all(run["points"][-1]["domain"] >= run["points"][0]["domain"] for run in self._pilots())

    def frontier(self) -> dict[str, Any]:
        """What the plot of domain loss against general loss shows; losses in nats per token of validation text.

        pilots: per run its ratio, objective and points; law: of the chosen objective, per ratio domain and general as
        [value, low, high] at the tokens of the final run; choice: one of these; line: every place looked at between
        base (share 0) and result (share 1); taken: the share handed over, 0 for none.
        """
        facts = self.choice.facts
        chosen = facts["choice"]
        base = self.walks[-1].facts["base"] if self.walks else facts["base"]
        law = [one for one in facts["candidates"] if one["objective"] == chosen["objective"]]
        keys = ("ratio", "tokens", "domain", "general")
        return {
            "budget": facts["budget"],
            "base": base,
            "pilots": self._pilots(),
            "law": [{key: one[key] for key in keys} for one in law],
            "choice": {key: chosen[key] for key in (*keys, "objective")},
            "line": self._places(),
            "taken": self.share,
        }

    def _places(self) -> list[dict[str, float]]:
        """Every place on the line that any walk looked at, the end of the line first."""
        places = [
            place for walk in self.walks for place in json.loads((walk / "line.json").read_text(encoding="utf-8"))
        ]
        return sorted({place["share"]: place for place in places}.values(), key=lambda place: -place["share"])

    def _pilots(self) -> list[dict[str, Any]]:
        runs: dict[tuple[str, float], list[dict[str, float]]] = {}
        with (self.choice / "pilots.csv").open(encoding="utf-8") as table:
            for row in csv.DictReader(table):
                points = runs.setdefault((row["objective"], float(row["ratio"])), [])
                points.append(
                    {"tokens": float(row["tokens"])} | {source: float(row[f"{source}_loss"]) for source in SOURCES}
                )
        return [
            {"objective": objective, "ratio": ratio, "points": points} for (objective, ratio), points in runs.items()
        ]


def _unknown(row: Mapping[str, Any]) -> str:
    return " (one document: how certain is unknown)" if row["interval"] is None else ""
