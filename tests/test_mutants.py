"""The mutants of benchmarks/mutants.py are still about code that is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[1]


def test_no_mutant_is_stale() -> None:
    spec = importlib.util.spec_from_file_location("mutants", HOUSE / "benchmarks" / "mutants.py")
    assert spec and spec.loader
    mutants = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = mutants  # dataclasses look their module up
    spec.loader.exec_module(mutants)
    assert len(mutants.MUTANTS) >= 40 and len({one.name for one in mutants.MUTANTS}) == len(mutants.MUTANTS)
    assert not [one.name for one in mutants.MUTANTS if mutants.stale(one) or one.old == one.new]
    named = {f"tests/{test.partition('::')[0]}" for one in mutants.MUTANTS for test in one.tests.split()}
    assert not [name for name in named if not (HOUSE / name).is_file()]
