"""Recipes and settings: every wrong key or value is named with file, line, what is allowed and the nearest name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graft.core.errors import UsageError
from graft.core.settings import build, to_json
from graft.jobs.adapt import Adapt
from graft.objectives.stay_close import StayClose
from graft.recipe import read_recipe
from graft.schedules.cosine import Cosine

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def read(tmp_path, text, *changes):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path, changes)


def test_a_recipe_becomes_settings(tmp_path):
    job = read(
        tmp_path,
        """
        adapt:
          domain: [a, b]
          replay: 0.25
          train:
            objective: {stay_close: {leash: 0.5}}
            schedule: cosine
            rate: 1e-3
            tokens: 20_000
        """,
    )
    assert job.domain == ("a", "b") and job.replay == 0.25
    assert job.train.objective == StayClose(0.5) and job.train.schedule == Cosine()
    assert job.train.rate == 1e-3 and job.train.tokens == 20_000


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_house_can_be_read(recipe):
    assert read_recipe(recipe)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("adapt:\n  domain: a\n  repley: 0.1\n", 3, 'unknown key "repley"|did you mean "replay"|allowed: .*general'),
        ("adapt:\n  train:\n    tokens: many\n", 3, "train.tokens is 'many'|a whole number or nothing"),
        ("adapt:\n  train:\n    tokens: 1.5\n", 3, "train.tokens is 1.5|whole number"),
        ("adapt:\n  train:\n    objective: stay_clos\n", 3, 'called "stay_clos"|did you mean "stay_close"'),
        ("adapt:\n  train:\n    objective: {stay_close: {leesh: 1}}\n", 3, 'unknown key "leesh"|did you mean "leash"'),
        ("adapt:\n  train:\n    objective: {stay_close: {leash: -1.0}}\n", 3, "leash is -1.0|0 or more"),
        ("adapt:\n  replay: 20\n", 1, "replay is 20|20 % is 0.2"),
        ("adapt:\n  train: {precision: fp8}\n", 2, "precision is 'fp8'|bf16, fp32"),
        ("adapt:\n  train: 7\n", 2, "train is 7|a mapping with the keys objective"),
        ("adapt:\n  domain: a\n  domain: b\n", 3, 'key "domain" is given twice|first is on line 2'),
        ("adopt:\n  domain: a\n", 1, 'no job "adopt"|did you mean "adapt"'),
        ("adapt:\n  domain: [a\n", 3, "not YAML"),
        ("adapt:\n  train:\n    objective: my.own.Thing\n", 3, 'cannot import "my.own.Thing"'),
    ],
)
def test_a_wrong_recipe_is_named_by_line(tmp_path, text, line, words):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.where.startswith(f"{tmp_path / 'recipe.yaml'}:{line}")
    for word in words.split("|"):
        assert __import__("re").search(word, str(caught.value)), (word, str(caught.value))


@pytest.mark.parametrize("text", ["", "[]", "adapt: {}\npretrain: {}\n"])
def test_a_recipe_has_one_job(tmp_path, text):
    with pytest.raises(UsageError, match="exactly one, naming the job: adapt, pretrain"):
        read(tmp_path, text)


def test_a_missing_recipe_names_its_neighbours(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(UsageError, match='did you mean "quickstart.yaml"'):
        read_recipe(tmp_path / "quickstrat.yaml")


def test_changes_are_laid_over_a_recipe(tmp_path):
    text = "adapt:\n  train:\n    objective: stay_close\n"
    job = read(tmp_path, text, "train.objective.stay_close.leash=0.7", "train.rows=8", "replay=0.5")
    assert job.train.objective == StayClose(0.7) and job.train.rows == 8 and job.replay == 0.5
    with pytest.raises(UsageError, match="key=value"):
        read(tmp_path, text, "train.rows")


def test_settings_survive_json():
    job = Adapt(domain=("a",), replay=0.3)
    assert build(Adapt, json.loads(json.dumps(to_json(job)))) == job


def test_a_users_own_plugin_is_its_dotted_path(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    '''Mine.'''\n    size: int = 3\n"
        "class Loose: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = read(tmp_path, "adapt:\n  train:\n    objective: {mine.Mine: {size: 4}}\n")
    assert job.train.objective.size == 4
    assert to_json(job)["train"]["objective"] == {"mine.Mine": {"size": 4}}
    with pytest.raises(UsageError, match="not a dataclass"):
        read(tmp_path, "adapt:\n  train:\n    objective: mine.Loose\n")


def test_reading_a_recipe_leaves_torch_unloaded():
    code = (
        "import sys; from graft.recipe import read_recipe; "
        f"read_recipe({str(RECIPES[0])!r}); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
