"""One contract for every plug-in: found by its file, one class named as it, frozen, documented, its shelf's verb."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
from typing import Literal, get_origin, get_type_hints

import pytest

from graft.core.config.errors import UsageError
from graft.core.config.plugins import FOLDERS, Shelf, class_name, file_name, plugin_name
from graft.core.config.settings import build_plugin, to_json
from graft.data.mark_documents import check_step
from graft.data.tokenize import Tokenize
from graft.evaluation.score_documents import Evaluate
from graft.surgery.extend_vocabulary import Growth
from graft.surgery.initialize import Initialize
from graft.synthesis.sample_base import Recall
from graft.training.cache_teacher import Consult
from graft.training.decay_branch import DecayNow
from graft.training.settings import Train

VERBS = {
    "objectives": {"bind": ["start", "load"]},
    "tunings": {"apply": ["model"], "fold": ["model"]},
    "schedules": {"__call__": ["step", "steps"]},
    "steps": {"mark": ["documents"]},
    "metrics": {"__call__": ["evidence"]},
    "probes": {"__call__": ["before", "after"]},
    "laws": {"fit": ["trials"]},
    "similarities": {"__call__": ["text", "reference"]},
    "methods": {"__call__": ["turn"]},
    "stream_metrics": {"__call__": ["scores"]},
}
OF_CORPUS = {"mark_corpus": ["needs"]}  # the verb of the other kind of curation step
MAY = {"steps": {"expect"}}  # what a plug-in may offer besides
EVERY = [(shelf, name) for shelf in FOLDERS for name in Shelf(shelf).names()]
each_plugin = pytest.mark.parametrize(("shelf", "name"), EVERY, ids=lambda value: value)


def test_every_shelf_is_known_and_stocked():
    assert set(VERBS) == set(FOLDERS)
    assert all(Shelf(shelf).names() for shelf in FOLDERS)


@each_plugin
def test_the_file_is_the_name(shelf, name):
    kind = Shelf(shelf).load(name)
    module = importlib.import_module(f"{Shelf(shelf).package}.{name}")
    own = [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]
    public = [one for one in own if not one.__name__.startswith("_")]
    assert public == [kind] and kind.__name__ == class_name(name) and file_name(kind.__name__) == name


@each_plugin
def test_a_plugin_is_a_frozen_dataclass_of_defaulted_settings(shelf, name):
    kind = Shelf(shelf).load(name)
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert kind.__mro__[1:] == (object,)
    assert kind() == kind()  # every setting has a default


@each_plugin
def test_a_plugin_has_exactly_its_shelfs_verbs(shelf, name):
    kind = Shelf(shelf).load(name)
    verbs = OF_CORPUS if shelf == "steps" and hasattr(kind, "mark_corpus") else VERBS[shelf]
    for verb, parameters in verbs.items():
        assert list(inspect.signature(getattr(kind, verb)).parameters)[1:] == parameters
    public = {
        key
        for key, value in vars(kind).items()
        if inspect.isfunction(value) and (not key.startswith("_") or key in verbs)
    }
    assert public - MAY.get(shelf, {"needs"}) == set(verbs) - {"needs"}


@pytest.mark.parametrize("name", Shelf("steps").names())
def test_a_curation_step_declares_its_reasons(name):
    step = Shelf("steps").load(name)()
    check_step(step)
    assert all(one.sentence.startswith("left out") for one in step.reasons)


@each_plugin
def test_a_plugin_is_documented_and_listed_without_being_imported(shelf, name):
    kind = Shelf(shelf).load(name)
    assert kind.__doc__ and Shelf(shelf).summary(name) == inspect.getdoc(kind).split("\n")[0]
    assert ast.get_docstring(ast.parse((Shelf(shelf).folder / f"{name}.py").read_text()))


@each_plugin
def test_a_plugin_is_rebuilt_from_its_own_json(shelf, name):
    kind = Shelf(shelf).load(name)
    plugin = kind()
    assert plugin_name(plugin) == name
    assert build_plugin(Shelf(shelf), json.loads(json.dumps({name: to_json(plugin)}))) == plugin


@each_plugin
def test_a_plugin_does_no_io(shelf, name):
    """Only stages read and write: no plug-in opens a file or imports what does."""
    tree = ast.parse((Shelf(shelf).folder / f"{name}.py").read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not called & {"open", "print", "input"} and not imported & {"os", "io", "requests", "shutil", "subprocess"}


@pytest.mark.parametrize("shelf", FOLDERS)
def test_a_shelf_costs_nothing_to_open(shelf):
    tree = ast.parse((Shelf(shelf).folder / "__init__.py").read_text())
    assert [type(node) for node in tree.body] == [ast.Expr]  # a docstring and nothing else


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match='did you mean "stay_close"'):
        Shelf("objectives").load("stay_clsoe")


@each_plugin
def test_a_word_that_is_no_choice_is_refused_from_python_too(shelf, name):
    kind = Shelf(shelf).load(name)
    for field, hint in get_type_hints(kind).items():
        if get_origin(hint) is Literal:
            with pytest.raises(UsageError, match=f'{field} is "wrogn"'):
                kind(**{field: "wrogn"})


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (Train, "precision"), (Train, "packing"), (DecayNow, "form"), (Evaluate, "split"), (Tokenize, "chat"),
        (Consult, "precision"), (Recall, "precision"), (Growth, "start"), (Initialize, "architecture"),
    ],
)  # fmt: skip
def test_so_it_is_in_the_settings_of_stages(kind, field):
    given = {"at": 1} if kind is DecayNow else {}
    with pytest.raises(UsageError, match=f'{field} is "wrogn"'):
        kind(**given, **{field: "wrogn"})
