"""How suites of questions are put to a model: the settings of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graft.core.config.errors import UsageError
from graft.core.config.settings import check_choices
from graft.core.process.precision import Precision
from graft.evaluation.benchmarks.roles import read_fields
from graft.evaluation.benchmarks.suite import Choosing


@dataclass(frozen=True)
class Answer:
    """How suites are asked: which items, what stands before them, and what is scored.

    Of every choice the nats are taken of `delimiter` and the choice after the query, by the rule of lm-eval 0.4 (see
    graft.models.scoring.context_pairs). acc: the choice with the least nats is the right one. acc_norm: with the least
    nats per character of the choice; acc_bytes: per UTF-8 byte. (Both are lm-eval's names and definitions; where
    several contexts stand before one ending all three are the same.) An ending without choices counts as right where
    each of its tokens is the likeliest. What the model writes itself, up to the end of the line, is right where it
    equals one of the accepted answers after lower case, without punctuation, articles and double spaces (Rajpurkar et
    al. 2016, arXiv 1606.05250); an accepted answer of which that leaves nothing is compared as it stands. Tasks of
    lm-eval heed limit, shots, window and precision alone.
    """

    limit: int = 0  # items of a task, spread over it; 0: all
    shots: int | None = None  # solved items before each; None: none, or what a task of lm-eval says itself
    shots_from: str = ""  # file whose first items they are; "": of another split, else the task's own first ones
    split: str = "test"  # asked, where rows name a split
    by: str = "subject"  # field that parts a file into tasks; "": none does
    delimiter: str = " "  # between query and choice
    between: str = "\n\n"  # after each solved item
    repeated: Literal["drop", "keep", "refuse"] = "drop"  # items of which two choices are the same
    ignore: tuple[str, ...] = ()  # fields that are read over
    # question=NAME or query=NAME, choices=NAME, answer=NAME, context=NAME: all other fields are then read over
    fields: tuple[str, ...] = ()
    first: Literal[0, 1] = 0  # number of the first choice, where answers are numbers
    tokens: int = 32  # written at most, where the model writes itself
    window: int | None = None  # tokens of context; None: the model's own
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32

    def __post_init__(self) -> None:
        check_choices(self)
        for name, least in (("limit", 0), ("shots", 0), ("tokens", 1), ("window", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}", allowed=f"{least} or more")
        read_fields(self.fields)
        if self.shots_from and not self.shots:
            raise UsageError(
                f"shots_from is {self.shots_from}, and no example is shown: shots is {self.shots or 0}",
                do="say how many of its first items stand before each question (shots), or leave it out",
            )

    @property
    def choosing(self) -> Choosing:
        return Choosing(
            self.limit,
            self.shots or 0,
            self.shots_from,
            self.split,
            self.by,
            self.repeated,
            tuple(self.ignore),
            read_fields(self.fields),
            self.first,
        )
