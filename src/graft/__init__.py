"""Graft: continued pre-training of language models, with the price of forgetting measured.

    import graft
    outcome = graft.adapt("embedded", domain=["my_texts/"], out="adapted")

Every stage is here too, as a function and its settings (`graft.train`, `graft.Train`). They are not names of
the packages, whose modules are called otherwise. Names are loaded when they are first used, so that
`import graft` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.budget.choose_mixture import Choose, choose
    from graft.budget.pilot_runs import Pilots, pilot
    from graft.budget.walk_back import WalkBack, walk_back
    from graft.continual.settings import Judge
    from graft.core.config.errors import FaultError, GateClosed, GraftError, UsageError
    from graft.core.config.recipe import read_recipe
    from graft.core.models.base_model import Base
    from graft.core.records.benchmark_answers import read_answers
    from graft.core.store.artifact import Artifact, Store
    from graft.core.text.split import Split
    from graft.data.curate import Curate, curate
    from graft.data.ingest import Ingest, ingest
    from graft.data.tokenize import Tokenize, tokenize
    from graft.evaluation.benchmarks.run_benchmark import answer
    from graft.evaluation.benchmarks.settings import Answer
    from graft.evaluation.compare.compare_extension import CompareExtension, compare_extension
    from graft.evaluation.compare.pool_documents import Pool, pool
    from graft.evaluation.compare.token_differences import Contrast, contrast
    from graft.evaluation.run_probes import Examine, examine
    from graft.evaluation.score_documents import Evaluate, evaluate
    from graft.evaluation.similarity.embed import Embed, embed
    from graft.evaluation.similarity.measure_similarity import Liken, liken
    from graft.jobs.adapt import Adapt, Outcome, adapt
    from graft.jobs.budget import Budget
    from graft.jobs.compare import Compare
    from graft.jobs.continual import Continual
    from graft.jobs.eval import Eval
    from graft.jobs.extend import Extend
    from graft.jobs.pretrain import Pretrain
    from graft.jobs.report import Report
    from graft.report.adaptation.facts import Materials
    from graft.report.adaptation.stage import AdaptationReport, write_adaptation_report
    from graft.report.benchmark.stage import Grade, grade
    from graft.report.comparison.stage import Present, present
    from graft.report.continual.stage import judge
    from graft.report.overview.stage import Gather, gather
    from graft.surgery.extend_vocabulary import Growth, extend
    from graft.surgery.initialize import Initialize, initialize
    from graft.synthesis.sample_base import Recall, recall
    from graft.training.cache_teacher import Consult, consult
    from graft.training.decay_branch import DecayNow
    from graft.training.lr_range import RangeTest
    from graft.training.settings import Train
    from graft.training.train import train

__all__ = [
    "Adapt",
    "AdaptationReport",
    "Answer",
    "Artifact",
    "Base",
    "Budget",
    "Choose",
    "Compare",
    "CompareExtension",
    "Consult",
    "Continual",
    "Contrast",
    "Curate",
    "DecayNow",
    "Embed",
    "Eval",
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
    "Pilots",
    "Pool",
    "Present",
    "Pretrain",
    "RangeTest",
    "Recall",
    "Report",
    "Split",
    "Store",
    "Tokenize",
    "Train",
    "UsageError",
    "WalkBack",
    "adapt",
    "answer",
    "choose",
    "compare_extension",
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
    "tokenize",
    "train",
    "walk_back",
    "write_adaptation_report",
]

_HOMES = {
    "budget.choose_mixture": "Choose choose",
    "budget.pilot_runs": "Pilots pilot",
    "budget.walk_back": "WalkBack walk_back",
    "continual.settings": "Judge",
    "core.config.errors": "FaultError GateClosed GraftError UsageError",
    "core.config.recipe": "read_recipe",
    "core.models.base_model": "Base",
    "core.records.benchmark_answers": "read_answers",
    "core.store.artifact": "Artifact Store",
    "core.text.split": "Split",
    "data.curate": "Curate curate",
    "data.ingest": "Ingest ingest",
    "data.tokenize": "Tokenize tokenize",
    "evaluation.benchmarks.run_benchmark": "answer",
    "evaluation.benchmarks.settings": "Answer",
    "evaluation.compare.compare_extension": "CompareExtension compare_extension",
    "evaluation.compare.pool_documents": "Pool pool",
    "evaluation.compare.token_differences": "Contrast contrast",
    "evaluation.run_probes": "Examine examine",
    "evaluation.score_documents": "Evaluate evaluate",
    "evaluation.similarity.embed": "Embed embed",
    "evaluation.similarity.measure_similarity": "Liken liken",
    "jobs.adapt": "Adapt Outcome adapt",
    "jobs.budget": "Budget",
    "jobs.compare": "Compare",
    "jobs.continual": "Continual",
    "jobs.eval": "Eval",
    "jobs.extend": "Extend",
    "jobs.pretrain": "Pretrain",
    "jobs.report": "Report",
    "report.adaptation.facts": "Materials",
    "report.adaptation.stage": "AdaptationReport write_adaptation_report",
    "report.benchmark.stage": "Grade grade",
    "report.comparison.stage": "Present present",
    "report.continual.stage": "judge",
    "report.overview.stage": "Gather gather",
    "surgery.extend_vocabulary": "Growth extend",
    "surgery.initialize": "Initialize initialize",
    "synthesis.sample_base": "Recall recall",
    "training.cache_teacher": "Consult consult",
    "training.decay_branch": "DecayNow",
    "training.lr_range": "RangeTest",
    "training.settings": "Train",
    "training.train": "train",
}
_HOME = {name: f"graft.{module}" for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
