"""The report page opened from disk in chromium, as a reader would: by pointer, by keyboard, in the dark, on a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from browser.made_facts import HOSTILE, hostile_facts, small_facts
from graft.report.adaptation.page import render_page

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = (400, 1600)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser of its own, with its console and its requests recorded."""
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        message = "no chromium or no chromedriver on the path: apt-get install chromium chromium-driver"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def opened(chrome: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Chrome]:
    """Open the page of some facts, at a width and in a colour scheme."""
    folder = tmp_path_factory.mktemp("page")

    def open_page(facts: dict | None = None, *, width: int = 1280, scheme: str = "light") -> Chrome:
        path = folder / f"report-{len(list(folder.iterdir()))}.html"
        path.write_text(render_page(facts or small_facts(), title="A report"), encoding="utf-8")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chrome.get_log("browser"), chrome.get_log("performance")
        chrome.get(path.as_uri())
        return chrome

    return open_page


def find(page: Chrome, selector: str) -> list[WebElement]:
    return page.find_elements(By.CSS_SELECTOR, selector)


def ticks(page: Chrome, figure: WebElement, side: str) -> list[tuple[float, float]]:
    """(number, pixel) of the ticks of one axis ("across" or "up") whose words stand in the middle of their place."""
    places = """
    const [figure, side] = arguments;
    return [...figure.querySelectorAll(`.${side} text:not([text-anchor])`)].map((one) =>
      [one.textContent, one.getCTM()[side === 'up' ? 'f' : 'e']]);
    """
    number = lambda word: float(re.sub(r"[\s%]", "", word).replace("−", "-"))  # noqa: E731
    return [(number(word), place) for word, place in page.execute_script(places, figure, side)]


def said(element: WebElement) -> str:
    """What an element shows, narrow spaces as spaces."""
    return re.sub(r"\s+", " ", element.text)


def style(element: WebElement, name: str) -> str:
    return element.value_of_css_property(name)


def wait_for(check: Callable[[], object]) -> None:
    for _ in range(3000):  # a minute at least: a busy machine may be that slow
        if check():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen")


def test_the_page_shows_its_verdict_and_numbers(opened: Callable[..., Chrome]) -> None:
    page = opened()
    clauses = find(page, "#verdict .clause")
    assert [clause.is_displayed() for clause in clauses] == [True, True]
    assert said(clauses[0]).startswith(
        "Domain loss fell 20.0 %, so the model reads the domain better 5.000 → 4.000 nats per token (lower is better)"
    )
    assert [said(badge)[2:] for badge in find(page, "#verdict .badge")] == ["improved", "worse"]
    lines = find(page, "table.change tbody tr")
    rows = [[said(cell) for cell in line.find_elements(By.TAG_NAME, "td")] for line in lines]
    assert [row[0] for row in rows] == ["5.000 → 4.000", "4.000 → 4.100"]
    assert rows[0][3].startswith("−20.0 %") and rows[1][4] == "+1.0 % to +4.0 %"
    assert rows[0][6] == "1,000 of 2,100 in the split" and rows[1][6] == "2,000"
    assert [said(cell) for cell in find(page, "table.ledger tfoot td:last-child")] == ["✓ = read", "✓ = read"]


def test_it_opens_without_an_error_or_a_request_and_fast(opened: Callable[..., Chrome]) -> None:
    page = opened()
    assert len(find(page, "figure.chart svg path.held")) == 2 and len(find(page, ".tok")) == 7
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert urls - {"data:,"} == {page.current_url} and page.current_url.startswith("file://")
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000


def test_a_token_tells_its_numbers_under_the_pointer(opened: Callable[..., Chrome]) -> None:
    page = opened()
    tip, tokens = find(page, "#tip")[0], find(page, ".tok")
    assert not tip.is_displayed()
    ActionChains(page).scroll_to_element(tokens[0]).move_to_element(tokens[2]).perform()
    wait_for(tip.is_displayed)
    words = said(tip)
    assert words.startswith("␣cat")
    for number in ("4.000 nats", "5.500 nats", "+1.500 nats", "p = 1.83 %", "p = 0.409 %", "less likely by a factor"):
        assert number in words, (number, words)
    box, edge = tip.rect, page.execute_script("return document.documentElement.clientWidth")
    assert box["x"] >= 0 and box["x"] + box["width"] <= edge


def test_tokens_are_read_by_keyboard_and_spoken(opened: Callable[..., Chrome]) -> None:
    page = opened()
    tip = find(page, "#tip")[0]
    tokens = find(page, ".tok")
    tokens[0].click()
    keys = page.switch_to.active_element.send_keys
    for key in (Keys.END, Keys.ARROW_LEFT):
        before = page.switch_to.active_element
        keys(key)
        wait_for(lambda before=before: page.switch_to.active_element != before)
        keys = page.switch_to.active_element.send_keys
    assert page.switch_to.active_element == tokens[5]
    assert "3 tokens that share a character" in said(tip) and "日" in said(tip)
    assert "日: before 8.000 nats, after 7.000" in find(page, "#reader [aria-live]")[0].get_attribute("textContent")
    assert [token.get_attribute("tabindex") for token in tokens].count("0") == 1
    keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_gain_and_loss_differ_in_hue_and_in_more_than_hue(opened: Callable[..., Chrome]) -> None:
    tokens = find(opened(), ".tok")
    gained, same, lost = tokens[0], tokens[1], tokens[2]
    assert "33, 113, 181" in style(gained, "background-color") and "217, 95, 2" in style(lost, "background-color")
    assert style(gained, "box-shadow") == "none" and "inset" in style(lost, "box-shadow")
    assert style(same, "background-color").endswith(", 0)")


def test_views_change_the_colours_and_the_slider_hides(opened: Callable[..., Chrome]) -> None:
    page = opened()
    token = find(page, ".tok")[0]
    colours = {style(token, "background-color")}
    for view in ("before", "after"):
        page.execute_script("arguments[0].click()", find(page, f"input[value={view}]")[0])
        colours.add(style(token, "background-color"))
    assert len(colours) == 3
    page.execute_script("arguments[0].click()", find(page, "input[value=change]")[0])
    slider = find(page, "#least")[0]
    weak, strong = find(page, ".tok")[4], find(page, ".tok")[0]
    assert not style(weak, "background-color").endswith(", 0)")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 5)
    assert find(page, "output")[0].text == "0.5 nats"
    assert style(weak, "background-color").endswith(", 0)") and not style(strong, "background-color").endswith(", 0)")


def test_whitespace_is_kept_and_cuts_are_named(opened: Callable[..., Chrome]) -> None:
    page = opened()
    assert find(page, ".text")[0].get_attribute("textContent") == "§ the cat⏎\n    日<|end|>"
    assert style(find(page, ".text")[0], "white-space") in ("pre-wrap", "pre-wrap preserve")
    assert "all 9 tokens shown" in said(find(page, ".about")[0])
    assert "graft why train-0123456789ab domain:1" in said(find(page, ".about")[0])
    find(page, "#document-tab-1")[0].click()
    assert "first 30 of 45 tokens shown" in said(find(page, ".about")[0])
    assert "law.jsonl#2" in said(find(page, ".about")[0])


def test_tabs_work_by_keyboard(opened: Callable[..., Chrome]) -> None:
    page = opened()
    tabs, panels = find(page, "[data-tabs=blame] [role=tab]"), find(page, "#blame .panel")
    assert [panel.is_displayed() for panel in panels] == [True, False]
    page.execute_script("arguments[0].focus()", tabs[0])
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert [panel.is_displayed() for panel in panels] == [False, True]
    assert page.switch_to.active_element == tabs[1] and tabs[1].get_attribute("aria-selected") == "true"
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert [panel.is_displayed() for panel in panels] == [True, False]


def test_long_lists_open(opened: Callable[..., Chrome]) -> None:
    page = opened()
    rows = find(page, "#blame-0 .items tbody")[0].find_elements(By.TAG_NAME, "tr")
    assert [row.is_displayed() for row in rows].count(True) == 12
    button = find(page, "#blame-0 .more")[0]
    button.click()
    assert all(row.is_displayed() for row in rows) and button.get_attribute("aria-expanded") == "true"


def test_curves_are_read_by_keyboard_and_fit(opened: Callable[..., Chrome]) -> None:
    page = opened()
    chart = find(page, "figure.chart")[0]
    readout = chart.find_element(By.CSS_SELECTOR, ".readout")
    assert said(readout).startswith("10,000 tokens · validation 4.080 (−1.020, −20.0 % against step 0)")
    svg = chart.find_element(By.CSS_SELECTOR, "svg[tabindex]")
    svg.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert said(readout).startswith("5,000 tokens · validation 4.500 (−0.600")
    wide = chart.find_element(By.CSS_SELECTOR, "path.held").get_attribute("d")
    chart.find_element(By.CSS_SELECTOR, "button").click()
    assert chart.find_element(By.CSS_SELECTOR, "path.held").get_attribute("d") != wide


def test_sources_without_curves_say_so(opened: Callable[..., Chrome]) -> None:
    facts = small_facts()
    del facts["curve"]["validation"]["domain"]
    del facts["curve"]["training"]["general"]
    page = opened(facts)
    charts = find(page, "figure.chart")
    assert "No validation text" in charts[0].text and "Not trained on" in charts[1].text
    assert page.get_log("browser") == []


def test_hostile_text_is_inert(opened: Callable[..., Chrome]) -> None:
    page = opened(hostile_facts())
    assert page.execute_script("return window.broken") is None
    assert [span.get_attribute("textContent") for span in find(page, ".tok")][:4] == list(HOSTILE[:4])
    assert "[RLO]" in find(page, ".tok")[4].text
    assert not find(page, "img") and len(find(page, "script")) == 2
    page.execute_script("arguments[0].focus()", find(page, ".tok")[2])
    assert "<img␣src" in find(page, "#tip")[0].text.replace("\n", "")
    assert page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_text_is_readable(opened: Callable[..., Chrome], width: int, scheme: str) -> None:
    page = opened(width=width, scheme=scheme)
    for details in find(page, "details"):
        page.execute_script("arguments[0].open = true", details)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    paper = style(find(page, "body")[0], "background-color")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    for selector in ("h1", ".lead", ".fine", "small", "thead th", ".gain", ".loss", "a", ".mark"):
        colour = style(find(page, selector)[0], "color")
        assert contrast(colour, paper) >= 4.5, (selector, colour, paper)
    full = page.execute_script(
        "const probe = document.querySelector('.tok'); probe.style.setProperty('--a', STRONGEST);"
        "return ['up', 'down', 'level'].map((sort) => { probe.className = 'tok ' + sort;"
        "return getComputedStyle(probe).backgroundColor; })"
    )
    raised = style(find(page, ".text")[0], "background-color")
    for colour in full:
        assert contrast(style(find(page, "body")[0], "color"), over(colour, raised)) >= 4.5, colour


def numbers(colour: str) -> list[float]:
    return [float(part) for part in re.findall(r"[\d.]+", colour)]


def over(colour: str, ground: str) -> str:
    """A translucent colour laid over an opaque one."""
    *tone, alpha = numbers(colour)
    return " ".join(str(alpha * a + (1 - alpha) * b) for a, b in zip(tone, numbers(ground)[:3], strict=True))


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2."""
    parts = [part / 255 for part in numbers(colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
