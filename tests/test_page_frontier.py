"""What a budget cost, on the page without a browser: facts in a row, the table of numbers, and what is to be drawn."""

from __future__ import annotations

import json
import math

import pytest

from browser.made_facts import budget_facts, small_facts
from graft.report.adaptation import frontier as section
from graft.report.adaptation.frontier_points import Span, spanned, spots
from test_page import outline


def drawing(facts: dict) -> dict:
    """Points and views of the drawing; x is the change of the general loss, y the domain loss: [value, low, high]."""
    every = [
        {"sort": one.sort, "group": one.group, "label": list(one.label), "says": one.says}
        | {"x": one.change.to_json(), "y": one.domain.to_json()}
        for one in spots(facts["frontier"])
    ]
    return {"spots": every, "views": section.views(facts["frontier"])}


def table(facts: dict) -> dict[str, dict]:
    return {row["name"].replace("\u202f", " "): row for row in section.rows(facts["frontier"])}


def test_a_report_without_a_budget_has_no_such_section() -> None:
    for facts in (small_facts(), small_facts() | {"frontier": None}):
        page = outline(facts)
        assert "frontier" not in {attributes.get("id") for _, attributes in page.elements}
        assert "What it costs" not in page.text
        assert section.drawn(facts.get("frontier")) == []


def test_the_numbers_stand_in_the_markup() -> None:
    page = outline(budget_facts())
    for words in (
        "What it costs",
        "Budget 2 % of the general loss, at most",
        "Chosen mixture 80 % domain text causal",
        "Final run 400,000 tokens",
        "Pilots 73,728 tokens3 runs, 18 % of the final run",
        "Domain loss 3.770 → 3.767predicted (3.695 to 3.845), then measured",
        "General loss 4.250 → 4.210predicted (4.207 to 4.293), then measured",
        "From base to result 80 % of the way1 look at the test text",
    ):
        assert words.replace(" ", "") in page.text.replace(" ", ""), words
    links = {attributes.get("href") for _, attributes in page.elements}
    figures = [attributes for tag, attributes in page.elements if tag == "figure" and attributes["class"] == "frontier"]
    assert "#frontier" in links and [one["data-chart"] for one in figures] == ["0", "1"]


def test_the_table_holds_what_is_drawn() -> None:
    rows = table(budget_facts())
    assert rows["The base"]["domain"] == "5.830" and rows["The base"]["tokens"] == ""
    pilot = rows["Pilot with 100 % domain text"]  # 4.197 / 4.053 - 1 = 3.553 %
    assert (pilot["tokens"], pilot["domain"], pilot["general"]) == ("24,576", "4.803", "4.197")
    assert pilot["change"] == "+3.55\u202f%" and not pilot["inside"]
    taken = rows["Taken, the model 80 % of the way from base to result"]  # 4.122 / 4.053 - 1 = 1.702 %
    assert taken["change"] == "+1.70\u202f% (at most +1.90\u202f%)" and taken["inside"]
    assert rows["The result of the run"]["domain"] == "3.767"
    law = [row for row in table(budget_facts(law_steps=100)) if row.startswith("The law")]
    assert law == [f"The law at {10 * n} % domain text" for n in range(1, 11)]


def test_a_result_outside_of_what_was_predicted_is_called_so() -> None:
    facts = budget_facts()
    facts["summary"]["budget"]["result"]["general"] = 4.35
    assert section.glance(facts["summary"]["budget"])[5][1:] == (
        "4.250 → 4.350", "predicted (4.207 to 4.293), then measured: outside",
    )  # fmt: skip


def test_not_worth_it_has_neither_line_nor_result() -> None:
    facts = budget_facts()
    facts["frontier"] |= {"line": [], "taken": 0}
    facts["summary"]["budget"] |= {"result": None, "share": 0.0, "looks": 0}
    glance = {label: (value, more) for label, value, more in section.glance(facts["summary"]["budget"])}
    assert glance["Final run"] == ("400,000 tokens", "not made")
    assert glance["Domain loss"] == ("3.770", "predicted (3.695 to 3.845)")
    assert glance["From base to result"] == ("no model taken", "0 looks at the test text")
    assert not {one["sort"] for one in drawing(facts)["spots"]} & {"taken", "result", "place"}
    assert "looked at on the line" not in outline(facts).text


def test_the_whole_result_may_be_taken() -> None:
    facts = budget_facts()
    facts["frontier"] |= {"line": facts["frontier"]["line"][:1], "taken": 1.0}
    facts["summary"]["budget"]["share"] = 1.0
    line = [one for one in drawing(facts)["spots"] if one["group"] == "line"]
    assert [one["sort"] for one in line] == ["base", "taken"] and line[1]["label"][0] == "taken: the result"
    assert "the whole way" in outline(facts).text


def test_no_model_taken_leaves_every_place_a_place() -> None:
    facts = budget_facts()
    facts["frontier"]["taken"] = 0
    sorts = [one["sort"] for one in drawing(facts)["spots"] if one["group"] == "line"]
    assert sorts == ["base", "place", "place", "result"]


@pytest.mark.parametrize("missing", [[math.nan, math.nan], [None, None], [math.nan, 4.0], []])
def test_an_interval_that_is_not_known_is_left_out(missing: list) -> None:
    assert spanned([4.25, *missing]) == Span(4.25)
    facts = budget_facts()
    for one in (*facts["frontier"]["law"], facts["frontier"]["choice"]):
        one["general"] = [one["general"][0], *missing]
    facts["summary"]["budget"]["predicted"]["general"] = [4.25, *missing]
    law = [one for one in drawing(facts)["spots"] if one["group"] == "law"]
    assert law and all(one["x"][1:] == [None, None] and None not in one["y"] for one in law)
    assert section.glance(facts["summary"]["budget"])[5][2] == "predicted, then measured"


def test_an_interval_of_no_width_is_none_and_a_loss_that_is_no_number_no_point() -> None:
    assert spanned([4.0, 4.0, 4.0]) == Span(4.0) and spanned([math.nan, 1.0, 2.0]) is None
    frontier = budget_facts()["frontier"]
    count = len(spots(frontier))
    frontier["law"][0]["domain"][0] = math.nan
    frontier["pilots"][0]["points"][1]["general"] = math.inf
    frontier["line"][1]["domain"] = math.nan
    assert len(spots(frontier)) == count - 3


def test_the_drawing_reaches_as_far_as_a_reader_can_see_the_budget() -> None:
    facts = budget_facts(law_steps=100)
    right = drawing(facts)["views"][0]["x"][1]
    assert right == pytest.approx(1.2 * (4.25 / 4.053 - 1), abs=1e-4)  # the prediction is furthest
    words = section.outside(facts["frontier"]).replace("\u202f", " ")
    assert words.endswith("the law at 84 % domain text (+5.95 %) up to the law at 100 % domain text (+26.57 %).")
    facts["frontier"]["line"][0] |= {"general_change": 0.30}
    assert drawing(facts)["views"][0]["x"][1] == pytest.approx(6 * 0.02)
    assert "the result of the run (+30.00\u202f%)" in section.outside(facts["frontier"])
    facts["frontier"] |= {"law": [], "line": []}
    assert section.outside(facts["frontier"]) == ""


def test_a_law_that_expects_much_better_general_text_is_cut_on_the_left_and_said_so() -> None:
    facts = budget_facts()
    facts["frontier"]["law"][0]["general"][0] = 3.2424  # 4.053 * 0.8
    assert -0.06 < drawing(facts)["views"][0]["x"][0] < -0.04
    assert (
        "Further left than the drawing reaches: the law at 33\u202f% domain text (−20.00\u202f%)."
        in section.outside(facts["frontier"])
    )
    facts["frontier"]["line"][2]["general_change"] = -0.1  # a model is never out of sight on this side
    assert drawing(facts)["views"][0]["x"][0] < -0.1


def test_a_result_far_to_the_right_still_has_its_height() -> None:
    facts = budget_facts()
    facts["frontier"]["line"][0] |= {"general_change": 0.30, "domain": 3.0}
    assert all(view["y"][0] < 3.0 for view in drawing(facts)["views"])


def test_a_closer_drawing_is_only_made_where_it_is_closer() -> None:
    whole, closer = drawing(budget_facts())["views"]
    assert (whole["closer"], closer["closer"]) == (False, True) and whole["x"] == closer["x"]
    assert whole["y"][0] <= closer["y"][0] < 3.767 < 3.93 < closer["y"][1] < 4.5 < 5.83 < whole["y"][1]
    facts = budget_facts()
    for run in facts["frontier"]["pilots"]:
        run["points"] = []
    facts["frontier"]["base"]["domain"] = 3.95
    del facts["frontier"]["law"][0]
    assert [view["name"] for view in drawing(facts)["views"]] == [""]


def test_changes_are_against_the_base_on_the_same_text() -> None:
    """Pilots see one part of the validation text, the line another, where the base itself reads differently."""
    facts = budget_facts()
    assert section.other_text(facts["frontier"]) == ""
    facts["frontier"]["base"] = {"domain": 5.0, "general": 4.053 * 1.1}
    found = {one["says"].split(":")[0].replace("\u202f", " "): one for one in drawing(facts)["spots"]}
    pilot = found["Pilot with 100 % domain text, 24,576 tokens"]
    assert pilot["x"][0] == pytest.approx(4.197 / 4.053 - 1, abs=1e-5)
    assert found["The law at 50 % domain text, 400,000 tokens"]["x"][0] == pytest.approx(4.08 / 4.053 - 1, abs=1e-5)
    result = found["The result of the run"]
    assert result["x"][0] == pytest.approx(4.210 / 4.053 - 1, abs=1e-5)  # as it was measured, against its own base
    assert "another part of the validation text" in outline(facts).text


def test_pilots_of_several_objectives_are_named_apart() -> None:
    frontier = budget_facts()["frontier"]
    assert {one.label for one in spots(frontier) if one.sort == "pilot" and one.label} == {
        ("pilot 100\u202f%",), ("pilot 67\u202f%",), ("pilot 33\u202f%",),
    }  # fmt: skip
    frontier["pilots"][0]["objective"] = "stay_close"
    names = {one.label[0] for one in spots(frontier) if one.sort == "pilot" and one.label}
    assert "pilot 100\u202f%, stay_close" in names and "pilot 67\u202f%, causal" in names


def test_what_is_drawn_of_a_law_at_every_percent_is_small() -> None:
    assert len(json.dumps(section.drawn(budget_facts(law_steps=100)["frontier"]))) < 60_000
