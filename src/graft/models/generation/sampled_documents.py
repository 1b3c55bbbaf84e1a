"""Documents drawn group by group and kept as they are drawn: a kill costs at most the group it fell into."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from graft.core.process.notes import say
from graft.core.process.progress import Progress
from graft.core.store.atomic_files import whole
from graft.models.generation.sampling import Document, Drawing, Drawn, cache_error, can_cache, draw_documents, uniforms
from graft.models.runtime.numeric_faults import enough_memory


@dataclass
class Draws:
    """The documents of a model by number: a function of the seed and the number alone.

    (Up to the rounding of sums, in which other `rows` differ: a chance on the edge can then fall to another token.)
    tokens: wanted in all. trusted: nats by which a chance from the cache may differ from the same one computed anew;
    the first document of every group is asked, and where it differs by more, the model's cache is not used.
    """

    folder: Path  # of drawn-*.npz
    model: PreTrainedModel
    drawing: Drawing
    seed: int
    tokens: int
    rows: int  # documents at once
    trusted: float
    cached: bool = True
    notes: list[str] = field(default_factory=list)

    def groups(self, label: str) -> Iterator[list[Document]]:
        """The documents in the order of their numbers, until `tokens` are there."""
        progress = Progress(label, self.tokens)
        left, began, now = self.tokens, time.monotonic(), 0

        def watch(tokens: int) -> None:
            nonlocal now
            now += tokens
            rest = max(0, self.tokens - int(progress.done))  # a group is drawn whole, however little is left
            progress.advance(min(tokens, rest), f"{now / (time.monotonic() - began):,.0f} tokens/s")

        for group in itertools.count():
            path = self.folder / f"drawn-{group:05}.npz"
            if path.exists():
                drawn = read_drawn(path)
                progress.offset += min(len(drawn.tokens_N), left)
                progress.advance(min(len(drawn.tokens_N), left))
            else:
                drawn = self._draw(range(group * self.rows, (group + 1) * self.rows), watch)
                with whole(path) as out:
                    np.savez(out, **vars(drawn))
            documents = list(drawn)
            reached_R = np.cumsum(drawn.length_R) - left
            if reached_R[-1] >= 0:
                progress.close()
                yield documents[: int((reached_R >= 0).argmax()) + 1]
                return
            yield documents
            left = -int(reached_R[-1])

    def _draw(self, numbers: range, watch: Callable[[int], None]) -> Drawn:
        uniform_RT = np.stack([uniforms(self.seed, number, self.drawing.limit) for number in numbers])
        less = f"set recall.rows to {max(1, len(numbers) // 2)} (it is {len(numbers)}), or recall.limit lower"
        with enough_memory("sampling", do=less):
            if self.cached and not can_cache(self.model):
                self._distrust("it keeps what it has read in a way of its own")
            drawn = draw_documents(self.model, self.drawing, uniform_RT, cached=self.cached, watch=watch)
            if self.cached and not (error := cache_error(self.model, self.drawing, drawn)) <= self.trusted:
                self._distrust(f"its cache changes chances by {error:.2g} nats")
                drawn = draw_documents(self.model, self.drawing, uniform_RT, cached=False, watch=watch)
        return drawn

    def _distrust(self, why: str) -> None:
        self.cached = False
        kind = self.model.config.model_type
        self.notes.append(f"{kind}: {why}: every token was sampled from the whole text before it, which is slow.")
        say(f"graft: note: {self.notes[-1]}\n")


def read_drawn(path: Path) -> Drawn:
    """A group of documents as it was drawn."""
    with np.load(path) as stored:
        return Drawn(**stored)
