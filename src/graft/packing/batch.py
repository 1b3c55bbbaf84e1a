"""One batch of packed rows: what the model reads, what it should have said, and how much each token counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of T tokens, each row packed full with pieces of documents.

    tokens_BT    int64    what is read
    targets_BT   int64    the token after tokens_BT in the same document: stored shifted, so that nobody shifts again
    weights_BT   float32  how much the target counts; 0: read, not counted
    position_BT  int64    place within the piece; a 0 opens a new piece, and attention never crosses into it
    source_B     int64    which source the row was drawn from
    row_B        int64    number of the row in the run: what is drawn at random for a row is a function of it, and so
                          of no micro-batch, rank or restart; nothing: numbered from 0
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    position_BT: Tensor
    source_B: Tensor
    row_B: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if len(self.row_B) != len(self.tokens_BT):
            object.__setattr__(self, "row_B", torch.arange(len(self.tokens_BT), device=self.tokens_BT.device))

    def __len__(self) -> int:
        return self.tokens_BT.shape[0]

    @cached_property
    def starts_BT(self) -> Tensor:
        """True where a piece opens; the first token of a row always does."""
        starts_BT = self.position_BT == 0
        starts_BT[:, 0] = True
        return starts_BT

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`; copies from pinned memory overlap with what the device is doing."""
        return Batch(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))

    def rows(self, start: int, stop: int) -> Batch:
        """Rows start..stop as views."""
        return Batch(*(getattr(self, one.name)[start:stop] for one in fields(self)))

    def split(self, rows: int) -> Iterator[Batch]:
        """Micro-batches of at most `rows` rows, in order."""
        for start in range(0, len(self), rows):
            yield self.rows(start, start + rows)
