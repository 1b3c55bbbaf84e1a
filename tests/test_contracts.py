"""Contracts of plug-in folders: what a plug-in of anybody's may have, and what it may ask of its host."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from graft.core.config.errors import UsageError
from graft.core.config.plugins import FOLDERS, HOUSE, Shelf
from graft.core.config.settings import build
from graft.training.objectives.causal import Causal
from graft.training.objectives.contract import CachedTeacher, Needs, objective_needs
from graft.training.objectives.swap_distill import SwapDistill
from graft.training.settings import Train
from graft.training.tunings.contract import tuning_needs
from graft.training.tunings.o_lora import OLora


@dataclass(frozen=True)
class Whole:
    """An objective that reads whole documents only."""

    weight: float = 1.0

    def needs(self) -> Needs:
        return Needs(packing="whole")

    def bind(self, start, load):
        return Causal().bind(start, load)


def variant(**members):
    """The same, with members of its own."""
    return dataclass(frozen=True)(type("Variant", (Whole,), {"__annotations__": {}, **members}))


def test_a_plugin_of_ones_own_is_asked_for_its_needs():
    training = build(Train, {"objective": f"{__name__}.Whole"})
    assert training.row_packing == "whole"
    assert objective_needs(Causal()) == Needs()
    assert Train(packing="pairs").row_packing == "pairs"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("need", "needs"), ("packing", ""), ("teachers", ""), ("bnid", "bind"), ("kinds", "")],
)
def test_a_member_that_nobody_asks_for_is_refused_with_the_nearest_name(name, nearest):
    """What used to be read by its name alone, and what is misspelt, does not pass in silence."""
    with pytest.raises(UsageError, match=f'has "{name}", which no Objective is asked for') as caught:
        objective_needs(variant(**{name: lambda self: None})())
    assert (f'did you mean "{nearest}"' in str(caught.value)) == bool(nearest)


def test_helpers_of_ones_own_begin_with_an_underscore():
    assert objective_needs(variant(_help=lambda self: 1)()).packing == "whole"


def test_other_parameters_of_the_verb_are_refused():
    with pytest.raises(UsageError, match=re.escape("Variant.bind takes (start)")):
        objective_needs(variant(bind=lambda self, start: None)())


def test_needs_of_another_folder_are_refused():
    from graft.training.tunings.contract import Needs as Other

    with pytest.raises(UsageError, match=r"needs\(\) gives a Needs") as caught:
        objective_needs(variant(needs=lambda self: Other())())
    assert "graft.training.objectives.contract.Needs" in str(caught.value)


def test_a_plugin_of_another_folder_is_refused():
    with pytest.raises(UsageError, match="Causal has no apply, which every Tuning has"):
        build(Train, {"tuning": Causal()})
    with pytest.raises(UsageError, match="has no apply"):
        build(Train, {"tuning": f"{__name__}.Whole"})


def test_a_plugin_needs_what_its_settings_say():
    assert objective_needs(SwapDistill()).cached_teacher is None
    assert objective_needs(SwapDistill(top_k=3)).cached_teacher == CachedTeacher("", 3, SwapDistill().temperature)
    tuning = OLora(earlier=("somewhere",), dropout=0.25)
    needs = tuning_needs(tuning)
    assert (needs.adapters, needs.dropout, needs.placeless) == (("somewhere",), 0.25, OLora(dropout=0.25))


@pytest.mark.parametrize("name", [name for name, folder in FOLDERS.items() if folder.contract])
def test_every_folder_has_a_protocol_that_is_documented(name):
    contract = __import__(f"{FOLDERS[name].package}.contract", fromlist=["*"])
    protocol = getattr(contract, FOLDERS[name].contract)
    verbs = [one for one in vars(protocol).values() if inspect.isfunction(one) and one.__doc__]
    assert protocol.__doc__ and verbs and Shelf(name).names()


def test_members_of_plugins_are_read_by_contracts_alone():
    """`getattr(plug-in, "literal")` stands nowhere else."""
    literal = re.compile(r'getattr\((?:[\w.]*(?:objective|tuning|law|schedule|plugin|method))\b, "')
    found = [
        path for path in Path(HOUSE).rglob("*.py") if path.name != "contract.py" and literal.search(path.read_text())
    ]
    assert not found
