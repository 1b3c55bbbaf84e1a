"""The page on several runs in chromium, by pointer and by keys; and how soon a large comparison is on the screen."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys

from browser.made_facts import HOSTILE
from browser.made_runs import runs_facts, ten_megabytes
from browser.test_page import chrome, contrast, find, said, style, wait_for  # noqa: F401 (fixtures)
from graft.report.overview.page import render_overview

pytestmark = pytest.mark.browser

WIDTHS = (360, 800, 1280)
SECONDS, MEGABYTES = 4.0, 5.0  # of processor time that a large page may take to be there, and what it may weigh
BOXES = """
const box = (one) => { const at = one.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; };
return [...document.querySelectorAll('figure.front')].map((figure) => ({
  frame: box(figure), labels: [...figure.querySelectorAll('.label')].map((one) => [one.textContent, ...box(one)]),
  marks: [...figure.querySelectorAll('.mark-of')].map((one) => ['', ...box(one)]),
}));
"""


@pytest.fixture(scope="module")
def opened(chrome: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Chrome]:  # noqa: F811
    folder = tmp_path_factory.mktemp("overview")

    def open_page(
        facts: dict | None = None, *, width: int = 1280, scheme: str = "light", scripts: bool = True
    ) -> Chrome:
        path = folder / f"report-{len(list(folder.iterdir()))}.html"
        path.write_text(render_overview(facts or runs_facts(), title="Runs"), encoding="utf-8")
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


def order(page: Chrome) -> list[str]:
    return [row.text.split("\n")[0] for row in find(page, "table.runs tbody th")]


def test_it_opens_without_an_error_or_a_request(opened: Callable[..., Chrome]) -> None:
    page = opened()
    assert len(find(page, ".front .mark-of")) == 6 and len(find(page, ".trace:not(.thin)")) == 12
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert urls - {"data:,"} == {page.current_url}


def test_without_scripts_the_numbers_are_read(opened: Callable[..., Chrome]) -> None:
    page = opened(scripts=False)
    assert order(page) == [f"run_{n}" for n in range(6)] and not find(page, ".sorter")
    row = find(page, "table.runs tbody tr")[5]
    assert "−30.0 %" in said(row) and "+6.0 %" in said(row) and "2.000 → 1.700" in said(row)
    assert len([one for one in find(page, "table.matrix") if one.is_displayed()]) == 4  # every tab's panel
    assert any("JavaScript, which is off" in one.text for one in find(page, "noscript"))


def test_a_column_sorts_both_ways_and_back(opened: Callable[..., Chrome]) -> None:
    page = opened()
    first = order(page)
    general = next(one for one in find(page, "table.runs .sorter") if one.text.startswith("General"))
    orders = []
    for _ in range(3):
        general.send_keys(Keys.ENTER)
        orders.append(order(page))
    known = sorted(
        first, key=lambda name: (lambda s: 0.06 * s * s + (0.01 if name == "run_2" else 0))((int(name[-1]) + 1) / 6)
    )
    assert orders == [known, known[::-1], first]
    tokens = next(one for one in find(page, "table.runs .sorter") if one.text.startswith("Tokens"))
    tokens.click()
    tokens.click()
    assert order(page) == first[::-1]
    heads = find(page, "table.runs th[aria-sort]")
    assert [one.get_attribute("aria-sort") for one in heads] == ["descending"]


def test_the_frontier_joins_the_unbeaten_and_pales_the_rest(opened: Callable[..., Chrome]) -> None:
    page = opened()
    assert len(find(page, ".front .mark-of.pale")) == 1 and len(find(page, ".front .unbeaten")) == 1
    assert find(page, ".front .unbeaten")[0].get_attribute("d").count("L") == 4
    assert [said(one) for one in find(page, ".front .allowed")] == ["2.00 % allowed"]
    svg, readout = find(page, ".front svg")[0], find(page, ".front .readout")[0]
    page.execute_script("arguments[0].focus()", svg)
    keys = page.switch_to.active_element.send_keys
    heard = []
    keys(Keys.HOME)
    while not heard or heard[-1] != said(readout):
        heard.append(said(readout))
        keys(Keys.ARROW_RIGHT)
    assert len(heard) == 6 and heard[0].startswith("run_2: domain loss 0.0 %")
    assert "another run is better in both" in heard[0] and "no other run is better" in heard[-1]
    mark = find(page, ".front .mark-of")[4]
    page.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", mark)
    ActionChains(page).move_to_element(mark).perform()
    wait_for(lambda: said(readout).startswith("run_4: domain loss −25.0 % (−27.0 % to −23.0 %)"))


def test_seeds_are_joined_only_where_asked(opened: Callable[..., Chrome]) -> None:
    facts = runs_facts()
    for run in facts["runs"][:2]:
        run["settings"]["tokens"] = "1,000"
    assert not find(opened(facts), ".front .seeds")
    page = opened(facts | {"joined": True})
    assert len(find(page, ".front .seeds:not(.mean)")) == 2 and len(find(page, ".front .seeds.mean")) == 1
    assert "their mean" in find(page, "#frontier .lead")[0].text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("number", [2, 6, 14])
def test_labels_cover_nothing_and_nothing_overflows(opened: Callable[..., Chrome], number: int, width: int) -> None:
    page = opened(runs_facts(number), width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    [drawing] = page.execute_script(BOXES)
    assert len(drawing["labels"]) == number
    left, right, top, bottom = drawing["frame"]
    for n, label in enumerate(drawing["labels"]):
        assert left - 1 <= label[1] and label[2] <= right + 1 and top - 1 <= label[3] and label[4] <= bottom + 1
        for other in (*drawing["labels"][n + 1 :], *drawing["marks"]):
            wide = min(label[2], other[2]) - max(label[1], other[1])
            high = min(label[4], other[4]) - max(label[3], other[3]) - 2
            assert min(wide, high) <= 1.5, (label, other)
    assert page.get_log("browser") == []


def test_curves_are_chosen_by_their_buttons_and_read_by_keys(opened: Callable[..., Chrome]) -> None:
    page = opened(runs_facts(10))
    buttons, readout = find(page, ".chooser"), find(page, ".overlaid .readout")[0]
    assert [one.get_attribute("aria-pressed") for one in buttons] == ["true"] * 8 + ["false"] * 2
    assert said(readout).startswith("At the end, the lowest first: run_7 ")
    buttons[9].click()
    buttons[7].click()
    assert said(readout).startswith("At the end, the lowest first: run_9 4.700 · run_6 4.790")
    page.execute_script("arguments[0].focus()", find(page, ".overlaid svg")[0])
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert said(readout).startswith("500 tokens, the lowest first: run_9 4.925")
    for button in find(page, ".chooser[aria-pressed=true]"):
        button.click()
    assert said(readout) == "No run is chosen." and page.get_log("browser") == []


def test_hostile_text_is_inert(opened: Callable[..., Chrome]) -> None:
    for text in HOSTILE:
        page = opened(runs_facts(3, hostile=text))
        assert page.execute_script("return window.broken") is None
        assert not find(page, "img") and len(find(page, "script")) == 2 and page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(opened: Callable[..., Chrome], scheme: str) -> None:
    page = opened(scheme=scheme)
    paper = style(find(page, "body")[0], "background-color")
    for selector in (".runs strong.gain", ".runs strong.loss", ".runs small", ".matrix strong", ".sorter", ".lanes th"):
        assert contrast(style(find(page, selector)[0], "color"), paper) >= 4.5, selector
    for n in range(6):
        assert contrast(style(find(page, f".swatch.run-{n}")[0], "background-color"), paper) >= 3, n


@pytest.mark.parametrize("number", [1, 0])
def test_few_runs_are_told_without_a_fault(opened: Callable[..., Chrome], number: int) -> None:
    page = opened(runs_facts(max(number, 1)) if number else runs_facts(1) | {"runs": [], "lineage": [], "links": {}})
    assert not find(page, "figure.front") and page.get_log("browser") == []


def test_the_page_of_ten_megabytes_is_there_soon_and_small(chrome: Chrome, tmp_path_factory) -> None:  # noqa: F811
    page = ten_megabytes(tmp_path_factory.mktemp("large")) / "report.html"
    assert page.stat().st_size < MEGABYTES * 1e6
    chrome.get(page.as_uri())
    chrome.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})  # processor time, not the wall's
    chrome.get(page.as_uri())
    measured = {one["name"]: one["value"] for one in chrome.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
    chrome.execute_cdp_cmd("Performance.disable", {})
    assert len(find(chrome, ".tok")) > 100 and "5,000" in find(chrome, "table.change")[0].text
    assert 0 < measured["TaskDuration"] < SECONDS
