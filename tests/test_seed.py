"""Named random streams, and the orders that are drawn from them anew for every pass over a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import write_source
from graft.core.stats.random_streams import stream
from graft.core.tokens.token_shards import TokenSource
from graft.packing.rows import Packed, RowOrder
from graft.packing.sampler import Sampler

ROWS = {"stream": RowOrder, "whole": Packed}


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, "2"), (12,)), ((0, "ab", "c"), (0, "a", "bc")), ((0, "rows", 1, 2), (0, "rows", 12)), ((0, ""), (0,))],
)
def test_paths_of_names_do_not_run_together(one: tuple, other: tuple) -> None:
    assert stream(*one).integers(1 << 62) != stream(*other).integers(1 << 62)
    assert stream(*one).integers(1 << 62) == stream(*one).integers(1 << 62)


def by_epoch(
    folder: Path, make: Callable[..., RowOrder | Packed], lengths: list[int], seed: int = 0
) -> list[list[int]]:
    """The documents of each of three passes, in the order in which rows hold them, as rows are laid."""
    rows = make(write_source(folder, "domain", lengths), 40, seed)
    orders = []
    for epoch in range(3):
        if isinstance(rows, RowOrder):
            orders.append(rows._order(epoch)[0].tolist())  # type: ignore[attr-defined]
        else:
            orders.append(rows._epoch(epoch).document_N.tolist())  # type: ignore[attr-defined]
    return orders


def is_chance(orders: list[list[int]]) -> bool:
    """Whether no pass repeats another: of many documents hardly any stands twice at the same place."""
    pairs = [(0, 1), (0, 2), (1, 2)]
    return all(np.mean(np.array(orders[a]) == np.array(orders[b])) < 0.2 for a, b in pairs)


@pytest.mark.parametrize("packing", ROWS)
def test_documents_are_drawn_anew_for_every_pass(packing: str, tmp_path: Path) -> None:
    """Documents of one length, so that how they are laid into rows follows from their order alone."""
    orders = by_epoch(tmp_path, ROWS[packing], [41] * 200)
    assert all(sorted(order) == list(range(200)) for order in orders)
    assert is_chance(orders)


def neighbours(rows: RowOrder | Packed, epoch: int, num: int) -> set[frozenset[int]]:
    """Which documents share a row in a pass of `num` rows."""
    return {frozenset(piece.document for piece in rows.row(n)) for n in range(epoch * num, (epoch + 1) * num)}


@pytest.mark.parametrize("packing", ROWS)
def test_other_documents_share_a_row_in_every_pass(packing: str, tmp_path: Path) -> None:
    """Seen from the rows: two documents fill one exactly, and the next pass pairs them otherwise."""
    source: TokenSource = write_source(tmp_path, "domain", [21] * 200)
    rows = ROWS[packing](source, 40, 0)
    first, second = (neighbours(rows, epoch, 100) for epoch in (0, 1))
    assert len(first) == len(second) == 100 and len(first & second) < 20


@pytest.mark.parametrize("packing", ROWS)
def test_rows_are_taken_in_an_order_of_their_own_in_every_pass(packing: str, tmp_path: Path) -> None:
    """A single document that fills many rows: the order of its stretches is that of the rows."""
    rows = ROWS[packing](write_source(tmp_path, "domain", [40 * 200 + 1]), 40, 0)
    orders = [[rows.row(epoch * 200 + n)[0].first for n in range(200)] for epoch in range(3)]
    assert all(sorted(order) == list(range(0, 8000, 40)) for order in orders)
    assert is_chance(orders)


def test_which_source_a_row_comes_from_depends_on_the_seed(tmp_path: Path) -> None:
    """Else all seeds of a study would mix alike. Every seed keeps the shares."""
    sources = {name: write_source(tmp_path / name, name, [41] * 50) for name in ("domain", "general")}
    orders = []
    for seed in range(4):
        sampler = Sampler(sources, {"domain": 0.7, "general": 0.3}, window=40, rows=10, seed=seed)
        orders.append([sampler.row(number)[0].source for number in range(200)])
        assert orders[-1].count("domain") == pytest.approx(140, abs=3)
    assert len({tuple(order) for order in orders}) == 4
