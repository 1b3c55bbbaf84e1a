"""Objectives with a teacher, a reference or pairs, against their formulas on the full logits of each piece alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from graft.core.config.errors import UsageError
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.packing.batch import Batch
from graft.training.objectives.causal import Causal
from graft.training.objectives.contract import objective_needs
from graft.training.objectives.preference import Preference
from graft.training.objectives.selective import Selective
from graft.training.objectives.stay_close import StayClose
from graft.training.objectives.swap_distill import SwapDistill

B, T, V = 4, 24, 37
PIECES = [[6, 5, 7, 6], [9, 8, 7], [3, 4, 12, 5], [24]]  # rows of pairs; what is left over at the end is filling
FILLING = [0, 7, 0, 24]
TARGETS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))

NOTHING_KEPT = SimpleNamespace(shortlists=None)  # all that these objectives ask of the start


def tiny(seed: int, vocabulary: int = V) -> Model:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=vocabulary,
        pad_token_id=None, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    hf = transformers.LlamaForCausalLM(config)
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return Model(hf, reading=Decoder(), precision="fp32")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """The start, and another: the trained model is neither, or a test would start where it should arrive."""
    frozen = {"": tiny(1), "other": tiny(2)}
    for model in frozen.values():
        model.hf.requires_grad_(False).eval()
    return frozen


@pytest.fixture
def model() -> Model:
    return tiny(0)


def rows(pieces: list[list[int]] = PIECES, filling: list[int] = FILLING) -> Batch:
    """The first two places of every piece are its question, the last ones of a row its filling."""
    position_BT = torch.tensor([[place for length in row for place in range(length)] for row in pieces])
    weights_BT = (position_BT >= 2).float()
    for b, length in enumerate(filling):
        weights_BT[b, T - length :] = 0
    return Batch(TARGETS.roll(1, 1), TARGETS, weights_BT, position_BT, torch.arange(B) % 2)


def full_logits(model: Model, batch: Batch, b: int) -> Tensor:
    """logits_TV of a row, every piece run alone, so that no mask of ours is trusted."""
    starts = [*batch.starts_BT[b].nonzero().flatten().tolist(), T]
    parts = [model.hf(input_ids=batch.tokens_BT[b : b + 1, i:j]).logits[0] for i, j in pairwise(starts)]
    return torch.cat(parts)


def bound(objective, models):
    return objective.bind(NOTHING_KEPT, models.__getitem__)


def gradients(model: Model, total: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(model.hf.parameters()), retain_graph=True))


def check(objective, models, model: Model, batch: Batch, totals: list[Tensor], counts: list[float]) -> None:
    """Value and gradients of the batch, whole and row by row, with every row weighed alike and otherwise."""
    factor_B = torch.arange(B) + 1.0
    sought = gradients(model, (torch.stack(totals) * factor_B).sum())
    loss = bound(objective, models)
    tally = loss(model, batch)
    torch.testing.assert_close(tally.total, torch.stack(totals), atol=2e-5, rtol=1e-4)
    assert tally.count.tolist() == pytest.approx(counts)
    cut = [loss(model, part) for part in batch.split(1)]
    assert [float(one.count) for one in cut] == pytest.approx(counts)
    cut_total_B = torch.cat([one.total for one in cut])
    torch.testing.assert_close(cut_total_B, tally.total, atol=2e-5, rtol=1e-5)
    for total_B in (tally.total, cut_total_B):
        for our, their in zip(gradients(model, (total_B * factor_B).sum()), sought, strict=True):
            torch.testing.assert_close(our, their, atol=1e-4, rtol=1e-3)
    once = gradients(model, loss(model, batch).total.sum())
    for our, their in zip(once, gradients(model, sum(totals)), strict=True):
        torch.testing.assert_close(our, their, atol=1e-4, rtol=1e-3)


def same_to_the_bit(objective, models, model: Model) -> bool:
    ours, plain = (bound(one, models)(model, rows()) for one in (objective, Causal()))
    equal = torch.equal(ours.total, plain.total) and torch.equal(ours.count, plain.count)
    pairs = zip(gradients(model, ours.total.sum()), gradients(model, plain.total.sum()), strict=True)
    return equal and all(torch.equal(our, their) for our, their in pairs)


DISTILL = {
    "as it is": SwapDistill(),
    "reverse": SwapDistill(direction="reverse"),
    "warm": SwapDistill(weight=1.5, temperature=2.0),
    "all": SwapDistill(weight=0.7, direction="reverse", temperature=0.5, teacher="other"),
    "plain": SwapDistill(swap=False, temperature=1.3),
    "stay_close": StayClose(0.4, teacher="other"),
    "the start": StayClose(0.4),
}


@pytest.mark.parametrize("name", DISTILL)
def test_distillation_is_its_formula(name: str, models: dict[str, Model], model: Model) -> None:
    one, batch = DISTILL[name], rows()
    weight, tau = (one.weight, one.temperature) if isinstance(one, SwapDistill) else (one.kl_weight, 1.0)
    totals = []
    for b in range(B):
        z_TV, guide_TV = full_logits(model, batch, b), full_logits(models[one.teacher], batch, b)
        if isinstance(one, SwapDistill) and one.swap:
            for t, target in enumerate(batch.targets_BT[b].tolist()):
                word = int(guide_TV[t].argmax())
                guide_TV[t, [word, target]] = guide_TV[t, [target, word]]
        logp_TV, logq_TV = (torch.log_softmax(each / tau, -1) for each in (z_TV, guide_TV))
        if getattr(one, "direction", "forward") == "reverse":
            logp_TV, logq_TV = logq_TV, logp_TV
        kl_T = (logq_TV.exp() * (logq_TV - logp_TV)).sum(-1)
        nats_T = F.cross_entropy(z_TV, batch.targets_BT[b], reduction="none")
        totals.append((batch.weights_BT[b] * (nats_T + weight * kl_T)).sum())
    check(one, models, model, batch, totals, batch.weights_BT.sum(1).tolist())


@pytest.mark.parametrize("objective", [SwapDistill(weight=0.0), StayClose(0.0), Selective(share=1.0)], ids=str)
def test_nothing_asked_of_a_teacher_is_plain_training_to_the_bit(objective, model: Model) -> None:
    assert same_to_the_bit(objective, {}, model)  # and no teacher is opened
    assert objective_needs(objective).teachers == ()


def test_without_a_swap_it_is_stay_close(models: dict[str, Model], model: Model) -> None:
    plain, close, swapped = (
        bound(one, models)(model, rows()).total
        for one in (SwapDistill(0.4, swap=False), StayClose(0.4), SwapDistill(0.4))
    )
    assert torch.equal(plain, close)
    assert not torch.allclose(swapped, close, rtol=1e-3)


def test_where_the_teacher_is_right_a_swap_changes_nothing(models: dict[str, Model], model: Model) -> None:
    batch = rows()
    with torch.no_grad():
        said_BT = torch.stack([full_logits(models[""], batch, b).argmax(-1) for b in range(B)])
    right = replace(batch, targets_BT=said_BT)
    plain, swapped = (bound(SwapDistill(swap=swap), models)(model, right).total for swap in (False, True))
    assert torch.equal(plain, swapped)


def test_selection_is_its_formula(models: dict[str, Model], model: Model) -> None:
    share, batch = 0.35, rows()
    totals, counts = [], []
    for b in range(B):
        nats_T, reference_T = (
            F.cross_entropy(full_logits(one, batch, b), batch.targets_BT[b], reduction="none")
            for one in (model, models["other"])
        )
        counted = batch.weights_BT[b].nonzero().flatten().tolist()
        hardest = sorted(counted, key=(reference_T - nats_T).tolist().__getitem__)
        kept = hardest[: math.ceil(share * len(counted))]
        totals.append(nats_T[kept].sum() if kept else nats_T.sum() * 0)
        counts.append(len(kept))
    assert counts[:3] == [6, 5, 6]  # of 16, 13 and 16
    check(Selective(share, "other"), models, model, batch, totals, counts)


def test_of_tokens_with_the_same_excess_the_first_are_kept(models: dict[str, Model], model: Model) -> None:
    """Model and reference are one: all excess is 0."""
    batch = rows()
    tally = bound(Selective(0.25), {"": model})(model, batch)
    first_T = batch.weights_BT[0].nonzero().flatten()[:4]
    nats_T = F.cross_entropy(full_logits(model, batch, 0), batch.targets_BT[0], reduction="none")
    assert tally.count.tolist() == [4, 4, 4, 0]
    torch.testing.assert_close(tally.total[0], nats_T[first_T].sum())


def test_weights_stay_on_the_tokens_that_are_kept(models: dict[str, Model], model: Model) -> None:
    batch = rows()
    tally, half = (
        bound(Selective(0.5), models)(model, replace(batch, weights_BT=batch.weights_BT * factor))
        for factor in (1.0, 0.5)
    )
    torch.testing.assert_close(half.total, tally.total / 2)
    assert half.count.tolist() == [count / 2 for count in tally.count.tolist()] == [4.0, 3.5, 4.0, 0.0]


def answers(one: Model, batch: Batch, b: int) -> list[tuple[Tensor, int]]:
    """Sum of log p and number of the tokens of every answer in a row."""
    nats_T = F.cross_entropy(full_logits(one, batch, b), batch.targets_BT[b], reduction="none")
    starts = [*batch.starts_BT[b].nonzero().flatten().tolist(), T]
    weights_T = batch.weights_BT[b]
    found = [(-(nats_T * weights_T)[i:j].sum(), int(weights_T[i:j].sum())) for i, j in pairwise(starts)]
    return [(lp, num) for lp, num in found if num]


@pytest.mark.parametrize("teacher", ["", "other"])
def test_dpo_is_its_formula(teacher: str, models: dict[str, Model], model: Model) -> None:
    """Rafailov et al. 2023, eq. 7, answer by answer."""
    beta, batch = 0.3, rows()
    totals, counts = [], []
    for b in range(B):
        ours, theirs = (answers(one, batch, b) for one in (model, models[teacher]))
        total = model.head.weight_VD.sum() * 0
        for i in range(0, len(ours), 2):
            chosen, rejected = (ours[k][0] - theirs[k][0] for k in (i, i + 1))
            total = total - torch.log(torch.sigmoid(beta * chosen - beta * rejected))
        totals.append(total)
        counts.append(len(ours) // 2)
    assert counts == [2, 1, 2, 0]
    check(Preference(beta=beta, teacher=teacher), models, model, batch, totals, counts)


def test_orpo_is_its_formula(models: dict[str, Model], model: Model) -> None:
    """Hong et al. 2024, eq. 4 to 7, with p = exp(mean log p) as it is written."""
    odds, batch = 0.6, rows()
    totals, counts = [], []
    for b in range(B):
        ours = answers(model, batch, b)
        total = model.head.weight_VD.sum() * 0
        for i in range(0, len(ours), 2):
            p_chosen, p_rejected = (torch.exp(lp / num) for lp, num in ours[i : i + 2])
            ratio = (p_chosen / (1 - p_chosen)) / (p_rejected / (1 - p_rejected))
            total = total - ours[i][0] / ours[i][1] - odds * torch.log(torch.sigmoid(torch.log(ratio)))
        totals.append(total)
        counts.append(len(ours) // 2)
    objective = Preference(form="orpo", odds=odds)
    assert objective_needs(objective).teachers == ()
    check(objective, {}, model, batch, totals, counts)


def test_orpo_without_odds_is_the_mean_nats_of_the_chosen_answers(model: Model) -> None:
    batch = rows()
    tally = bound(Preference(form="orpo", odds=0.0), {})(model, batch)
    for b in range(B):
        means = [float(-lp.detach() / num) for lp, num in answers(model, batch, b)[::2]]
        assert float(tally.total[b].detach()) == pytest.approx(sum(means), rel=1e-5, abs=1e-6)


def test_an_answer_that_is_certain_leaves_the_odds_finite() -> None:
    """A head this loud gives its own favourite a chance of 1 in float32."""
    model, batch = tiny(0), rows()
    with torch.no_grad():
        model.hf.lm_head.weight.mul_(1e4)
        said_BT = torch.stack([full_logits(model, batch, b).argmax(-1) for b in range(B)])
    certain = replace(batch, targets_BT=said_BT)
    tally = bound(Preference(form="orpo"), {})(model, certain)
    assert tally.total.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model, tally.total.sum()))


def test_the_model_that_is_its_own_reference_pays_log_two_a_pair(model: Model) -> None:
    tally = bound(Preference(), {"": model})(model, rows())
    assert tally.total.tolist() == pytest.approx([2 * math.log(2), math.log(2), 2 * math.log(2), 0.0], rel=1e-5)


@pytest.mark.parametrize(
    ("pieces", "filling"),
    [
        ([[6, 5, 13], *PIECES[1:]], FILLING),  # a third answer without its counterpart
        (PIECES, [6, 7, 0, 24]),  # a rejected answer in which nothing counts
        ([[6, 5, 11, 2], *PIECES[1:]], FILLING),  # the same, as its question is all there is
        ([*PIECES[:3], [24]], [0, 7, 0, 0]),  # plain text
    ],
)
def test_rows_that_hold_no_whole_pairs_are_refused(pieces, filling, models: dict[str, Model], model: Model) -> None:
    with pytest.raises(UsageError, match="does not hold whole pairs of answers"):
        bound(Preference(), models)(model, rows(pieces, filling))


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        (SwapDistill(), {"weight": 0.6}),
        (SwapDistill(), {"direction": "reverse"}),
        (SwapDistill(), {"temperature": 1.5}),
        (SwapDistill(), {"swap": False}),
        (SwapDistill(), {"teacher": "other"}),
        (StayClose(), {"kl_weight": 0.5}),
        (StayClose(), {"teacher": "other"}),
        (Selective(), {"share": 0.3}),
        (Selective(), {"reference": "other"}),
        (Preference(), {"form": "orpo"}),
        (Preference(), {"beta": 0.4}),
        (Preference(), {"teacher": "other"}),
        (Preference(form="orpo"), {"odds": 0.4}),
    ],
    ids=str,
)
def test_every_setting_has_an_effect(objective, change, models: dict[str, Model], model: Model) -> None:
    before, after = (bound(one, models)(model, rows()) for one in (objective, replace(objective, **change)))
    assert not torch.allclose(before.total[:3], after.total[:3], rtol=1e-3)


@pytest.mark.parametrize(
    ("objective", "named"),
    [
        (SwapDistill(teacher="other"), ("other",)),
        (StayClose(teacher="other"), ("other",)),
        (Selective(reference="other"), ("other",)),
        (Preference(teacher="other"), ("other",)),
        (SwapDistill(), ("",)),
        (Selective(), ("",)),
        (Preference(), ("",)),
    ],
)
def test_the_models_that_are_opened_are_named(objective, named: tuple[str, ...], models: dict[str, Model]) -> None:
    opened = []
    objective.bind(NOTHING_KEPT, lambda name: opened.append(name) or models[name])
    assert objective_needs(objective).teachers == tuple(opened) == named


@pytest.mark.parametrize("objective", [SwapDistill(), StayClose(), Selective(), Preference()], ids=str)
def test_a_teacher_of_another_vocabulary_is_refused(objective, model: Model) -> None:
    with pytest.raises(UsageError, match=f"the teacher has {V + 3} tokens in its vocabulary, the student {V}"):
        bound(objective, {"": tiny(3, V + 3)})(model, rows())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SwapDistill(weight=-0.1), "weight is -0.1"),
        (lambda: SwapDistill(direction="sideways"), 'direction is "sideways"'),
        (lambda: SwapDistill(temperature=0.0), "temperature is 0.0"),
        (lambda: StayClose(kl_weight=-1.0), "kl_weight is -1.0"),
        (lambda: Selective(share=0.0), "share is 0.0"),
        (lambda: Selective(share=1.1), "share is 1.1"),
        (lambda: Preference(form="ppo"), 'form is "ppo"'),
        (lambda: Preference(beta=0.0), "beta is 0.0"),
        (lambda: Preference(odds=-1.0), "odds is -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make()
    assert caught.value.allowed
