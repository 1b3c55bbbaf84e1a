"""Graft: continued pre-training of language models, with the price of forgetting measured.

    import graft
    outcome = graft.adapt("embedded", domain=["my_texts/"], out="adapted")

Every stage is here too, as a function and its settings (`graft.train`, `graft.Train`). They are not names of
`graft.stages`, whose modules are called as they are. Names are loaded when they are first used, so that
`import graft` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.core.answers import read_answers
    from graft.core.artifact import Artifact, Store
    from graft.core.base import Base
    from graft.core.errors import FaultError, GateClosed, GraftError, UsageError
    from graft.core.split import Split
    from graft.jobs.adapt import Adapt, Outcome, adapt
    from graft.jobs.benchmark import Benchmark
    from graft.jobs.budget import Budget
    from graft.jobs.extend import Extend
    from graft.jobs.overview import Overview
    from graft.jobs.pretrain import Pretrain
    from graft.jobs.stream import Stream
    from graft.jobs.versus import Versus
    from graft.page.facts import Materials
    from graft.recipe import read_recipe
    from graft.stages.answer import answer
    from graft.stages.answer_settings import Answer
    from graft.stages.choose import Choose, choose
    from graft.stages.compare import Compare, compare
    from graft.stages.consult import Consult, consult
    from graft.stages.contrast import Contrast, contrast
    from graft.stages.curate import Curate, curate
    from graft.stages.decay_now import DecayNow
    from graft.stages.embed import Embed, embed
    from graft.stages.evaluate import Evaluate, evaluate
    from graft.stages.examine import Examine, examine
    from graft.stages.extend import Growth, extend
    from graft.stages.gather import Gather, gather
    from graft.stages.grade import Grade, grade
    from graft.stages.ingest import Ingest, ingest
    from graft.stages.initialize import Initialize, initialize
    from graft.stages.judge import judge
    from graft.stages.liken import Liken, liken
    from graft.stages.lr_range import RangeTest
    from graft.stages.pilot import Pilots, pilot
    from graft.stages.pool import Pool, pool
    from graft.stages.present import Present, present
    from graft.stages.recall import Recall, recall
    from graft.stages.report import Report, report
    from graft.stages.stream_settings import Judge
    from graft.stages.tokenize import Tokenize, tokenize
    from graft.stages.train import train
    from graft.stages.train_settings import Train
    from graft.stages.walk_back import WalkBack, walk_back

__all__ = [
    "Adapt",
    "Answer",
    "Artifact",
    "Base",
    "Benchmark",
    "Budget",
    "Choose",
    "Compare",
    "Consult",
    "Contrast",
    "Curate",
    "DecayNow",
    "Embed",
    "Evaluate",
    "Examine",
    "Extend",
    "FaultError",
    "GateClosed",
    "Gather",
    "Grade",
    "GraftError",
    "Growth",
    "Ingest",
    "Initialize",
    "Judge",
    "Liken",
    "Materials",
    "Outcome",
    "Overview",
    "Pilots",
    "Pool",
    "Present",
    "Pretrain",
    "RangeTest",
    "Recall",
    "Report",
    "Split",
    "Store",
    "Stream",
    "Tokenize",
    "Train",
    "UsageError",
    "Versus",
    "WalkBack",
    "adapt",
    "answer",
    "choose",
    "compare",
    "consult",
    "contrast",
    "curate",
    "embed",
    "evaluate",
    "examine",
    "extend",
    "gather",
    "grade",
    "ingest",
    "initialize",
    "judge",
    "liken",
    "pilot",
    "pool",
    "present",
    "read_answers",
    "read_recipe",
    "recall",
    "report",
    "tokenize",
    "train",
    "walk_back",
]

_HOMES = {
    "jobs.adapt": "Adapt Outcome adapt",
    "jobs.benchmark": "Benchmark",
    "jobs.budget": "Budget",
    "jobs.extend": "Extend",
    "jobs.overview": "Overview",
    "jobs.pretrain": "Pretrain",
    "jobs.stream": "Stream",
    "jobs.versus": "Versus",
    "core.answers": "read_answers",
    "core.artifact": "Artifact Store",
    "core.base": "Base",
    "core.errors": "FaultError GateClosed GraftError UsageError",
    "core.split": "Split",
    "page.facts": "Materials",
    "recipe": "read_recipe",
    "stages.answer": "Answer answer",
    "stages.choose": "Choose choose",
    "stages.compare": "Compare compare",
    "stages.consult": "Consult consult",
    "stages.contrast": "Contrast contrast",
    "stages.curate": "Curate curate",
    "stages.decay_now": "DecayNow",
    "stages.embed": "Embed embed",
    "stages.evaluate": "Evaluate evaluate",
    "stages.examine": "Examine examine",
    "stages.extend": "Growth extend",
    "stages.gather": "Gather gather",
    "stages.grade": "Grade grade",
    "stages.ingest": "Ingest ingest",
    "stages.initialize": "Initialize initialize",
    "stages.judge": "Judge judge",
    "stages.liken": "Liken liken",
    "stages.pilot": "Pilots pilot",
    "stages.pool": "Pool pool",
    "stages.present": "Present present",
    "stages.range_test": "RangeTest",
    "stages.recall": "Recall recall",
    "stages.report": "Report report",
    "stages.tokenize": "Tokenize tokenize",
    "stages.train": "Train train",
    "stages.walk_back": "WalkBack walk_back",
}
_HOME = {name: f"graft.{module}" for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
