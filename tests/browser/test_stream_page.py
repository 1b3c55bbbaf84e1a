"""The page of a stream in chromium: by pointer and by keys, in both schemes, on a phone and on a wide screen."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from browser.made_facts import HOSTILE
from browser.made_stream import FEW, made_stream
from browser.test_page import chrome, contrast, find, said, style, ticks, wait_for  # noqa: F401 (fixtures)
from graft.report.continual.page import base_mean, render_stream
from graft.report.continual.stage import summarize

pytestmark = pytest.mark.browser

WIDTHS = (380, 800, 1280)
BOXES = """
const box = (one) => { const at = one.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; };
return [...document.querySelectorAll(arguments[0])].filter((one) => one.getClientRects().length).map((figure) => ({
  frame: box(figure),
  labels: [...figure.querySelectorAll('.label, .name-of')].map((one) => [one.textContent, ...box(one)]),
  marks: [...figure.querySelectorAll('.mark-of')].map((one) => ['', ...box(one)]),
}));
"""

large = functools.cache(made_stream)  # 5 domains, 11 methods, 3 seeds


@functools.cache
def small() -> dict[str, Any]:
    return made_stream(domains=3, methods=FEW, seeds=2)


@pytest.fixture(scope="module")
def opened(chrome: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Chrome]:  # noqa: F811
    folder = tmp_path_factory.mktemp("stream")

    def open_page(
        told: dict | None = None, *, width: int = 1280, scheme: str = "light", scripts: bool = True
    ) -> Chrome:
        path = folder / f"report-{len(list(folder.iterdir()))}.html"
        told = told or small()
        path.write_text(render_stream(told, summarize(told), title="A stream"), encoding="utf-8")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        chrome.get_log("browser"), chrome.get_log("performance")
        chrome.get(path.as_uri())
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        return chrome

    return open_page


def covered(one: list, other: list) -> float:
    """By how much two boxes cover each other, in pixels of the shorter way, beyond what line spacing leaves."""
    _, left, right, top, bottom = one
    _, west, east, north, south = other
    return min(min(right, east) - max(left, west), min(bottom, south) - max(top, north) - 2.5)


def heat(page: Chrome, method: str, measure: str = "loss") -> list[list[str]]:
    """What the rows of a method's matrix say on the screen."""
    panel = f"[data-measure='{measure}'] table[data-method='{method}']"
    lines = find(page, f"{panel} tbody tr")
    return [[said(cell) for cell in line.find_elements(By.TAG_NAME, "td")] for line in lines]


def test_it_opens_without_an_error_or_a_request(opened: Callable[..., Chrome]) -> None:
    page = opened(large())
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert urls - {"data:,"} == {page.current_url} and page.current_url.startswith("file://")
    assert len(find(page, "#trade-figure .mark-of")) == 11
    assert len(find(page, "[id='turns-0'] .trace")) == 11 * 7 and len(find(page, "[id='matrix-0'] .heat")) == 11
    assert re.match(
        r"[\d.]+ % lower mean loss over 5 domains: joint leads 11 methods ", said(find(page, "#verdict .clause")[0])
    )
    assert page.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 3000


@pytest.mark.parametrize("scripts", [True, False])
def test_numbers_of_the_heat_maps_are_those_of_the_matrix(opened: Callable[..., Chrome], scripts: bool) -> None:
    """Seen, with scripts and without; an outline alone, and no colour, tells the own turn."""
    page, told = opened(scripts=scripts), small()
    matrix, start = told["methods"]["naive"]["loss"]["matrix"], list(told["start"]["loss"].values())
    first, *rest = heat(page, "naive")
    assert first == [f"{value:.3f}" for value in start]
    for row, values in zip(rest, matrix, strict=True):
        for cell, value, old in zip(row, values, start, strict=True):
            score, change = cell.replace("−", "-").split(" ")
            assert float(score) == pytest.approx(value, abs=6e-4)
            assert float(change) == pytest.approx(value - old, abs=6e-4)
    own = find(page, "[data-measure='loss'] table[data-method='naive'] td.own")
    assert [said(one).split(" ")[0] for one in own] == [f"{matrix[turn][turn]:.3f}" for turn in range(3)]
    assert all(style(one, "outline-style") == "solid" and style(one, "outline-width") == "2px" for one in own)
    if not scripts:
        assert find(page, "[data-measure='accuracy'] .heat")[0].is_displayed(), "all panels are shown"
        assert "drawn by JavaScript, which is off" in said(find(page, "#turns noscript")[0])


def test_tabs_lead_from_losses_to_accuracies(opened: Callable[..., Chrome]) -> None:
    page, told = opened(), small()
    for section in ("metrics", "matrix", "turns"):
        panels = find(page, f"#{section} [role=tabpanel]")
        assert [panel.is_displayed() for panel in panels] == [True, False]
        find(page, f"#{section} [role=tab]")[0].click()
        page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        assert [panel.is_displayed() for panel in panels] == [False, True]
    matrix = told["methods"]["naive"]["accuracy"]["matrix"]
    assert heat(page, "naive", "accuracy")[1][0].split(" ")[0] == f"{100 * matrix[0][0]:.1f}"
    wait_for(lambda: find(page, "#turns-1 figure svg text.name-of")[0].is_displayed())
    drawn = find(page, "#turns-1 figure svg")[0].rect["width"]
    assert drawn > 400, "what was hidden is drawn to the width it has once it is seen"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("made", [small, large])
def test_labels_do_not_cover_each_other_and_the_page_stays_inside(
    opened: Callable[..., Chrome], made: Callable[[], dict], width: int
) -> None:
    page = opened(made(), width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    drawings = page.execute_script(BOXES, "#trade-figure, #turns-0 figure")
    assert len(drawings) == 1 + len(made()["domains"]) + 2
    for drawing in drawings:
        left, right, top, bottom = drawing["frame"]
        for n, label in enumerate(drawing["labels"]):
            assert left - 1 <= label[1] and label[2] <= right + 1 and top - 1 <= label[3] and label[4] <= bottom + 1, (
                label
            )
            for other in (*drawing["labels"][n + 1 :], *drawing["marks"]):
                assert covered(label, other) <= 1.5, (label, other)
    assert page.get_log("browser") == []


def test_the_trade_is_read_by_keys_and_by_pointer(opened: Callable[..., Chrome]) -> None:
    page, told = opened(), small()
    svg, readout = find(page, "#trade-figure svg")[0], find(page, "#trade-figure .readout")[0]
    front = sorted(
        (one["loss"]["metrics"]["overall_performance"]["value"], label)
        for label, one in told["methods"].items()
        if one["front"]
    )
    assert said(readout) == f"On the frontier: {', '.join(label for _, label in front)}."
    page.execute_script("arguments[0].focus()", svg)
    heard = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        page.switch_to.active_element.send_keys(key)
        heard.append(said(readout))
    losses = {label: one["loss"]["metrics"]["overall_performance"] for label, one in told["methods"].items()}
    ordered = sorted(losses, key=lambda label: losses[label]["value"])
    for label, words in zip(ordered, heard, strict=True):
        low, high = losses[label]["interval"]
        assert words.startswith(
            f"{label}: mean loss over the domains {losses[label]['value']:.3f} ({low:.3f} to {high:.3f})"
        )
    marks = find(page, "#trade-figure .mark-of")
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", marks[0])
    ActionChains(page).move_to_element(marks[0]).perform()
    wait_for(lambda: said(readout).startswith("naive: "))
    page.execute_script("arguments[0].focus()", svg)
    page.switch_to.active_element.send_keys(Keys.END)
    assert said(readout) == f"The base: mean loss over the domains {base_mean(told):.3f}"
    assert len(find(page, "#trade-figure .whisker")) == 6, "two intervals for each"
    assert len(find(page, "#trade-figure .seeded")) == 6 and len(find(page, "#trade-figure .base-mark")) == 1


def test_marks_stand_where_the_numbers_say(opened: Callable[..., Chrome]) -> None:
    """Places against the axes' own words: a straight line through two ticks, each way."""
    page, told = opened(), small()
    [figure] = find(page, "#trade-figure")
    across, up = (ticks(page, figure, side) for side in ("across", "up"))
    marks = find(page, "#trade-figure .mark-of")
    for mark, one in zip(marks, told["methods"].values(), strict=True):
        for axis, places, value in (
            ("cx", across, one["loss"]["metrics"]["overall_performance"]["value"]),
            ("cy", up, 100 * one["general"]["change"]),
        ):
            (low, at), (high, to) = places[0], places[-1]
            meant = at + (to - at) * (value - low) / (high - low)
            assert float(mark.get_attribute(axis)) == pytest.approx(meant, abs=0.6)


def test_curves_are_read_turn_by_turn_and_methods_are_chosen(opened: Callable[..., Chrome]) -> None:
    page, told = opened(), small()
    figure = find(page, "#turns-0 figure")[2]  # the second domain
    readout, svg = figure.find_element(By.CLASS_NAME, "readout"), figure.find_element(By.TAG_NAME, "svg")
    assert said(figure).startswith("chemistry turn 2")
    page.execute_script("arguments[0].focus()", svg)
    page.switch_to.active_element.send_keys(Keys.HOME)
    assert said(readout) == f"The base: {told['start']['loss']['chemistry']:.3f}"
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    values = {label: one["loss"]["matrix"][1][1] for label, one in told["methods"].items() if label != "joint"}
    best = sorted(values, key=lambda label: values[label])
    assert said(readout) == "After turn 2, the best first: " + " · ".join(
        f"{label} {values[label]:.3f}" for label in best
    )
    own = figure.find_element(By.CLASS_NAME, "own-turn")
    cross = float(figure.find_element(By.CLASS_NAME, "cross").get_attribute("x1"))
    assert float(own.get_attribute("x")) < cross < float(own.get_attribute("x")) + float(own.get_attribute("width"))
    button = next(one for one in find(page, "#chosen button") if said(one) == "naive")
    before = len(find(page, "#turns-0 .trace"))
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and len(find(page, "#turns-0 .trace")) == before - 5
    assert "naive" not in said(figure)
    button.click()
    assert len(find(page, "#turns-0 .trace")) == before
    for one in find(page, "#chosen button"):
        one.click()
    assert said(readout) == "No method is chosen." and page.get_log("browser") == []


def test_the_table_of_methods_sorts_by_a_column(opened: Callable[..., Chrome]) -> None:
    page, told = opened(large()), large()
    names = lambda: [said(one).split(" on the")[0] for one in find(page, ".ranking tbody th")]  # noqa: E731
    assert names() == sorted(told["methods"], key=lambda label: told["methods"][label]["rank"][0])
    head = next(one for one in find(page, ".ranking .sorter") if "General loss" in said(one))
    head.click()
    assert names() == sorted(told["methods"], key=lambda label: told["methods"][label]["general"]["change"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_legible_in_both_schemes(opened: Callable[..., Chrome], scheme: str) -> None:
    """Words in the fullest cells, and the names of the lines, keep a contrast of 4.5."""
    page = opened(large(), scheme=scheme)
    paper = style(find(page, "body")[0], "background-color")
    cells = find(page, "#matrix-0 .heat td")
    fullest = sorted(cells, key=lambda one: float(one.get_attribute("style").rpartition(":")[2].strip(" ;") or 0))[-3:]
    for cell in [*fullest, *find(page, "#flips td.loss")[:3]]:
        shown = page.execute_script(
            """
            const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
            const [r, g, b, a = 1] = parse(getComputedStyle(arguments[0]).backgroundColor), paper = parse(arguments[1]);
            return `rgb(${[r, g, b].map((one, i) => Math.round(a * one + (1 - a) * paper[i])).join(', ')})`;
            """,
            cell,
            paper,
        )
        assert contrast(style(cell, "color"), shown) >= 4.5
    for name in find(page, "#turns-0 figure:first-child .name-of"):
        parts = [
            round(255 * float(part)) for part in re.findall(r"[\d.]+", style(name, "fill"))[:3]
        ]  # color(srgb 0.1 0.5 0.6)
        assert contrast("rgb({}, {}, {})".format(*parts), paper) >= 4.5
    for quiet in find(page, ".ranking td small")[:3]:
        assert contrast(style(quiet, "color"), paper) >= 4.5


def test_what_a_user_wrote_is_shown_and_never_run(opened: Callable[..., Chrome]) -> None:
    told = copy.deepcopy(small()) | {"base": HOSTILE[0], "notes": list(HOSTILE)}
    told["methods"] = {HOSTILE[2] if label == "naive" else label: one for label, one in told["methods"].items()}
    page = opened(told)
    assert page.get_log("browser") == [] and page.execute_script("return window.broken") is None
    assert HOSTILE[2] in said(find(page, "#methods tbody")[0])
    page.execute_script("document.querySelector('#trade-figure svg').focus()")
    page.switch_to.active_element.send_keys(Keys.END, Keys.ARROW_LEFT)
    assert HOSTILE[2] in said(find(page, "#trade-figure .readout")[0])
