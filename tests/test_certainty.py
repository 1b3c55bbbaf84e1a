"""A change that was measured once is never called "no certain change": the number is said, and that nothing more is."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from graft.evaluation.compare import compare_extension as compare
from graft.evaluation.probes.forgetting import verdict
from graft.evaluation.similarity.advise import Advise
from graft.evaluation.similarity.runs import AdaptationRun
from graft.report.adaptation import budgeted, panels
from graft.report.adaptation import stage as report
from graft.report.benchmark import stage as grade
from graft.report.benchmark.verdict import called
from graft.report.benchmark.verdict import sentence as eval_sentence
from graft.report.comparison import stage as present
from graft.report.continual import stage as judge
from graft.report.overview import pareto as front

CLAIM = "no certain change"
ALIKE = re.compile("no certain change|not told apart|not certainly")


def row(change: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "before": 3.0, "after": 3.0 * (1 + change), "change": change, "interval": interval, "documents": 1,
        "verdict": verdict(interval), "bits_per_byte": {"before": 1.0, "after": 1 + change}, "cause": None,
    }  # fmt: skip


def headline(domain: dict[str, Any], general: dict[str, Any]) -> str:
    return report.sentence({"domain": domain, "general": general})


def test_the_headline_says_the_number_and_that_its_certainty_is_unknown() -> None:
    certain, once, unclear = row(-0.2, (-0.3, -0.1)), row(0.121, None), row(0.01, (-0.1, 0.2))
    said = headline(certain, once)
    assert said.endswith(
        "; general text was measured on one document, so how certain its change is remains unknown: loss 3.000 → 3.363 "
        "nats per token, +12.1%."
    )
    assert headline(once, certain).startswith("The domain was measured on one document, so how certain its change is")
    assert headline(certain, unclear).count(CLAIM) == 1 and headline(unclear, unclear).count(CLAIM) == 2


def test_the_page_sets_the_number_of_such_a_clause() -> None:
    domain, general = row(-0.2, (-0.3, -0.1)), row(0.121, None)
    facts = {
        "summary": {"verdict": headline(domain, general), "outcome": "improved"},
        "changes": [{"source": name} | one for name, one in (("domain", domain), ("general", general))],
    }
    clauses = panels.headline(facts)
    assert [one["status"]["word"] for one in clauses] == ["improved", "no interval (one document)"]
    assert clauses[1]["change"].startswith("+12.1") and clauses[1]["head"].endswith("unknown:")


def test_a_comparison_of_one_document_says_so() -> None:
    assert CLAIM not in present.sentence("law", row(0.121, None)) and "+12.1%" in present.sentence(
        "law", row(0.121, None)
    )
    assert CLAIM in present.sentence("law", row(0.01, (-0.1, 0.1)))


def test_a_comparison_of_one_item_says_so() -> None:
    whole = {
        "items": 1, "tasks": 1, "accuracy": {"model": 1.0, "against": 0.0, "change": 1.0}, "lost": 0.0, "gained": 1.0,
        "interval": {"change": None, "model": [0.2, 1.0]}, "verdict": called(None, 1.0, 0.05), "chance": 0.25,
    }  # fmt: skip
    summary = {"model": "new", "against": "old", "all": whole, "tasks": {"t": whole}}
    said = eval_sentence(summary)
    assert said.startswith("new against old was measured on one item, so how certain") and "+100.0 points" in said
    assert CLAIM in eval_sentence(summary | {"all": whole | {"verdict": "no change"}})


def test_a_task_of_one_item_has_no_verdict() -> None:
    once = {"p": 1.0, "interval": {"change": None}, "accuracy": {"change": 1.0}}
    many = {"p": 1.0, "interval": {"change": [-0.1, 0.1]}, "accuracy": {"change": 0.0}}
    rows = {"once": once, "many": many}
    grade._call(rows, 0.05)
    assert [one["verdict"] for one in rows.values()] == ["no interval (one item)", "no change"]


def test_an_extension_of_one_document_says_so() -> None:
    one = row(-0.1, None) | {"fertility": {"before": {"tokens": 2}, "after": {"tokens": 1}}}
    assert "how certain is unknown: one document" in compare.sentence(8, {"domain": one})
    assert "unknown" not in compare.sentence(8, {"domain": one | {"interval": (-0.2, -0.05)}})


@pytest.mark.parametrize("interval", [None, [-0.01, 0.02]])
def test_runs_that_were_scored_on_one_document_are_not_called_alike(interval: list[float] | None) -> None:
    text = {"key": "k", "docs": "d", "documents": 1 if interval is None else 50}
    runs = [
        {
            "label": name, "base": "b", "base_key": "b", "sentence": "", "outcome": "",
            "texts": dict.fromkeys(front.ROLES, text),
            "domain": {"change": change, "interval": interval}, "general": {"change": change, "interval": interval},
        }
        for name, change in (("a", -0.3), ("b", -0.2))
    ]  # fmt: skip
    pairs = [{"source": role, "one": "a", "other": "b", "interval": interval} for role in front.ROLES]
    said = front.sentence(runs, front.fronts(runs), pairs, 0)
    assert ("whether that is certainly better than b is unknown: one test document" in said) == (interval is None)
    assert bool(ALIKE.search(said)) == (interval is not None)


@pytest.mark.parametrize("documents", [1, 40])
def test_methods_of_a_stream_that_were_scored_on_one_document_are_not_called_alike(documents: int) -> None:
    def method(place: int, other: str) -> dict[str, Any]:
        loss = {"metrics": {"overall_performance": {"value": 2.0 + place}}}
        return {
            "rank": [place, place, place],
            "loss": loss,
            "general": {"change": 0.1},
            "models": [[1]],
            "tied": [other],
        }

    told = {
        "methods": {"naive": method(1, "replay"), "replay": method(2, "naive")}, "domains": ["law"],
        "documents": {"law": documents, "general": 40}, "start": {"loss": {"law": 3.0}},
    }  # fmt: skip
    said = judge.sentence(told)
    assert ("whether it is certainly ahead of replay is unknown (law: one test document)" in said) == (documents == 1)
    assert bool(ALIKE.search(said)) == (documents > 1)


def test_advice_that_rests_on_a_run_of_one_document_says_so() -> None:
    once = AdaptationRun("r", "law", -0.1, None, verdict(None), None, None)
    sure = AdaptationRun("s", "law", -0.1, (-0.2, -0.05), "improved", None, None)
    assert "how certain that is of 1 of them is unknown" in Advise()({}, [once, sure])["rests_on"]
    assert "unknown" not in Advise()({}, [sure])["rests_on"]


def test_a_budget_that_is_kept_on_one_document_says_so() -> None:
    choice = SimpleNamespace(facts={"budget": 0.02})
    walk = SimpleNamespace(facts={"share": 1.0})
    made: Any = budgeted.Budgeted([], choice, [walk], True)  # type: ignore[arg-type, list-item]
    changes = {"domain": row(-0.2, (-0.3, -0.1)), "general": row(0.01, None)}
    assert "general loss +1.00% (one document: how certain is unknown) where 2 % are allowed" in made.sentence(changes)
    assert made.sentence(changes).count("unknown") == 1
