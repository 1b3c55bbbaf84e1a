"""Chunked losses against torch's own on the full logits, in value, gradient and memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from graft.core.config.errors import FaultError, UsageError
from graft.models.checks.verify import verify
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model, OwnHead
from graft.models.losses import head as heads
from graft.models.losses import token_losses as nats
from graft.models.losses.divergence import Divergence, Shortlist, Teacher
from graft.models.losses.head import Head
from graft.models.losses.token_losses import score, weighted_sums
from graft.packing.batch import Batch

B, T, D, V = 3, 14, 8, 31
SHAPES = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "soft_cap": {"soft_cap": 1.5},
    "all": {"bias": True, "scale": 1.7, "soft_cap": 2.0},
}


class OnlyLogits:
    """A head of unknown arithmetic: all it can do is logits."""

    def __init__(self, head: Head) -> None:
        self.head, self.vocabulary = head, head.vocabulary

    def logits(self, hidden_ND: Tensor) -> Tensor:
        return full_logits(hidden_ND, self.head)


def full_logits(hidden_BTD: Tensor, head: Head) -> Tensor:
    logits_BTV = hidden_BTD @ head.weight_VD.T
    logits_BTV = (logits_BTV if head.bias_V is None else logits_BTV + head.bias_V) * head.scale
    return logits_BTV if head.soft_cap is None else head.soft_cap * torch.tanh(logits_BTV / head.soft_cap)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tokens to a chunk: several chunks, the last one short; ten words to a slab of the head's gradient."""
    monkeypatch.setitem(nats.SLAB_ELEMENTS, "cpu", 10 * D)
    monkeypatch.setitem(heads.CHUNK_ELEMENTS, "cpu", 5 * V)
    monkeypatch.setitem(heads.CHUNK_TOKENS, "cpu", 5)


def tensors(
    seed: int, dtype: torch.dtype = torch.float32, *, bias: bool = False, **shape: float
) -> tuple[Tensor, Head]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=dtype).requires_grad_()

    return normal(B, T, D), Head(normal(V, D), normal(V) if bias else None, **shape)  # type: ignore[arg-type]


def question(seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights_BT = torch.rand(B, T, generator=generator)
    weights_BT[weights_BT < 0.3] = 0
    return torch.randint(V, (B, T), generator=generator), weights_BT


def reference(hidden_BTD: Tensor, head: Head, teacher: Teacher | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(nats_BT, kl_BT, logits) by torch's own losses on the full logits."""

    targets_BT, _ = question()
    logits_BTV = full_logits(hidden_BTD, head)
    nats_BT = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none").view(B, T)
    kl_BT = torch.zeros_like(nats_BT)
    if teacher is not None:
        guide_BTV = full_logits(teacher.hidden_BTD, teacher.head).detach()  # type: ignore[arg-type]
        kl_BT = F.kl_div(logits_BTV.log_softmax(-1), guide_BTV.softmax(-1), reduction="none").sum(-1)
    return nats_BT, kl_BT, logits_BTV


def grads(total: Tensor, hidden_BTD: Tensor, head: Head) -> list[Tensor]:
    wanted = [hidden_BTD, head.weight_VD, *([] if head.bias_V is None else [head.bias_V])]
    return list(torch.autograd.grad(total, wanted))


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_equal_cross_entropy(shape: str) -> None:
    hidden_BTD, head = tensors(0, **SHAPES[shape])
    nats_BT, _, _ = reference(hidden_BTD, head)
    targets_BT, _ = question()
    ours_BT = score(hidden_BTD, head, targets_BT)
    assert not ours_BT.requires_grad
    torch.testing.assert_close(ours_BT, nats_BT.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("upstream", ["uniform", "scaled", "per_row"])
@pytest.mark.parametrize("teach", [False, True])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_gradients_equal_autograd_on_full_logits(shape: str, known: bool, teach: bool, upstream: str) -> None:
    hidden_BTD, head = tensors(0, **SHAPES[shape])
    teacher = Teacher(*tensors(1, **SHAPES[shape])) if teach else None
    learn, kl_weight = (0.7, 0.4) if teach else (1.0, 0.0)
    targets_BT, weights_BT = question()
    nats_BT, kl_BT, _ = reference(hidden_BTD, head, teacher)
    total_B = (weights_BT * (learn * nats_BT + kl_weight * kl_BT)).sum(1)
    factor_B = {"uniform": torch.ones(B), "scaled": torch.full((B,), -0.3), "per_row": torch.tensor([2.0, 0.0, -1.0])}
    projection = head if known else OnlyLogits(head)
    sums = weighted_sums(
        hidden_BTD, projection, targets_BT, weights_BT, teacher=teacher, learn=learn, kl_weight=kl_weight
    )
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(sums.total_B, total_B, **close)
    torch.testing.assert_close(sums.nats_B, (weights_BT * nats_BT).sum(1).detach(), **close)
    torch.testing.assert_close(sums.kl_B, (weights_BT * kl_BT).sum(1).detach(), **close)
    assert not sums.nats_B.requires_grad
    assert not sums.kl_B.requires_grad
    ours = grads((sums.total_B * factor_B[upstream]).sum(), hidden_BTD, head)
    for our, their in zip(ours, grads((total_B * factor_B[upstream]).sum(), hidden_BTD, head), strict=True):
        torch.testing.assert_close(our, their, **close)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_a_few_tokens(shape: str) -> None:
    hidden_BTD, head = tensors(0, **SHAPES[shape])
    logits_BTV, reference_BTV = head.logits(hidden_BTD), full_logits(hidden_BTD, head)
    torch.testing.assert_close(logits_BTV, reference_BTV)
    slope_BTV = torch.randn(B, T, V)
    ours = grads((logits_BTV * slope_BTV).sum(), hidden_BTD, head)
    for our, their in zip(ours, grads((reference_BTV * slope_BTV).sum(), hidden_BTD, head), strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_finite_differences(shape: str) -> None:
    hidden_BTD, head = tensors(0, torch.float64, **SHAPES[shape])
    teacher = Teacher(*tensors(1, torch.float64, **SHAPES[shape]))
    targets_BT, weights_BT = question()

    def total(hidden_BTD: Tensor, weight_VD: Tensor, *bias: Tensor) -> Tensor:
        moved = Head(weight_VD, bias[0] if bias else None, head.scale, head.soft_cap)
        return weighted_sums(
            hidden_BTD, moved, targets_BT, weights_BT, teacher=teacher, learn=0.7, kl_weight=0.4
        ).total_B

    bias = [] if head.bias_V is None else [head.bias_V]
    assert torch.autograd.gradcheck(total, (hidden_BTD, head.weight_VD, *bias), fast_mode=True)


def test_a_second_backward_gives_the_same_gradients() -> None:
    hidden_BTD, head = tensors(0)
    total = weighted_sums(hidden_BTD, head, *question()).total_B.sum() / 7
    first, second = (torch.autograd.grad(total, [hidden_BTD, head.weight_VD], retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


def test_nothing_counted_gives_zeros() -> None:
    hidden_BTD, head = tensors(0)
    for projection in (head, OnlyLogits(head)):
        sums = weighted_sums(hidden_BTD, projection, question()[0], torch.zeros(B, T))
        assert sums.total_B.tolist() == [0.0] * B
    gradient_BTD, gradient_VD = torch.autograd.grad(
        weighted_sums(hidden_BTD, head, question()[0], torch.zeros(B, T)).total_B.sum(), [hidden_BTD, head.weight_VD]
    )
    assert not gradient_BTD.any()
    assert not gradient_VD.any()


def test_without_autograd_the_sums_are_the_same() -> None:
    hidden_BTD, head = tensors(0, bias=True)
    with torch.no_grad():
        quiet = weighted_sums(hidden_BTD, head, *question())
    torch.testing.assert_close(quiet.total_B, weighted_sums(hidden_BTD, head, *question()).total_B.detach())


def test_bfloat16_products_keep_a_float32_loss() -> None:
    hidden_BTD, head = tensors(0)
    rough = Head(head.weight_VD, compute=torch.bfloat16)
    exact, ours = (weighted_sums(hidden_BTD, each, *question()) for each in (head, rough))
    assert ours.total_B.dtype == torch.float32
    torch.testing.assert_close(ours.total_B, exact.total_B, rtol=0.01, atol=0.01)
    found, sought = (grads(sums.total_B.sum(), hidden_BTD, each) for sums, each in ((ours, rough), (exact, head)))
    for our, their in zip(found, sought, strict=True):
        assert our.dtype == torch.float32
        assert (our - their).norm() < 0.01 * their.norm()


def test_huge_logits_stay_finite() -> None:
    hidden_BTD, head = tensors(0)
    loud_BTD = (hidden_BTD * 1e4).detach().requires_grad_()
    sums = weighted_sums(loud_BTD, head, *question())
    nats_BT, _, _ = reference(loud_BTD, head)
    torch.testing.assert_close(score(loud_BTD, head, question()[0]), nats_BT.detach(), rtol=1e-5, atol=0.1)
    assert all(gradient.isfinite().all() for gradient in grads(sums.total_B.sum(), loud_BTD, head))


class Widest(TorchDispatchMode):
    """Remembers the largest tensor any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.mark.parametrize("divergence", [Divergence(), Divergence("reverse", 2.0, swap=True)], ids=["plain", "full"])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_full_logits_never_exist(known: bool, listed: bool, divergence: Divergence) -> None:
    hidden_BTD, head = tensors(0, soft_cap=2.0)
    teacher = Teacher(*tensors(1), divergence)
    if listed:
        ids_BTK = torch.arange(3).expand(B, T, 3)
        teacher = Shortlist(ids_BTK, torch.full(ids_BTK.shape, 2.0), V, divergence)
    projection = head if known else OnlyLogits(head)
    targets_BT, weights_BT = question()
    groups = {"group_BT": targets_BT % 2, "num_groups": 2}
    with Widest() as widest:
        score(hidden_BTD, projection, targets_BT)
        both = weighted_sums(hidden_BTD, projection, targets_BT, weights_BT, teacher=teacher, kl_weight=0.5)
        both.total_B.sum().backward()
        weighted_sums(hidden_BTD, projection, targets_BT, weights_BT, **groups).total_B.square().sum().backward()
        for per_row in (torch.ones(B), torch.arange(B) + 1.0):
            weighted_sums(hidden_BTD, projection, targets_BT, weights_BT).total_B.backward(per_row)
    assert widest.elements == max(hidden_BTD.numel(), 5 * V, V * D)
    with Widest() as widest:
        reference(hidden_BTD, head)
    assert widest.elements == B * T * V  # the watch sees what it is to see


def test_only_counted_tokens_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    projected = []
    kept = Head.finish
    monkeypatch.setattr(Head, "finish", lambda self, product: projected.append(len(product)) or kept(self, product))
    targets_BT, weights_BT = question()
    weighted_sums(*tensors(0), targets_BT, weights_BT).total_B.sum().backward()
    assert sum(projected) == int((weights_BT > 0).sum()) < B * T


def test_vocabularies_must_agree() -> None:
    hidden_BTD, head = tensors(0)
    teacher = Teacher(hidden_BTD, Head(torch.zeros(V + 1, D)))
    with pytest.raises(UsageError, match=f"the teacher has {V + 1} tokens in its vocabulary, the student {V}"):
        weighted_sums(hidden_BTD, head, *question(), teacher=teacher)


def tiny(config: transformers.PreTrainedConfig) -> Model:
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return Model(hf, reading=Decoder(), precision="fp32")


def rows() -> Batch:
    targets_BT, weights_BT = question()
    position_BT = torch.arange(T).expand(B, T).contiguous()
    return Batch(targets_BT.roll(1, 1), targets_BT, weights_BT, position_BT, torch.zeros(B, dtype=torch.long))


WIDE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": V}
IDS = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
HEADS = {
    "gemma2": transformers.Gemma2Config(**WIDE, **IDS, num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.5),
    "cohere": transformers.CohereConfig(**WIDE, **IDS, logit_scale=0.3),
    "granite": transformers.GraniteConfig(**WIDE, **IDS, logits_scaling=3.0),
    "phi": transformers.PhiConfig(**WIDE, **IDS),
    "gptj": transformers.GPTJConfig(n_embd=16, n_layer=1, n_head=2, rotary_dim=4, vocab_size=V, **IDS),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_read_off_the_model(name: str) -> None:
    model, batch = tiny(HEADS[name]), rows()
    model.hf.eval()
    assert isinstance(model.head, Head)
    verify(model, batch)
    assert not model.notes
    logits_BTV = model.hf(input_ids=batch.tokens_BT).logits
    nats_BT = F.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten(), reduction="none").view(B, T)
    with torch.no_grad():
        ours_BT = score(model.hidden(batch), model.head, batch.targets_BT)
    torch.testing.assert_close(ours_BT, nats_BT.detach(), atol=1e-5, rtol=1e-5)


def test_tied_embeddings_receive_both_gradients() -> None:
    model, batch = tiny(transformers.LlamaConfig(**WIDE, **IDS, tie_word_embeddings=True)), rows()
    logits_BTV = model.hf(input_ids=batch.tokens_BT).logits
    nats_N = F.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten(), reduction="none")
    (nats_N * batch.weights_BT.flatten()).sum().backward()
    weight_VD = model.hf.get_input_embeddings().weight
    reference_VD = weight_VD.grad.clone()
    weight_VD.grad = None
    weighted_sums(model.hidden(batch), model.head, batch.targets_BT, batch.weights_BT).total_B.sum().backward()
    torch.testing.assert_close(weight_VD.grad, reference_VD, atol=1e-5, rtol=1e-5)


class Twisted(transformers.LlamaForCausalLM):
    """A model whose head does what no field of its configuration says."""

    def forward(self, *args, **kwargs):
        answer = super().forward(*args, **kwargs)
        answer.logits = 3 * torch.tanh(answer.logits)
        return answer


class Odd(transformers.LlamaForCausalLM):
    """A model whose logits are not a function of its last hidden states."""

    def forward(self, input_ids=None, **kwargs):
        answer = super().forward(input_ids=input_ids, **kwargs)
        answer.logits = answer.logits * (1 + input_ids[..., None] % 2)
        return answer


def test_unknown_arithmetic_falls_back_to_the_models_own_logits() -> None:
    config = transformers.LlamaConfig(**WIDE, **IDS)
    torch.manual_seed(0)
    model, batch = Model(Twisted(config), reading=Decoder(), precision="fp32"), rows()
    verify(model, batch)
    assert ["llama: its logits are not those of its head as we read it" in note for note in model.notes] == [True]
    assert isinstance(model.head, OwnHead)
    hidden_BTD = model.hidden(batch)
    sums = weighted_sums(hidden_BTD, model.head, batch.targets_BT, batch.weights_BT)
    sums.total_B.sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.hf.named_parameters()}
    model.hf.zero_grad()
    logits_BTV = model.hf(input_ids=batch.tokens_BT).logits
    nats_N = F.cross_entropy(logits_BTV.flatten(0, 1), batch.targets_BT.flatten(), reduction="none")
    total = (nats_N * batch.weights_BT.flatten()).sum()
    total.backward()
    torch.testing.assert_close(sums.total_B.sum(), total)
    for name, parameter in model.hf.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_model_without_a_head_on_its_hidden_states_is_refused() -> None:
    torch.manual_seed(0)
    model = Model(Odd(transformers.LlamaConfig(**WIDE, **IDS)), reading=Decoder(), precision="fp32")
    with pytest.raises(FaultError, match="the logits of llama cannot be computed from its last hidden states"):
        verify(model, rows())
