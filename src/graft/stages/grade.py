"""grade: what answers come to, and how two models' answers differ item by item, for programs and for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core import answers, proportions
from graft.core.answers import CHOSEN, CORRECT, FILE
from graft.core.artifact import Artifact, Draft, Store
from graft.core.errors import UsageError
from graft.core.golden import golden_order
from graft.core.proportions import Answered, Means, holm, mcnemar, over_items, over_tasks, wilson
from graft.core.settings import check_choices, to_json
from graft.page.answered import answered_hash, render_answers

LOST, GAINED = "1 -> 0", "0 -> 1"
FLIPS = {(True, True): "right", (True, False): LOST, (False, True): GAINED, (False, False): "wrong"}  # before, after
CHANGES = ("change", "lost", "gained", "forgotten", "learned")


@dataclass(frozen=True)
class Grade:
    """Which answers count, and how the page is made."""

    measure: Literal["acc", "acc_norm", "acc_bytes"] = "acc"  # see graft.stages.answer
    certain: float = 0.05  # largest p, corrected for the number of tasks, at which a task has changed
    seed: int = 0  # of the resampling
    title: str = "Answers to benchmarks"
    items: int = 400  # most that are on the page; items.parquet has all

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.certain < 1:
            raise UsageError(f"certain is {self.certain}", allowed="a chance above 0 and below 1", do="0.05 is usual")
        if self.items < 0:
            raise UsageError(f"items is {self.items}", allowed="0 or more")


@dataclass(frozen=True)
class Graded:
    """The answers of one model, or of two to the same suites, and the words its user gave."""

    model: str
    answers: Artifact
    against: str = ""
    others: Artifact | None = None
    suites: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def each(self) -> list[Artifact]:
        return [self.answers, *([self.others] if self.others else [])]


def grade(graded: Graded, settings: Grade = Grade(), *, store: Store) -> Artifact:
    """Kind "report": summary.json, report.html and items.parquet, a row per item of both models.

    With another model every number is of the items that both answered; the rest is counted. Verdicts: of all items by
    the interval of the change, of a task by McNemar's exact test, corrected over tasks (Holm); definitions of what is
    asked of the changes are in graft.core.proportions.
    """
    inputs: dict[str, Artifact | str] = {"answers": graded.answers, "page": answered_hash()}
    if graded.others:
        inputs["against"] = graded.others
    inputs |= {"models": f"{graded.model} {graded.against}".strip(), "suites": json.dumps(list(graded.suites))}
    inputs |= {"notes": "\n".join(graded.notes)}
    code = (sys.modules[__name__], answers, proportions, "page")
    return store.make("report", settings, inputs, code, lambda draft: _build(draft, graded, settings))


def _build(draft: Draft, graded: Graded, settings: Grade) -> None:
    table, lone = items_of(graded, settings.measure)
    pq.write_table(table, draft / "items.parquet", compression="zstd")
    summary = summarize(graded, table, lone, settings)
    (draft / "summary.json").write_text(
        json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8"
    )
    facts = {
        "summary": summary,
        "labels": named(graded.model, graded.against),
        "items": shown_items(table, settings.items),
        "items_of": int(_changed(table).sum()) if graded.others else len(table),
        "settings": {one.kind: one.manifest["settings"] for one in graded.each} | {"grade": to_json(settings)},
        "versions": graded.answers.manifest["versions"],
        "device": graded.answers.manifest["device"],
        "lineage": [
            {key: one.manifest[key] for key in ("inputs", "started", "seconds")} | {"name": one.name}
            for one in graded.each
        ],
    }
    (draft / "report.html").write_text(render_answers(facts, title=settings.title), encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"], "items": len(table)}


def items_of(graded: Graded, measure: str) -> tuple[pa.Table, int]:
    """A row per item: what was asked, and of each model what it chose; how many were answered by one model alone."""
    kept = ["task", "item", "id", "place", "form", "query", "choices", "gold", "chance"]
    renamed = {CHOSEN[measure]: "chosen", CORRECT[measure]: "correct", "nats": "nats", "written": "written"}
    tables = [pq.read_table(one / FILE) for one in graded.each]
    keys = [list(zip(one["task"].to_pylist(), one["item"].to_pylist(), strict=True)) for one in tables]
    if len(tables) == 1:
        columns = {name: tables[0][name] for name in kept}
        columns |= {f"{new}_model": tables[0][old] for old, new in renamed.items()}
        return pa.table(columns), 0
    place = {key: at for at, key in enumerate(keys[1])}
    pairs = [(at, place[key]) for at, key in enumerate(keys[0]) if key in place]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    if not len(both):
        raise UsageError(
            "the two models have answered no item in common", do="ask both the same suites, with the same settings"
        )
    rows = [tables[side].take(both[:, side]) for side in (0, 1)]
    columns = {name: rows[0][name] for name in kept}
    for side, table in zip(("model", "against"), rows, strict=True):
        columns |= {f"{new}_{side}": table[old] for old, new in renamed.items()}
    was, now = columns["correct_against"].to_pylist(), columns["correct_model"].to_pylist()
    columns["flip"] = pa.array([FLIPS[pair] for pair in zip(was, now, strict=True)])
    return pa.table(columns), len(keys[0]) + len(keys[1]) - 2 * len(both)


def summarize(graded: Graded, table: pa.Table, lone: int, settings: Grade) -> dict[str, Any]:
    """The outcome in numbers; shares from 0 to 1, changes in points of them, intervals 95 %.

    all: over items alike (micro); macro: the mean of the tasks' means; tasks: each; worst: the task that lost most.
    """
    names = list(dict.fromkeys(table["task"].to_pylist()))
    index = {name: number for number, name in enumerate(names)}
    now = _column(table, "correct_model").astype(bool)
    was = _column(table, "correct_against").astype(bool) if graded.others else now
    chance = _column(table, "chance").astype(float)
    two = graded.others is not None
    apart = _column(table, "chosen_model") != _column(table, "chosen_against") if two else np.zeros(len(now), bool)
    answered = Answered(
        before_I=was,
        after_I=now,
        chance_I=chance,
        apart_I=apart & ~was & ~now,
        choices_I=np.where(chance > 0, [len(one) for one in table["choices"].to_pylist()], 1),
        task_I=np.array([index[name] for name in table["task"].to_pylist()], np.int64),
    )
    rows = {name: _row(answered.of(number), two, settings.seed) for name, number in index.items()}
    if two:
        corrected = holm([row["p"] for row in rows.values()])
        for row, p in zip(rows.values(), corrected, strict=True):
            row["p_holm"] = p
            certain = p <= settings.certain
            row["verdict"] = "no change" if not certain else "improved" if row["accuracy"]["change"] > 0 else "worse"
    for name, row in rows.items():
        facts = graded.answers.facts["tasks"][name]
        row |= {"form": facts["form"], "shots": facts["shots"], "left_out": facts["left_out"], "cut": facts["cut"]}
        row["measures"] = {measure: facts[measure]["accuracy"] for measure in answers.MEASURES}
    whole = _row(answered, two, settings.seed)
    macro: dict[str, Any] = _means_row(over_tasks(answered, settings.seed), two) | {"tasks": len(names)}
    whole["tasks"] = len(names)
    if two:
        for one in (whole, macro):
            one["verdict"] = _verdict(one["interval"]["change"])
    summary = {
        "verdict": "",
        "model": graded.model,
        "against": graded.against or None,
        "measure": settings.measure,
        "suites": list(graded.suites),
        "notes": list(dict.fromkeys([*graded.notes, *_notes(graded, lone)])),
        "all": whole,
        "macro": macro,
        "worst": _worst(rows) if two else None,
        "tasks": rows,
    }
    summary["verdict"] = sentence(summary)
    return summary


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    return np.array(table[name].to_pylist())


def _row(answered: Answered, two: bool, seed: int) -> dict[str, Any]:
    """Numbers over items alike. interval.model: Wilson's; of changes: bootstrap over items, paired, within tasks."""
    count = len(answered)
    row = _means_row(over_items(answered, seed), two)
    row["items"] = count
    row["chance"] = float(answered.chance_I.mean())
    known_I = (answered.after_I - answered.chance_I) / (1 - answered.chance_I)
    row["known"] = float(known_I.mean())  # right beyond what guessing does: (accuracy - c) / (1 - c), by item
    row["interval"]["model"] = list(wilson(float(answered.after_I.sum()), count))
    if two:
        row["interval"]["against"] = list(wilson(float(answered.before_I.sum()), count))
        lost = int((answered.before_I & ~answered.after_I).sum())
        gained = int((~answered.before_I & answered.after_I).sum())
        row["flips"] = {"lost": lost, "gained": gained}
        row["adjusted"] = int(answered.adjustable_I.sum())  # items that forgotten and learned are of
        row["p"] = mcnemar(lost, gained)
    return row


def _means_row(means: Means, two: bool) -> dict[str, Any]:
    mean, interval = means.mean, means.interval
    accuracy = {"model": mean["after"], "against": mean["before"] if two else None}
    accuracy["change"] = mean["change"] if two else None
    intervals = {"model": _pair(interval["after"]), "against": _pair(interval["before"]) if two else None}
    if not two:
        return {"accuracy": accuracy, "interval": intervals}
    intervals |= {name: _pair(interval[name]) for name in CHANGES}
    return {"accuracy": accuracy, "interval": intervals} | {name: mean[name] for name in CHANGES if name != "change"}


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _verdict(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "no interval (one item)"
    return "improved" if interval[0] > 0 else "worse" if interval[1] < 0 else "no change"


def _worst(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name = min(rows, key=lambda one: rows[one]["accuracy"]["change"])
    return {"task": name} | {key: rows[name][key] for key in ("accuracy", "interval", "lost", "gained", "p", "p_holm")}


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
    words = {"improved": "answers better than", "worse": "answers worse than"}.get(
        whole["verdict"], "shows no certain change against"
    )
    said = (
        f"{name} {words} {other}: {accuracy['against']:.1%} → {accuracy['model']:.1%} of {count}, "
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


def _notes(graded: Graded, lone: int) -> Iterator[str]:
    for one in graded.each:
        yield from one.facts["notes"]
    if lone:
        yield f"{lone:,} items were answered by one of the models alone, and are left out."
    if graded.others and graded.others.manifest["inputs"]["model"] == graded.answers.manifest["inputs"]["model"]:
        yield "Both are the same model, to the byte: nothing here can differ."


def _changed(table: pa.Table) -> NDArray[np.bool_]:
    return np.array([flip in (LOST, GAINED) for flip in table["flip"].to_pylist()])


def shown_items(table: pa.Table, most: int) -> list[dict[str, Any]]:
    """Of two models the items that changed, of one model any: at most so many, spread over them in their order."""
    places = np.flatnonzero(_changed(table)) if "flip" in table.column_names else np.arange(len(table))
    if len(places) > most:
        places = np.sort(places[golden_order(len(places))[:most]])
    return table.take(places).to_pylist()


NUMBERS = ("items", "chance", "known", "accuracy.model", "interval.model.0", "interval.model.1")
MACRO_NUMBERS = ("accuracy.model", "interval.model.0", "interval.model.1", "tasks")
PAIRED_NUMBERS = (
    "accuracy.against",
    "accuracy.change",
    *("interval.change.0", "interval.change.1"),
    *("lost", "gained", "forgotten", "learned"),
    *(f"interval.{name}.{end}" for name in ("lost", "gained", "forgotten", "learned") for end in (0, 1)),
)
WORST_NUMBERS = ("accuracy.model", "accuracy.against", "accuracy.change", "lost", "gained", "p", "p_holm")


def number_keys(two: bool) -> list[str]:
    """The dotted path of every number that a summary of one model, or of two, holds whatever its tasks are."""
    keys = [f"all.{name}" for name in (*NUMBERS, "tasks")] + [f"macro.{name}" for name in MACRO_NUMBERS]
    if two:
        keys += [f"{part}.{name}" for part in ("all", "macro") for name in PAIRED_NUMBERS]
        keys += [
            "all.p",
            "all.adjusted",
            "all.flips.lost",
            "all.flips.gained",
            *(f"worst.{name}" for name in WORST_NUMBERS),
        ]
    return keys
