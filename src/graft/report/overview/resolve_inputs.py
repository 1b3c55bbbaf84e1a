"""given: which artifacts are meant by what a user names: an artifact's name, its path, or a folder of results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError, nearest
from graft.core.store.artifact import Artifact, Store
from graft.core.store.manifest import MANIFEST
from graft.core.store.ownership import ARTIFACT, entries_of

SUMMARY, PAGE, MODEL = "summary.json", "report.html", "model"
ALLOWED = "an artifact's name or a beginning of it, its path, or the --out folder of a finished job"


@dataclass(frozen=True)
class Given:
    """One thing to report on. artifact: None where the store has it no longer, and `summary` is all that is left.

    page: a report.html of its own, None where it has none. notes: what is to be known of how it was found.
    """

    label: str
    named: str
    artifact: Artifact | None
    summary: dict[str, Any] | None = None
    page: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """By which the same thing under two names is known."""
        return self.artifact.name if self.artifact else json.dumps(self.summary, sort_keys=True)


def find_given(names: Sequence[str], store: Store) -> tuple[list[Given], list[str]]:
    """What is named, each thing once and in its order, and notes on what was named twice.

    Errors: UsageError for a name that fits nothing (with the nearest), a folder without results, and a summary that
    cannot be read where nothing else is left.
    """
    found: dict[str, Given] = {}
    notes: list[str] = []
    for label, name in labels(names).items():
        one = _find(label, name, store)
        if one.identity in found:
            notes.append(f"{name} is {found[one.identity].named} again, and is shown once.")
        else:
            found[one.identity] = one
    return list(found.values()), notes


def labels(names: Sequence[str]) -> dict[str, str]:
    """Names by what the page calls them: the last part of a path, with as many before it as tell it from others.

    In letters that a key of summary.json may have. One that is named twice stays twice, with a number.
    """
    parts = {
        name: [part for part in re.split(r"[/\\]", os.path.normpath(name)) if part not in ("", ".", "..")]
        for name in names
    }
    deep = {
        name: next((k for k in range(1, len(own)) if _alone(name, own[-k:], parts)), len(own))
        for name, own in parts.items()
    }
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]", "_", "_".join(parts[name][-deep[name] :])).strip(".-") or "run"
        label, number = plain, 2
        while label in found:
            label, number = f"{plain}_{number}", number + 1
        found[label] = name
    return found


def _alone(name: str, tail: list[str], parts: dict[str, list[str]]) -> bool:
    return all(own[-len(tail) :] != tail for other, own in parts.items() if other != name and own != parts[name])


def _find(label: str, name: str, store: Store) -> Given:
    folder = Path(name).expanduser()
    if not os.path.exists(folder / MANIFEST) and os.path.isdir(folder):  # noqa: PTH110, PTH112 - no error where too long
        return _of_folder(label, name, folder, store)
    there = os.path.exists(folder)  # noqa: PTH110
    known = [one.name for one in store.artifacts()]
    if not there and not any(full.startswith(name) for full in known):
        raise UsageError(
            f'"{name}" is no artifact of this store and no folder of results',
            where=str(store.root),
            allowed=ALLOWED,
            do=nearest(name, [*_beside(folder), *known]) or "run `graft ls artifacts` for what there is",
        )
    artifact = store.get(str(folder) if there else name)
    return Given(label, name, artifact, page=_page(artifact))


def _of_folder(label: str, name: str, folder: Path, store: Store) -> Given:
    """A folder of results: its artifact where the store has it, else what its summary.json says."""
    entries = entries_of(folder)
    entry = next((entries[one] for one in (SUMMARY, MODEL) if isinstance(entries.get(one), dict)), {})
    made = str(entry.get("from", "")).partition("/")[0]
    page = folder / PAGE if (folder / PAGE).is_file() else None
    there = ARTIFACT.fullmatch(made) and (store.root / made / MANIFEST).exists()
    if there:
        artifact = Artifact(store.root / made)
        return Given(label, name, artifact, page=page, notes=tuple(_changed(name, folder, artifact)))
    if not (folder / SUMMARY).is_file():
        raise _no_results(name, folder, made, store)
    summary = read_summary(folder / SUMMARY)
    gone = f"its artifact {made} is not in this store" if made else "it does not say which artifact it is of"
    do = "; give the store it was made in with --store" if made else ""
    return Given(
        label,
        name,
        None,
        summary,
        page,
        (f"{label}: {gone}, so curves, blame, lineage and paired comparisons with it cannot be drawn{do}.",),
    )


def read_summary(path: Path) -> dict[str, Any]:
    """Errors: UsageError where it is no JSON mapping."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"this summary cannot be read: {error}", where=str(path), do="leave it out, or run its job again"
        ) from error
    if not isinstance(found, dict) or not all(_sound(found[name]) for name in ("domain", "general") if name in found):
        raise UsageError("this is not what a job wrote", where=str(path), do="leave it out, or run its job again")
    return found


def _sound(row: Any) -> bool:
    """Whether a row has a change that is a number or nothing, and an interval that is two numbers or nothing."""
    if not isinstance(row, dict):
        return False
    change, interval = row.get("change"), row.get("interval")
    ends = interval if isinstance(interval, list) and len(interval) == 2 else [] if interval is None else [None]
    return all(isinstance(one, int | float) for one in ([] if change is None else [change, *ends]))


def _changed(name: str, folder: Path, artifact: Artifact) -> list[str]:
    """A note where the summary in the folder is not the one of the artifact, which is the one that counts."""
    own, there = folder / SUMMARY, artifact / SUMMARY
    if not own.is_file() or not there.is_file() or own.read_bytes() == there.read_bytes():
        return []
    return [f"{own} was changed after it was written; shown is what {artifact.name} says."]


def _no_results(name: str, folder: Path, made: str, store: Store) -> UsageError:
    inside = sorted(one.name for one in folder.iterdir() if one.is_dir() and (one / SUMMARY).is_file())
    if inside:
        shown = ", ".join(inside[:4]) + (" ..." if len(inside) > 4 else "")
        return UsageError(
            "this folder is no result, but holds some", where=name, allowed=ALLOWED, do=f"name them ({shown})"
        )
    if made:
        return UsageError(
            f"this folder has a model of {made}, which is not in the store, and no summary.json",
            where=name,
            allowed=ALLOWED,
            do=f"give the store it was made in with --store (this one is {store.root})",
        )
    return UsageError("this folder holds no result", where=name, allowed=ALLOWED, do="run `graft ls artifacts`")


def _beside(folder: Path) -> list[str]:
    """Results beside a folder that is not there, as they would be named."""
    above = folder.parent
    if not os.path.isdir(above):  # noqa: PTH112
        return []
    return [str(above / one.name) for one in sorted(above.iterdir()) if (one / SUMMARY).is_file()]


def _page(artifact: Artifact) -> Path | None:
    return artifact / PAGE if (artifact / PAGE).is_file() else None
