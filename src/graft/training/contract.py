"""What an objective may know before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from graft.core.models.base_model import Base, BoundaryTokens
from graft.core.tokens.token_shards import TokenSource
from graft.packing.batch import Batch
from graft.packing.sampler import rows_of
from graft.training.teacher_top_k import Shortlists


@dataclass(frozen=True)
class Start:
    """The model that training starts from, and the text it may read.

    names: what Batch.source_B is an index into: the sources of the mixture, then those it leaves out.
    """

    base: Base
    sources: Mapping[str, TokenSource]
    names: Sequence[str]
    window: int
    micro_rows: int
    seed: int
    shortlists: Shortlists | None = None  # what was kept of the teacher that the objective `consults`

    @property
    def folder(self) -> Path:
        return self.base.folder

    @property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    @property
    def marks(self) -> BoundaryTokens:
        return self.base.marks

    def rows(self, source: str, numbers: Sequence[int]) -> Batch:
        """Packed training rows of one source by their numbers, whether or not the mixture trains on it.

        A pure function of (seed, numbers): with `batch.row_B` as numbers, each row of a batch meets the same row of
        the other source however the batch is cut, which is how two kinds of text meet in one step.
        """
        return rows_of(
            self.sources[source], numbers, source=list(self.names).index(source), window=self.window, seed=self.seed
        )
