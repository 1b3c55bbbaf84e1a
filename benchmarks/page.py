"""How large a report page is, and how soon it is there, when much text was scored: in chromium, from disk.

    python benchmarks/page.py TEXT --before MODEL --after MODEL [--store FOLDER] [--rounds 5] [--json FILE]

TEXT is compared with `graft compare`, every byte of it scored by both models (10 MB take minutes on two cores; with
--store they are kept, and the next run only opens pages). Two pages are opened: that of the comparison, and that of
`graft report` on all it was made from. Seconds are from the start of the navigation, in a browser without a window: to
the first content that is painted (first contentful paint) and to the end of the load event, by when every script has
run. The first round opens a page cold. Targets: 2 seconds, 5 MB.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import machine, row, say_machine, table, verdict, write_json

SECONDS, MEGABYTES = 2.0, 5.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
TIMES = """
const painted = performance.getEntriesByName('first-contentful-paint')[0];
return [painted ? painted.startTime : null, performance.getEntriesByType('navigation')[0].loadEventEnd];
"""


def graft(*arguments: object) -> float:
    """Run a command of graft; returns the seconds it took."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "graft", *map(str, arguments)], check=True)
    return time.monotonic() - started


HEADS = ("page", "MB", "elements", "first content, s", "loaded cold, s", "median, s", "slowest, s", "time", "size")


def made(text: Path, before: str, after: str, store: Path) -> dict[str, Path]:
    """Both pages."""
    compared, reported = store.parent / "compared", store.parent / "reported"
    print(f"compared in {graft('compare', before, after, '--text', text, '--out', compared, '--store', store):.0f} s")
    parts = sorted(path.name for path in store.glob("*-*") if path.is_dir() and not path.name.startswith("overview-"))
    print(f"reported in {graft('report', *parts, '--out', reported, '--store', store):.0f} s")
    return {"graft compare": compared / "report.html", "graft report": reported / "report.html"}


def opened(page: Path, rounds: int) -> dict[str, Any]:
    """Size in MB and seconds of every round."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        painted: list[float | None] = []
        loaded: list[float] = []
        for _ in range(rounds):
            browser.get("about:blank")
            browser.get(page.resolve().as_uri())
            time.sleep(0.3)  # a paint is told of a little later
            paint, load = browser.execute_script(TIMES)
            painted.append(None if paint is None else paint / 1000)
            loaded.append(load / 1000)
        elements = browser.execute_script("return document.getElementsByTagName('*').length")
        browser.quit()
    return {"megabytes": page.stat().st_size / 1e6, "painted": painted, "loaded": loaded, "elements": elements}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = options.store or Path(scratch) / "store"
        pages = made(options.text, options.before, options.after, store)
        found = {name: opened(page, options.rounds) for name, page in pages.items()}
    say_machine(here := machine("selenium"))
    table(HEADS)
    for name, one in found.items():
        paints = [value for value in one["painted"] if value is not None]
        slowest = max(one["loaded"])
        row(
            *(name, f"{one['megabytes']:.2f}", f"{one['elements']:,}", f"{max(paints):.2f}" if paints else "-"),
            *(f"{value:.2f}" for value in (one["loaded"][0], statistics.median(one["loaded"]), slowest)),
            *(verdict(slowest, at_most=SECONDS), verdict(one["megabytes"], at_most=MEGABYTES)),
        )
    write_json(options.json, __file__, here, {"pages": found})


if __name__ == "__main__":
    main()
