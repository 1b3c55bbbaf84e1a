"""docs/where.md: a newcomer's questions, each answered within three files that hold the names it gives."""

from __future__ import annotations

import re

import pytest

from graft.core.config.plugins import HOUSE

PAGE = HOUSE.parents[1] / "docs" / "where.md"
ROWS = re.findall(r"^\| ([^|]+) \| `([^|`]+)` \| `([^|`]+)` \|$", PAGE.read_text(encoding="utf-8"), re.M)


def test_every_question_has_an_answer() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 1 >= 20  # but for the head


@pytest.mark.parametrize(("question", "file", "name"), ROWS)
def test_an_answer_is_where_the_page_says(question: str, file: str, name: str) -> None:
    text = (HOUSE / file).read_text(encoding="utf-8")
    defined = rf"^\s*(def|class) {re.escape(name)}\b|^{re.escape(name)}\b.*= |{{.*\b{re.escape(name)}\b.*}}"
    assert re.search(defined, text, re.M), f"{name} is not defined in {file}"


def test_no_question_takes_more_than_three_files() -> None:
    files: list[set[str]] = []
    for question, file, _ in ROWS:
        if not question.startswith("..."):
            files.append(set())
        files[-1].add(file)
    assert max(map(len, files)) <= 3
