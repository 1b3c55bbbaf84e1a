"""verdict: what the numbers of graded answers say, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.core.stats.certainty import measured_once, no_interval
from graft.report.benchmark.items import Graded


def called(interval: Sequence[float] | None, p: float, certain: float, thing: str = "item") -> str:
    """What a change is called: a direction only where its interval leaves 0 out and p is at most `certain`.

    thing: what is drawn from for the interval; with one of it there is none.
    """
    if interval is None:
        return no_interval(thing)
    if p > certain:
        return "no change"
    return "improved" if interval[0] > 0 else "worse" if interval[1] < 0 else "no change"


def sentence(summary: Mapping[str, Any]) -> str:
    """The verdict: over all items, then how many tasks changed for certain."""
    whole, (name, other) = summary["all"], named(summary["model"], summary["against"])
    count = f"{_count(whole['items'], 'item')} of {_count(whole['tasks'], 'task')}"
    accuracy, interval = whole["accuracy"], whole["interval"]
    if summary["against"] is None:
        low, high = interval["model"]
        return (
            f"{name} answers {accuracy['model']:.1%} of {count} right (95 % interval {low:.1%} to {high:.1%}; "
            f"guessing: {whole['chance']:.1%})."
        )
    head = {
        "improved": f"{name} answers better than {other}",
        "worse": f"{name} answers worse than {other}",
        "no change": f"{name} shows no certain change against {other}",
    }.get(whole["verdict"], measured_once(f"{name} against {other}", "item"))
    said = (
        f"{head}: {accuracy['against']:.1%} → {accuracy['model']:.1%} of {count}, "
        f"{100 * accuracy['change']:+.1f} points"
    )
    if interval["change"]:
        low, high = interval["change"]
        said += f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    said += f"; {whole['lost']:.1%} went from right to wrong and {whole['gained']:.1%} from wrong to right"
    verdicts = [row["verdict"] for row in summary["tasks"].values()]
    if len(verdicts) > 1:
        better, worse = verdicts.count("improved"), verdicts.count("worse")
        said += f"; {better} task{'s' * (better != 1)} better, {worse} worse, {len(verdicts) - better - worse} unclear"
    return f"{said}."


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def named(model: str, against: str | None) -> tuple[str, str]:
    """The end of each name, as short as tells the two apart; of a folder called "model" with the one that it is in."""
    ends = [name.rstrip("/").split("/") for name in (model, against or "")]
    size = 1

    def tells() -> bool:
        first, second = (one[-size:] for one in ends)
        return first != second and ["model"] not in (first, second)

    while size < max(map(len, ends)) and not tells():
        size += 1
    first, second = ("/".join(one[-size:]) for one in ends)
    return first, second


def notes_of(graded: Graded, lone: int) -> Iterator[str]:
    for one in graded.each:
        yield from one.facts["notes"]
    if lone:
        yield f"{lone:,} items were answered by one of the models alone, and are left out."
    if graded.others and graded.others.manifest["inputs"]["model"] == graded.answers.manifest["inputs"]["model"]:
        yield "Both are the same model, to the byte: nothing here can differ."
