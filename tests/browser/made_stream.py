"""A stream of any size whose models nobody trained: made-up losses and hits of every test document, and from there on
the project's own way to the page."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from graft.continual.benchmark_scores import Quizzed
from graft.continual.methods.joint import Joint
from graft.continual.methods.naive import Naive
from graft.continual.methods.replay import Replay
from graft.continual.results import MethodRun, Standing, TurnResult
from graft.continual.settings import Judge
from graft.core.config.plugins import plugin_name
from graft.core.stats.document_resamples import Sightings
from graft.jobs.continual import Continual

NAMES = ("law", "chemistry", "sums", "medicine", "patents")
FEW = (Naive(), Replay(0.1), Joint())
PATHS = {"general": ["texts/news.jsonl"]}
KEEPS = {"naive": 0.35, "replay": 0.75, "anchor": 0.6, "stay_close": 0.7, "lora": 0.5, "o_lora": 0.65}
TOKENS = 60  # of every test document


def made_stream(
    domains: int = 5,
    methods: tuple[Any, ...] = Continual.methods,
    seeds: int = 3,
    documents: int = 40,
    draws: int = 200,
    suite: bool = True,
) -> dict[str, Any]:
    """What `graft.report.continual.stage` tells the page: of a base with 5 nats and 25 % per token on every domain.

    A domain falls by 1.5 nats in its turn, of which every later turn takes a part: 1 - what the method keeps.
    """
    draw = np.random.default_rng(7)
    labels = Continual(domains={"a": "a", "b": "b"}, methods=methods).labels
    sources = [*NAMES[:domains], "general"]
    learned, losses = [], [np.full(domains + 1, 5.0)]
    for label, method in labels.items():
        keeps = KEEPS.get(plugin_name(method), 0.55) + (0.1 * method.share if isinstance(method, Replay) else 0.0)
        for seed in range(seeds):
            one = MethodRun(label, {plugin_name(method): vars(method)}, seed)
            now = losses[0].copy()
            for turn in range(domains):
                waits = isinstance(method, Joint) and turn < domains - 1
                now = 5.0 - (5.0 - now) * keeps
                now[turn] = 3.5 + draw.normal(0, 0.01)
                now[turn + 1 : domains] -= 0.05
                now[-1] = 5.0 + (turn + 1) * (0.75 - keeps) * 0.4 + draw.normal(0, 0.01)
                if isinstance(method, Joint):
                    now[:domains] = 3.6
                one.turns.append(None if waits else made_turn(f"train-{len(losses):012x}", method, turn))
                losses += [] if waits else [now.copy()]
            learned.append(one)
    seen = _sightings(np.array(losses), sources, documents, draw)
    hits = seen["accuracy"].total_MD
    best = [{name: _bits(hits[name][model]) for name in sources} for model in range(len(losses))]
    standing = Standing(sources[:-1], "general", learned, seen, best, Judge(draws=draws))
    if suite:
        standing = replace(standing, suite=Quizzed(_answers(np.array(losses)[:, -1], draw), draws, 0))
    paths = {name: [f"texts/{name}/"] for name in sources[:-1]} | PATHS
    return {"base": "models/small", "paths": paths, "notes": []} | standing.told()


def made_turn(name: str, method: Any, turn: int) -> TurnResult:
    """With the facts that a trained model has."""
    facts = {
        "training_seconds": 40.0,
        "preparing_seconds": 2.0,
        "tokens": {"text": 100_000 * (turn + 1 if isinstance(method, Joint) else 1)},
        "peak_memory_bytes": 1.2e9,
    }
    facts["num_parameters"] = 3_300_000 + (100_000 * (turn + 1) if plugin_name(method) == "block_expansion" else 0)
    made: Any = SimpleNamespace(name=name, facts=facts)
    return TurnResult(made, made)


def _sightings(
    loss_MS: np.ndarray, sources: list[str], documents: int, draw: np.random.Generator
) -> dict[str, Sightings]:
    """Every document a little easier or harder than its text, nearly alike for all models."""
    hard_D = {name: 1 + 0.1 * draw.standard_normal(documents) for name in sources}
    count_D = {name: np.full(documents, float(TOKENS)) for name in sources}
    size = (len(loss_MS), documents)
    losses = {
        name: np.outer(loss_MS[:, i], hard_D[name]) * (1 + 0.02 * draw.standard_normal(size))
        for i, name in enumerate(sources)
    }
    hits = {name: np.clip(np.round(TOKENS * (0.25 + 0.12 * (5 - one))), 0, TOKENS) for name, one in losses.items()}
    return {
        "loss": Sightings({name: TOKENS * one for name, one in losses.items()}, count_D),
        "accuracy": Sightings(hits, count_D),
    }


def _answers(general_M: np.ndarray, draw: np.random.Generator) -> Sightings:
    """Two tasks of 50 and 80 questions, of which a model answers the more the better it knows general text."""
    sizes = {"facts": 50, "choices": 80}
    hard = {name: draw.random(size) for name, size in sizes.items()}
    right = {name: (0.6 - 0.3 * (general_M - 5)[:, None] > one).astype(float) for name, one in hard.items()}
    return Sightings(right, {name: np.ones(size) for name, size in sizes.items()})


def _bits(hits_D: np.ndarray) -> np.ndarray:
    """The first tokens of each document are right."""
    return np.packbits((np.arange(TOKENS) < hits_D[:, None]).ravel())
