"""need: how much general text a job reads: what its replay trains on, what it is measured on, and some more."""

from __future__ import annotations

import math
from typing import Literal

from graft.core.config.errors import UsageError
from graft.core.stats.evaluation_size import LOOK, TEST, WANTED, ScoringPlan, num_looks, settle
from graft.core.store.artifact import Artifact
from graft.core.text.split import Split
from graft.readers.part import SourcePart
from graft.training.settings import PASSES, Train

Wanted = int | Literal["auto", "all"]  # tokens of general text that a job reads
BYTES_PER_TOKEN = 5.0  # of text; more than most have, so that what is read suffices
SLACK = 1.25  # for duplicates, overlap, and splits that are no exact shares


def check_wanted(name: str, wanted: Wanted) -> None:
    """Errors: UsageError for what is neither a number of tokens nor one of the words."""
    if isinstance(wanted, int) and wanted < 1:
        raise UsageError(f"{name} is {wanted}", allowed="a number of tokens, auto or all")


def kept_bytes(docs: Artifact) -> int:
    """Bytes of the usable text of a source."""
    return docs.ledger.fates[docs.facts["source"]]["kept"].bytes


def longest(training: Train, kept: float, share: float) -> float:
    """The most tokens that a training may have, before anything is turned into tokens. kept: bytes of the domain."""
    if training.tokens is not None:
        return training.tokens
    return (PASSES if training.minutes is not None else 1.0) * kept / 3 / share


def part_for(wanted: Wanted, trained: float, replayed: float, split: Split) -> SourcePart | None:
    """What is read of the general text of a job; None: all of it.

    trained: tokens, at most; replayed: those of them that are general text. The bytes are a power of two, so that jobs
    of about one length read the same part.
    """
    if wanted == "all":
        return None
    if wanted == "auto":
        looks = num_looks(trained, 2)
        limits = settle(trained, 2, {"test": ScoringPlan(2, *TEST), "look": ScoringPlan(looks + 1, *LOOK)})
        held_out = max(limits["test"] / split.test, limits["look"] / split.validation)
        tokens = SLACK * max(replayed / (1 - split.test - split.validation), held_out)
    else:
        tokens = float(wanted)
    num_bytes = 1 << math.ceil(math.log2(tokens * BYTES_PER_TOKEN))
    return SourcePart(num_bytes, math.ceil(WANTED / split.test))
