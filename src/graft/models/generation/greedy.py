"""Writing: what a model puts after a text, the likeliest token each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graft.models.forward.model import Model
from graft.models.generation.sampling import Cached, Recomputed, can_cache

TOKENS = 8192  # of prompts read at once
TOGETHER = 32  # prompts written on at once


@torch.no_grad()
def write(
    model: Model,
    prompts: Sequence[NDArray[np.int64]],
    *,
    limit: int,
    done: Callable[[list[int]], bool],
    watch: Callable[[int], None] = lambda prompts: None,
) -> list[list[int]]:
    """Up to `limit` tokens after each prompt (greedy decoding), until `done` says so of those written.

    Prompts of one length are written on together, so that nothing is filled up. The token that made it done is among
    those returned. watch: called with how many prompts were done.
    """
    order = sorted(range(len(prompts)), key=lambda p: -len(prompts[p]))
    written: list[list[int]] = [[] for _ in prompts]
    while order:
        length = len(prompts[order[0]])
        most = max(1, min(TOGETHER, TOKENS // max(1, length)))
        group = [p for p in order[:most] if len(prompts[p]) == length]
        order = order[len(group) :]
        _write_on(model, prompts, group, written, limit, done)
        watch(len(group))
    return written


def _write_on(
    model: Model,
    prompts: Sequence[NDArray[np.int64]],
    group: list[int],
    written: list[list[int]],
    limit: int,
    done: Callable[[list[int]], bool],
) -> None:
    read_ST = torch.from_numpy(np.stack([prompts[p] for p in group])).to(model.device)
    reading = Cached(model.hf) if can_cache(model.hf) else Recomputed(model.hf)
    with model.autocast():
        logits_SV = _begin(model, reading, read_ST)
        for _ in range(limit):
            token_S = logits_SV.argmax(-1)
            for p, token in zip(group, token_S.tolist(), strict=True):
                written[p].append(token)
            kept = [s for s, p in enumerate(group) if not done(written[p])]
            if not kept or len(written[group[0]]) == limit:
                return
            if len(kept) < len(group):
                rows = torch.tensor(kept, device=model.device)
                reading.keep(rows)
                group, token_S = [group[s] for s in kept], token_S[rows]
            logits_SV = reading.logits(token_S)


def _begin(model: Model, reading: Cached | Recomputed, read_ST: Tensor) -> Tensor:
    """logits_SV after the prompts."""
    few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.hf.forward).parameters else {}
    if isinstance(reading, Cached):
        found = reading.model(input_ids=read_ST, past_key_values=reading.cache, use_cache=True, **few)
        return found.logits[:, -1]
    reading.text_ST = read_ST[:, :-1] if read_ST.shape[1] > 1 else None
    return reading.logits(read_ST[:, -1])
