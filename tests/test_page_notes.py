"""What stands before the facts on a page: one warning at most, and words that cannot be misread."""

from __future__ import annotations

import re

import pytest
from tests.browser.made_facts import small_facts

from graft.core.text.drop_reasons import Drop, facts_of, meanings
from graft.report.adaptation import panels
from graft.report.adaptation.accounts import ledger
from graft.report.adaptation.page import render_page
from graft.report.shared.axis import Ruler

NOTES = ["The first note.", "A second note.", "A third note."]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_one_warning_stands_before_the_facts_and_all_of_them_in_a_section(count: int) -> None:
    page = render_page(small_facts() | {"notes": NOTES[:count]}, title="A report")
    head, body = page.split("<main>")
    head = head.split("<body>")[1]
    assert head.count('role="note"') == (count > 0)
    assert [note in head for note in NOTES[1:]] == [False, False]
    section = re.search(r'<section id="notes".*?</section>', body, re.DOTALL)
    assert bool(section) == (count > 1) == ('<a href="#notes">Notes</a>' in head)
    if section:
        assert [note in section[0] for note in NOTES] == [n < count for n in range(3)]
        assert f'<a href="#notes">{count - 1} more note{"s" if count > 2 else ""} below</a>' in head


@pytest.mark.parametrize(("low", "high"), [(-0.63, 0.23), (-0.9, 0.05), (-0.011, 0.0), (-0.3, 0.31), (0.0, 1.9)])
def test_the_marks_of_an_axis_are_few_enough_to_be_read(low: float, high: float) -> None:
    ticks = Ruler.over([0.0, low, high]).marks()
    assert 2 <= len(ticks) <= 6 and 0 in ticks


def test_no_status_points_down_beside_improved() -> None:
    assert [panels.status(word)["shape"] for word in ("improved", "worse", "no change")] == ["✓", "✗", "◆"]
    first, second = panels.headline(small_facts())
    assert "(lower is better)" in first["before"] and "(lower is better)" not in second["before"]


def test_files_that_are_not_read_are_rows_of_the_ledger_with_their_meaning() -> None:
    facts = small_facts()
    names = ("documents", "bytes", "tokens")
    source = facts["ledger"][0]["source"]
    lost = {"source": source, "fate": "dropped: unread kind: .pdf"} | dict(zip(names, (7, 900, 0), strict=True))
    rows = [dict(row) for row in facts["ledger"] if row["source"] == source] + [lost]
    rows[0] |= {"documents": rows[0]["documents"] + 7, "bytes": rows[0]["bytes"] + 900}
    drop = {"dropped_by": "reading", "reason": "unread_kind", "detail": ".pdf", "fate": lost["fate"]}
    known = meanings([facts_of([Drop(*drop.values())], {})])
    [shown] = ledger(facts | {"ledger": rows, "meanings": known})
    assert shown["adds_up"] and shown["fates"][-1]["documents"] == "7"
    assert shown["fates"][-1]["meaning"] == "not read: files of this kind are not opened"
