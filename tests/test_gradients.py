"""Every backward pass that is written by hand, against central differences in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from graft.core.stats.random_streams import stream
from graft.models.edit.embedding_rows import _Join
from graft.models.edit.fisher import _Everywhere, _Pull
from graft.models.forward import attention
from graft.models.forward import fused_modules as fused
from graft.models.forward.attention import Pieces
from graft.models.losses import head as heads
from graft.models.losses.divergence import Divergence, Shortlist, Teacher
from graft.models.losses.head import Head
from graft.models.losses.token_losses import weighted_sums

B, T, D, V, K, G = 2, 7, 5, 19, 4, 3
SHAPES = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "soft_cap": {"soft_cap": 1.5},
    "all": {"bias": True, "scale": 1.7, "soft_cap": 2.0},
}
DIVERGENCES = [
    Divergence(direction, temperature, swap)
    for direction, temperature, swap in itertools.product(("forward", "reverse"), (1.0, 1.7), (False, True))
]


def normal(*size: int, seed: int, wanted: bool = True) -> Tensor:
    drawn = stream(seed, "gradients").standard_normal(size)
    return torch.from_numpy(drawn).requires_grad_(wanted)


def question() -> tuple[Tensor, Tensor, Tensor]:
    """Targets, weights (some 0) and groups that cut through rows, one of them empty."""
    draw = stream(3, "gradients")
    weights_BT = torch.from_numpy(draw.random((B, T)))
    weights_BT[weights_BT < 0.3] = 0
    group_BT = torch.from_numpy(draw.integers(0, G - 1, (B, T)))
    return torch.from_numpy(draw.integers(0, V, (B, T))), weights_BT, group_BT


def teachers(divergence: Divergence, shape: dict[str, float]) -> dict[str, Teacher | Shortlist]:
    bias_V = normal(V, seed=12, wanted=False) if "bias" in shape else None
    head = Head(normal(V, D, seed=11, wanted=False), bias_V, shape.get("scale", 1.0), shape.get("soft_cap"))
    hidden_BTD = normal(B, T, D, seed=10, wanted=False)
    logp_BTV = torch.log_softmax(head.logits(hidden_BTD) / divergence.temperature, -1)
    top = logp_BTV.topk(K, -1)
    return {
        "whole": Teacher(hidden_BTD, head, divergence),
        "listed": Shortlist(top.indices, -top.values, V, divergence),
    }


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", 4 * V)
    monkeypatch.setitem(heads.CHUNK_TOKENS, "cpu", 4)


def check_sums(shape: dict[str, float], teacher: Teacher | Shortlist | None, sums: str) -> None:
    targets_BT, weights_BT, group_BT = question()
    groups = {"group_BT": group_BT, "num_groups": G} if sums == "groups" else {}

    def total(hidden_BTD: Tensor, weight_VD: Tensor, *bias: Tensor) -> Tensor:
        head = Head(weight_VD, bias[0] if bias else None, shape.get("scale", 1.0), shape.get("soft_cap"))
        total_G = weighted_sums(
            hidden_BTD, head, targets_BT, weights_BT, teacher=teacher, learn=0.7, kl_weight=0.4, **groups
        ).total_B
        return total_G.sum() if sums == "all" else total_G

    moved = [normal(B, T, D, seed=0), normal(V, D, seed=1), *([normal(V, seed=2)] if "bias" in shape else [])]
    assert torch.autograd.gradcheck(total, moved, fast_mode=True)


@pytest.mark.parametrize("sums", ["all", "rows", "groups"])
@pytest.mark.parametrize("kind", ["whole", "listed"])
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_with_a_teacher(shape: str, divergence: Divergence, kind: str, sums: str) -> None:
    check_sums(SHAPES[shape], teachers(divergence, SHAPES[shape])[kind], sums)


@pytest.mark.parametrize("sums", ["all", "rows", "groups"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_without_a_teacher(shape: str, sums: str) -> None:
    check_sums(SHAPES[shape], None, sums)


def test_what_is_not_linear_in_the_sums_of_groups() -> None:
    """As preference losses are."""
    targets_BT, weights_BT, group_BT = question()

    def loss(hidden_BTD: Tensor, weight_VD: Tensor) -> Tensor:
        sums = weighted_sums(hidden_BTD, Head(weight_VD), targets_BT, weights_BT, group_BT=group_BT, num_groups=G)
        return torch.nn.functional.softplus(0.1 * (sums.total_B[0] - sums.total_B[1])) + sums.total_B.square().mean()

    assert torch.autograd.gradcheck(loss, [normal(B, T, D, seed=0), normal(V, D, seed=1)])


def test_rms_norm() -> None:
    def norm(hidden: Tensor, weight_D: Tensor) -> Tensor:
        return fused._RMSNorm.apply(hidden, weight_D, 1e-5, torch.float64)

    assert torch.autograd.gradcheck(norm, [normal(B, T, D, seed=0), normal(D, seed=1)])


def test_gated_product() -> None:
    assert torch.autograd.gradcheck(fused._SwiGLU.apply, [normal(B, T, D, seed=0), normal(B, T, D, seed=1)])


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("tile", [4, 256])
def test_attention_inside_pieces(monkeypatch: pytest.MonkeyPatch, tile: int, window: int | None) -> None:
    """Pieces of several lengths, in groups of several widths, cut into one tile or many."""
    monkeypatch.setattr(attention, "TILE", tile)
    monkeypatch.setattr(attention, "NARROWEST", 4)
    starts_BT = torch.zeros(2, 11, dtype=torch.bool)
    starts_BT[0, [0, 2, 9]] = starts_BT[1, 0] = True
    pieces = Pieces(starts_BT)
    assert len(pieces.groups) > 1

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention._Attention.apply(query, key, value, pieces, 0.6, window)

    assert torch.autograd.gradcheck(attend, [normal(2, 2, 11, 3, seed=seed) for seed in range(3)], fast_mode=True)


def test_a_gated_mlp_makes_its_product_anew():
    """The product that down multiplies is not kept; its gradients are those of transformers' own block."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    from graft.models.forward.fused_modules import _gated_mlp

    torch.manual_seed(0)
    block = LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=10, num_attention_heads=1)).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    weights = list(block.parameters())
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        ours = torch.autograd.grad((_gated_mlp(block, x) ** 2).sum(), [x, *weights])
    theirs = torch.autograd.grad((block(x) ** 2).sum(), [x, *weights])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(lambda x: _gated_mlp(block, x), (x,))
    assert kept.count(torch.Size([2, 5, 10])) == 2  # gate and up, and not their product


@pytest.mark.parametrize("important", [False, True])
def test_the_pull_on_a_weight(important: bool) -> None:
    """Also where what comes from above is not 1."""
    star = normal(4, D, seed=1, wanted=False)
    importance = normal(4, D, seed=2, wanted=False).square() if important else None

    def pull(weight: Tensor) -> Tensor:
        return _Pull.apply(weight, star, importance, 0.7)  # type: ignore[return-value]

    assert torch.autograd.gradcheck(pull, [normal(4, D, seed=0)])
    assert torch.autograd.gradcheck(lambda weight: pull(weight).square(), [normal(4, D, seed=0)])


def test_a_sum_over_ranks_of_one_process() -> None:
    """Of several: tests/test_parallel.py."""
    assert torch.autograd.gradcheck(lambda value: _Everywhere.apply(value.pow(3).sum()).square(), [normal(D, seed=0)])


@pytest.mark.parametrize("first", [0, 5, V - 1])
def test_a_matrix_of_which_some_rows_train(first: int) -> None:
    """The rows lie in the matrix's own memory, so that moving one moves the matrix; used twice, as a tied one is."""
    whole_VD, other_D = normal(V, D, seed=0, wanted=False), normal(D, seed=1, wanted=False)
    rows = whole_VD[first:].detach().requires_grad_()
    assert rows.data_ptr() == whole_VD[first:].data_ptr()
    assert torch.autograd.gradcheck(lambda rows: _Join.apply(rows, whole_VD, first), [rows])

    def twice(rows: Tensor) -> Tensor:
        joined_VD: Tensor = _Join.apply(rows, whole_VD, first)  # type: ignore[assignment]
        return torch.tanh(joined_VD @ other_D) @ joined_VD.square()

    assert torch.autograd.gradcheck(twice, [rows])
