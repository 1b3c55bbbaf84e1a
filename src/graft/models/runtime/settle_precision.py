"""settle precision: that of a job, decided once and kept in the store: unfinished work goes on as it was begun."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

from graft.core.config.errors import UsageError
from graft.core.config.settings import to_json
from graft.core.process.notes import tell, tell_notes
from graft.core.process.precision import Computed, Precision, Runtime, runtime, slow_bf16
from graft.core.store.artifact import Artifact, Draft, NotMade, Store

T = TypeVar("T")
FIELD = "precision"


def settle_precision(settings: T, store: Store, inputs: Mapping[str, Artifact | str] = {}) -> T:
    """`settings`, a job's or a stage's, with every precision in them that is "auto" decided.

    The decision is an artifact of kind "runtime", by the settings (less the folders of results) and inputs. A second
    call takes it from there: also on another machine, which would have chosen otherwise. Dry stores keep nothing.
    """
    found = set(_precisions(settings))
    if "bf16" in found and (slow := slow_bf16()):
        tell_notes([f"precision bf16 is set, and {slow}; precision auto would choose fp32"])
    if "auto" not in found:
        for precision in sorted(found):
            told = str(runtime(precision))
            tell(told if "set by hand" in told else f"{told} (set by hand)")
        return settings
    known = {type(settings).__name__: _without(to_json(settings), "out")}
    try:
        kept = store.make("runtime", known, inputs, __name__, _build)
    except NotMade:
        tell(str(runtime()))
        return settle_here(settings)
    chosen: Computed = kept.facts[FIELD]
    _say(kept, runtime())
    return with_precision(settings, chosen, only_auto=True)


def settle_here(settings: T) -> T:
    """The same for a stage whose work is short: decided by this machine alone, and kept nowhere."""
    return with_precision(settings, runtime().precision, only_auto=True)


def with_precision(settings: T, precision: str, *, only_auto: bool = False) -> T:
    """`settings`, a job's or a stage's, with every precision in them set; only_auto: those that are "auto"."""
    changed: dict[str, Any] = {}
    for field in _fields(settings):
        value = getattr(settings, field.name)
        if field.name == FIELD and isinstance(value, str) and (value == "auto" or not only_auto):
            changed[FIELD] = precision
        elif _is_settings(value) and (new := with_precision(value, precision, only_auto=only_auto)) != value:
            changed[field.name] = new
    return dataclasses.replace(settings, **changed) if changed else settings  # type: ignore[type-var]


def recorded(precision: Computed) -> dict[str, str]:
    """How this process computes, for the facts of an artifact."""
    return dict(vars(runtime(precision)))


def check_same_precision(artifacts: Mapping[str, Artifact]) -> None:
    """artifacts: by what a user calls them; what takes part in one comparison.

    Raises: UsageError where they were computed in different precisions, whose rounding would be taken for a change.
    """
    by_precision: dict[str, list[str]] = {}
    for name, artifact in artifacts.items():
        by_precision.setdefault(precision_of(artifact), []).append(name)
    if len(by_precision) > 1:
        found = "; ".join(f"{precision}: {', '.join(names)}" for precision, names in by_precision.items())
        raise UsageError(
            f"what is compared was computed in different precisions ({found})",
            allowed="artifacts of one precision",
            do="make them again with one --precision (in Python: the setting `precision`)",
        )


def precision_of(artifact: Artifact) -> str:
    """As its settings have it; empty for what computes nothing."""
    return str(artifact.manifest["settings"].get(FIELD, ""))


def _build(draft: Draft) -> None:
    draft.facts |= vars(runtime())


def _say(kept: Artifact, here: Runtime) -> None:
    if kept.facts[FIELD] == here.precision:
        tell(str(here))
        return
    slow = slow_bf16() if kept.facts[FIELD] == "bf16" else ""
    tell_notes(
        [
            f"this work was begun in {kept.facts[FIELD]} ({kept.facts['why']}) and goes on in it. On this machine auto "
            f"would choose {here.precision} ({slow or here.why}). --precision {here.precision} begins again with it"
        ]
    )


def _precisions(settings: Any) -> Iterator[Precision]:
    for field in _fields(settings):
        value = getattr(settings, field.name)
        if field.name == FIELD and isinstance(value, str):
            yield cast(Precision, value)
        elif _is_settings(value):
            yield from _precisions(value)


def _fields(settings: Any) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(settings) if field.init)


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _without(values: Any, name: str) -> Any:
    """JSON values less the key `name` at any depth."""
    if isinstance(values, Mapping):
        return {key: _without(value, name) for key, value in values.items() if key != name}
    return [_without(value, name) for value in values] if isinstance(values, list) else values
