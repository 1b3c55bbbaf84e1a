"""The page itself: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from graft.report.shared import charts

FOLDERS = sorted(one for one in Path(__file__).parents[1].iterdir() if one.is_dir())  # one per page, and `shared`


def fill(template: str, scripts: Sequence[str], data: Any, **words: Any) -> str:
    """A template as one HTML file, with these scripts, and `data` as the block of JSON that they read.

    Where `data` has charts, their scripts come last; other pages do without the library.
    """
    if data.get("charts"):
        scripts = (*scripts, *charts.SCRIPTS)
    script = "\n".join(map(web_file, scripts))
    environment = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        style=web_file("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=embedded_json(data),
        **words,
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # file names may hold what UTF-8 cannot say


def web_file(name: str) -> str:
    """A script, style or template by its name, which no two pages share."""
    return next(path for folder in FOLDERS if (path := folder / name).is_file()).read_text(encoding="utf-8")


def embedded_json(value: Any) -> str:
    """JSON that cannot end, or comment out, the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
