"""grade: what answers come to, and how two models' answers differ item by item, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices, to_json
from graft.core.process.precision import described
from graft.core.records import benchmark_answers as answers
from graft.core.stats.accuracy_tests import Answered, Means, coin, holm, mcnemar, over_items, over_tasks, wilson
from graft.core.stats.certainty import no_interval
from graft.core.store.artifact import Artifact, Draft, Store
from graft.models.runtime.settle_precision import check_same_precision
from graft.report.benchmark.answer_habits import KEYS, Habits
from graft.report.benchmark.items import Graded, changed, items_of, shown_items
from graft.report.benchmark.page import render_answers
from graft.report.benchmark.verdict import called, named, notes_of, sentence

CHANGES = ("change", "lost", "gained", "forgotten", "learned")


@dataclass(frozen=True)
class Grade:
    """Which answers count, and how the page is made."""

    measure: Literal["acc", "acc_norm", "acc_bytes"] = "acc"  # see graft.evaluation.benchmarks.run_benchmark
    certain: float = 0.05  # largest p at which something has changed; of a task corrected for their number
    seed: int = 0  # of the resampling
    title: str = "Answers to benchmarks"
    items: int = 400  # most that are on the page; items.parquet has all
    same: float = 0.9  # share of answers in one place from which a note says that it is nearly all of them; 1: never

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.certain < 1:
            raise UsageError(f"certain is {self.certain}", allowed="a chance above 0 and below 1", do="0.05 is usual")
        if not 0 < self.same <= 1:
            raise UsageError(f"same is {self.same}", allowed="a share above 0, at most 1", do="0.9 is usual")
        if self.items < 0:
            raise UsageError(f"items is {self.items}", allowed="0 or more")


def grade(graded: Graded, settings: Grade = Grade(), *, store: Store) -> Artifact:
    """Kind "report": summary.json, report.html and items.parquet, a row per item of both models.

    With another model every number is of the items that both answered; the rest is counted. Verdicts: of a task by
    McNemar's exact test, corrected over tasks (Holm); of all items by that test and the interval of the change, both;
    of the mean of tasks likewise, by a sign test of its own. Definitions are in graft.core.stats.accuracy_tests.
    """
    inputs: dict[str, Artifact | str] = {"answers": graded.answers}
    if graded.others:
        inputs["against"] = graded.others
        check_same_precision({graded.model: graded.answers, f"{graded.against} (--against)": graded.others})
    inputs |= {"models": json.dumps([graded.model, graded.against]), "suites": json.dumps(list(graded.suites))}
    inputs |= {"notes": "\n".join(graded.notes)}
    return store.make("report", settings, inputs, __name__, lambda draft: _build(draft, graded, settings))


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
        "items_of": int(changed(table).sum()) if graded.others else len(table),
        "settings": {one.kind: one.manifest["settings"] for one in graded.each} | {"grade": to_json(settings)},
        "versions": graded.answers.manifest["versions"],
        "device": described(graded.answers.manifest),
        "lineage": [
            {key: one.manifest[key] for key in ("inputs", "started", "seconds")} | {"name": one.name}
            for one in graded.each
        ],
    }
    (draft / "report.html").write_text(render_answers(facts, title=settings.title), encoding="utf-8")
    draft.facts |= {"verdict": summary["verdict"], "items": len(table)}


def summarize(graded: Graded, table: pa.Table, lone: int, settings: Grade) -> dict[str, Any]:
    """The outcome in numbers; shares from 0 to 1, changes in points of them, intervals 95 %.

    all: over items alike (micro); macro: the mean of the tasks' means; tasks: each; worst: the task that lost most.
    """
    names = list(dict.fromkeys(table["task"].to_pylist()))
    answered, two = _answered(table, names, graded.others is not None), graded.others is not None
    rows = {name: _row(answered.of(number), two, settings.seed) for number, name in enumerate(names)}
    if two:
        _call(rows, settings.certain)
    habits = Habits.of(table)
    for name, row in rows.items():
        row["most_chosen"] = habits.told(names.index(name))
        facts = graded.answers.facts["tasks"][name]
        row |= {"form": facts["form"], "shots": facts["shots"], "left_out": facts["left_out"], "cut": facts["cut"]}
        row["measures"] = {measure: facts[measure]["accuracy"] for measure in answers.MEASURES}
    whole: dict[str, Any] = _row(answered, two, settings.seed) | {"tasks": len(names)}
    whole["most_chosen"] = habits.told()
    macro: dict[str, Any] = _means_row(over_tasks(answered, settings.seed), two) | {"tasks": len(names)}
    if two:
        macro["p"] = coin(answered, settings.seed)
        for one, thing in ((whole, "item"), (macro, "item of a task")):
            one["verdict"] = called(one["interval"]["change"], one["p"], settings.certain, thing)
    noted = [*habits.notes(names, settings.same), *notes_of(graded, lone)]
    summary = {
        "verdict": "",
        "model": graded.model,
        "against": graded.against or None,
        "measure": settings.measure,
        "suites": list(graded.suites),
        "runtime": graded.answers.facts.get("runtime", {}),
        "notes": list(dict.fromkeys([*graded.notes, *_unmoved(whole), *noted])),
        "all": whole,
        "macro": macro,
        "worst": _worst(rows) if two else None,
        "tasks": rows,
    }
    summary["verdict"] = sentence(summary)
    return summary


def _unmoved(whole: Mapping[str, Any]) -> list[str]:
    """What an interval without width does not say (the rule of three; Hanley and Lippman-Hand 1983)."""
    if any(whole.get("flips", {"unknown": 1}).values()):
        return []
    return [
        "No item is answered right by one model and wrong by the other, so the interval of the change has no width. "
        f"After {whole['items']:,} items that means only that up to {min(1.0, 3 / whole['items']):.0%} of such items "
        "may change (95 %, by the rule of three)."
    ]


def _answered(table: pa.Table, names: Sequence[str], two: bool) -> Answered:
    """names: of the tasks, in their order."""
    index = {name: number for number, name in enumerate(names)}
    now = _column(table, "correct_model").astype(bool)
    was = _column(table, "correct_against").astype(bool) if two else now
    chance = _column(table, "chance").astype(float)
    apart = _column(table, "chosen_model") != _column(table, "chosen_against") if two else np.zeros(len(now), bool)
    return Answered(
        before_I=was,
        after_I=now,
        chance_I=chance,
        apart_I=apart & ~was & ~now,
        choices_I=np.where(chance > 0, [len(one) for one in table["choices"].to_pylist()], 1),
        task_I=np.array([index[name] for name in table["task"].to_pylist()], np.int64),
    )


def _call(rows: Mapping[str, dict[str, Any]], certain: float) -> None:
    """Each task's verdict, by its p corrected for the number of tasks."""
    for row, p in zip(rows.values(), holm([row["p"] for row in rows.values()]), strict=True):
        row["p_holm"] = p
        if row["interval"]["change"] is None:
            row["verdict"] = no_interval("item")
        else:
            row["verdict"] = "no change" if p > certain else "improved" if row["accuracy"]["change"] > 0 else "worse"


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    return np.array(table[name].to_pylist())


def _row(answered: Answered, two: bool, seed: int) -> dict[str, Any]:
    """Numbers over items alike. interval.model: Wilson's; of changes: bootstrap over items, paired."""
    count = len(answered)
    row = _means_row(over_items(answered, seed), two)
    row["items"] = count
    row["chance"] = float(answered.chance_I.mean())
    free_I = answered.chance_I < 1  # where a guess can be wrong
    known_I = (answered.after_I - answered.chance_I)[free_I] / (1 - answered.chance_I[free_I])
    # Right beyond what guessing does: (accuracy - c) / (1 - c), by item.
    row["known"] = float(known_I.mean()) if len(known_I) else None
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


def _worst(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name = min(rows, key=lambda one: rows[one]["accuracy"]["change"])
    return {"task": name} | {key: rows[name][key] for key in ("accuracy", "interval", "lost", "gained", "p", "p_holm")}


NUMBERS = (
    *("items", "chance", "known", "accuracy.model", "interval.model.0", "interval.model.1"),
    *(f"most_chosen.model.{key}" for key in KEYS),
)
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
    """The dotted path of every number that a summary of one model, or of two, holds; * is the name of a task."""
    keys = [f"all.{name}" for name in (*NUMBERS, "tasks")] + [f"macro.{name}" for name in MACRO_NUMBERS]
    keys += [f"tasks.*.{name}" for name in NUMBERS]
    if two:
        keys += [f"{part}.{name}" for part in ("all", "macro", "tasks.*") for name in PAIRED_NUMBERS]
        keys += [f"{part}.most_chosen.against.{key}" for part in ("all", "tasks.*") for key in KEYS]
        keys += [
            "all.p",
            "macro.p",
            "all.adjusted",
            "all.flips.lost",
            "all.flips.gained",
            *(f"worst.{name}" for name in WORST_NUMBERS),
        ]
    return keys
