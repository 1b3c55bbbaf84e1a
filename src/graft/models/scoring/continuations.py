"""Endings: the nats of what follows given contexts, where contexts that begin alike are read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graft.models.forward.fused_modules import fused
from graft.models.forward.model import Model
from graft.models.losses.head import Reader
from graft.models.runtime.numeric_faults import NotFinite, is_memory
from graft.packing.prefix_tries import Row, batches, lay, rounded
from graft.packing.rows import best_fit
from graft.packing.sampler import pack

TOKENS = 8192  # read at once
BLOCK = 20_000  # endings laid out together
CHECKED = 8  # texts read both ways, before the shared way is trusted
SHARED_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}  # nats of one token
APART = "pieces that begin alike are read one by one, which is slower: {} does not take a mask of our own"


@dataclass(frozen=True, eq=False)
class Ending:
    """ids: a context and what follows it, at least one token of each; size: how many of them follow.

    place: (source, number) that an error names.
    """

    ids: NDArray[np.int64]
    size: int
    place: tuple[str, int] = ("", 0)


class ContinuationScores(NamedTuple):
    """Of E endings: -log p of all their tokens, summed, and whether each of them was the likeliest there."""

    nats_E: NDArray[np.float64]
    greedy_E: NDArray[np.bool_]


class _Ask(NamedTuple):
    """Targets asked of a batch: at which of its B * T places, which token, of which ending."""

    place_N: NDArray[np.int64]
    target_N: NDArray[np.int64]
    ending_N: NDArray[np.int64]


class EndingScorer:
    """nats of endings, each given all of its context, by a decoder.

    A prefix that several texts share (a question's choices, the examples before all questions) is read once: texts lie
    in rows as tries (graft.packing.prefix_tries), under a mask that shows each token its own way alone. Only the places
    that an ending is predicted from go through the vocabulary, each once. Models that take no mask of ours (flash
    attention, recurrence, sliding windows shorter than a text) read each text by itself, packed; the first texts tell,
    read both ways. The two ways differ in the last bits. tokens: read at once; halved where memory does not hold them.
    """

    def __init__(self, model: Model, window: int, tokens: int = TOKENS) -> None:
        self.model, self.window, self.tokens = model, window, tokens
        self.takes_masks: bool | None = None  # None: not asked yet

    def __call__(
        self, endings: Sequence[Ending], watch: Callable[[int], None] = lambda endings: None
    ) -> ContinuationScores:
        """watch: called with how many endings were done. Errors: NotFinite naming places whose nats are no number."""
        too_long = [one.place for one in endings if not 0 < one.size < len(one.ids) <= self.window + 1]
        assert not too_long, f"an ending without context, or longer than the window: {too_long[:3]}"
        nats_E, greedy_E = np.zeros(len(endings)), np.ones(len(endings), bool)
        shares = bool(endings) and self._shares(endings)
        for first in range(0, len(endings), BLOCK):
            block = endings[first : first + BLOCK]
            reads = [one.ids[:-1] for one in block]
            waiting = batches(lay(reads, _width(self.model)) if shares else _alone(reads), self.tokens)[::-1]
            while waiting:
                rows = waiting.pop()
                ask = _asked(rows, block)
                try:
                    nats_N, greedy_N = _read(self.model, rows, ask, shares=shares, window=self.window)
                except (RuntimeError, MemoryError) as error:
                    if not is_memory(error) or len(rows) == 1:
                        raise
                    waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                    continue
                np.add.at(nats_E, first + ask.ending_N, nats_N)
                np.logical_and.at(greedy_E, first + ask.ending_N, greedy_N)
                watch(sum(len(row.paths) for row in rows))
        broken = [endings[e].place for e in np.flatnonzero(~np.isfinite(nats_E)).tolist()]
        if broken:
            raise NotFinite(
                "what the model makes of these items is not a number",
                broken,
                do="look at these places; if nothing is wrong there, the model is: if it was just trained, train with "
                "a lower train.learning_rate or with precision fp32, else fetch its files again",
            )
        return ContinuationScores(nats_E, greedy_E)

    def _shares(self, endings: Sequence[Ending]) -> bool:
        """Whether rows may be tries: the mask is seen to, and the first texts, read both ways, come to the same."""
        model, config = self.model, self.model.hf.config.get_text_config()
        sliding = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
        if sliding and max(len(one.ids) for one in endings) > sliding:
            return False
        if self.takes_masks is None:
            self.takes_masks = model.packs and not model.flash and self._same_both_ways(endings)
            if not self.takes_masks:
                model.notes.append(APART.format(model.hf.config.model_type))
        return self.takes_masks

    def _same_both_ways(self, endings: Sequence[Ending]) -> bool:
        few = list(_few(endings))
        reads = [one.ids[:-1] for one in few]
        found = []
        for rows, shares in ((_alone(reads), False), (lay(reads, 1 << 20), True)):  # whatever can be shared is
            ask = _asked(rows, few)
            try:
                nats_N, _ = _read(self.model, rows, ask, shares=shares, window=self.window)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                if is_memory(error) or not shares:
                    raise
                return False
            found.append(nats_N[np.lexsort((ask.target_N, ask.place_N, ask.ending_N))])
        if not np.isfinite(found[0]).all():
            return True  # nothing can be compared; the items will be named
        return bool(np.abs(found[0] - found[1]).max() <= SHARED_TOLERANCE[self.model.precision])


def _asked(rows: Sequence[Row], endings: Sequence[Ending]) -> _Ask:
    width = rounded(max(len(row.tokens) for row in rows))
    places, targets, numbers = [], [], []
    for b, row in enumerate(rows):
        for number, path in row.paths.items():
            ending = endings[number]
            places.append(b * width + path[-ending.size :])
            targets.append(ending.ids[-ending.size :])
            numbers.append(np.full(ending.size, number))
    return _Ask(np.concatenate(places), np.concatenate(targets), np.concatenate(numbers))


def _read(
    model: Model, rows: Sequence[Row], ask: _Ask, *, shares: bool, window: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """nats and greediness of what is asked of these rows."""
    hidden = _shared_hidden if shares else _packed_hidden
    return model.root.within(lambda: _answer(model, hidden(model, rows, window).flatten(0, 1), ask))


@torch.no_grad()
def _shared_hidden(model: Model, rows: Sequence[Row], window: int) -> Tensor:
    """hidden_BTD of rows as tries."""
    width = rounded(max(len(row.tokens) for row in rows))
    shape = (len(rows), width)
    tokens_BT, position_BT = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sees_B1TT = np.zeros((len(rows), 1, width, width), bool)
    for b, row in enumerate(rows):
        tokens_BT[b, : len(row.tokens)] = row.tokens
        position_BT[b, : len(row.tokens)] = row.depth
        sees_B1TT[b, 0] = row.sees(width)
    tokens, position, sees = (torch.from_numpy(each).to(model.device) for each in (tokens_BT, position_BT, sees_B1TT))
    with model.autocast(), fused(model.body) if model.fast else nullcontext():
        return model.body(
            input_ids=tokens, position_ids=position, attention_mask=sees, use_cache=False
        ).last_hidden_state


@torch.no_grad()
def _packed_hidden(model: Model, rows: Sequence[Row], window: int) -> Tensor:
    """hidden_BTD of rows that hold one text each, read as pieces of packed rows and put back where they were."""
    width = rounded(max(len(row.tokens) for row in rows))
    sizes = [len(row.tokens) for row in rows]
    laid = best_fit(sizes, max(window, max(sizes)))
    longest = max(sum(sizes[r] for r in row) for row in laid)
    batch = pack([[np.array([*rows[r].tokens, 0]) for r in row] for row in laid], [0] * len(laid), longest)
    hidden_BTD = model.hidden(batch.to(model.device))
    spread_BTD = hidden_BTD.new_zeros(len(rows), width, hidden_BTD.shape[-1])
    for b, row in enumerate(laid):
        at = 0
        for r in row:
            spread_BTD[r, : sizes[r]] = hidden_BTD[b, at : at + sizes[r]]
            at += sizes[r]
    return spread_BTD


@torch.no_grad()
def _answer(model: Model, hidden_ND: Tensor, ask: _Ask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Each place goes through the head once, whatever number of tokens is asked of it."""
    place_U, which_N = np.unique(ask.place_N, return_inverse=True)
    order_N = np.argsort(which_N, kind="stable")
    hidden_UD = hidden_ND[torch.from_numpy(place_U).to(hidden_ND.device)]
    nats_N, greedy_N = np.zeros(len(order_N)), np.zeros(len(order_N), bool)
    reader = Reader(model.head, len(place_U), hidden_UD.device)
    for part in reader.parts:
        logits_UV = reader.logits(hidden_UD[part])
        chosen_N = order_N[np.searchsorted(which_N[order_N], part.start) : np.searchsorted(which_N[order_N], part.stop)]
        which = torch.from_numpy(which_N[chosen_N] - part.start).to(logits_UV.device)
        target = torch.from_numpy(ask.target_N[chosen_N]).to(logits_UV.device)
        likeliest_N = logits_UV.argmax(-1)[which]
        nats = logits_UV.logsumexp(-1)[which] - logits_UV[which, target]
        nats_N[chosen_N] = nats.double().cpu().numpy()
        greedy_N[chosen_N] = (likeliest_N == target).cpu().numpy()
    return nats_N, greedy_N


def _alone(reads: Sequence[NDArray[np.int64]]) -> list[Row]:
    """Each text in a row of its own, those that are the same in one, the longest first."""
    by_ids: dict[bytes, Row] = {}
    for number, ids in enumerate(reads):
        row = by_ids.setdefault(ids.tobytes(), Row())
        row.add(number, ids, len(row.tokens))
    return sorted(by_ids.values(), key=lambda row: -len(row.tokens))


def _width(model: Model) -> int:
    return int(model.hf.config.get_text_config().hidden_size)


def _few(endings: Iterable[Ending]) -> Iterator[Ending]:
    """The first endings, cut to a few hundred tokens."""
    for _, one in zip(range(CHECKED), endings, strict=False):
        kept = min(len(one.ids), 128)
        yield Ending(one.ids[-kept:], min(one.size, kept - 1))
