"""Objectives of a user's own that compare two texts in one step: loop and contract carry them as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from graft.core.stats.tally import Tally
from graft.core.store.artifact import Store
from graft.data.tokenize import sources
from graft.models.files.weights import open_model
from graft.models.losses.token_losses import weighted_sums
from graft.packing.sampler import Sampler
from graft.training.loop import Pace, run
from graft.training.objectives.causal import Causal
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train

MIXTURE = {"domain": 1.0}
SCALES = (0.5, 1.0, 2.0)


def mmd(one_ND: Tensor, other_MD: Tensor) -> Tensor:
    """MK-MMD^2: kernels exp(-|x - y|^2 / (2 a m)) with m the mean squared distance; terms within a text unbiased."""
    both = torch.cat([one_ND, other_MD])
    squared = ((both[:, None] - both) ** 2).sum(-1)
    mean = squared.detach().mean()
    kernel = sum(torch.exp(-squared / (2 * scale * mean)) for scale in SCALES)
    n, m = len(one_ND), len(other_MD)
    within, beside, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    return (
        (within.sum() - within.diagonal().sum()) / (n * (n - 1))
        + (beside.sum() - beside.diagonal().sum()) / (m * (m - 1))
        - 2 * across.mean()
    )


def pooled(hidden_BTD: Tensor, weights_BT: Tensor) -> Tensor:
    """Mean over counted tokens only."""
    return (hidden_BTD * weights_BT[..., None]).sum(1) / weights_BT.sum(1, keepdim=True)


@dataclass(frozen=True)
class Match:
    """-log p of the next token + weight * MK-MMD between the text and as many rows of another one.

    by_row: between the tokens of each row and those of its partner, so that cutting a batch changes nothing; else
    between rows, each pooled to one state, so that the rows of a micro-batch are the sample.
    """

    other: str = "general"
    weight: float = 1.0
    by_row: bool = False

    def bind(self, start, load):
        plain = Causal().bind(start, load)

        def loss(model, batch) -> Tally:
            tally = plain(model, batch)
            partner = start.rows(self.other, batch.row_B.tolist()).to(model.device)
            ours, theirs = model.hidden(batch), model.hidden(partner)
            if self.by_row:
                gap = torch.stack([mmd(a[::4], b[::4]) for a, b in zip(ours, theirs, strict=True)])
            else:
                gap = mmd(pooled(ours, batch.weights_BT), pooled(theirs, partner.weights_BT))
            return Tally(tally.total + self.weight * gap * tally.count, tally.count)

        return loss


@dataclass(frozen=True)
class LabelWords:
    """Only words of a list count: how a label is learned from the text in which it stands."""

    words: tuple[str, ...] = ("law", "claim")

    def bind(self, start, load):
        ids = torch.tensor([start.tokenizer.encode(f" {word}").ids[-1] for word in self.words])

        def loss(model, batch) -> Tally:
            weights_BT = batch.weights_BT * torch.isin(batch.targets_BT, ids.to(model.device))
            sums = weighted_sums(model.hidden(batch), model.head, batch.targets_BT, weights_BT)
            return Tally(sums.total_B, weights_BT.sum(1))

        return loss


def loop(world, objective, *, micro_rows=8, steps=3):
    model = open_model(world.base.folder, "fp32")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=8, seed=0)
    optimizer = adamw(model, rate=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    pace = Pace(rate=lambda step: 3e-3, micro_rows=micro_rows, clip=1.0, seed=0)
    return model, list(run(model, world.bind(objective), sampler, optimizer, pace, 0, steps))


def gap(world, model) -> float:
    """MK-MMD between the two texts on rows that no step has read."""
    states = []
    for name in ("domain", "general"):
        batch = Sampler(sources(world.tokens), {name: 1.0}, window=64, rows=24, seed=9).batch(3)
        states.append(pooled(model.hidden(batch), batch.weights_BT).detach())
    return float(mmd(*states))


def test_two_texts_are_brought_together(world):
    apart, together = (gap(world, loop(world, Match(weight=weight), steps=12)[0]) for weight in (0.0, 3.0))
    assert together < apart / 2


@pytest.mark.parametrize("objective", [Match(by_row=True), LabelWords()], ids=["match", "label_words"])
def test_how_a_batch_is_cut_does_not_matter(world, objective):
    whole, whole_steps = loop(world, objective, micro_rows=8)
    cut, cut_steps = loop(world, objective, micro_rows=3)
    for a, b in zip(whole.hf.parameters(), cut.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
    assert [s.loss for s in whole_steps] == pytest.approx([s.loss for s in cut_steps], rel=1e-5)


def test_a_row_meets_the_same_partner_however_a_batch_is_cut(world):
    seen: list[list[int]] = []

    class Spy:
        def bind(self, start, load):
            plain = Causal().bind(start, load)

            def loss(model, batch):
                partner = start.rows("general", batch.row_B.tolist())
                seen.append(partner.tokens_BT[:, 0].tolist())
                assert partner.source_B.tolist() == [1] * len(batch)
                return plain(model, batch)

            return loss

    for micro_rows in (8, 3):
        loop(world, Spy(), micro_rows=micro_rows, steps=2)
    whole, cut = seen[:2], seen[2:]
    assert [len(part) for part in cut] == [3, 3, 2, 3, 3, 2]
    assert [row for part in whole for row in part] == [row for part in cut for row in part]


def test_only_label_words_count(world):
    _, steps = loop(world, LabelWords(), steps=2)
    _, one = loop(world, replace(LabelWords(), words=("law",)), steps=2)
    batch = Sampler(sources(world.tokens), MIXTURE, window=64, rows=8, seed=0).batch(0)
    number = world.base.tokenizer.encode(" law").ids[-1]
    other = world.base.tokenizer.encode(" claim").ids[-1]
    assert one[0].losses["domain"].count == int((batch.targets_BT == number).sum())
    assert steps[0].losses["domain"].count == int(torch.isin(batch.targets_BT, torch.tensor([number, other])).sum())


def test_they_train_through_the_stage(world, tmp_path):
    """By dotted path and settings, as any recipe would name them; the other text is in no mixture."""
    short = Train(
        tokens=64 * 4 * 4,
        sequence_length=64,
        batch_size=4,
        micro_batch_size=4,
        learning_rate=1e-3,
        precision="fp32",
        evaluations=1,
    )
    trained = train(world.base, world.tokens, MIXTURE, replace(short, objective=Match()), store=Store(tmp_path))
    assert trained.facts["tokens"] == {"domain": 64 * 4 * 4}
