"""Divergences from a teacher against torch.distributions on full logits; what a swap and a shortlist promise."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from transformers import AutoModelForCausalLM

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.stats.random_streams import stream
from graft.core.store.artifact import Store
from graft.models.files import weights
from graft.models.losses import head as heads
from graft.models.losses import token_losses as nats
from graft.models.losses.divergence import Divergence, Shortlist, Teacher, swap_top
from graft.models.losses.head import Head
from graft.models.losses.token_losses import Sums, weighted_sums
from graft.training.objectives.selective import Selective
from graft.training.objectives.stay_close import StayClose
from graft.training.objectives.swap_distill import SwapDistill
from graft.training.settings import Train
from graft.training.train import train
from graft.training.training_run import same_tokenizer

B, T, D, V, G = 3, 6, 8, 23, 4
SETTINGS = {
    f"{direction} {temperature} {'swapped' if swap else 'as it is'}": Divergence(direction, temperature, swap)
    for direction, temperature, swap in itertools.product(("forward", "reverse"), (1.0, 0.6), (False, True))
}
each_setting = pytest.mark.parametrize("divergence", SETTINGS.values(), ids=SETTINGS)


class OnlyLogits:
    """A head of unknown arithmetic: all it can do is logits."""

    def __init__(self, head: Head) -> None:
        self.head, self.vocabulary = head, head.vocabulary

    def logits(self, hidden_ND: Tensor) -> Tensor:
        return full_logits(hidden_ND, self.head)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", 4 * V)
    monkeypatch.setitem(heads.CHUNK_TOKENS, "cpu", 4)


def side(seed: int) -> tuple[Tensor, Head]:
    draw = stream(seed, "divergence")
    hidden_BTD, weight_VD, bias_V = (
        torch.from_numpy(draw.standard_normal(size)).float().requires_grad_() for size in ((B, T, D), (V, D), (V,))
    )
    return hidden_BTD, Head(weight_VD, bias_V, scale=0.8, soft_cap=3.0)


def question() -> tuple[Tensor, Tensor]:
    draw = stream(9, "divergence")
    weights_BT = torch.from_numpy(draw.random((B, T))).float()
    weights_BT[weights_BT < 0.3] = 0
    return torch.from_numpy(draw.integers(0, V, (B, T))), weights_BT


def full_logits(hidden_BTD: Tensor, head: Head) -> Tensor:
    logits_BTV = (hidden_BTD @ head.weight_VD.T + head.bias_V) * head.scale
    return head.soft_cap * torch.tanh(logits_BTV / head.soft_cap)


def swapped(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Token by token, number by number."""
    moved_BTV = logits_BTV.detach().clone()
    for b, t in itertools.product(range(logits_BTV.shape[0]), range(logits_BTV.shape[1])):
        word, target = int(logits_BTV[b, t].argmax()), int(targets_BT[b, t])
        moved_BTV[b, t, target], moved_BTV[b, t, word] = logits_BTV[b, t, word], logits_BTV[b, t, target]
    return moved_BTV


def reference(student: tuple[Tensor, Head], teacher: tuple[Tensor, Head], divergence: Divergence) -> Tensor:
    """kl_BT by torch.distributions."""
    guide_BTV = full_logits(*teacher).detach()
    if divergence.swap:
        guide_BTV = swapped(guide_BTV, question()[0])
    p = Categorical(logits=full_logits(*student) / divergence.temperature)
    q = Categorical(logits=guide_BTV / divergence.temperature)
    return kl_divergence(q, p) if divergence.direction == "forward" else kl_divergence(p, q)


def shortlist(teacher: tuple[Tensor, Head], k: int, divergence: Divergence) -> Shortlist:
    logp_BTV = torch.log_softmax(full_logits(*teacher).detach() / divergence.temperature, -1)
    top = logp_BTV.topk(k, -1)
    order_K = torch.from_numpy(stream(4, "divergence").permutation(k))
    return Shortlist(top.indices[..., order_K], -top.values[..., order_K], V, divergence)


def divergence_alone(student: tuple[Tensor, Head], teacher: Teacher | Shortlist, known: bool = True) -> Sums:
    hidden_BTD, head = student
    projection = head if known else OnlyLogits(head)
    return weighted_sums(hidden_BTD, projection, *question(), teacher=teacher, learn=0.0, kl_weight=1.0)


def grads(total: Tensor, student: tuple[Tensor, Head]) -> list[Tensor]:
    return list(torch.autograd.grad(total, [student[0], student[1].weight_VD, student[1].bias_V]))


def check(sums: Sums, kl_BT: Tensor, student: tuple[Tensor, Head]) -> None:
    total_B = (kl_BT * question()[1]).sum(1)
    torch.testing.assert_close(sums.kl_B, total_B.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sums.total_B, total_B, atol=1e-5, rtol=1e-5)
    for our, their in zip(grads(sums.total_B.sum(), student), grads(total_B.sum(), student), strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("known_teacher", [True, False])
@pytest.mark.parametrize("known", [True, False])
@each_setting
def test_a_whole_teacher(divergence: Divergence, known: bool, known_teacher: bool) -> None:
    student, (hidden_BTD, head) = side(0), side(1)
    teacher = Teacher(hidden_BTD, head if known_teacher else OnlyLogits(head), divergence)
    check(divergence_alone(student, teacher, known), reference(student, (hidden_BTD, head), divergence), student)


@pytest.mark.parametrize("known", [True, False])
@each_setting
def test_a_shortlist_is_the_divergence_of_its_words_and_the_rest(divergence: Divergence, known: bool) -> None:
    student, teacher, k = side(0), side(1), 5
    targets_BT, _ = question()
    guide_BTV = full_logits(*teacher).detach()
    if divergence.swap:
        guide_BTV = swapped(guide_BTV, targets_BT)
    p_BTV, q_BTV = (torch.softmax(z / divergence.temperature, -1) for z in (full_logits(*student), guide_BTV))
    if divergence.swap:  # what the teacher listed before, with target and likeliest word exchanged
        ids_BTK = full_logits(*teacher).topk(k, -1).indices
        top_BT1 = ids_BTK[..., :1]
        listed = (ids_BTK == targets_BT[..., None]).any(-1, keepdim=True)
        ids_BTK = torch.where((ids_BTK == top_BT1) & ~listed, targets_BT[..., None], ids_BTK)
        assert listed.any() and not listed.all()
    else:
        ids_BTK = guide_BTV.topk(k, -1).indices
    p, q = (
        Categorical(probs=torch.cat([kept := x.gather(-1, ids_BTK), 1 - kept.sum(-1, keepdim=True)], -1))
        for x in (p_BTV, q_BTV)
    )
    kl_BT = kl_divergence(q, p) if divergence.direction == "forward" else kl_divergence(p, q)
    check(divergence_alone(student, shortlist(teacher, k, divergence), known), kl_BT, student)


@each_setting
def test_a_shortlist_never_says_more_than_the_whole_and_a_longer_one_never_less(divergence: Divergence) -> None:
    student, teacher = side(0), side(1)
    whole_B = (reference(student, teacher, divergence) * question()[1]).sum(1)
    said = [divergence_alone(student, shortlist(teacher, k, divergence)).kl_B for k in (1, 3, 8, V - 1)]
    for less_B, more_B in itertools.pairwise([*said, whole_B]):
        assert (less_B <= more_B + 1e-5).all()
    assert (said[0] < 0.9 * whole_B).all()
    torch.testing.assert_close(said[-1], whole_B, atol=1e-5, rtol=1e-3)  # the rest is a single word


@pytest.mark.parametrize("known", [True, False])
def test_a_shortlist_of_all_words_leaves_nothing_that_is_not_a_number(known: bool) -> None:
    student, teacher = side(0), side(1)
    for divergence in SETTINGS.values():
        sums = divergence_alone(student, shortlist(teacher, V, divergence), known)
        whole_B = (reference(student, teacher, divergence) * question()[1]).sum(1)
        torch.testing.assert_close(sums.kl_B, whole_B.detach(), atol=1e-4, rtol=1e-4)
        assert all(gradient.isfinite().all() for gradient in grads(sums.total_B.sum(), student))


def test_a_swap_moves_two_numbers() -> None:
    logits_NV, targets_N = full_logits(*side(1)).detach().flatten(0, 1), question()[0].flatten()
    moved_NV = swap_top(logits_NV.clone(), targets_N)
    assert torch.equal(moved_NV.argmax(-1), targets_N)
    assert torch.equal(moved_NV.sort(-1).values, logits_NV.sort(-1).values)  # the same chances, the same entropy
    assert ((moved_NV != logits_NV).sum(-1) <= 2).all()
    assert torch.equal(swap_top(logits_NV.clone(), logits_NV.argmax(-1)), logits_NV)  # right: nothing changes
    assert torch.equal(moved_NV, swapped(logits_NV[None], targets_N[None])[0])


def test_of_tied_words_the_first_changes_places() -> None:
    tied_NV = torch.tensor([[1.0, 3.0, 0.0, 3.0], [1.0, 3.0, 0.0, 3.0]])
    moved_NV = swap_top(tied_NV.clone(), torch.tensor([3, 0]))
    assert moved_NV.tolist() == [[1.0, 3.0, 0.0, 3.0], [3.0, 1.0, 0.0, 3.0]]


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_student_that_is_the_swapped_teacher_has_nothing_to_learn_from_it(direction: str) -> None:
    """Hidden states are one-hot numbers of tokens, so each head is a table of logits."""
    num = B * T
    hidden_BTD = torch.eye(num).view(B, T, num).requires_grad_()
    table_VN = torch.from_numpy(stream(2, "divergence").standard_normal((V, num))).float()
    targets_BT, weights_BT = question()
    moved_VN = swapped(table_VN.T.reshape(B, T, V), targets_BT).flatten(0, 1).T.contiguous().requires_grad_()
    teacher = Teacher(hidden_BTD.detach(), Head(table_VN), Divergence(direction, 1.3, swap=True))  # type: ignore[arg-type]
    sums = weighted_sums(hidden_BTD, Head(moved_VN), targets_BT, weights_BT, teacher=teacher, learn=0.0, kl_weight=1.0)
    assert (sums.kl_B < 1e-5).all()
    assert torch.autograd.grad(sums.total_B.sum(), moved_VN)[0].abs().max() < 1e-6
    plain = Teacher(hidden_BTD.detach(), Head(table_VN), Divergence(direction, 1.3))  # type: ignore[arg-type]
    unlike = weighted_sums(hidden_BTD, Head(moved_VN), targets_BT, weights_BT, teacher=plain, kl_weight=1.0)
    assert (unlike.kl_B > 0.1).all()


@pytest.mark.parametrize("known", [True, False])
def test_sums_by_group(known: bool) -> None:
    """Groups cut through rows and run across them; what is not linear in the sums gets its true gradient."""
    student, (hidden_BTD, head) = side(0), side(1)
    targets_BT, weights_BT = question()
    group_BT = torch.from_numpy(stream(7, "divergence").integers(0, G - 1, (B, T)))
    projection = student[1] if known else OnlyLogits(student[1])
    sums = weighted_sums(
        student[0], projection, targets_BT, weights_BT, teacher=Teacher(hidden_BTD, head), learn=0.6, kl_weight=0.3,
        group_BT=group_BT, num_groups=G,
    )  # fmt: skip
    nats_BT = -Categorical(logits=full_logits(*student)).log_prob(targets_BT)
    kl_BT = reference(student, (hidden_BTD, head), Divergence())
    nats_G, kl_G = (
        torch.stack([(one_BT * weights_BT)[group_BT == g].sum() for g in range(G)]) for one_BT in (nats_BT, kl_BT)
    )
    total_G = 0.6 * nats_G + 0.3 * kl_G
    torch.testing.assert_close(sums.nats_B, nats_G.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sums.kl_B, kl_G.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sums.total_B, total_G, atol=1e-5, rtol=1e-5)
    assert sums.total_B[G - 1].item() == 0.0  # the group that nothing belongs to
    ours, theirs = (grads((total[:2].sigmoid() * total[1:3]).sum(), student) for total in (sums.total_B, total_G))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-5)


def test_gradients_of_groups_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the backward pass alone: what would be made for an upstream gradient of 1 could hardly be of use."""
    made, add = [], nats._Gradients.add
    monkeypatch.setattr(nats._Gradients, "add", lambda self, part, *rest: made.append(part) or add(self, part, *rest))
    hidden_BTD, head = side(0)
    targets_BT, weights_BT = question()
    sums = weighted_sums(hidden_BTD, head, targets_BT, weights_BT, group_BT=targets_BT % G, num_groups=G)
    assert not made
    sums.total_B.square().sum().backward()
    assert sum(part.stop - part.start for part in made) == int((weights_BT > 0).sum())


@pytest.mark.parametrize("kind", ["whole", "listed", "groups"])
@pytest.mark.parametrize("known", [True, False])
def test_nothing_counted_gives_zeros_and_gradients_of_zero(known: bool, kind: str) -> None:
    student, teacher = side(0), side(1)
    guide = Teacher(*teacher) if kind == "whole" else shortlist(teacher, 3, Divergence())
    groups = {"group_BT": torch.zeros(B, T, dtype=torch.long), "num_groups": 2} if kind == "groups" else {}
    projection = student[1] if known else OnlyLogits(student[1])
    sums = weighted_sums(
        student[0], projection, question()[0], torch.zeros(B, T), teacher=guide, kl_weight=0.5, **groups
    )  # fmt: skip
    assert sums.total_B.tolist() == [0.0] * (2 if groups else B)
    sums.total_B.square().sum().backward()
    assert not student[0].grad.any()
    assert student[1].weight_VD.grad is None or not student[1].weight_VD.grad.any()


@pytest.mark.parametrize("change", [{"direction": "reverse"}, {"temperature": 0.5}, {"swap": True}])
def test_every_setting_changes_the_divergence(change: dict[str, object]) -> None:
    student, teacher = side(0), side(1)
    plain, changed = (divergence_alone(student, Teacher(*teacher, one)) for one in (Divergence(), Divergence(**change)))
    assert not torch.allclose(plain.kl_B, changed.kl_B, rtol=0.01)


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match='direction is "sideways"'):
        Divergence("sideways")  # type: ignore[arg-type]
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="temperature is"):
            Divergence(temperature=temperature)
    student = side(0)
    ids_BT1 = torch.zeros(B, T, 1, dtype=torch.long)
    with pytest.raises(
        UsageError, match=f"(?s)the teacher has 7 tokens in its vocabulary, the student {V}.*resize_token"
    ):
        divergence_alone(student, Shortlist(ids_BT1, ids_BT1.float(), 7))


@pytest.fixture(scope="module")
def padded(world, tmp_path_factory) -> Base:
    """The tiny base with 64 rows more, that no token has."""
    folder = tmp_path_factory.mktemp("padded") / "model"
    shutil.copytree(world.base.folder, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(384, mean_resizing=False)
    model.save_pretrained(folder)
    return Base("padded", folder)


@pytest.mark.parametrize(
    "of",
    [
        lambda name: StayClose(0.3, teacher=name),
        lambda name: SwapDistill(teacher=name),
        lambda name: SwapDistill(teacher=name, top_k=4),
        lambda name: Selective(reference=name),
    ],
    ids=["stay_close", "swap_distill", "shortlists", "selective"],
)
@pytest.mark.parametrize("larger", ["teacher", "base"])
def test_a_head_padded_otherwise_is_refused_before_any_work(world, padded, tmp_path, monkeypatch, of, larger) -> None:
    """The same tokenizer and another number of rows: nothing is opened or read for it, and what to do is said."""
    base, teacher = (world.base, padded) if larger == "teacher" else (padded, world.base)
    asked = Train(
        tokens=64 * 4 * 3,
        sequence_length=64,
        batch_size=4,
        micro_batch_size=4,
        learning_rate=1e-3,
        precision="fp32",
        evaluations=1,
    )
    opened: list[str] = []
    real = weights.open_model
    monkeypatch.setattr(
        weights, "open_model", lambda folder, *a, **k: opened.append(str(folder)) or real(folder, *a, **k)
    )
    with pytest.raises(UsageError) as caught:
        train(
            base, world.tokens, {"domain": 0.75, "general": 0.25},
            replace(asked, objective=of(str(teacher.folder))), store=Store(tmp_path),
        )  # fmt: skip
    assert str(teacher.folder) not in opened
    words = str(caught.value)
    assert "same tokenizer" in words and "384" in words and "320" in words and "padded" in words
    assert "resize_token_embeddings(320)" in words and str(padded.folder) in words
    model = AutoModelForCausalLM.from_pretrained(padded.folder, dtype=torch.float32)  # what was said to do helps
    model.resize_token_embeddings(320)
    cut = tmp_path / "cut"
    shutil.copytree(padded.folder, cut)
    model.save_pretrained(cut)
    assert same_tokenizer(str(cut), world.base).folder == cut.resolve()
