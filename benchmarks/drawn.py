"""What a page's scripts and drawings cost a browser: processor time until it stands there, and its size.

    python benchmarks/drawn.py PAGE [PAGE ...] [--rounds 7]

Each PAGE is an HTML file that graft wrote. It is opened in chromium from disk, without a window, 1280 pixels wide.
Milliseconds are processor time of the page's thread (`TaskDuration`), the median of all rounds: another job on the same
cores does not change them much.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1280,900")


def milliseconds(browser: webdriver.Chrome, page: Path) -> float:
    """Processor time of one opening; the count begins anew with an empty page."""
    browser.execute_cdp_cmd("Performance.disable", {})
    browser.get("about:blank")
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(page.resolve().as_uri())
    numbers = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return 1000 * next(one["value"] for one in numbers if one["name"] == "TaskDuration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        print("| page | KB | KB compressed | ms |\n|---|--:|--:|--:|")
        for page in asked.pages:
            times = [milliseconds(browser, page) for _ in range(asked.rounds)]
            whole = page.read_bytes()
            small = len(gzip.compress(whole))
            print(f"| {page} | {len(whole) / 1e3:.0f} | {small / 1e3:.0f} | {statistics.median(times):.0f} |")
        browser.quit()


if __name__ == "__main__":
    main()
