"""Texts by which a model is compared with itself: drawn, of given lengths, with no token that means something to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.core.models.families import NUMBER, family_of
from graft.core.stats.random_streams import stream
from graft.models.forward.model import Model
from graft.packing.batch import Batch


def reads_at_most(model: Model) -> int | None:
    """Tokens of a text; None where nothing in the model or its configuration bounds them."""
    config = model.hf.config.get_text_config().to_dict()
    behind = family_of(str(config.get("model_type"))).behind_pad  # its number counts rows of the table, not tokens
    said = [one for key, one in config.items() if NUMBER.match(str(key)) and not behind]
    found = [one for one in (*said, model.longest) if isinstance(one, int) and one > 0]
    return min(found, default=None)


def texts_of(model: Model, lengths: Sequence[int], tokens_T: Tensor | None) -> list[Tensor]:
    """Texts of these lengths, on the model's device: of given tokens, or of drawn ones that have no meaning of their
    own to the model (its configuration names none of them)."""
    if tokens_T is None:
        known = min(len(model.hf.get_input_embeddings().weight), model.head.vocabulary)  # type: ignore[arg-type, union-attr]
        plain = np.setdiff1d(np.arange(known), list(_named_ids(model.hf.config.to_dict())))
        drawn = stream(0, "verify", sum(lengths)).choice(plain if len(plain) else known, sum(lengths))
        tokens_T = torch.from_numpy(drawn.astype(np.int64))
    ends = np.cumsum(lengths)[:-1].tolist()
    parts = torch.tensor_split(tokens_T[: sum(lengths)].to(model.device), ends)
    return [part for part in parts if len(part)]


def _named_ids(config: Mapping[str, Any]) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named_ids(value)
        elif str(key).endswith(("_id", "_ids", "_index", "_idx")):
            yield from (one for one in (value if isinstance(value, list | tuple) else [value]) if type(one) is int)


def longest(texts: list[Tensor]) -> Tensor:
    return max(texts, key=len).unsqueeze(0)


def row(texts: list[Tensor]) -> Batch:
    """Texts as the pieces of one row."""
    tokens_1T = torch.cat(texts).unsqueeze(0)
    position_1T = torch.cat([torch.arange(len(text), device=text.device) for text in texts]).unsqueeze(0)
    return Batch(tokens_1T, tokens_1T, torch.ones_like(tokens_1T).float(), position_1T, tokens_1T[:, 0])
