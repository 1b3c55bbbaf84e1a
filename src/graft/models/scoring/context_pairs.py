"""A context and what follows it, as token ids: where one ends and the other begins is what the usual harness says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.tokens.cached_encoder import CachedEncoder, Encoded
from graft.models.scoring.continuations import Ending


class Pair(NamedTuple):
    """ending: None where nothing is left to score. cut: tokens of the context that the window has no room for."""

    ending: Ending | None
    cut: int
    why: str = ""  # there is no ending


EMPTY = "its ending has no token of its own"
TOO_LONG = "its ending is longer than the window"


class PairEncoder:
    """(context, continuation) -> token ids, word by word remembered; see `graft.core.tokens.cached_encoder`.

    The rule of lm-eval 0.4 (`TemplateLM._encode_pair`, `HFLM._loglikelihood_tokens`), so that numbers are equal: spaces
    at the context's end belong to the continuation; the whole is encoded, and the continuation is what comes after as
    many tokens as the context alone has; of a pair that is longer than the window and one, the beginning is cut. Before
    a text stands what the tokenizer itself puts there; an empty context is the mark that documents begin after.
    Special tokens that are spelled out are text.
    """

    def __init__(self, base: Base, window: int) -> None:
        tokenizer = base.tokenizer
        tokenizer.encode_special_tokens = True
        self.encoder = CachedEncoder(tokenizer)
        self.window = window
        plain = tokenizer.encode("a", add_special_tokens=False).ids
        marked = tokenizer.encode("a", add_special_tokens=True).ids
        first = next((i for i in range(len(marked)) if marked[i : i + len(plain)] == plain), 0)
        self.prefix = np.array(marked[:first], np.int64)
        start = base.marks.start
        self.begin = np.array([start] if start is not None else [], np.int64)

    def encode(self, pairs: Sequence[tuple[str, str]], places: Sequence[tuple[str, int]]) -> list[Pair]:
        """places: of each pair, by which an error names it."""
        moved = [_moved(*pair) for pair in pairs]
        numbers: dict[str, int] = {}
        for context, _ in moved:
            numbers.setdefault(context, len(numbers))
        contexts = _parts(self.encoder.encode(list(numbers)))
        wholes = _parts(self.encoder.encode([context + rest for context, rest in moved]))
        return [
            self._pair(contexts[numbers[context]] if context else None, whole, place)
            for (context, _), whole, place in zip(moved, wholes, places, strict=True)
        ]

    def prompts(self, texts: Sequence[str], *, room: int, task: str) -> tuple[list[np.ndarray], list[int]]:
        """Ids of texts to be written on, with room for so many tokens in the window, and how many were cut before.

        Errors: UsageError naming the task where the window has no room for anything else.
        """
        if room >= self.window:
            raise UsageError(
                f"{task} has {room} tokens written, and the window holds {self.window}, the question among them",
                allowed=f"at most {self.window - 1}, and fewer leave room for the question",
                do="lower answer.tokens (of a task of lm-eval: max_gen_toks among the generation_kwargs of its file), "
                "raise answer.window, or leave the task out",
            )
        whole = [
            np.concatenate([self.prefix if len(self.prefix) else self.begin[: not len(part)], part])
            for part in _parts(self.encoder.encode(list(texts)))
        ]
        most = self.window - room
        return [ids[-most:] for ids in whole], [max(0, len(ids) - most) for ids in whole]

    def windows(self, text: str, place: tuple[str, int]) -> list[Ending]:
        """A whole text, each token scored once: the rolling log-likelihood of lm-eval (`get_rolling_token_windows`).

        Windows do not overlap, but for the last, which is given as much context as there is room for.
        """
        ids = np.concatenate([self.begin, self.encoder.encode([text]).ids.astype(np.int64)])
        last = len(ids) - 1
        if not len(self.begin):
            return []
        found = []
        for first in range(0, last, self.window):
            end = min(first + self.window, last)
            found.append(Ending(ids[max(0, end - self.window) : end + 1], end - first, place))
        return found

    def _pair(self, context: np.ndarray | None, whole: np.ndarray, place: tuple[str, int]) -> Pair:
        if context is None:  # the continuation follows the mark; where that is its own first token, that one
            marked = bool(len(self.begin)) and not np.array_equal(whole[:1], self.begin)
            before, after = (self.begin, whole) if marked else (whole[:1], whole[1:])
        else:
            before, after = np.concatenate([self.prefix, context]), whole[len(context) :]
        if not len(after) or not len(before):
            return Pair(None, 0, EMPTY)
        if len(after) > self.window:
            return Pair(None, 0, TOO_LONG)
        ids = np.concatenate([before, after]).astype(np.int64)
        cut = max(0, len(ids) - self.window - 1)
        return Pair(Ending(ids[cut:], len(after), place), cut)


def _moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _parts(encoded: Encoded) -> list[np.ndarray]:
    return np.split(encoded.ids.astype(np.int64), np.cumsum(encoded.length_D)[:-1]) if len(encoded.length_D) else []
