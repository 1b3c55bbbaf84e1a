"""What a budget costs, drawn: read by pointer and by keys, in both schemes, on a phone and on a wide screen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys

from browser.made_facts import budget_facts, small_facts
from browser.test_page import chrome, contrast, find, opened, over, said, style, wait_for  # noqa: F401 (fixtures)

pytestmark = pytest.mark.browser

WIDTHS = (360, 800, 1200)

BOXES = """
const box = (one) => { const at = one.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; };
return [...document.querySelectorAll('figure.frontier')].map((figure) => ({
  frame: box(figure),
  labels: [...figure.querySelectorAll('text')].map((one) => [one.textContent, one.getAttribute('class'), ...box(one)]),
  spots: [...figure.querySelectorAll('.spot:not(.halo)')].map((one) => ['', one.getAttribute('class'), ...box(one)]),
}));
"""


def unworthy() -> dict:
    facts = budget_facts()
    facts["frontier"] |= {"line": [], "taken": 0}
    facts["summary"]["budget"] |= {"result": None, "share": 0, "looks": 0}
    return facts


def untaken() -> dict:
    facts = budget_facts()
    facts["frontier"]["taken"] = facts["summary"]["budget"]["share"] = 0
    return facts


def far_result() -> dict:
    facts = budget_facts()
    facts["frontier"]["line"][0] |= {"general": 4.7, "general_change": 0.16, "general_bound": 0.165}
    return facts


def little_gain() -> dict:
    """All domain losses near the base's, so that one drawing shows everything."""
    facts = budget_facts(law_steps=100)
    frontier = facts["frontier"]
    for one in (*frontier["law"], frontier["choice"]):
        one["domain"] = [loss + 1.7 for loss in one["domain"]]
    for one in frontier["line"]:
        one["domain"] += 1.7
    for one in (look for run in frontier["pilots"] for look in run["points"]):
        one["domain"] = 5.830 - 0.2 * (5.830 - one["domain"])
    return facts


MADE = {
    "taken": budget_facts,
    "a whole law": lambda: budget_facts(law_steps=100),
    "not worth it": unworthy,
    "none taken": untaken,
    "far result": far_result,
    "little gain": little_gain,
}


def written(page: Chrome) -> set[str]:
    """What the labels of both drawings say, lines joined by spaces."""
    lines = "[...label.childNodes].map((line) => line.textContent).join(' ')"
    labels = page.execute_script(f"return [...document.querySelectorAll('.frontier .label')].map((label) => {lines})")
    return {label.replace("\u202f", " ") for label in labels}


def covered(one: list, other: list) -> float:
    """By how much two boxes cover each other, in pixels of the shorter way, beyond what line spacing leaves."""
    _, _, left, right, top, bottom = one
    _, _, west, east, north, south = other
    return min(min(right, east) - max(left, west), min(bottom, south) - max(top, north) - 2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("made", MADE)
def test_labels_cover_neither_each_other_nor_points(opened: Callable[..., Chrome], made: str, width: int) -> None:  # noqa: F811
    page = opened(MADE[made](), width=width)
    drawings = page.execute_script(BOXES)
    assert len(drawings) == (1 if made == "little gain" else 2)
    for drawing in drawings:
        left, right, top, bottom = drawing["frame"]
        for n, label in enumerate(drawing["labels"]):
            assert left - 1 <= label[2] and label[3] <= right + 1 and top - 1 <= label[4] and label[5] <= bottom + 1, (
                label
            )
            for other in (*drawing["labels"][n + 1 :], *(drawing["spots"] if label[1] and "label" in label[1] else ())):
                assert covered(label, other) <= 1, (label, other)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.get_log("browser") == []


def test_the_drawing_tells_what_was_expected_allowed_and_taken(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(budget_facts(), width=1200)
    assert [said(one) for one in find(page, "figure.frontier h3")] == ["The whole way", "Where it ends, closer"]
    words = written(page)
    assert {"taken", "taken: 80 % of the way +1.70 %, 3.880", "result +3.87 %, 3.767", "86 % of the way"} <= words
    assert {"pilot 33 %", "pilot 67 %", "pilot 100 %", "base 5.830", "predicted, 80 % +4.86 %, 3.770"} <= words
    assert [said(one) for one in find(page, ".frontier .allowed")] == ["2 % allowed"] * 2
    assert all(
        find(page, f".frontier {kind}") for kind in (".ribbon", "path.law.beyond", ".forbidden", ".whisker.choice")
    )


def test_a_path_beyond_the_budget_starts_where_the_budget_ends(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(budget_facts(), width=1200)
    edge = find(page, ".frontier .budget")[1].get_attribute("x1")
    clips = {
        one.get_attribute("clip-path")[5:-1]: one for one in find(page, "figure.frontier[data-chart='1'] path.law")
    }
    outer, inner = sorted(clips, key=lambda name: clips[name].get_attribute("class") == "law")
    box = {name: find(page, f"[id='{name}'] rect")[0].get_attribute for name in clips}
    assert float(box[inner]("x")) + float(box[inner]("width")) == pytest.approx(float(box[outer]("x")))
    assert float(box[outer]("x")) == pytest.approx(float(edge))
    assert style(clips[outer], "stroke-dasharray") != "none" == style(clips[inner], "stroke-dasharray")


def test_every_point_is_read_by_keys_and_ringed_in_both_drawings(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(budget_facts(), width=1200)
    readout = find(page, "#frontier-readout")[0]
    assert said(readout).startswith("Taken, the model 80 % of the way from base to result: general loss +1.70 %")
    svg = find(page, "figure.frontier svg")[0]
    page.execute_script("arguments[0].focus()", svg)
    heard = []
    page.switch_to.active_element.send_keys(Keys.HOME)
    while not heard or heard[-1] != said(readout):
        heard.append(said(readout))
        page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert len(heard) == len(find(page, "figure.frontier[data-chart='0'] .spot:not(.halo)")) and len(set(heard)) == len(
        heard
    )
    assert heard[0].startswith("The base: general loss 0.00 % against the base (4.053 nats per token)")
    assert heard[-1].startswith("The result of the run: general loss +3.87 % (at most +4.07 %)")
    assert any(line.startswith("Pilot with 67 % domain text, 24,576 tokens: general loss +1.26 %") for line in heard)
    assert [ring.get_attribute("visibility") for ring in find(page, ".frontier .ring")] == ["visible"] * 2
    page.execute_script("arguments[0].blur()", svg)
    assert said(readout).startswith("Taken,")
    assert [ring.get_attribute("visibility") for ring in find(page, ".frontier .ring")] == ["hidden"] * 2


def test_a_point_tells_its_numbers_under_the_pointer(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(budget_facts(), width=1200)
    readout = find(page, "#frontier-readout")[0]
    choice = find(page, "figure.frontier[data-chart='1'] .spot.choice")[0]
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", choice)
    ActionChains(page).move_to_element(choice).perform()
    wait_for(lambda: said(readout).startswith("Predicted for the run chosen, with 80 % domain text, 400,000 tokens"))
    assert "general loss +4.86 % (+3.81 % to +5.91 %)" in said(readout)
    assert "domain loss 3.770 (3.695 to 3.845) nats per token" in said(readout)


def test_what_lies_too_far_right_is_pinned_and_said(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(far_result(), width=1200)
    assert "result → +16.00 %, 3.767" in written(page)
    right = float(find(page, "figure.frontier[data-chart='1'] .grid.frame[x1='46']")[0].get_attribute("x2"))
    spot = find(page, "figure.frontier[data-chart='1'] .spot.result")[0]
    assert right - 20 < float(spot.get_attribute("cx")) < right
    assert "the result of the run (+16.00 %)" in said(find(page, "#frontier .fine")[0])


def test_without_intervals_there_is_no_band_and_no_fault(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    facts = budget_facts()
    for one in (*facts["frontier"]["law"], facts["frontier"]["choice"]):
        for source in ("domain", "general"):
            one[source] = [one[source][0], float("nan"), None]
    page = opened(facts)
    assert not find(page, ".ribbon") and not find(page, ".whisker.choice") and find(page, "path.law")
    assert page.get_log("browser") == []


def test_without_a_budget_nothing_is_drawn(opened: Callable[..., Chrome]) -> None:  # noqa: F811
    page = opened(small_facts())
    assert not find(page, "#frontier") and not find(page, "nav a[href='#frontier']")
    assert page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_are_readable_in_both_schemes(opened: Callable[..., Chrome], scheme: str) -> None:  # noqa: F811
    page = opened(budget_facts(), scheme=scheme)
    paper = style(find(page, "body")[0], "background-color")
    for fill in (".ribbon", ".forbidden"):
        tone = style(find(page, f".frontier {fill}")[0], "fill")
        for sort in (".pilot", ".law", ".choice", ".taken", ".result", ".base"):
            colour = style(find(page, f".frontier .label{sort}")[0], "fill")
            assert contrast(colour, over(tone, paper)) >= 4.5, (sort, fill, colour, paper)
    assert contrast(style(find(page, ".frontier .allowed")[0], "fill"), paper) >= 4.5
