"""The page of a benchmark, opened from disk: read without JavaScript, filtered with it, on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from browser.test_page import chrome, contrast, style  # noqa: F401 (fixtures)
from conftest import World
from graft.core.models.base_model import Base
from graft.core.store.artifact import Store
from graft.evaluation.benchmarks.run_benchmark import answer
from graft.report.benchmark.items import Graded
from graft.report.benchmark.stage import Grade, grade
from test_eval import many, other, write_rows  # noqa: F401 (fixtures)

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def pages(world: World, other: Base, many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: F811
    """Of two models, of one, and of questions that mean no good."""
    store = Store(tmp_path_factory.mktemp("store"))
    draw = np.random.default_rng(0)
    bad = [
        {"query": f"{HOSTILE} {n}", "choices": ["<i>a</i>", f"b{draw.integers(99)}", "c", "d"], "gold": n % 4}
        for n in range(12)
    ]
    evil = write_rows(tmp_path_factory.mktemp("evil") / "<b>evil.jsonl", bad)
    new, old = (answer(base, [str(many), str(evil)], store=store) for base in (other, world.base))
    made = {
        "two": grade(Graded("runs/new", new, "runs/old", old, [str(many), str(evil)]), store=store),
        "one": grade(Graded("runs/new", new, suites=[str(many)]), Grade(items=50), store=store),
    }
    return {name: one / "report.html" for name, one in made.items()}


@pytest.fixture
def show(chrome: Chrome, pages: dict[str, Path]) -> Iterator[Callable[..., Chrome]]:  # noqa: F811
    def open_page(name: str = "two", *, width: int = 1280, scheme: str = "light", script: bool = True) -> Chrome:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        chrome.get(pages[name].as_uri())
        return chrome

    yield open_page
    chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def middle(element: WebElement) -> float:
    box = element.rect
    return box["x"] + box["width"] / 2


def shown(page: Chrome) -> list[str]:
    """The items that can be seen, by what became of them."""
    every = page.find_elements(By.CSS_SELECTOR, ".question")
    return [one.find_element(By.CSS_SELECTOR, ".badge").text[2:] for one in every if one.is_displayed()]


def test_the_numbers_are_there_without_javascript(show: Callable[..., Chrome]) -> None:
    page = show(script=False)
    rows = page.find_elements(By.CSS_SELECTOR, ".answers tbody tr")
    assert [row.find_element(By.CSS_SELECTOR, "th .source").text for row in rows] == ["law", "sea", "<b>evil"]
    foot = [row.text for row in page.find_elements(By.CSS_SELECTOR, ".answers tfoot tr")]
    assert foot[0].startswith("All items") and foot[1].startswith("Mean of tasks") and "→" in foot[0]
    assert not page.find_element(By.ID, "filter").is_displayed()
    assert len(shown(page)) == len(page.find_elements(By.CSS_SELECTOR, ".question")) > 10
    assert len(page.find_elements(By.CSS_SELECTOR, "#flips tbody tr")) == 8


def test_what_a_question_holds_is_text(show: Callable[..., Chrome]) -> None:
    page = show()
    assert page.title == "Answers to benchmarks"
    assert not page.find_elements(By.CSS_SELECTOR, "#items img, #items i, .answers b")
    assert [one for one in page.get_log("browser") if one["level"] == "SEVERE"] == []


def test_items_are_filtered_by_fate_task_and_words(show: Callable[..., Chrome]) -> None:
    page = show()
    every = shown(page)
    assert {"right → wrong", "wrong → right"} == set(every)
    button = page.find_element(By.CSS_SELECTOR, "#filter [data-kind=loss]")
    button.click()
    assert set(shown(page)) == {"wrong → right"} and button.get_attribute("aria-pressed") == "false"
    assert page.find_element(By.CSS_SELECTOR, "#filter [role=status]").text == f"{len(shown(page))} shown"
    button.click()
    page.execute_script(
        "const one = document.getElementById('task'); one.value = 'law'; one.dispatchEvent(new Event('change'));"
    )
    law = [one for one in page.find_elements(By.CSS_SELECTOR, ".question") if one.is_displayed()]
    assert 0 < len(law) < len(every) and all("law ·" in one.text for one in law)
    page.find_element(By.ID, "words").send_keys("no such words")
    assert shown(page) == [] and page.find_element(By.ID, "none").is_displayed()


def test_the_table_is_sorted_by_a_column(show: Callable[..., Chrome]) -> None:
    page = show()

    def changes() -> list[float]:
        cells = page.find_elements(By.CSS_SELECTOR, '.answers tbody td[data-label^="Change"]')
        return [float(cell.get_attribute("data-value") or "nan") for cell in cells]

    head = next(one for one in page.find_elements(By.CSS_SELECTOR, ".answers .sorter") if "Change" in one.text)
    head.click()
    assert changes() == sorted(changes())
    head.click()
    assert changes() == sorted(changes(), reverse=True)


def test_a_mark_stands_where_its_number_says(show: Callable[..., Chrome]) -> None:
    """The dot of each accuracy and the line of guessing, measured on the axis between two ticks."""
    page = show()
    ticks = page.find_elements(By.CSS_SELECTOR, ".answers .axis i")
    places = [(middle(tick), float(tick.text.replace("\u202f", "").rstrip("%")) / 100) for tick in ticks]
    (left, low), (right, high) = places[0], places[-1]
    row = page.find_elements(By.CSS_SELECTOR, ".answers tbody tr")[0]
    value = float(row.find_element(By.CSS_SELECTOR, ".plot").get_attribute("data-value") or "nan")
    for mark, number in ((".dot.model", value), (".chance", 0.25)):
        found = middle(row.find_element(By.CSS_SELECTOR, f".track {mark}"))
        assert found == pytest.approx(left + (number - low) / (high - low) * (right - left), abs=1.5)


@pytest.mark.parametrize("width", [360, 800, 1600])
@pytest.mark.parametrize("name", ["one", "two"])
def test_it_fits_the_screen(show: Callable[..., Chrome], name: str, width: int) -> None:
    page = show(name, width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    overlap = """
      const few = [...document.querySelectorAll('.question')].slice(0, 5);
      const seen = few.flatMap((one) => [...one.querySelectorAll('p, li')]);
      const boxes = seen.map((one) => one.getBoundingClientRect());
      return boxes.some((box, n) => n && box.top < boxes[n - 1].bottom - 1);
    """
    assert not page.execute_script(overlap), "no line of an item lies over another"


def test_one_model_is_told_against_guessing(show: Callable[..., Chrome]) -> None:
    page = show("one")
    assert "guessing" in page.find_element(By.ID, "verdict").text
    assert not page.find_elements(By.ID, "flips")
    assert set(shown(page)) == {"right", "wrong"} and len(shown(page)) == 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_both_schemes(show: Callable[..., Chrome], scheme: str) -> None:
    page = show(scheme=scheme)
    ground = style(page.find_element(By.TAG_NAME, "body"), "background-color")
    for selector in (".answers .change strong, .answers td strong", ".pick.model", ".pick.against", ".question .query"):
        assert contrast(style(page.find_element(By.CSS_SELECTOR, selector), "color"), ground) >= 4.5
