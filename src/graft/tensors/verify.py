"""Is what we compute what the model computes? Asked once per model, on a few hundred tokens."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from graft.core.errors import FaultError
from graft.tensors.batch import Batch
from graft.tensors.model import Model, OwnHead
from graft.tensors.nats import Projection, score

NUM_TOKENS = 256
# Small logits hide a soft cap: at 0.5 a cap of 30 changes 0.00005 nats. Louder hidden states show it.
LOUDER = 16.0


@torch.no_grad()
def verify(model: Model, batch: Batch) -> None:
    """Compares packed pieces with pieces run alone, and chunked nats with those of the model's own logits.

    Runs in the weights' own type (flash attention: in bfloat16) and with dropout off. Where they disagree, `model`
    falls back to the slow way, pieces as rows of their own or the model's own logits, and a warning says so.
    Raises FaultError when not even that gives the model's own logits.
    """
    training, precision = model.hf.training, model.precision
    flash = model.hf.config._attn_implementation.startswith("flash_attention")
    exact = not flash and next(model.hf.parameters()).dtype in (torch.float32, torch.float64)
    model.hf.eval()
    model.precision = "fp32" if exact else precision
    few = batch.rows(0, 1).to(model.device)
    tokens_1T, targets_1T = few.tokens_BT[:, :NUM_TOKENS], few.targets_BT[:, :NUM_TOKENS]
    try:
        _verify_packing(model, tokens_1T, tolerance=1e-3 if exact else 0.05)
        _verify_head(model, tokens_1T, targets_1T, tolerance=1e-3 if exact else 0.1)
    finally:
        model.precision = precision
        model.hf.train(training)


def _verify_packing(model: Model, tokens_1T: Tensor, tolerance: float) -> None:
    """Three pieces in one row; the difference is measured in the standard deviation of the hidden states."""
    place_1T = torch.arange(tokens_1T.shape[1], device=tokens_1T.device).unsqueeze(0)
    thirds_1T = place_1T % (tokens_1T.shape[1] // 3 + 1)
    probe = Batch(tokens_1T, tokens_1T, torch.ones_like(tokens_1T).float(), thirds_1T, tokens_1T[:, 0])
    packed_1TD = model.hidden(probe)
    model.packs = False
    alone_1TD = model.hidden(probe)
    difference = float((packed_1TD - alone_1TD).abs().max() / alone_1TD.std())
    model.packs = difference <= tolerance
    if not model.packs:
        warnings.warn(
            f"{model.hf.config.model_type}: packed pieces see each other or lose their place (hidden states differ by "
            f"{difference:.2g} standard deviations); every piece now runs as a row of its own, which is slower",
            RuntimeWarning,
            stacklevel=3,
        )


def _verify_head(model: Model, tokens_1T: Tensor, targets_1T: Tensor, tolerance: float) -> None:
    """Differences are in nats, the largest over the tokens."""
    with model.autocast():
        hidden_1TD = model.body(input_ids=tokens_1T, use_cache=False).last_hidden_state
        own_logits_1TV = model.hf(input_ids=tokens_1T, use_cache=False).logits
    own_1T = torch.nn.functional.cross_entropy(own_logits_1TV[0].float(), targets_1T[0], reduction="none")

    def difference(head: Projection, reference_1T: Tensor, volume: float = 1.0) -> float:
        return float((score(hidden_1TD * volume, head, targets_1T) - reference_1T).abs().max())

    off = difference(model.head, own_1T)
    own_off = difference(OwnHead(model.hf), own_1T)
    if off <= tolerance and own_off <= tolerance:
        loud_1T = score(hidden_1TD * LOUDER, OwnHead(model.hf), targets_1T)
        off = difference(model.head, loud_1T, LOUDER)
        tolerance = tolerance * LOUDER
    if off <= tolerance:
        return
    if own_off > tolerance:
        raise FaultError(
            f"the logits of {model.hf.config.model_type} cannot be computed from its last hidden states "
            f"(its losses differ from ours by {own_off:.2g} nats)",
            do="use a model of a family that transformers supports, or report this one",
        )
    model.own_head = True
    warnings.warn(
        f"{model.hf.config.model_type}: its logits are not those of its head as we read it (losses differ by "
        f"{off:.2g} nats); they now come from the model's own code, which is slower",
        RuntimeWarning,
        stacklevel=3,
    )
