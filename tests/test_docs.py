"""README and docs: every command is one that the command line takes, every file that is named is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from graft.cli.app import app
from graft.core.config.plugins import HOUSE
from graft.core.config.recipe import read_recipe

ROOT = HOUSE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    pytest.param(line, id=f"{page.stem}: {line[:50]}")
    for page in PAGES
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("graft ")
]
LINKS = [
    pytest.param(page, link, id=f"{page.stem}: {link}")
    for page in PAGES
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_only_options_that_there_are(line: str) -> None:
    """The words are read as the command line reads them, and nothing is run."""
    words = shlex.split(line, comments=True)[1:]
    context = None
    command = typer.main.get_command(app)
    while hasattr(command, "resolve_command"):
        context = command.make_context("graft", words[:0], parent=context, resilient_parsing=True)
        _, command, words = command.resolve_command(context, words)
    assert command.make_context(command.name, [word for word in words if word != "..."], parent=context).params
    for recipe in (word for word in words if word.startswith("recipes/")):
        assert read_recipe(ROOT / recipe)


def test_there_are_commands_to_read() -> None:
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    assert (page.parent / link).exists()


def test_files_that_the_map_of_the_code_names_are_there() -> None:
    named = set(re.findall(r"`([\w/]+\.(?:py|js|css|html))`", (ROOT / "docs" / "architecture.md").read_text()))
    roots = (HOUSE, ROOT, HOUSE / "report" / "shared", HOUSE / "jobs")
    assert len(named) > 40
    assert not [name for name in sorted(named) if not any((root / name).is_file() for root in roots)]
