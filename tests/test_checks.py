"""Checks before work: absurd numbers, windows, every fault of a recipe at once, and names that are nearly right."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from graft.budget.walk_back import WalkBack
from graft.cli.app import app
from graft.core.config.errors import UsageError, UsageErrors, flat
from graft.core.config.plugins import Shelf, class_name
from graft.core.config.recipe import build_changed, read_recipe
from graft.core.config.renamed import OLD_NAMES
from graft.core.config.settings_reference import settings_of
from graft.core.store.artifact import Store
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Adapt
from graft.jobs.budget import Budget
from graft.jobs.extend import Extend
from graft.training.settings import Train

JOBS = Shelf("jobs")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ("train.clip=.nan", "a finite number"),
        ("train.learning_rate=.inf", "a finite number"),
        ("train.weight_decay=-.inf", "a finite number"),
        ("replay=.nan", "a finite number"),
        ("train.tokens=9e18", "a whole number up to"),
        ("train.batch_size=9999999999999999", "a whole number up to"),
        ("evaluate.max_tokens=1e17", "a whole number up to"),
    ],
)
def test_numbers_that_no_setting_can_mean_are_refused(change, allowed):
    with pytest.raises(UsageError) as refused:
        build_changed(Adapt, {}, [change])
    key = change.partition("=")[0]
    assert key in str(refused.value) and allowed in str(refused.value)


def test_python_refuses_them_too():
    for settings in ({"clip": math.nan}, {"learning_rate": math.inf}, {"tokens": 10**16}):
        with pytest.raises(UsageError):
            Train(**settings)
    assert Train(seed=2**62).seed == 2**62  # a seed is any number


def test_all_faults_of_a_recipe_are_named_at_once(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "adapt:\n  repley: 0.1\n  domain: a\n  train:\n    tokens: many\n    objective: causl\n    clip: .nan\n"
    )
    with pytest.raises(UsageErrors) as refused:
        read_recipe(path, ["evaluate.split=tset"])
    words = str(refused.value)
    assert words.startswith("5 faults")
    for line, name in ((2, "repley"), (5, "many"), (6, "causl"), (7, "clip")):
        assert f"recipe.yaml:{line}" in words and name in words
    assert refused.value.exit_code == 2
    assert all(not isinstance(one, UsageErrors) for one in flat(refused.value))


def test_one_fault_is_told_as_before(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("adapt:\n  domain: a\n  repley: 0.1\n")
    with pytest.raises(UsageError) as refused:
        read_recipe(path)
    assert not isinstance(refused.value, UsageErrors) and 'did you mean "replay"?' in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "change", "path"),
    [
        (Budget, "train.learning_rate=1e-3", "adapt.train"),
        (Budget, "evaluate.max_tokens=5", "adapt.evaluate"),
        (Budget, "ratios=[0.5]", "pilots.ratios"),
        (Adapt, "rate=1e-3", "train.learning_rate"),
        (Adapt, "train.split.test=0.1", "curate.split"),
        (Adapt, "trian.rate=1e-3", "train"),
    ],
)
def test_an_unknown_path_is_answered_with_the_right_one(kind, change, path):
    with pytest.raises(UsageError) as refused:
        build_changed(kind, {}, [change])
    assert "did you mean" in str(refused.value) and path in str(refused.value).partition("did you mean")[2]


def test_commands_and_flags_that_are_nearly_right_are_answered():
    assert "Did you mean 'adapt'" in run("adpt").output
    assert "--tokens" in run("adapt", "embedded", "--domain", "x", "--tokns", "3").output


def test_the_version_is_that_of_the_installation():
    from importlib.metadata import version

    done = run("--version")
    assert done.exit_code == 0 and done.output.strip() == f"graft {version('graft-lm')}"


@pytest.mark.parametrize("name", JOBS.names())
def test_the_settings_of_every_job_are_listed_with_their_defaults(name):
    done = run("show", name)
    assert done.exit_code == 0
    rows = list(settings_of(JOBS.load(name)))
    assert rows and all(row.path in done.output for row in rows)
    assert name in run("ls", "jobs").output and class_name(name)


def test_a_setting_is_listed_with_its_comment():
    rows = {row.path: row for row in settings_of(Adapt)}
    assert rows["replay"].default == "0.1" and "general text" in rows["replay"].words
    assert rows["train.precision"].allowed == "auto, bf16, fp32"
    assert rows["train.objective"].default == "causal" and "stay_close" in rows["train.objective"].allowed
    assert rows["curate.steps"].default == "[exact_duplicates, overlap]"


def test_a_plug_in_is_shown_with_its_settings():
    done = run("show", "stay_close")
    assert done.exit_code == 0 and "objectives/stay_close" in done.output and "kl_weight" in done.output


@pytest.mark.parametrize("job", [Adapt, Extend])
def test_a_window_larger_than_the_models_is_refused_before_any_work(world, tmp_path, job):
    one = job(base=str(world.base.folder), domain=(str(world.domain),), out=str(tmp_path / "out"))
    wrong = replace(one, train=replace(one.train, sequence_length=4096), evaluate=Evaluate(window=9999))
    with pytest.raises(UsageError) as refused:
        wrong(Store(tmp_path / "store"))
    assert "train.sequence_length is 4096" in str(refused.value) and "evaluate.window is 9999" in str(refused.value)
    assert f"1 to {world.base.window}" in str(refused.value)
    assert not list((tmp_path / "store").glob("docs-*"))


def test_so_is_one_of_a_budget(world, tmp_path):
    inner = Adapt(base=str(world.base.folder), domain=(str(world.domain),), out=str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"walk_back.window is 4096"):
        Budget(adapt=inner, walk_back=WalkBack(window=4096))(Store(tmp_path / "store"))
    assert not list((tmp_path / "store").glob("docs-*"))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("train.window=64", "sequence_length"),
        ("train.rows=4", "batch_size"),
        ("train.micro_rows=4", "micro_batch_size"),
        ("train.rate=1e-3", "learning_rate"),
        ("train.objective.stay_close.leash=1", "kl_weight"),
        ("train.objective.anchor.leash=1", "penalty_weight"),
        ("train.tuning.o_lora.leash=1", "penalty_weight"),
    ],
)
def test_an_old_name_of_a_setting_works_for_one_release_and_is_noted(path: str, new: str) -> None:
    OLD_NAMES.clear()
    keys, _, value = path.partition("=")
    job = build_changed(Adapt, {}, [path])
    assert job == build_changed(Adapt, {}, [f"{keys.rpartition('.')[0]}.{new}={value}"])
    assert {keys: new} == OLD_NAMES


def test_an_old_and_a_new_name_together_are_refused() -> None:
    with pytest.raises(UsageError, match='unknown key "rows"') as refused:
        build_changed(Adapt, {"train": {"rows": 4, "batch_size": 4}}, [])
    assert "it is called batch_size now" in str(refused.value)
