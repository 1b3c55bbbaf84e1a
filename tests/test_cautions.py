"""The notes that keep a reader from believing too much."""

from __future__ import annotations

from graft.report.shared.cautions import cautions


def test_few_documents_and_foreign_general_text_are_said():
    changes = {"domain": {"documents": 1, "change": -0.2}, "general": {"documents": 99, "change": -0.3}}
    few, foreign = cautions(changes, {})
    assert "domain was scored on 1 document only" in few and "curate.split.test" in few
    assert "learning, not forgetting" in foreign
    changes = {"domain": {"documents": 50, "change": -0.2}, "general": {"documents": 99, "change": 0.02}}
    assert cautions(changes, {}) == []
