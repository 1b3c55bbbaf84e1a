"""Sampling: documents drawn from a model itself, many at once, token by token, each from random numbers of its own."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from graft.core.config.errors import FaultError
from graft.core.stats.random_streams import stream
from graft.packing.wide import wide, widest

KEPT_FULL = 0.75  # share of the rows still being written below which the finished ones are taken out
FIRST_ROOM = 64  # tokens a cache has room for at first
CHECKED_TOKENS = 256


@dataclass(frozen=True, eq=False)
class Drawing:
    """How a token is drawn from a model's logits.

    p = softmax(logits / temperature) without the tokens that are no text, then the smallest set of likeliest tokens
    that holds top_p of it (nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751), each scaled to sum to 1; the
    token is where the running sum of p passes a uniform number. start: what a document begins after, not part of it.
    end: the token that ends a document; None: only `limit`, in tokens with the end token, does. mute_V: True where a
    token is no text (marks, fillers, rows of the embedding that the tokenizer does not know) and is never drawn.
    """

    start: int
    end: int | None
    limit: int
    temperature: float
    top_p: float
    mute_V: Tensor

    def draw(self, logits_RV: Tensor, uniform_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """token_R; its nats_R under the model as it is (temperature 1, all tokens); muted_R, the chance left out.

        uniform_R: float64 in [0, 1).
        """
        mute_V = self.mute_V.to(logits_RV.device)
        log_RV = logits_RV.float().log_softmax(-1)
        muted_R = log_RV[:, mute_V].exp().sum(-1)
        chance_RV = (log_RV / self.temperature).masked_fill(mute_V, -torch.inf).softmax(-1)
        if self.top_p < 1:
            chance_RV = self._nucleus(chance_RV)
        reached_RV = chance_RV.to(wide(chance_RV.device)).cumsum(-1)
        whole_R = reached_RV[:, -1]
        if not (whole_R > 0).all():
            raise FaultError(
                "the model's chances of a next token are not numbers",
                do="fetch its files again; if it was just trained, lower train.learning_rate or set precision fp32",
            )
        aimed_R = torch.minimum(uniform_R * whole_R, whole_R.nextafter(torch.zeros_like(whole_R)))
        token_R = torch.searchsorted(reached_RV, aimed_R[:, None], right=True).squeeze(1)
        return token_R, -log_RV.gather(1, token_R[:, None]).squeeze(1), muted_R

    def _nucleus(self, chance_RV: Tensor) -> Tensor:
        sorted_RV, order_RV = chance_RV.sort(dim=-1, descending=True, stable=True)
        before_RV = sorted_RV.to(wide(sorted_RV.device)).cumsum(-1) - sorted_RV
        sorted_RV = sorted_RV.masked_fill(before_RV >= self.top_p, 0.0)  # the likeliest has nothing before it
        return torch.zeros_like(chance_RV).scatter(1, order_RV, sorted_RV)


@dataclass(frozen=True, eq=False)
class Document:
    """One document as it was drawn: T tokens, the end token among them where the model set one.

    nats_T: -log p of each token under the model, temperature 1. muted_T: chance of tokens that are no text.
    """

    tokens_T: np.ndarray
    nats_T: np.ndarray
    muted_T: np.ndarray

    def ids(self, end: int | None) -> list[int]:
        """The tokens without the end token."""
        ids = self.tokens_T.tolist()
        return ids[:-1] if end is not None and ids[-1] == end else ids


@dataclass(frozen=True, eq=False)
class Drawn:
    """R documents end to end: N tokens."""

    tokens_N: np.ndarray
    nats_N: np.ndarray
    muted_N: np.ndarray
    length_R: np.ndarray

    @classmethod
    def joined(cls, documents: Sequence[Document]) -> Self:
        return cls(
            np.concatenate([one.tokens_T for one in documents]),
            np.concatenate([one.nats_T for one in documents]),
            np.concatenate([one.muted_T for one in documents]),
            np.array([len(one.tokens_T) for one in documents]),
        )

    def __iter__(self) -> Iterator[Document]:
        bounds = [0, *np.cumsum(self.length_R).tolist()]
        for begin, end in itertools.pairwise(bounds):
            yield Document(self.tokens_N[begin:end], self.nats_N[begin:end], self.muted_N[begin:end])


def uniforms(seed: int, number: int, limit: int) -> np.ndarray:
    """uniform_T float64: the random numbers of one document, of no other and of nothing else."""
    return stream(seed, "recall", number).random(limit)


@torch.no_grad()
def draw_documents(
    model: PreTrainedModel,
    drawing: Drawing,
    uniform_RT: np.ndarray,
    *,
    cached: bool = True,
    watch: Callable[[int], None] = lambda tokens: None,
) -> Drawn:
    """R documents at once, document r from uniform_RT[r].

    All rows are at the same place, so that nothing is filled up and no mask is needed; a finished one is taken out
    of the cache with others. cached False: every token from the whole text before it, for a model whose cache is not
    to be trusted. watch: called with the number of tokens of every step.
    """
    reading: RowDecoder = Cached(model) if cached and can_cache(model) else Recomputed(model)
    uniform_RT64 = widest(uniform_RT, model.device)
    num_rows = len(uniform_RT)
    token_RT, nats_RT, muted_RT = (np.zeros((num_rows, drawing.limit), kind) for kind in ("uint32", "f4", "f4"))
    length_R = np.zeros(num_rows, np.int64)
    row_S = torch.arange(num_rows, device=model.device)  # which document each row of the cache is
    open_S = torch.ones(num_rows, dtype=torch.bool, device=model.device)
    last_S = torch.full((num_rows,), drawing.start, device=model.device)
    for t in range(drawing.limit):
        drawn_S3 = drawing.draw(reading.logits(last_S), uniform_RT64[row_S, t])
        last_S = drawn_S3[0]
        rows = row_S[open_S].cpu().numpy()
        for into_RT, found_S in zip((token_RT, nats_RT, muted_RT), drawn_S3, strict=True):
            into_RT[rows, t] = found_S[open_S].cpu().numpy()
        length_R[rows] = t + 1
        watch(len(rows))
        if drawing.end is not None:
            open_S = open_S & (last_S != drawing.end)
        num_open = int(open_S.sum())
        if not num_open:
            break
        if num_open <= KEPT_FULL * len(open_S):
            kept = open_S.nonzero().squeeze(1)
            reading.keep(kept)
            row_S, last_S, open_S = row_S[kept], last_S[kept], open_S[kept]
    return Drawn.joined(
        [Document(token_RT[r, :n], nats_RT[r, :n], muted_RT[r, :n]) for r, n in enumerate(length_R.tolist())]
    )


@torch.no_grad()
def cache_error(model: PreTrainedModel, drawing: Drawing, drawn: Drawn) -> float:
    """Largest difference in nats between tokens as they were drawn and the same read at once, of the first document."""
    count = min(int(drawn.length_R[0]), CHECKED_TOKENS)
    tokens = torch.from_numpy(drawn.tokens_N[:count].astype(np.int64)).to(model.device)
    read_1T = torch.cat([tokens.new_tensor([drawing.start]), tokens[:-1]])[None]
    log_TV = model(input_ids=read_1T, use_cache=False).logits[0].float().log_softmax(-1)
    nats_T = -log_TV.gather(1, tokens[:, None]).squeeze(1).cpu().numpy()
    return float(np.abs(nats_T - drawn.nats_N[:count]).max())


def can_cache(model: PreTrainedModel) -> bool:
    """Whether the model takes the cache that is used here; recurrent ones have their own."""
    return "past_key_values" in inspect.signature(model.forward).parameters


class RowDecoder(Protocol):
    """A model that reads one more token of every row."""

    def logits(self, last_S: Tensor) -> Tensor:
        """logits_SV after one more token of each row."""
        ...

    def keep(self, rows: Tensor) -> None:
        """These rows go on, the others are forgotten."""
        ...


class Cached:
    """With what attention has seen so far kept."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self.cache = DynamicCache(config=model.config)
        self.cache.layers = [GrowingLayer() if type(one) is DynamicLayer else one for one in self.cache.layers]

    def logits(self, last_S: Tensor) -> Tensor:
        read = self.model(input_ids=last_S[:, None], past_key_values=self.cache, use_cache=True)
        return read.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)


class Recomputed:
    """From the whole text each time: slow, and right for every model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self.few = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        self.text_ST: Tensor | None = None

    def logits(self, last_S: Tensor) -> Tensor:
        last_S1 = last_S[:, None]
        self.text_ST = last_S1 if self.text_ST is None else torch.cat([self.text_ST, last_S1], 1)
        return self.model(input_ids=self.text_ST, use_cache=False, **self.few).logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        assert self.text_ST is not None
        self.text_ST = self.text_ST[rows]


class GrowingLayer(DynamicLayer):
    """A cache layer whose room doubles when it is full; the library's own copies all it holds at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self.room: list[Tensor] = []  # keys and values [S, H, room, C]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """[S, H, T, C] in; all that was seen so far out, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = [states.new_empty(0) for states in (key_states, value_states)]
        end = self.length + key_states.shape[2]
        for place, states in enumerate((key_states, value_states)):
            if not self.length or end > self.room[place].shape[2]:
                size = max(FIRST_ROOM, 2 * self.length, end)
                wider = states.new_empty(*states.shape[:2], size, states.shape[3])
                if self.length:
                    wider[:, :, : self.length] = self.room[place][:, :, : self.length]
                self.room[place] = wider
            self.room[place][:, :, self.length : end] = states
        self.length = end
        return self._seen()

    def get_seq_length(self) -> int:
        return self.length

    def batch_select_indices(self, indices: Tensor) -> None:
        self.room = [room.index_select(0, indices) for room in self.room]
        self._seen()

    def _seen(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values
