"""The model that ships with the package: small, whole, documented, and as its notes say."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from graft.core.config.recipe import read_recipe
from graft.core.models.base_model import EMBEDDED, Base

FOLDER = EMBEDDED["embedded"]
RECIPE = Path(__file__).parents[1] / "recipes" / "embedded_base.yaml"


def test_it_is_small_whole_and_documented():
    base = Base.find("embedded")
    assert sum(path.stat().st_size for path in base.weight_files) <= 10_000_000
    assert f"{base.num_parameters:,} parameters" in (FOLDER / "README.md").read_text()
    assert base.window == 512 and base.marks.end is not None


def test_its_notes_are_those_of_its_recipe():
    job, notes = read_recipe(RECIPE), json.loads((FOLDER / "training.json").read_text())
    assert abs(notes["tokens"] - job.train.tokens) < notes["batch_tokens"]
    assert notes["peak_lr"] == job.train.learning_rate and notes["weight_decay"] == job.train.weight_decay
    assert notes["batch_tokens"] == job.train.batch_size * job.initialize.window
    assert Base.find("embedded").num_parameters == job.initialize.num_parameters
    assert notes["log"][-1]["validation_general"] < 0.5 * notes["log"][0]["validation_general"]


def test_it_knows_its_register():
    model, tokenizer = AutoModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)

    def loss(text: str) -> float:
        ids = torch.tensor([[0, *tokenizer(text).input_ids]])
        return float(model(ids, labels=ids).loss)

    assert loss("Returns the value of the parameter as a string.") < 5
    assert loss("Returns the value of the parameter as a string.") < loss(
        "string a as parameter the of value the Returns."
    )
