"""The gate: conditions on a summary under which a job that is done ends with exit code 3."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from graft.core.config.errors import GateClosed, UsageError, nearest
from graft.core.config.plugins import plugin_name

COMPARED = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
WRITTEN = re.compile(r"\s*([\w.-]+)\s*(>=|<=|>|<)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)\s*")
ALLOWED = 'KEY > NUMBER, also with >=, < and <=, such as "general.change > 2%"; KEY is a number of summary.json'
RUNS = "runs"  # under which a summary of several runs holds those of each, by the run's name
ABSENT: Any = object()  # a key that a run does not have; None: a number that was not measured
SHOWN = 60  # keys that an error lists beside the nearest


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
        """keys: what may be named; a * in one stands for names that are known when the job is done.

        Errors: UsageError for what cannot be read, or names no key.
        """
        found = WRITTEN.fullmatch(text)
        if not found:
            raise UsageError(f'--fail-if "{text}" is no condition', allowed=ALLOWED)
        key, sign, number, percent = found.groups()
        if key not in keys and not any(fnmatchcase(key, one) for one in keys if "*" in one):
            raise UsageError(
                f'--fail-if "{text}": summary.json has no number "{key}"',
                allowed=", ".join(keys[:SHOWN]) + (f" ... and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""),
                do=nearest(key, keys) or "look at a summary.json",
            )
        return cls(text.strip(), key, sign, float(number) / (100 if percent else 1), bool(percent))

    def check(self, summary: Any) -> str:
        """A sentence when the condition holds, or cannot be told; else nothing.

        In a summary of several runs a key that begins with no run's name is asked of every run that has it: a run that
        was not measured has None there, which closes; without the key is what such a run never has, and is passed over.
        """
        runs = summary.get(RUNS)
        if runs is None:
            return self._said(self.key, reach(summary, self.key))
        asked = {f"{name}.{self.key}": reach(row, self.key, ABSENT) for name, row in runs.items()}
        one = reach(runs, self.key, ABSENT)
        found = (
            {key: value for key, value in asked.items() if value is not ABSENT} if one is ABSENT else {self.key: one}
        )
        said = [self._said(key, value) for key, value in (found or {self.key: None}).items()]
        return "; ".join(filter(None, said))

    def _said(self, key: str, value: Any) -> str:
        if value is None:
            return f'{key} was not measured, so "{self.text}" cannot be ruled out'
        if not COMPARED[self.sign](value, self.bound):
            return ""
        return f'{key} is {f"{value:.4%}" if self.in_percent else f"{value:.6g}"}, and the gate is "{self.text}"'


def read_conditions(texts: Sequence[str], job: Any) -> list[Condition]:
    """The conditions for a job that is not begun. Errors: UsageError, also for a job that leaves no summary.

    A job says itself what numbers its summary will have: `number_keys() -> list[str]`, none where it leaves none.
    """
    keys = job.number_keys() if texts else []
    if texts and not keys:
        raise UsageError(
            f"--fail-if is given, and the job {plugin_name(job)} leaves no numbers",
            allowed="--fail-if with a job that leaves a summary.json",
            do="leave it out",
        )
    return [Condition.read(text, keys) for text in texts]


def limit(texts: Sequence[str], key: str) -> float | None:
    """Above what value of a key a condition closes the gate: the lowest, where several do; None where none does."""
    read = [found.groups() for text in texts if (found := WRITTEN.fullmatch(text))]
    bounds = [
        float(number) / (100 if percent else 1) for name, sign, number, percent in read if name == key and ">" in sign
    ]
    return min(bounds, default=None)


def check_gate(conditions: Sequence[Condition], summary: Any) -> None:
    """Errors: GateClosed, naming every condition that holds."""
    said = [sentence for one in conditions if (sentence := one.check(summary))]
    if said:
        raise GateClosed("; ".join(said), do="everything was written all the same: look at the report")


def reach(values: Any, key: str, absent: Any = None) -> Any:
    """The value at a dotted path, whose parts may hold dots themselves; `absent` where the way there ends."""
    if not key or values is None:
        return values
    if isinstance(values, list | tuple):
        first, _, rest = key.partition(".")
        return reach(values[int(first)], rest, absent) if first.isdigit() and int(first) < len(values) else absent
    names = [one for one in values if key == one or key.startswith(f"{one}.")] if isinstance(values, Mapping) else []
    if not names:
        return absent
    name = max(names, key=len)
    return reach(values[name], key[len(name) + 1 :], absent)
