"""Graft: continued pre-training of language models, with the price of forgetting measured.

    import graft
    outcome = graft.adapt("embedded", domain=["my_texts/"], out="adapted")

Names are loaded when they are first used, so that `import graft` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.core.artifact import Artifact, Store
    from graft.core.base import Base
    from graft.core.errors import FaultError, GateClosed, GraftError, UsageError
    from graft.jobs.adapt import Adapt, Outcome, adapt
    from graft.jobs.pretrain import Pretrain
    from graft.recipe import read_recipe

__all__ = [
    "Adapt",
    "Artifact",
    "Base",
    "FaultError",
    "GateClosed",
    "GraftError",
    "Outcome",
    "Pretrain",
    "Store",
    "UsageError",
    "adapt",
    "read_recipe",
]

_HOME = {
    "Adapt": "graft.jobs.adapt",
    "Outcome": "graft.jobs.adapt",
    "adapt": "graft.jobs.adapt",
    "Artifact": "graft.core.artifact",
    "Store": "graft.core.artifact",
    "Base": "graft.core.base",
    "FaultError": "graft.core.errors",
    "GateClosed": "graft.core.errors",
    "GraftError": "graft.core.errors",
    "UsageError": "graft.core.errors",
    "Pretrain": "graft.jobs.pretrain",
    "read_recipe": "graft.recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
