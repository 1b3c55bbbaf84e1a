"""The notes that keep a reader from believing too much."""

from __future__ import annotations

from graft.core.artifact import Store
from graft.core.ledger import Amount
from graft.page.cautions import cautions


def docs(tmp_path):
    def build(draft):
        draft.ledger.enter("domain", Amount(40, 400))
        draft.ledger.settle("domain", "kept", Amount(9, 90))
        draft.ledger.settle("domain", "dropped: no text field", Amount(30, 300))
        draft.ledger.settle("domain", "dropped: empty", Amount(1, 10))
        draft.facts |= {"source": "domain", "first_lost": {"dropped: no text field": "rows.jsonl#1"}}

    return {"domain": Store(tmp_path).make("docs", {}, {}, "graft.core.seed", build)}


def test_text_that_could_not_be_used_is_said_with_its_place(tmp_path):
    [note] = cautions({"domain": {"documents": 50, "change": -0.2}}, docs(tmp_path))
    assert note.startswith("30 of 40 documents of domain could not be used (no text field, first: rows.jsonl#1")
    assert "--text-field" in note


def test_few_documents_and_foreign_general_text_are_said():
    changes = {"domain": {"documents": 1, "change": -0.2}, "general": {"documents": 99, "change": -0.3}}
    few, foreign = cautions(changes, {})
    assert "domain was scored on 1 document only" in few and "curate.split.test" in few
    assert "learning, not forgetting" in foreign
    changes = {"domain": {"documents": 50, "change": -0.2}, "general": {"documents": 99, "change": 0.02}}
    assert cautions(changes, {}) == []
