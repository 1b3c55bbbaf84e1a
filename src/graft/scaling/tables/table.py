"""A table of runs: cells by column, where a person finds each row, and rows chosen, joined and put together."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.core.config.errors import UsageError, nearest
from graft.core.config.settings import whole_number

COMPARED = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(.+?)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*")


@dataclass(frozen=True)
class CellTable:
    """Cells as they stand in the file (text from CSV), None where a row has none; `rows` names each row's place.

    Rows count from 1, the header not counted; a CSV file's line is named too. file_T: the file a row came from.
    """

    name: str
    columns: Mapping[str, list[Any]]
    rows: tuple[str, ...]
    file_T: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, name: str, said: str = "") -> list[Any]:
        """A column's cells. said: how the user asked for it. Errors: UsageError with the nearest name."""
        if name not in self.columns:
            raise UsageError(
                f'there is no column "{name}"',
                where=f"{self.name}{f', {said}' if said else ''}",
                allowed=", ".join(self.columns) or "the table has no columns",
                do=nearest(name, self.columns) or "check the spelling",
            )
        return self.columns[name]

    def take(self, chosen: Sequence[int]) -> CellTable:
        """The chosen rows, in that order."""
        cells = {name: [column[row] for row in chosen] for name, column in self.columns.items()}
        return CellTable(self.name, cells, tuple(self.rows[t] for t in chosen), tuple(self.file_T[t] for t in chosen))

    def where(self, condition: str) -> CellTable:
        """The rows for which "COL=VALUE" holds (or !=, <, >, <=, >=), numbers as numbers. Errors: UsageError."""
        found = CONDITION.fullmatch(condition)
        if not found:
            raise UsageError(
                f'--where "{condition}" is no condition', allowed="COL=VALUE, also with !=, <, >, <= and >="
            )
        name, sign, wanted = found.groups()
        cells = self.find(name, f'--where "{condition}"')
        kept = [row for row, cell in enumerate(cells) if _holds(cell, sign, wanted, f"{self.name}, {self.rows[row]}")]
        if not kept:
            there = list(dict.fromkeys(str(cell) for cell in cells))
            raise UsageError(
                f'no row of {len(self)} has {name} {sign} "{wanted}"',
                where=f'{self.name}, --where "{condition}"',
                allowed=f"{name} is {', '.join(there[:8])}{' ...' * (len(there) > 8)}",
                do=nearest(wanted, there),
            )
        return self.take(kept)

    def join(self, other: CellTable) -> CellTable:
        """Rows that agree in every column that both have, side by side. Errors: UsageError where one finds none."""
        keys = [name for name in self.columns if name in other.columns and name]
        if not keys:
            raise UsageError(
                "the two tables share no column",
                where=f"{self.name} and {other.name}",
                allowed="a column of the same name in both, that says which rows belong together",
            )
        places: dict[tuple[str, ...], int] = {}
        for row in range(len(other)):
            key = tuple(_key(other.columns[name][row]) for name in keys)
            if key in places:
                raise UsageError(
                    f"{other.rows[row]} has the same {', '.join(keys)} as {other.rows[places[key]]}",
                    where=other.name,
                    allowed="each value once in the table that is joined",
                )
            places[key] = row
        wanted = [tuple(_key(self.columns[name][row]) for name in keys) for row in range(len(self))]
        for row, key in enumerate(wanted):
            if key not in places:
                raise UsageError(
                    f"{self.rows[row]} has {', '.join(keys)} {', '.join(key)}, and {other.name} has not",
                    where=self.name,
                    allowed="tables whose rows belong together one by one",
                    do="take the row out with --where, or complete the other table",
                )
        unused = len(other) - len(set(wanted))
        if unused:
            raise UsageError(
                f"{unused} of {len(other)} rows belong to no row of {self.name}",
                where=other.name,
                allowed="tables whose rows belong together one by one",
            )
        beside = other.take([places[key] for key in wanted])
        return CellTable(f"{self.name}+{other.name}", {**beside.columns, **self.columns}, self.rows, self.file_T)


def stack(tables: Sequence[CellTable]) -> CellTable:
    """Several tables with the same columns, one under the other. Errors: UsageError where columns differ."""
    if len(tables) == 1:
        return tables[0]
    first = tables[0]
    for table in tables[1:]:
        if set(table.columns) != set(first.columns):
            odd = sorted(set(table.columns) ^ set(first.columns))
            raise UsageError(
                f"the tables do not have the same columns: {', '.join(odd)}",
                where=f"{first.name} and {table.name}",
                allowed="tables with the same columns, to be read as one",
            )
    columns = {name: [cell for table in tables for cell in table.columns[name]] for name in first.columns}
    rows = tuple(f"{table.name}, {row}" for table in tables for row in table.rows)
    files = tuple(file for table in tables for file in table.file_T)
    return CellTable(f"{len(tables)} tables", columns, rows, files)


def number_of(cell: Any) -> float | None:
    """A cell as a number: 0.3, "1e9", "1.5B"; None for what is none. NaN and infinities are numbers here."""
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        return float(cell)
    except OverflowError:  # an integer beyond all floating-point numbers
        return math.inf if cell > 0 else -math.inf
    except (TypeError, ValueError):
        if not isinstance(cell, str):
            return None
        whole = whole_number(cell.strip())
        return None if whole is None else float(whole)


def _key(cell: Any) -> str:
    """The same text for the same number, however it is written."""
    number = number_of(cell)
    return str(cell) if number is None else repr(number)


def _holds(cell: Any, sign: str, wanted: str, where: str) -> bool:
    one, other = number_of(cell), number_of(wanted)
    if one is not None and other is not None:
        return bool(COMPARED[sign](one, other))
    if sign in ("=", "!="):
        return bool(COMPARED[sign]("" if cell is None else str(cell).strip(), wanted))
    raise UsageError(f"{cell!r} {sign} {wanted!r} compares what is no number", where=where, allowed="= and != for text")
