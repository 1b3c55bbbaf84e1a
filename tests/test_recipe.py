"""Recipes and settings: every wrong key or value is named with file, line, what is allowed and the nearest name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command import call
from graft.core.config.errors import UsageError
from graft.core.config.recipe import read_recipe
from graft.core.config.settings import build, to_json, whole_number
from graft.data.steps.exact_duplicates import ExactDuplicates
from graft.data.steps.overlap import Overlap
from graft.jobs.adapt import Adapt
from graft.jobs.pretrain import Pretrain
from graft.training.objectives.causal import Causal
from graft.training.objectives.stay_close import StayClose
from graft.training.schedules.cosine import Cosine

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
            objective: {stay_close: {kl_weight: 0.5}}
            schedule: cosine
            learning_rate: 1e-3
            tokens: 20_000
        """,
    )
    assert job.domain == ("a", "b") and job.replay == 0.25
    assert job.train.objective == StayClose(0.5) and job.train.schedule == Cosine()
    assert job.train.learning_rate == 1e-3 and job.train.tokens == 20_000


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
        (
            "adapt:\n  train:\n    objective: {stay_close: {kl_wieght: 1}}\n",
            3,
            'unknown key "kl_wieght"|did you mean "kl_weight"',
        ),
        ("adapt:\n  train:\n    objective: {stay_close: {kl_weight: -1.0}}\n", 3, "kl_weight is -1.0|0 or more"),
        ("adapt:\n  replay: 20\n", 1, "replay is 20|20 % is 0.2"),
        ("adapt:\n  train: {precision: fp8}\n", 2, "precision is 'fp8'|bf16, fp32"),
        ("adapt:\n  train: 7\n", 2, "train is 7|a mapping with the keys objective"),
        ("adapt:\n  domain: a\n  domain: b\n", 3, 'key "domain" is given twice|first is on line 2'),
        ("adopt:\n  domain: a\n", 1, 'no job "adopt"|did you mean "adapt"'),
        ("adapt:\n  domain: [a\n", 3, "not YAML"),
        ("adapt:\n  train:\n    objective: my.own.Thing\n", 3, 'cannot import "my.own.Thing"'),
        ("adapt:\n  train:\n    objective: .own.Thing\n", 3, 'cannot import ".own.Thing"'),
        ("adapt:\n  train: {tokens: 2024-13-45}\n", 2, "not YAML"),
        ("adapt:\n  train: {tokens: !!python/name:os.system x}\n", 2, "not YAML"),
        ("adapt:\n  domain: &a [*a]\n", 2, "refers to itself"),
        ("adapt:\n  ? [a, b]\n  : 1\n", 2, "a key is a list|allowed: .*name"),
        ("adapt:\n  train:\n    objective:\n", 3, "train.objective is nothing|one name from [a-z_, ]*causal"),
        ("adapt:\n  curate:\n    steps:\n", 3, "curate.steps is nothing|a list of names from exact_duplicates"),
        ("adapt:\n  examine:\n    probes: blame\n", 2, "probes are blame|forgetting among them"),
        ("adapt:\n  examine:\n    probes: []\n", 2, "probes are none|forgetting among them"),
        ("adapt:\n  examine:\n    probes: [forgetting, blame, {blame: {min_count: 2}}]\n", 2, "blame twice|once"),
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
    with pytest.raises(
        UsageError,
        match="exactly one, naming the job: adapt, budget, compare, continual, eval, extend, pretrain, report",
    ):
        read(tmp_path, text)


def test_a_missing_recipe_names_its_neighbours(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(UsageError, match='did you mean "quickstart.yaml"'):
        read_recipe(tmp_path / "quickstrat.yaml")


def test_changes_are_laid_over_a_recipe(tmp_path):
    text = "adapt:\n  train:\n    objective: stay_close\n"
    job = read(tmp_path, text, "train.objective.stay_close.kl_weight=0.7", "train.batch_size=8", "replay=0.5")
    assert job.train.objective == StayClose(0.7) and job.train.batch_size == 8 and job.replay == 0.5
    with pytest.raises(UsageError, match="key=value"):
        read(tmp_path, text, "train.batch_size")


@pytest.mark.parametrize("written", ["1e6", "1_000_000", "1000000.0", "1M", "1000k", "1m", "0.001B"])
def test_whole_numbers_may_be_written_short(tmp_path, written):
    """One reading for recipes, --set and --tokens."""
    recipe = f"adapt:\n  train:\n    tokens: {written}\n"
    assert read(tmp_path, recipe).train.tokens == 1_000_000
    assert read(tmp_path, "adapt: {}", f"train.tokens={written}").train.tokens == 1_000_000
    assert isinstance(read(tmp_path, recipe).train.tokens, int)
    assert whole_number(written) == 1_000_000


@pytest.mark.parametrize(
    "written", ["1.5", "400kk", "k", "1.0005k", "nan", ".inf", "inf", "1e400", "1e30", "true", "two", "''"]
)
def test_what_is_no_whole_number_is_refused(tmp_path, written):
    with pytest.raises(UsageError, match="a whole number") as caught:
        read(tmp_path, f"adapt:\n  train:\n    tokens: {written}\n")
    assert caught.value.where.endswith("recipe.yaml:3")


def test_short_numbers_are_for_whole_numbers_alone(tmp_path):
    with pytest.raises(UsageError, match="train.learning_rate is '1k'"):
        read(tmp_path, "adapt:\n  train: {learning_rate: 1k}\n")
    assert read(tmp_path, "adapt:\n  domain: 20M\n").domain == ("20M",)  # a folder of that name


def test_a_dotted_path_changes_one_plugin_of_a_list_and_keeps_the_others(tmp_path):
    changed = read(tmp_path, "adapt: {}", "curate.steps.overlap.tolerance=0.1", "curate.steps.overlap.n=8")
    assert changed.curate.steps == (ExactDuplicates(), Overlap(8, 0.1))
    given = "adapt:\n  curate:\n    steps: [{overlap: {n: 5}}, exact_duplicates]\n"
    changed = read(tmp_path, given, "curate.steps.overlap.tolerance=0.1")
    assert changed.curate.steps == (Overlap(5, 0.1), ExactDuplicates())
    single = read(tmp_path, "adapt:\n  curate: {steps: overlap}\n", "curate.steps.overlap={n: 3}")
    assert single.curate.steps == (Overlap(3),)
    whole = read(tmp_path, "adapt: {}", "curate.steps=[overlap]")
    assert whole.curate.steps == (Overlap(),)


@pytest.mark.parametrize(
    ("recipe", "change", "words"),
    [
        ("adapt: {}", "curate.steps.overlep.n=1", 'no steps plug-in is called "overlep"|did you mean "overlap"'),
        ("adapt: {curate: {steps: [exact_duplicates]}}", "curate.steps.overlap.n=1", "overlap is not in|curate.steps="),
        ("adapt: {curate: {steps: [overlap, {overlap: {n: 2}}]}}", "curate.steps.overlap.n=1", "stands 2 times"),
        ("adapt: {}", "curate.steps.overlap.m=1", 'unknown key "m"|tolerance'),
        ("adapt: {}", "curate.steps.0.n=1", 'no steps plug-in is called "0"|exact_duplicates'),
        ("adapt: {}", "replay.x=1", "replay has no keys|a number"),
        ("adapt: {replay: 0.1}", "replay.x=1", "replay has no keys|a number"),
        ("adapt: {domain: a}", "domain.x=1", "domain has no keys|a list of text"),
        ("adapt: {domain: [a]}", "domain.x=1", "domain has no keys|a list of text"),
        ("adapt: {}", "train.tokens.x=1", "train.tokens has no keys|a whole number or nothing"),
        ("adapt: {}", "train.batch_size=[8", "not YAML"),
        ("adapt: {}", "train.batch_size={a: 1, a: 2}", "given twice"),
        ("adapt: {}", "train.batch_size=!x 1", "not YAML"),
        ("adapt: {}", "trian.rows=8", 'unknown key "trian"|did you mean "train"'),
        ("adapt: {}", "train..rows=8", 'unknown key ""'),
        ("adapt: {}", "=8", 'unknown key ""'),
        ("adapt: {}", "train.batch_size=many", "train.batch_size is 'many'|whole number"),
        ("adapt: {}", "curate.steps.overlap.n=0", "n is 0|1 word or more"),
        ("adapt: {}", "train.objective.cuasal.x=1", 'called "cuasal"|did you mean "causal"'),
        ("adapt: {}", "train.objective.causal.x=1", 'unknown key "x"|no keys'),
    ],
)
def test_a_wrong_change_is_named_by_itself(tmp_path, recipe, change, words):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, recipe, change)
    assert f"--set {change}" in caught.value.where and caught.value.allowed, str(caught.value)
    for word in words.split("|"):
        assert word in str(caught.value), (word, str(caught.value))


@pytest.mark.parametrize(
    ("settings", "change", "words"),
    [
        ("train: 7", "train.batch_size=8", "train is 7|a mapping with the keys objective"),
        ("curate: {steps: 7}", "curate.steps.overlap.n=1", "overlap is not in curate.steps"),
        ("curate: {steps: [7, overlap]}", "curate.steps.overlap.n=1", "curate.steps.0 is 7|one name from"),
        ("train: {objective: 7}", "train.batch_size=8", "train.objective is 7|one name from"),
    ],
)
def test_a_change_does_not_hide_what_is_wrong_below_it(tmp_path, settings, change, words):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f"adapt:\n  {settings}\n", change)
    assert all(word in str(caught.value) for word in words.split("|")), str(caught.value)


def test_a_change_may_name_another_plugin(tmp_path):
    assert read(tmp_path, "adapt: {}", "train.objective.stay_close.kl_weight=0.7").train.objective == StayClose(0.7)
    given = "adapt: {train: {objective: {stay_close: {kl_weight: 0.5}}}}"
    assert read(tmp_path, given, "train.objective.stay_close={}").train.objective == StayClose()
    assert read(tmp_path, given, "train.objective=causal").train.objective == Causal()


def test_a_key_with_nothing_under_it_changes_nothing(tmp_path):
    """As when every line under `train:` is a comment."""
    assert read(tmp_path, "adapt:\n  train:\n    # rows: 8\n") == Adapt()
    assert read(tmp_path, "pretrain:\n  train:\n") == Pretrain() and read(tmp_path, "adapt:\n") == Adapt()


def test_a_jobs_own_defaults_outlive_a_change_beside_them(tmp_path):
    """Pretrain trains at another rate than Train says; naming the rows must not take that away."""
    for job in (
        read(tmp_path, "pretrain: {train: {batch_size: 8}}"),
        read(tmp_path, "pretrain: {}", "train.batch_size=8"),
    ):
        assert (job.train.batch_size, job.train.learning_rate) == (8, Pretrain().train.learning_rate)


def test_settings_survive_json():
    job = Adapt(domain=("a",), replay=0.3)
    assert build(Adapt, json.loads(json.dumps(to_json(job)))) == job


def test_a_users_own_plugin_is_its_dotted_path(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n@dataclass(frozen=True)\nclass Mine:\n"
        "    '''Mine.'''\n    size: int = 3\n"
        "    def bind(self, start, load): ...\n"
        "@dataclass(frozen=True)\nclass Step:\n    '''A step.'''\n    size: int = 3\n"
        "    reasons: ClassVar[tuple] = ()\n    def mark(self, documents): ...\n"
        "class Loose: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    job = read(tmp_path, "adapt:\n  train:\n    objective: {mine.Mine: {size: 4}}\n")
    assert job.train.objective.size == 4
    assert to_json(job)["train"]["objective"] == {"mine.Mine": {"size": 4}}
    job = read(tmp_path, "adapt:\n  train:\n    objective: mine.Mine\n", "train.objective.mine.Mine.size=5")
    assert job.train.objective.size == 5
    steps = read(tmp_path, "adapt: {curate: {steps: [overlap, mine.Step]}}", "curate.steps.mine.Step.size=6")
    assert steps.curate.steps[0] == Overlap() and steps.curate.steps[1].size == 6
    with pytest.raises(UsageError, match="not a dataclass"):
        read(tmp_path, "adapt:\n  train:\n    objective: mine.Loose\n")


def test_reading_a_recipe_leaves_torch_unloaded():
    code = (
        "import sys; from graft.core.config.recipe import read_recipe; "
        f"read_recipe({str(RECIPES[0])!r}); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=500, check=False).returncode == 0


@pytest.mark.parametrize(
    ("old", "new"), [("stream", "continual"), ("versus", "compare"), ("overview", "report"), ("benchmark", "eval")]
)
def test_an_old_key_stops_with_the_new_one(tmp_path, old, new):
    with pytest.raises(UsageError, match=f'no job "{old}"') as caught:
        read(tmp_path, f"{old}: {{}}\n")
    assert f"it is called {new} now" in str(caught.value)


def test_an_old_command_stops_with_the_new_one():
    ended = call("stream", "recipe.yaml", "--plan", "--set", "a=b")
    assert ended.returncode == 2 and "graft continual" in ended.stderr
