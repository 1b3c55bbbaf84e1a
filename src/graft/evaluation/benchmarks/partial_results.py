"""part: the answers to one task while others are still asked, and what all of them come to."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graft.core.config.errors import UsageError
from graft.core.records.benchmark_answers import CORRECT, MEASURES, write_answers
from graft.core.stats.accuracy_tests import wilson
from graft.core.store.atomic_files import whole
from graft.core.text.phrases import listed, said
from graft.evaluation.benchmarks import suite

ASKED_FOR = (suite.BEYOND, suite.SHOWN)  # left out because the settings say so


@dataclass(frozen=True)
class TaskPart:
    """Rows of one task in a file, which marks the task as done; its facts stand beside it."""

    path: Path

    def once(self, ask: Callable[[], tuple[Sequence[dict[str, Any]], dict[str, Any]]]) -> TaskPart:
        """Asks and keeps what comes of it, unless a run that was killed has done so."""
        if not self.path.exists():
            rows, facts = ask()
            with whole(self.path.with_suffix(".json")) as out:
                out.write(json.dumps(facts).encode())
            with whole(self.path) as out:
                write_answers(out, rows)
        return self

    def facts(self, name: str, form: str) -> dict[str, Any]:
        """items, chance (mean over items), and by measure hits, accuracy and its 95 % Wilson interval."""
        table = pq.read_table(self.path)
        items, more = len(table), json.loads(self.path.with_suffix(".json").read_bytes())
        if not items:
            raise UsageError(
                f"no item of {name} could be scored: {said(more['left_out'])}", do="give it a larger window"
            )
        found: dict[str, Any] = {"form": form, "items": items, "chance": float(np.mean(table["chance"].to_numpy()))}
        for measure in MEASURES:
            hits = int(table[CORRECT[measure]].to_numpy().sum())
            found[measure] = {"hits": hits, "accuracy": hits / items, "interval": list(wilson(hits, items))}
        found["cut"] = int((table["cut"].to_numpy() > 0).sum())
        return found | more


def join_parts(parts: Path, path: Path) -> None:
    found = sorted(parts.glob("*.parquet"))
    pq.write_table(pa.concat_tables([pq.read_table(one) for one in found]), path, compression="zstd")
    shutil.rmtree(parts)


def notes_of(
    known: Mapping[str, Mapping[str, Any]], refused: Mapping[str, str], others: Sequence[str]
) -> Iterator[str]:
    """What was not asked, and why; what was cut."""
    for why in dict.fromkeys(refused.values()):
        names = [name for name, reason in refused.items() if reason == why]
        yield f"not asked: {listed(names)} ({len(names)} file{'s' * (len(names) > 1)}): {why}"
    if others:
        yield f"not read, being no files of questions: {listed(list(others))}"
    why_places: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for facts in known.values():
        for why, count in facts["left_out"].items():
            counts[why] += count
            if why in facts["first"]:
                why_places.setdefault(why, []).append(facts["first"][why])
    for why, count in counts.items():
        if why in ASKED_FOR:
            continue
        first = f", first {why_places[why][0]}" if why in why_places else ""
        yield f"{count:,} item{'s' * (count > 1)} left out: {why}{first}"
    cut = sum(facts["cut"] for facts in known.values())
    if cut:
        yield (
            f"of {cut:,} item{'s' * (cut > 1)} the beginning of the context was cut off, because it is longer than "
            "the window"
        )
