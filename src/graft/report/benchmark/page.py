"""The page of a benchmark: accuracies by task beside what guessing gives, and the items that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.report.adaptation import accounts
from graft.report.adaptation.panels import last_part
from graft.report.shared import wording
from graft.report.shared.axis import Ruler
from graft.report.shared.html import fill

SCRIPTS = ("tabs.js", "sorting.js", "answered.js")
QUERY_SHOWN, CHOICE_SHOWN = 600, 200  # characters; of a query the end, where the question is
# Of accuracies more is better: the shapes say up and down, as the numbers do.
STATUS = {"improved": ("gain", "▲"), "worse": ("loss", "▼"), "no change": ("none", "◆")}
FLIPS = {"1 -> 0": ("loss", "▼", "right → wrong"), "0 -> 1": ("gain", "▲", "wrong → right")}
MEASURES = {
    "acc": "the choice that the model finds likeliest",
    "acc_norm": "the choice that the model finds likeliest per character",
    "acc_bytes": "the choice that the model finds likeliest per byte",
}


def render_answers(facts: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that opens offline; everything a user wrote is in it as text, never as markup.

    facts: summary, items (rows of items.parquet that are shown), items_of (how many there are to show), settings,
    versions, device, lineage, labels (of the model and of the one it is compared with).
    """
    summary = facts["summary"]
    two = summary["against"] is not None
    axis = Ruler.over([0.0, *(end for row in _rows(summary) for end in _ends(row))], room=0, least=0.1)
    return fill(
        "answered.html",
        SCRIPTS,
        {},
        title=title,
        clauses=_clauses(summary),
        notes=summary["notes"],
        outline=_outline(facts),
        two=two,
        labels=facts["labels"],
        measure=summary["measure"],
        means=MEASURES[summary["measure"]],
        ticks=[
            {"at": axis.at(tick), "word": f"{tick:.0%}".replace("%", f"{wording.THIN}%")} for tick in _few(axis.marks())
        ],
        whole=[_row(name, row, axis) for name, row in _wholes(summary)],
        tasks=[_row(name, row, axis) for name, row in summary["tasks"].items()],
        flips=_flips(summary) if two else [],
        items=[_item(row, two) for row in facts["items"]],
        items_of=wording.count(facts["items_of"]),
        several=len(summary["tasks"]) > 1,
        settings=accounts.settings(facts),
        versions=facts["versions"],
        device=facts["device"],
        base="",
        paths={"model": [summary["model"]]}
        | ({"against": [summary["against"]]} if two else {})
        | {"suite": list(summary["suites"])},
        lineage=accounts.lineage(facts),
    )


def _rows(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*summary["tasks"].values(), summary["all"], summary["macro"]]


def _wholes(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = [("All items", summary["all"])]
    return [*found, ("Mean of tasks", summary["macro"])] if len(summary["tasks"]) > 1 else found


def _ends(row: Mapping[str, Any]) -> list[float]:
    known = [row["accuracy"]["model"], row["accuracy"]["against"], row.get("chance")]
    return [value for value in known if value is not None] + [
        end for side in ("model", "against") for end in row["interval"][side] or ()
    ]


def _few(ticks: Sequence[float]) -> Sequence[float]:
    """Every second where their words would meet."""
    return ticks if len(ticks) < 6 else ticks[::2]


def _status(verdict: str) -> dict[str, str]:
    sort, shape = STATUS.get(verdict, ("none", "◇"))
    return {"sort": sort, "shape": shape, "word": {"improved": "better"}.get(verdict, verdict)}


def _guessed(row: Mapping[str, Any]) -> dict[str, str]:
    """Whether a single model is above what guessing gives."""
    if not row.get("chance"):
        return {"sort": "none", "shape": "◇", "word": "nothing to guess"}
    low, high = row["interval"]["model"]
    if low > row["chance"]:
        return {"sort": "gain", "shape": "▲", "word": "above guessing"}
    if high < row["chance"]:
        return {"sort": "loss", "shape": "▼", "word": "below guessing"}
    return {"sort": "none", "shape": "◆", "word": "like guessing"}


def _clauses(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdict's part before the colon, or before the bracket, set large."""
    sentence = wording.typeset(summary["verdict"])
    mark = ": " if summary["against"] else " ("
    head, _, rest = sentence.partition(mark)
    whole = summary["all"]
    shown_as = _status(whole["verdict"]) if summary["against"] else _guessed(whole)
    if summary["against"] is None:
        return [{"head": f"{head}.", "before": f"({rest}", "change": "", "rest": "", "status": shown_as}]
    change = wording.typeset(f"{100 * whole['accuracy']['change']:+.1f} points")
    before, _, after = rest.partition(change)
    return [{"head": f"{head}:", "before": before, "change": change, "rest": after, "status": shown_as}]


def _outline(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    summary, labels = facts["summary"], facts["labels"]
    whole = summary["all"]
    found = [("Model", labels[0], "")]
    if summary["against"] is not None:
        found.append(("Against", labels[1], ""))
    suites = [last_part(name).partition(".")[0].replace("__", " ") for name in summary["suites"]]
    more = f" and {len(suites) - 2} more" if len(suites) > 2 else ""
    return [
        *found,
        ("Suites", ", ".join(suites[:2]) + more, ""),
        ("Items", wording.count(whole["items"]), f"of {whole['tasks']} task{'s' * (whole['tasks'] != 1)}"),
        ("Guessing", wording.percent(whole["chance"]), "right on average"),
        (
            "Known beyond guessing",
            "–" if whole["known"] is None else wording.percent(whole["known"]),
            "right for another reason than a lucky guess: (accuracy − c) ÷ (1 − c), where c is the chance of a guess",
        ),
    ]


def _row(name: str, row: Mapping[str, Any], axis: Ruler) -> dict[str, Any]:
    """A task, or all of them: words, values to sort by, and places on the axis."""
    accuracy, interval = row["accuracy"], row["interval"]
    two = accuracy["against"] is not None
    sides = [side for side in ("against", "model") if accuracy[side] is not None]
    found: dict[str, Any] = {
        "name": name,
        "count": wording.count(row["items"]) if "items" in row else "",
        "num_items": row.get("items"),
        "note": _small_print(row),
        "accuracy": [wording.percent(accuracy[side]) for side in sides],
        "value": accuracy["model"],
        "chance": None if row.get("chance") is None else axis.at(row["chance"]),
        "guessing": wording.percent(row["chance"]) if row.get("chance") else "",
        "dots": [
            {
                "side": side,
                "at": axis.at(accuracy[side]),
                "span": interval[side] and axis.between(*interval[side]),
            }
            for side in sides
        ],
        "says": _says(row, sides),
    }
    if not two:
        return found | {"status": _guessed(row) if "chance" in row else None}
    change, ends = accuracy["change"], interval["change"]
    return found | {
        "status": _status(row["verdict"]),
        "change": wording.signed(100 * change, 1),
        "change_value": change,
        "interval": ends and [wording.signed(100 * end, 1) for end in ends],
        "lost": wording.percent(row["lost"]),
        "lost_value": row["lost"],
        "gained": wording.percent(row["gained"]),
        "gained_value": row["gained"],
        "p": _chance_word(row.get("p_holm", row.get("p"))),
        "p_value": row.get("p_holm", row.get("p")),
    }


def _small_print(row: Mapping[str, Any]) -> str:
    words = [f"{row['shots']} shots"] if row.get("shots") else []
    words += [f"{wording.count(count)} {why}" for why, count in (row.get("left_out") or {}).items()]
    return "; ".join([*words, *([f"{row['cut']} cut"] if row.get("cut") else [])])


def _says(row: Mapping[str, Any], sides: Sequence[str]) -> str:
    ends = [row["interval"][side] for side in sides]
    words = [f"{wording.percent(one[0])} to {wording.percent(one[1])}" for one in ends if one]
    return " → ".join(words)


def _chance_word(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _flips(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Shares of items that changed, as they are and without what guessing does, over items and over tasks."""
    found = []
    for name, row in _wholes(summary):
        for key, words in (
            ("lost", "went from right to wrong (1 → 0)"),
            ("gained", "went from wrong to right (0 → 1)"),
            ("forgotten", "were known before and not after, guessing taken off"),
            ("learned", "were known after and not before, guessing taken off"),
        ):
            ends = row["interval"][key]
            found.append(
                {
                    "over": name,
                    "words": words,
                    "share": "–" if row[key] is None else _share(row[key]),
                    "interval": f"{_share(ends[0])} to {_share(ends[1])}" if ends else "no interval",
                    "count": _of(row, key),
                }
            )
    return found


def _of(row: Mapping[str, Any], key: str) -> str:
    if key in ("lost", "gained"):
        return wording.count(row["flips"][key]) if "flips" in row else ""
    return f"of {wording.count(row['adjusted'])}" if "adjusted" in row else ""


def _share(share: float) -> str:
    return wording.percent(share) if share >= 0 else wording.change(share)


def _item(row: Mapping[str, Any], two: bool) -> dict[str, Any]:
    query, choices = row["query"], row["choices"]
    shown = query if len(query) <= QUERY_SHOWN else f"… {query[-QUERY_SHOWN:]}"
    sides = ("against", "model") if two else ("model",)
    right = row["correct_model"]
    sort, shape, word = FLIPS[row["flip"]] if two else ("gain", "▲", "right") if right else ("loss", "▼", "wrong")
    return {
        "task": row["task"],
        "place": row["place"],
        "flip": {"sort": sort, "shape": shape, "word": word},
        "kind": sort,
        "query": shown,
        "choices": [
            {
                "text": text if len(text) <= CHOICE_SHOWN else f"{text[:CHOICE_SHOWN]} …",
                "gold": number == row["gold"],
                "chosen": [side for side in sides if row[f"chosen_{side}"] == number],
                "nats": [f"{row[f'nats_{side}'][number]:.2f}" for side in sides if len(row[f"nats_{side}"]) > number],
            }
            for number, text in enumerate(choices)
        ],
        "written": [row[f"written_{side}"] for side in sides if row[f"written_{side}"] is not None],
    }
