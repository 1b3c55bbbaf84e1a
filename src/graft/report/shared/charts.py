"""Charts as tables of rows and encodings, which `charts.js` draws with Observable Plot.

A chart has
- about: the beginning of what a screen reader hears; height: [share of the width, least, most], in pixels
- x, y: axes (see `axis`)
- layers: {mark, rows, class}. Rows are [x, y] of a line, shape or dot, [x1, y1, x2, y2] of a rectangle or a link, [x]
  or [y] of a line through the frame; a last cell that is text is the class of the row's element. `look` goes to Plot
  as it is; `clip`: [from, to] on x; `under`: below the grid; `series`: the number by which a button draws it or not.
- spots: points that are read one by one (see `spot`); `rest` stands in the readout between them
- or lines that are read at a place of x: layers with a `name`, and `read`, the words around their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graft.report.shared import wording

SCRIPTS = ("plot.bundle.js", "labels.js", "charts.js")
PERCENT = f"{wording.THIN}%"
COLOURS = 8  # runs that have a colour each; from there on the same ones come again, dashed


def axis(label: str | None, ticks: tuple[int, int] = (5, 3), **more: Any) -> dict[str, Any]:
    """ticks: about how many, on a wide and on a narrow drawing.

    more: domain, or without one the share left free at both ends of what is drawn (`room`) and what that is at least
    (`least`); unit and sign of its numbers; counted: they are tokens; anchor: "start" for a label
    at the left; reverse; values and names of ticks; own: the words of one that is set bold.
    """
    return {"label": label, "ticks": ticks} | more


def layer(mark: str, rows: Sequence[Sequence[Any]], sort: str = "", /, **more: Any) -> dict[str, Any]:
    return {"mark": mark, "rows": rows, "class": sort} | more


def spot(
    number: int, x: Sequence[float | None], y: Sequence[float | None], label: str, says: str, *, pale: bool, **more: Any
) -> dict[str, Any]:
    """A point of a run, in its colour; x and y are [value, low, high, lowest seed, highest seed], None for what is not
    known. says: its words in the readout. more: sparse, rank, optional and others that `charts.js` reads.
    """
    look = f"run-{number % COLOURS}{' pale' if pale else ''}"
    named = {"label": [label], "sort": "pale" if pale else "best", "rank": int(pale), "confusing": 12}
    return {"x": x, "y": y, "look": look, "says": says} | named | more


def ends(one: Mapping[str, Any], key: str = "change", *, turned: bool = False) -> list[float | None]:
    """[value, low, high] of a change with its interval, in percent; turned: as a gain."""
    low, high = one["interval"] or (None, None)
    return percent([one[key], low, high] if not turned else [-one[key], high and -high, low and -low])


def style(number: int) -> str:
    """Class by which a run has its colour."""
    return f"run-{number % COLOURS}{' again' if number >= COLOURS else ''}"


def percent(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(100 * value, 6) for value in values]


def smoothed(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each the mean over a tenth of the points, so that the noise of single steps does not hide the course."""
    half = max(1, round(len(points) / 20))
    near = (points[max(0, place - half) : place + half + 1] for place in range(len(points)))
    return [
        [point[0], float(f"{sum(value for _, value in some) / len(some):.6g}")]
        for point, some in zip(points, near, strict=True)
    ]


def choices(names: Sequence[str], order: Sequence[int], chosen: Sequence[int]) -> dict[str, Any]:
    """What buttons choose from: the series of all charts of a page, their order, and those drawn at first."""
    return {
        "series": list(names),
        "styles": [style(number) for number in range(len(names))],
        "order": list(order),
        "chosen": list(chosen),
    }
