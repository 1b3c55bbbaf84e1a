"""A few thousand of the cases of tests/fuzz/run.py, the same each time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from run import fuzz, quiet
from targets import TARGETS, beside

CASES = 120


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_accepted(tmp_path, name):
    """Else the changes would be of what is refused in any case."""
    target = TARGETS[name]
    for number, content in enumerate(target.seeds()):
        folder = tmp_path / str(number) / ("docs-abcdefabcdef" if name == "manifest" else "base")
        beside(folder, target.file)
        (folder / target.file).write_bytes(content)
        target.tried(folder / target.file)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_a_traceback_a_hang_or_wrong(tmp_path, name):
    quiet()
    found = fuzz(name, CASES, 0, tmp_path)
    assert not found.findings, [(end, kept.name) for end, kept in found.findings[:3]]
    assert sum(found.ends.values()) == CASES and found.ends["refused"] + found.ends["accepted"] == CASES
