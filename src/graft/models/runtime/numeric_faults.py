"""What only the numbers or the machine can object to: losses that are not finite, and memory that is not there."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from graft.core.config.errors import FaultError, GraftError, UsageError

# What the forward pass of a family that nobody here has seen may raise.
FORWARD = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
NUM_SHOWN = 20  # documents named in an error


class AtDocuments(FaultError):
    """A fault of what was being read. documents: (source, position)."""

    def __init__(
        self,
        what: str,
        documents: Iterable[tuple[str, int]],
        *,
        do: str,
        places: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        """places: a better name of a document, such as the file and row it was read from."""
        self.documents = sorted(set(documents))
        names = [(places or {}).get(one, "{}#{}".format(*one)) for one in self.documents]
        more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
        super().__init__(what, where=f"documents {', '.join(names[:NUM_SHOWN])}{more}", do=do)

    def at(self, places: Mapping[tuple[str, int], str]) -> AtDocuments:
        """The same fault with its documents named by `places`."""
        return type(self)(self.what, self.documents, do=self.do, places=places)


class NotFinite(AtDocuments):
    """A loss or gradient that is not a number."""


class NothingCounts(AtDocuments):
    """A batch in which no target has a weight."""


def is_memory(error: BaseException) -> bool:
    """Is this the machine's or the accelerator's memory that ran out?"""
    if isinstance(error, GraftError):
        return False
    words = str(error).lower()  # on a CPU torch has no class of its own for it
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("not enough memory" in words or "can't allocate memory" in words)
    )


@contextmanager
def within_tables(family: str, tokens: int, longest: int | None) -> Generator[None]:
    """Turns a place that a table of the model does not have into words. tokens: the most in a row.

    Raises: UsageError in place of torch's IndexError, which names neither the table nor the place.
    """
    try:
        yield
    except IndexError as error:
        raise UsageError(
            f"{family} has no place for a token or a position in rows of {tokens} tokens: {error}",
            allowed="token ids below its vocab_size"
            + ("" if longest is None else f", and at most {longest} tokens in a row"),
            do="set shorter texts (train.sequence_length, evaluate.window, answer.window); if that does not help, "
            "the tokenizer is another model's: put back its own",
        ) from error


@contextmanager
def in_words(family: str) -> Generator[None]:
    """Raises: FaultError in place of what a family's own forward pass ends in; memory and lost processes go through."""
    try:
        yield
    except FORWARD as error:
        if isinstance(error, GraftError) or is_memory(error) or (dist.is_initialized() and dist.get_world_size() > 1):
            raise
        first = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
        raise FaultError(
            f"{family}: reading a few texts with this model ends in an error ({first})",
            do="see that transformers itself reads text with it; if it does, report this one with its config.json",
        ) from error


@contextmanager
def enough_memory(doing: str, do: str) -> Generator[None]:
    """Turns memory that ran out inside into a FaultError. do: which setting to lower, and to what."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        first = str(error).strip().split("\n")[0]
        raise FaultError(f"not enough memory for {doing}" + (f" ({first})" if first else ""), do=do) from error
