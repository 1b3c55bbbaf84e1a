"""The chart library of the pages: it is the one that was made, it needs no `eval`, and few pages carry it."""

from __future__ import annotations

import hashlib
import json
import re

from browser.made_facts import small_facts
from browser.made_likened import made_likened
from browser.made_runs import runs_facts
from graft.core.config.plugins import HOUSE
from graft.report.adaptation.page import render_page
from graft.report.benchmark.page import SCRIPTS as ANSWERED
from graft.report.comparison.page import SCRIPTS as CONTRASTED
from graft.report.overview.page import render_overview
from graft.report.similarity.page import render_likened

BUNDLE = HOUSE / "report" / "shared" / "plot.bundle.js"
TOOL = HOUSE.parents[1] / "tools" / "bundle_plot"
LIBRARY = "Observable Plot and what it needs"  # the first words of the bundle


def test_the_bundle_is_the_one_that_was_made() -> None:
    recorded = BUNDLE.with_suffix(".sha256").read_text().split()[0]
    assert hashlib.sha256(BUNDLE.read_bytes()).hexdigest() == recorded


def test_the_bundle_needs_no_eval_and_cannot_end_its_script_element() -> None:
    code = BUNDLE.read_text(encoding="utf-8")
    assert not re.search(r"\beval\s*\(|new Function|\bFunction\s*\(\s*[\"'`]|</script|<!--", code)
    assert not re.search(r"https?://(?!www\.w3\.org/)", code.partition("*/")[2]), "no address but names of XML"


def test_the_banner_names_the_licence_of_every_package() -> None:
    """Versions are those of the lock file, which a later bundle must be made from."""
    banner, _, _ = BUNDLE.read_text(encoding="utf-8").partition("*/")
    named = dict(re.findall(r"^(\S+) (\d+\.\d+\.\d+) \((?:ISC|MIT|BSD-3-Clause|Unlicense)\), ", banner, re.MULTILINE))
    locked = json.loads((TOOL / "package-lock.json").read_text())["packages"]
    assert {"@observablehq/plot", "d3-shape", "d3-scale"} <= named.keys() and LIBRARY in banner
    assert named == {name: locked[f"node_modules/{name}"]["version"] for name in named}
    pinned = json.loads((TOOL / "package.json").read_text())
    assert all(
        re.fullmatch(r"[\d.]+", version) for version in (pinned["dependencies"] | pinned["devDependencies"]).values()
    )


def test_pages_without_charts_do_without_the_library() -> None:
    alone = runs_facts(1)
    alone["runs"][0]["curve"] = {}
    texts = made_likened(3, runs=0)
    for page in (render_overview(alone, title="Runs"), render_likened(texts)):
        assert LIBRARY not in page and "function chartFigure" not in page
    assert not {BUNDLE.name, "charts.js"} & {*ANSWERED, *CONTRASTED}


def test_pages_with_charts_carry_it_once() -> None:
    for page in (render_page(small_facts(), title="A report"), render_overview(runs_facts(), title="Runs")):
        assert page.count(LIBRARY) == 1 and page.count("function chartFigure") == 1
