"""Pages on paper: light whatever the scheme, nothing to press, nothing folded or behind a tab, and inside the sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from browser.made_facts import budget_facts
from browser.made_likened import made_likened
from browser.made_runs import runs_facts
from browser.made_stream import FEW, made_stream
from browser.test_page import chrome, contrast, find, luminance, style  # noqa: F401 (fixtures)
from graft.report.adaptation.page import render_page
from graft.report.continual.page import render_stream
from graft.report.continual.stage import summarize
from graft.report.overview.page import render_overview
from graft.report.similarity.page import render_likened

pytestmark = pytest.mark.browser

SHEET = 720  # pixels of A4 between its margins
CONTROLS = "nav, .tabs, .bench label, .bench fieldset, .chosen, .plain-button, .hint"


def streamed() -> str:
    told = made_stream(domains=3, methods=FEW, seeds=2)
    return render_stream(told, summarize(told), title="A stream")


PAGES: dict[str, Callable[[], str]] = {
    "report": lambda: render_page(budget_facts(), title="A report"),
    "overview": lambda: render_overview(runs_facts(), title="Runs"),
    "likened": lambda: render_likened(made_likened(6, runs=2, parts=True)),
    "stream": streamed,
}


@pytest.fixture(params=PAGES)
def printed(request: pytest.FixtureRequest, chrome: Chrome, tmp_path: Path) -> Iterator[Chrome]:  # noqa: F811
    """Each page as it goes to paper from a browser in the dark scheme."""
    path = tmp_path / "report.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    size = {"width": SHEET, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    chrome.get_log("browser")
    chrome.get(path.as_uri())
    chrome.execute_script("dispatchEvent(new Event('beforeprint'))")
    yield chrome
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_a_page_is_light_whole_and_inside_the_sheet(printed: Chrome) -> None:
    assert luminance(style(find(printed, "body")[0], "background-color")) > 0.9
    assert contrast(style(find(printed, "body")[0], "color"), style(find(printed, "body")[0], "background-color")) > 7
    assert not [one for one in find(printed, CONTROLS) if one.is_displayed()]
    assert all(one.is_displayed() for one in find(printed, "[role=tabpanel]:not(#reader *)"))
    assert all(one.get_attribute("open") for one in find(printed, "details"))
    assert printed.execute_script("return document.documentElement.scrollWidth") <= SHEET
    assert printed.get_log("browser") == []


def test_every_chart_is_drawn_also_behind_a_tab(printed: Chrome) -> None:
    figures = find(printed, "figure[data-chart]")
    frames = "return arguments[0].map((one) => one.querySelectorAll('svg .frame').length)"
    assert figures and printed.execute_script(frames, figures) == [1] * len(figures)


def test_every_sample_document_is_printed_with_its_scale(chrome: Chrome, tmp_path: Path) -> None:  # noqa: F811
    """Its colours, too; once, however often the page is printed, and gone from the screen afterwards."""
    path = tmp_path / "report.html"
    path.write_text(render_page(budget_facts(), title="A report"), encoding="utf-8")
    chrome.get(path.as_uri())
    seen = len(find(chrome, ".text"))
    chrome.execute_script("for (const _ of [1, 2]) dispatchEvent(new Event('beforeprint'))")
    texts = [one.get_attribute("textContent") for one in find(chrome, ".text")]
    assert seen == 1 and len(texts) == len(budget_facts()["documents"]) > 1
    tokens = find(chrome, ".printed .tok")
    assert tokens and all(one.get_attribute("style").startswith("--a") for one in tokens)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert find(chrome, ".scale")[0].is_displayed() and find(chrome, ".printed h4")[0].is_displayed()
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    chrome.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(find(chrome, ".text")) == 1
