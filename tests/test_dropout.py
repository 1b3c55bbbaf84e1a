"""Dropout is drawn anew for every micro-batch of every step, and the same by a run of the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import World
from graft.core.store.artifact import Store
from graft.training.settings import Train
from graft.training.train import train


def seeds_of(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> list[int]:
    """What the generator is set to while a run of three steps, two micro-batches each, is trained."""
    found: list[int] = []
    plain = torch.manual_seed
    settings = Train(
        tokens=64 * 4 * 3,
        sequence_length=64,
        batch_size=4,
        micro_batch_size=2,
        precision="fp32",
        evaluations=1,
        seed=seed,
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", lambda value: (found.append(value), plain(value))[1])
        train(world.base, world.tokens, {"domain": 1.0}, settings, store=Store(folder))
    return found


def test_every_micro_batch_of_every_step_has_its_own_dropout(world, tmp_path, monkeypatch) -> None:
    first, again, other = (
        seeds_of(world, tmp_path / name, monkeypatch, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert len(set(first)) == len(first) == 6
    assert again == first and not set(other) & set(first)
