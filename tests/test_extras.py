"""Advice to install something works in the installation that gives it."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from graft.core.config import extras
from graft.core.config.extras import pip_install, requirements

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize(("extra", "package"), [("eval", "lm-eval"), ("regmix", "lightgbm")])
def test_what_is_advised_is_what_the_project_requires(extra: str, package: str) -> None:
    assert requirements(extra) == EXTRAS[extra]
    assert pip_install(extra, package) == "pip install " + " ".join(f'"{one}"' for one in EXTRAS[extra])
    assert EXTRAS[extra][0].startswith(package)


def test_without_an_installation_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras.metadata, "requires", missing)
    assert pip_install("eval", "lm-eval") == 'pip install "lm-eval"'


def test_nothing_advises_to_install_this_package_from_an_index() -> None:
    """It is on none: whoever follows the advice would get an error, or the package of somebody else."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.html"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    found = [path.name for path in files if re.search(r"pip install[^\n]*graft-lm", path.read_text(encoding="utf-8"))]
    assert found == [] and len(files) > 100
