"""The page of `graft similarity` in chromium: by pointer and by keys, in both schemes, on a phone and on a screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from browser.made_facts import HOSTILE
from browser.made_likened import ENDS, made_likened
from browser.test_page import chrome, contrast, find, said, style, ticks, wait_for  # noqa: F401 (fixtures)
from graft.report.similarity.page import render_likened

pytestmark = pytest.mark.browser

BOXES = """
const box = (one) => { const at = one.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; };
return [...document.querySelectorAll('figure.likened')].map((figure) => ({
  frame: box(figure),
  labels: [...figure.querySelectorAll('.label')].map((one) => [one.textContent, ...box(one)]),
  marks: [...figure.querySelectorAll('.mark-of')].map((one) => ['', ...box(one)]),
}));
"""


@pytest.fixture(scope="module")
def opened(chrome: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Chrome]:  # noqa: F811
    folder = tmp_path_factory.mktemp("likened")

    def open_page(told: dict[str, Any], *, width: int = 1280, scheme: str = "light", scripts: bool = True) -> Chrome:
        path = folder / f"page-{len(list(folder.iterdir()))}.html"
        path.write_text(render_likened(told), encoding="utf-8")
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


def test_it_opens_without_an_error_or_a_request(opened: Callable[..., Chrome]) -> None:
    page = opened(made_likened(5, runs=2))
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert urls - {"data:,"} == {page.current_url} and page.current_url.startswith("file://")
    assert len(find(page, "figure.likened svg")) == 6 and len(find(page, "figure.likened .mark-of")) == 6 * 10
    assert len(find(page, "figure.likened .whisker")) == 6 * 10 and len(find(page, "figure.likened .zero")) == 6
    assert len(find(page, "#measures table.likeness")) == 5


def test_marks_stand_where_the_numbers_say_and_to_the_right_is_more_alike(opened: Callable[..., Chrome]) -> None:
    """Places against the axes' own words: a straight line through two ticks, each way."""
    told = made_likened(5)
    page = opened(told)
    for place, (figure, measure) in enumerate(zip(find(page, "figure.likened"), ENDS, strict=True)):
        across, up = (ticks(page, figure, side) for side in ("across", "up"))
        marks = figure.find_elements(By.CLASS_NAME, "mark-of")
        values = [one["measures"][place]["value"] for one in told["texts"]]
        for mark, value, run in zip(marks, values, told["runs"], strict=True):
            for axis, places, meant in (("cx", across, value), ("cy", up, 100 * run["change"])):
                (low, at), (high, to) = places[0], places[-1]
                want = at + (to - at) * (meant - low) / (high - low)
                assert float(mark.get_attribute(axis)) == pytest.approx(want, abs=0.8), (measure, axis)
        order = sorted(range(5), key=lambda k: float(marks[k].get_attribute("cx")))
        assert order == sorted(range(5), key=lambda k: values[k], reverse=not ENDS[measure][3])
        pale = ["pale" in mark.get_attribute("class") for mark in marks]
        assert pale == [run["verdict"] == "no change" for run in told["runs"]]
    falls = "Smaller is closer: the axis falls to the right."
    assert [said(one) == falls for one in find(page, "figure.likened .readout")] == [
        not one[3] for one in ENDS.values()
    ]


def test_marks_are_read_by_keys_and_by_pointer(opened: Callable[..., Chrome]) -> None:
    told = made_likened(5)
    page = opened(told)
    figure = find(page, "figure.likened")[5]  # bits per byte: smaller is closer
    readout = figure.find_element(By.CLASS_NAME, "readout")
    page.execute_script("arguments[0].focus()", figure.find_element(By.TAG_NAME, "svg"))
    heard = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.END):
        page.switch_to.active_element.send_keys(key)
        heard.append(said(readout))
    values = {one["text"]: one["measures"][5]["value"] for one in told["texts"]}
    least, *_, most = order = sorted(values, key=lambda name: -values[name])
    for name, words in zip((least, order[1], most), heard, strict=True):
        assert words.startswith(f"{name}, runs/{name}-0: bits per byte above reference ")
    run = told["runs"][0]
    low, high = (f"{100 * end:+.1f} %".replace("-", "−") for end in run["interval"])
    assert f"({low} to {high}), {run['verdict']}" in heard[2]
    mark = find(page, "figure.likened")[0].find_elements(By.CLASS_NAME, "mark-of")[1]
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", mark)
    ActionChains(page).move_to_element(mark).perform()
    wait_for(lambda: said(find(page, "figure.likened .readout")[0]).startswith("letters, runs/letters-0: cosine"))


def test_without_scripts_all_numbers_stand_in_tables(opened: Callable[..., Chrome]) -> None:
    told = made_likened(4, runs=2)
    page = opened(told, scripts=False)
    assert "their numbers stand in the tables" in said(find(page, "#runs noscript")[0])
    for table, one in zip(find(page, "table.likeness"), told["texts"], strict=True):
        shown = [said(cell) for cell in table.find_elements(By.CSS_SELECTOR, "tbody td.n")]
        for words, row in zip(shown, one["measures"], strict=True):
            assert words.replace("−", "-") == f"{row['corrected']:.3g} measured {row['value']:.3g}"
    rows = [said(one) for one in find(page, "table.trained tbody tr")]
    assert len(rows) == 8 and all(run["verdict"] in row for run, row in zip(told["runs"], rows, strict=True))
    assert len(find(page, "table.correlated tbody tr")) == 6
    assert said(find(page, ".left-out li")[0]) == told["runs_left_out"][0]


@pytest.mark.parametrize("width", [380, 800, 1280])
@pytest.mark.parametrize("texts", [3, 18])
def test_labels_do_not_cover_each_other_and_the_page_stays_inside(
    opened: Callable[..., Chrome], texts: int, width: int
) -> None:
    page = opened(made_likened(texts, parts=True), width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    for drawing in page.execute_script(BOXES):
        left, right, top, bottom = drawing["frame"]
        assert len(drawing["labels"]) == 3 or texts > 3
        assert len(drawing["labels"]) >= min(texts, 8), "names that find room are written"
        for place, label in enumerate(drawing["labels"]):
            _, west, east, north, south = label
            assert left - 1 <= west and east <= right + 1 and top - 1 <= north and south <= bottom + 1, label
            for _, start, end, high, low in (*drawing["labels"][place + 1 :], *drawing["marks"]):
                assert min(min(east, end) - max(west, start), min(south, low) - max(north, high) - 2.5) <= 1.5, label
    assert page.get_log("browser") == []


def test_texts_are_sorted_by_a_measure(opened: Callable[..., Chrome]) -> None:
    told = made_likened(5, runs=0)
    page = opened(told)
    table = find(page, "#measures table[data-sorted]")[0]
    head = table.find_elements(By.CSS_SELECTOR, ".sorter")[6]
    assert said(head).startswith("bits per byte above reference")
    head.click()
    names = [said(one) for one in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert names == [one["text"] for one in sorted(told["texts"], key=lambda one: one["measures"][5]["corrected"])]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_legible_in_both_schemes(opened: Callable[..., Chrome], scheme: str) -> None:
    page = opened(made_likened(3), scheme=scheme)
    paper = style(find(page, "body")[0], "background-color")
    for one in (
        *find(page, ".likeness small")[:3], *find(page, ".likeness thead th")[:3], *find(page, ".badge")[:3],
        *find(page, "figure.likened p")[:2], *find(page, "#advice a")[:1],
    ):  # fmt: skip
        assert contrast(style(one, "color"), paper) >= 4.5, one.text
    for one in find(page, "figure.likened text")[:4]:
        assert contrast(style(one, "fill"), paper) >= 4.5


def test_what_a_user_wrote_is_shown_and_never_run(opened: Callable[..., Chrome]) -> None:
    told = made_likened(4, parts=True)
    told["texts"][1]["text"] = told["runs"][1]["text"] = HOSTILE[2]
    told["runs"][1]["run"] = HOSTILE[0]
    told["notes"] = told["runs_left_out"] = list(HOSTILE)
    page = opened(told)
    assert page.get_log("browser") == [] and page.execute_script("return window.broken") is None
    assert HOSTILE[2] in said(find(page, "#advice tbody")[0])
    page.execute_script("document.querySelector('figure.likened svg').focus()")
    for key in (Keys.END, Keys.ARROW_LEFT):
        page.switch_to.active_element.send_keys(key)
    assert HOSTILE[0] in said(find(page, "figure.likened .readout")[0])
