"""Cells of a table of runs as the numbers they must be, each error naming row, column, value and what to do."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError, shortened
from graft.scaling.tables.table import CellTable, number_of

POSITIVE, SHARE, NUMBER = "a number above 0", "a share from 0 to 1", "a number"
LIMITS = {
    "loss": POSITIVE, "size": POSITIVE, "tokens": POSITIVE, "unique": POSITIVE, "ratio": SHARE, "injected": SHARE,
    "learnability": POSITIVE, "base_loss": POSITIVE, "first_loss": POSITIVE,
}  # fmt: skip
ROUNDING = 0.0005  # of a share written with three decimals, as published mixtures are
MOST_ROUNDING = 0.02  # of the sum of very many: their errors go both ways


def value_of(noun: str, cell: Any, table: CellTable, row: int, name: str) -> float:
    """A cell as the number it must be. Errors: UsageError naming row, column, value, what is allowed and what to do."""
    limit = LIMITS.get(noun, NUMBER)
    what = f'{table.rows[row]}, column "{name}" is'
    if cell is None:
        raise UsageError(
            f"{what} blank", where=table.name, allowed=limit, do="fill it in, or take the row out with --where"
        )
    number = number_of(cell)
    if number is None:
        said = shortened(str(cell), 200)
        raise UsageError(f'{what} "{said}", no number', where=table.name, allowed=limit, do=_written(said))
    if not math.isfinite(number):
        raise UsageError(
            f"{what} {shortened(str(cell), 200)}",
            where=table.name,
            allowed=limit,
            do="a run that failed is no point: take it out with --where",
        )
    if limit == SHARE and 1 < number <= 100:
        raise UsageError(
            f"{what} {number:g}, a percentage", where=table.name, allowed=limit, do=f"write {number / 100:g}"
        )
    if (limit == SHARE and not 0 <= number <= 1) or (limit == POSITIVE and number <= 0):
        raise UsageError(f"{what} {number:g}", where=table.name, allowed=limit, do=_not_positive(noun))
    return number


def _not_positive(noun: str) -> str:
    return "a base that is not trained yet is no point: take it out with --where" if noun == "tokens" else ""


def _written(cell: str) -> str:
    """How a number that is written for people is written for this reader."""
    bare = cell.strip().rstrip("%").strip()
    if cell.strip().endswith("%") and number_of(bare) is not None:
        return f"write {float(bare) / 100:g}"
    if "," in bare and number_of(bare.replace(",", "")) is not None:
        grouped = all(len(part) == 3 for part in bare.split(",")[1:])
        return f"write {bare.replace(',', '' if grouped and not bare.startswith('0') else '.')}"
    return "write a number, such as 0.3, 1e9 or 1.5B; take rows that have none out with --where"


def domains_of(table: CellTable, patterns: Sequence[str], law: str, known: Sequence[str]) -> tuple[str, ...]:
    """The columns of shares, in the table's order (or in that of the law that is asked)."""
    if known:
        missing = [name for name in known if name not in table.columns]
        if missing:
            table.find(missing[0], f"{law} was fitted with this share")
        return tuple(known)
    if not patterns:
        raise UsageError(
            f"{law} reads the shares of domains, and none are named",
            where=table.name,
            allowed=", ".join(name for name in table.columns if name),
            do="name their columns: --weights a,b,c or --weights 'train_*'",
        )
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(table.columns, pattern) if any(c in pattern for c in "*?[") else [pattern]
        if not found:
            raise UsageError(
                f'no column matches "{pattern}"', where=f"{table.name}, --weights", allowed=", ".join(table.columns)
            )
        for name in found:
            table.find(name, "--weights")
            chosen[name] = None
    if len(chosen) < 2:
        raise UsageError(f"--weights names {', '.join(chosen)} alone", where=table.name, allowed="two domains or more")
    return tuple(chosen)


def weights_of(table: CellTable, domains: tuple[str, ...]) -> np.ndarray:
    """Shares of the domains (T x K), each row summing to 1 but for rounding to three decimals. Errors: UsageError."""
    raw_TK = np.array([[number_of(cell) or 0.0 for cell in table.find(name)] for name in domains]).T
    slack = min(ROUNDING * len(domains), MOST_ROUNDING)
    allowed = f"shares that sum to 1, to within {slack:g} (three decimals each)"
    for row in range(len(table)):
        sum_ = float(raw_TK[row].sum())
        if math.isclose(sum_, 100, abs_tol=100 * slack):
            name, share = next((n, s) for n, s in zip(domains, raw_TK[row], strict=True) if s > 0)
            raise UsageError(
                f"{table.rows[row]}: the {len(domains)} shares sum to {sum_:g}, so they are percentages",
                where=table.name,
                allowed=allowed,
                do=f'write shares: {share / 100:g} for {share:g} in "{name}"',
            )
        for name in domains:
            value_of("ratio", table.columns[name][row], table, row, name)
        if abs(sum_ - 1) > slack + 1e-9:
            raise UsageError(
                f"{table.rows[row]}: the {len(domains)} shares sum to {sum_:.6g}",
                where=table.name,
                allowed=allowed,
                do="name the columns of all domains in --weights, or mend the row",
            )
    return raw_TK
