"""examine: two sightings of the same text, compared by every probe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.records.evidence import Evidence, read_evidence
from graft.core.store.artifact import Artifact, Draft, Store
from graft.evaluation.probes.blame import Blame
from graft.evaluation.probes.forgetting import Forgetting
from graft.models.runtime.settle_precision import check_same_precision


@dataclass(frozen=True)
class Examine:
    """Which probes to run; forgetting always is, because verdict, summary and page are made of it."""

    probes: Annotated[tuple[Any, ...], Shelf("probes")] = (Forgetting(), Blame())

    def __post_init__(self) -> None:
        names = [plugin_name(probe) for probe in self.probes]
        if not any(isinstance(probe, Forgetting) for probe in self.probes):
            raise UsageError(
                f"probes are {', '.join(names) or 'none'}",
                allowed="a list of probes with forgetting among them: the verdict is made of it",
                do="add forgetting to the list",
            )
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"probes hold {name} twice", allowed="every probe once: its rows go to NAME.json")


def examine(before: Artifact, after: Artifact, settings: Examine = Examine(), *, store: Store) -> Artifact:
    """Kind "findings": one JSON file of rows per probe. Errors: UsageError when the texts are not the same."""
    check_same_precision({"before": before, "after": after})
    return store.make(
        "findings",
        settings,
        {"before": before, "after": after},
        __name__,
        lambda draft: _build(draft, before, after, settings),
    )


def _build(draft: Draft, before: Artifact, after: Artifact, settings: Examine) -> None:
    old, new = read_evidence(before), read_evidence(after)
    _check_same_text(old, new)
    for probe in settings.probes:
        rows = probe(old, new)
        (draft / f"{plugin_name(probe)}.json").write_text(json.dumps(rows, allow_nan=False), encoding="utf-8")
    draft.facts |= {"probes": [plugin_name(probe) for probe in settings.probes], "sources": list(old)}


def _check_same_text(old: dict[str, Evidence], new: dict[str, Evidence]) -> None:
    for name in old:
        if name not in new or not np.array_equal(old[name].targets_N, new[name].targets_N):
            raise UsageError(
                f'the two evidences of "{name}" are not about the same tokens',
                do="evaluate both models on the same tokens artifact, with the same settings",
            )
