"""The gate: conditions on a summary under which a job that is done ends with exit code 3."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft.core.errors import GateClosed, UsageError, nearest
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.stages.report import BUDGET_NUMBERS, number_keys

COMPARED = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
WRITTEN = re.compile(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)\s*")
ALLOWED = 'KEY > NUMBER, also with >=, < and <=, such as "general.change > 2%"; KEY is a number of summary.json'


@dataclass(frozen=True)
class Condition:
    """One "KEY > NUMBER" over the numbers of summary.json; with % the number is a hundredth."""

    text: str
    key: str
    sign: str
    bound: float
    in_percent: bool

    @classmethod
    def read(cls, text: str, keys: Sequence[str]) -> Condition:
        """keys: what may be named. Errors: UsageError for what cannot be read, or names no key."""
        found = WRITTEN.fullmatch(text)
        if not found:
            raise UsageError(f'--fail-if "{text}" is no condition', allowed=ALLOWED)
        key, sign, number, percent = found.groups()
        if key not in keys:
            raise UsageError(
                f'--fail-if "{text}": summary.json has no number "{key}"',
                allowed=", ".join(keys),
                do=nearest(key, keys) or "look at a summary.json",
            )
        return cls(text.strip(), key, sign, float(number) / (100 if percent else 1), bool(percent))

    def check(self, summary: Any) -> str:
        """A sentence when the condition holds, or cannot be told; else nothing."""
        value = summary
        for key in self.key.split("."):
            value = None if value is None else value[int(key) if isinstance(value, list | tuple) else key]
        if value is None:
            return f'{self.key} was not measured, so "{self.text}" cannot be ruled out'
        if not COMPARED[self.sign](value, self.bound):
            return ""
        return f'{self.key} is {f"{value:.4%}" if self.in_percent else f"{value:.6g}"}, and the gate is "{self.text}"'


def read_conditions(texts: Sequence[str], job: Any) -> list[Condition]:
    """The conditions for a job that is not begun. Errors: UsageError, also for a job that leaves no summary."""
    if texts and not isinstance(job, Adapt | Budget):
        raise UsageError(
            f"--fail-if is given, and {type(job).__name__} has no numbers that it knows",
            allowed="--fail-if with adapt and budget",
            do="leave it out",
        )
    keys = [] if not texts else [*number_keys(list(job.sources)), *(BUDGET_NUMBERS if isinstance(job, Budget) else ())]
    return [Condition.read(text, keys) for text in texts]


def check_gate(conditions: Sequence[Condition], summary: Any) -> None:
    """Errors: GateClosed, naming every condition that holds."""
    said = [sentence for one in conditions if (sentence := one.check(summary))]
    if said:
        raise GateClosed("; ".join(said), do="everything was written all the same: look at the report")
