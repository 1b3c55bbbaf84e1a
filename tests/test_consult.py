"""A teacher's shortlists: what is kept is what the teacher says, and training from it is near training beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.data.tokenize import sources
from graft.models.losses.divergence import Divergence
from graft.packing.sampler import Sampler
from graft.training import teacher_top_k as module
from graft.training.cache_teacher import Consult, consult
from graft.training.objectives.swap_distill import SwapDistill
from graft.training.settings import Train
from graft.training.teacher_top_k import Kept, Shortlists
from graft.training.train import train

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    tokens=64 * 4 * 8,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=2,
    learning_rate=3e-3,
    precision="fp32",
    evaluations=1,
)
ASKED = Consult(words=12, temperature=2.0, window=64, precision="fp32")


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    return consult(world.base, world.tokens, ["domain", "general"], ASKED, store=Store(tmp_path_factory.mktemp("kept")))


def kept(world, made) -> dict[str, Kept]:
    return {name: Kept(made.path, source, 12) for name, source in sources(world.tokens).items()}


@torch.no_grad()
def reference(world, source, document: int, first: int) -> torch.Tensor:
    """log softmax(z / 2) of a window of one document by transformers alone, [tokens, V]."""
    model = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32)
    tokens = torch.from_numpy(source.tokens(document, first, first + 64)[:64].astype(np.int64))
    last = min(64, int(source.pairs_D[document]) - first)
    return torch.log_softmax(model(input_ids=tokens[None, :last]).logits[0] / 2.0, -1)


def test_what_is_kept_is_what_the_teacher_says(world, made):
    source = sources(world.tokens)["domain"]
    one = kept(world, made)["domain"]
    for document in one.documents[[0, 5, -1]].tolist():
        for first in range(0, int(source.pairs_D[document]), 64):
            logq_TV = reference(world, source, document, first)
            ids, nats = one.of(module.Piece("domain", document, first, first + len(logq_TV)))
            best = logq_TV.topk(12, -1)
            np.testing.assert_allclose(-nats.astype(np.float32), best.values.numpy(), atol=4e-3)  # kept in 16 bits
            np.testing.assert_allclose(
                logq_TV.gather(1, torch.from_numpy(ids.astype(np.int64))).numpy(), best.values.numpy(), atol=1e-4
            )


def test_a_batch_finds_its_own_place_however_it_is_cut(world, made):
    named = sources(world.tokens)
    sampler = Sampler(named, MIXTURE, window=64, rows=4, seed=0)
    listed = Shortlists(kept(world, made), sampler.row, 320)
    batch = sampler.batch(3)
    whole = listed.of(batch, Divergence(temperature=2.0))
    parts = [listed.of(part, Divergence(temperature=2.0)) for part in batch.split(1)]
    assert torch.equal(whole.ids_BTK, torch.cat([part.ids_BTK for part in parts]))
    for row, pieces in enumerate(sampler.pieces(3)):
        at = 0
        for piece in pieces:
            ids, _ = kept(world, made)[piece.source].of(piece)
            end = at + len(ids)
            assert np.array_equal(whole.ids_BTK[row, at:end].numpy(), ids)
            at = end


def test_a_killed_one_goes_on_where_it_was(world, made, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 40)
    written, stop = [], True
    real = module._write_rows

    def breaking(*arguments):
        written.append(1)
        if stop and len(written) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(module, "_write_rows", breaking)
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        consult(world.base, world.tokens, ["domain", "general"], ASKED, store=store)
    [draft] = tmp_path.glob("drafts/shortlists-*")
    begun = json.loads((draft / "domain.done.json").read_text())
    assert begun > 0
    stop = False
    again = consult(world.base, world.tokens, ["domain", "general"], ASKED, store=store)
    for name in ("domain", "general"):
        for part in ("ids", "nats"):
            assert (again / f"{name}.{part}.bin").read_bytes() == (made / f"{name}.{part}.bin").read_bytes()


@pytest.mark.parametrize("settings", [{}, {"swap": False}, {"direction": "reverse"}, {"temperature": 2.0}])
def test_training_from_many_words_is_near_training_beside_the_teacher(world, tmp_path, settings):
    def losses(objective) -> np.ndarray:
        run = train(world.base, world.tokens, MIXTURE, replace(SHORT, objective=objective), store=Store(tmp_path))
        curve = json.loads((run / "curve.json").read_text())[1:]
        return np.array([sum(total for total, _ in entry["loss"].values()) for entry in curve])

    beside = losses(SwapDistill(weight=1.0, **settings))
    near = losses(SwapDistill(weight=1.0, top_k=300, **settings))
    far = losses(SwapDistill(weight=1.0, top_k=1, **settings))
    plain = losses(SwapDistill(weight=0.0))
    assert np.abs(near / beside - 1).max() < 2e-3  # the teacher's window is cut elsewhere, so not to the bit
    assert np.abs(near - beside).max() < np.abs(far - beside).max()
    assert np.abs(near - plain).max() > 10 * np.abs(near - beside).max()


def test_what_cannot_be_kept_is_refused(world, tmp_path):
    with pytest.raises(UsageError, match="top_k is 320, and the teacher has 320 tokens"):
        train(
            world.base,
            world.tokens,
            MIXTURE,
            replace(SHORT, objective=SwapDistill(top_k=320)),
            store=Store(tmp_path),
        )
    with pytest.raises(UsageError, match="words is 0"):
        Consult(words=0)
    with pytest.raises(UsageError, match="top_k is -1"):
        SwapDistill(top_k=-1)
