"""The recipes in the house: each can be read, planned without torch, and run; together they use all that is on the
shelves. And the page on objectives and tunings says of each what it is for and what can be set."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import call
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.recipe import read_recipe
from graft.core.config.settings import to_json
from graft.embedded.text import Embedded
from graft.jobs.adapt import ANSWERS_NOTE, PAIRS_NOTE, Adapt
from graft.jobs.budget import Budget
from graft.jobs.continual import Continual

HOUSE = Path(__file__).parents[1]
RECIPES = {path.stem: path for path in sorted((HOUSE / "recipes").glob("*.yaml"))}
PAGE = HOUSE / "docs" / "objectives.md"
SHELVES = ("objectives", "tunings", "schedules")
ENTRIES = [(shelf, name) for shelf in ("objectives", "tunings") for name in Shelf(shelf).names()]

# As little as still goes through every stage. Of the tokens of a step, two steps at most; of the embedded texts, every
# so many-th module. In float32, which every processor multiplies well.
FEW = {"train.tokens": 1024, "train.sequence_length": 128, "train.evaluations": 1, "train.validation_tokens": 200}
FEW |= {"train.precision": "fp32"}
MODULES = 30
ENOUGH_STEPS = {
    "adapt.train.tokens": 16 * 128,
    "adapt.train.sequence_length": 128,
    "adapt.train.batch_size": 1,
    "pilots.share": 1.0,
    "pilots.ratios": [1.0, 0.5],
}
ENOUGH_STEPS |= {"pilots.looks": 3, "pilots.validation_tokens": 400, "walk_back.max_tokens": 500}
FEW_SCORED = {"evaluate.max_tokens": 400}
OWN = {
    "embedded_base": {"text": "embedded:prose", "train.tokens": 2048},  # a fifth of the text that it is for
    "recall": {"recall.tokens": 4000, "recall.limit": 63},
    "extend": {"growth.tokens": 20},
    "benchmark": {"answer.limit": 60},
    "denoise": {"train.batch_size": 8},
    "masked": {"train.batch_size": 8},
    "range_test": {"train.range_test.steps": 8},
    "ewc": {"train.objective.anchor.fisher_rows": 4},
    "continual": {"train.tokens": 1024, "train.sequence_length": 128, "evaluate.max_tokens": 500},
    "quickstart": {"train.minutes": "null"},  # benchmarks/demo.py runs it as it is
}

each_recipe = pytest.mark.parametrize("name", list(RECIPES))
each_entry = pytest.mark.parametrize(("shelf", "name"), ENTRIES, ids=lambda value: value)


def needs(name: str) -> list[str]:
    """The recipes whose outcome this one reads: they come first."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (text for key, inner in value.items() if key != "out" for text in texts(inner))
        elif isinstance(value, list):
            yield from (text for inner in value for text in texts(inner))
        elif isinstance(value, str):
            yield value

    found = [re.match(r"runs/(\w+)/", text) for text in texts(yaml.safe_load(RECIPES[name].read_text()))]
    return list(dict.fromkeys(match[1] for match in found if match))


def trains(name: str) -> bool:
    return hasattr(read_recipe(RECIPES[name]), "train")


@each_recipe
def test_a_recipe_says_how_it_is_run_and_where_its_outcome_lies(name: str) -> None:
    text = RECIPES[name].read_text()
    job = read_recipe(RECIPES[name])
    assert job.out == f"runs/{name}"
    assert text.startswith("# ")
    for other in needs(name):
        assert other in RECIPES and f"recipes/{other}.yaml" in text, "it says which recipe has to be run before"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What planning each recipe came to, from an empty store: in one process, which has not loaded torch."""
    code = """
import functools, json, sys
from pathlib import Path
from graft.planning import text as forecasts
from graft.core.store.artifact import Store
from graft.core.config.errors import GraftError
from graft.planning import forecast, show_forecast
from graft.core.config.recipe import read_recipe
from graft.embedded.text import Embedded
Embedded.named = staticmethod(lambda name: Embedded(name, every=EVERY))
forecasts.survey = functools.cache(forecasts.survey)  # many recipes are about the same text
found = {}
for path in sys.argv[1:]:
    try:
        show_forecast(forecast(read_recipe(Path(path)), Store(Path("store"))))
        found[Path(path).stem] = "planned"
    except GraftError as error:
        found[Path(path).stem] = str(error)
    if "torch" in sys.modules:
        found[Path(path).stem] += ", and torch is loaded"
print("\\n" + json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("EVERY", str(MODULES)), *map(str, RECIPES.values())],
        capture_output=True, text=True, timeout=600, check=True, cwd=tmp_path_factory.mktemp("planned"),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@each_recipe
def test_a_recipe_is_planned_without_torch(name: str, planned: dict[str, str]) -> None:
    if not trains(name):  # there is nothing to plan, and that is said
        assert "trains nothing" in planned[name] and "torch" not in planned[name]
    elif needs(name):  # what it reads of another is not there yet, and that is said before any work
        assert any(f"runs/{other}/" in planned[name] for other in needs(name)) and "torch" not in planned[name]
    else:
        assert planned[name] == "planned"


Run = Callable[[str], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a recipe, and before it those whose outcome it reads, by command line in one working folder.

    The texts are those that the recipes name, thinned; they are read whole in test_embedded_text.py.
    """
    folder = tmp_path_factory.mktemp("recipes")
    thinned = pytest.MonkeyPatch()
    thinned.setattr(Embedded, "named", lambda name: Embedded(name, every=MODULES))
    done: dict[str, Path] = {}

    def run_one(name: str) -> Path:
        for other in needs(name):
            run_one(other)
        if name not in done:
            changes = FEW if trains(name) else {}
            changes = (
                changes | (FEW_SCORED if hasattr(read_recipe(RECIPES[name]), "evaluate") else {}) | OWN.get(name, {})
            )
            if isinstance(read_recipe(RECIPES[name]), Budget):  # as the job inside it knows them
                changes = {f"adapt.{key}": value for key, value in (changes | FEW_SCORED).items()} | ENOUGH_STEPS
            said = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
            process = call("run", RECIPES[name], "--store", "store", *said, cwd=folder, COLUMNS="200")
            assert process.returncode == 0, process.stderr[-2000:]
            done[name] = folder / "runs" / name
        return done[name]

    run_one("quickstart")  # reads and tokenises what most others go on with
    yield run_one
    thinned.undo()


@pytest.mark.slow
@each_recipe
def test_a_recipe_runs_to_its_end(name: str, run: Run) -> None:
    out = run(name)
    if not trains(name) or isinstance(read_recipe(RECIPES[name]), Continual):  # nor does a stream leave one model
        assert json.loads((out / "summary.json").read_text())["verdict"]
        assert (out / "report.html").stat().st_size > 10_000
        return
    assert (out / "model" / "model.safetensors").exists() and (out / "model" / "tokenizer.json").exists()
    if isinstance(read_recipe(RECIPES[name]), Adapt):
        summary = json.loads((out / "summary.json").read_text())
        assert summary["domain"]["tokens_scored"] > 0 and summary["general"]["tokens_scored"] > 0
        assert (out / "report.html").stat().st_size > 10_000


@each_recipe
def test_a_run_says_of_what_its_losses_are(name: str) -> None:
    job = read_recipe(RECIPES[name])
    if isinstance(job, Adapt):
        assert (ANSWERS_NOTE in job.notes) == (name in ("sft", "dpo", "orpo"))
        assert (PAIRS_NOTE in job.notes) == (name in ("dpo", "orpo"))


@pytest.mark.parametrize("shelf", SHELVES)
def test_all_that_is_on_the_shelves_is_used_by_a_recipe(shelf: str) -> None:
    """By name or, where a recipe says nothing, as the default."""
    used = {plugin_name(getattr(read_recipe(path).train, shelf[:-1])) for name, path in RECIPES.items() if trains(name)}
    assert not set(Shelf(shelf).names()) - used, "no recipe shows these"


def sections() -> dict[str, str]:
    """The page by its headings that name a plug-in: "### `stay_close`" -> the text below."""
    parts = re.split(r"^#{2,3} (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    return {title.strip("`"): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


@each_entry
def test_the_page_on_objectives_says_all_of_it(shelf: str, name: str) -> None:
    """What it is for, its formula, costs, source, when not, its settings with their defaults, and a recipe with it."""
    assert name in sections(), f"docs/objectives.md says nothing of the {shelf[:-1]} {name}"
    text = sections()[name]
    for part in ("**For**", "**Formula**", "**Costs**", "**Source**", "**Not when**", "**Recipe**"):
        assert part in text, f"{part} is missing in the section on {name}"
    plugin = Shelf(shelf).load(name)()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, flags=re.MULTILINE))
    settings = {one.name: json.dumps(to_json(getattr(plugin, one.name))) for one in dataclasses.fields(plugin)}
    assert rows == settings, f"the settings of {name} or their defaults are others"
    named = re.findall(r"recipes/(\w+)\.yaml", text.partition("**Recipe**")[2])
    assert named and all(plugin_name(getattr(read_recipe(RECIPES[one]).train, shelf[:-1])) == name for one in named)


def test_the_page_names_no_plugin_that_is_gone() -> None:
    titles = [title for title in sections() if re.fullmatch(r"[a-z0-9_]+", title)]
    assert sorted(titles) == sorted(name for _, name in ENTRIES)
    text = PAGE.read_text()
    for shelf in ("objectives", "tunings"):
        for name in Shelf(shelf).names():
            assert f"](#{name})" in text, f"the table at the top does not lead to {name}"
