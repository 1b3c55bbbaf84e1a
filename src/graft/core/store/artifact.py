"""Artifacts: finished work in folders named by content, which appear whole or not at all.

A store is a folder of artifacts. Each is called KIND-HASH, the hash being over its settings, its inputs and the
code that makes it, so the same request finds the same folder and a changed one can never be taken for it. Work in
progress lives in `drafts/` under the name it will have, survives a kill, and is renamed into place at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError, UsageError, nearest
from graft.core.config.settings import to_json
from graft.core.process.notes import say, tell_notes
from graft.core.process.precision import machine
from graft.core.process.processes import rank
from graft.core.process.progress import phase
from graft.core.store.atomic_files import (
    UNUSABLE,
    is_held,
    locked,
    naming_full_disk,
    naming_read_only,
    not_writable,
    write_whole,
)
from graft.core.store.code_identity import code_identity
from graft.core.store.fingerprints import Fingerprints
from graft.core.store.ledger import Ledger
from graft.core.store.leftovers import Unfinished, artifact_folders, clean, lock_of, unfinished
from graft.core.store.manifest import MANIFEST, Damaged, has_manifest, read_manifest
from graft.core.store.ownership import DRAFTS, LOCKS, MEMORY, is_store, mark_store

PATIENCE = 1800.0  # seconds that another rank waits while nobody makes what it waits for
Meet = Callable[[bool], bool]  # the word of rank 0, told to all ranks: is this to be built?
Code = str | tuple[str, ...]  # the name of the module that makes something, and of modules it chooses at run time
# What making an artifact is called while it counts nothing, by kind; the kind itself where it says enough.
WORDS = {
    "docs": "reading", "corpus": "curating", "tokens": "tokenizing", "begun": "making the base", "train": "training",
    "evidence": "scoring", "findings": "comparing", "choice": "fitting laws", "speed": "measuring the speed",
}  # fmt: skip
PACKAGES = ("graft-lm", "torch", "transformers", "tokenizers", "daft", "numpy", "safetensors", "peft")


@dataclass(frozen=True)
class Artifact:
    """A finished folder of a store."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kind(self) -> str:
        return self.path.name.rpartition("-")[0]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """settings, inputs, ledger, facts, versions, device, started, seconds: as written at the end.

        Raises: Damaged, a FaultError, where it is not that.
        """
        try:
            return read_manifest(self.path)
        except FileNotFoundError as error:
            raise Damaged(self.path, "is not there", do="run `graft ls artifacts` for what there is") from error

    @property
    def facts(self) -> dict[str, Any]:
        """What the stage found worth saying about its work (counts, rates, places)."""
        return self.manifest["facts"]

    @property
    def origins(self) -> dict[str, str]:
        """What people call the inputs from outside, by input: paths, or the artifact that a folder lies in."""
        return self.manifest.get("origins", {})

    @property
    def ledger(self) -> Ledger:
        return Ledger.from_json(self.manifest["ledger"])

    def __truediv__(self, name: str) -> Path:
        return self.path / name


@dataclass
class Draft:
    """An artifact in the making: write files into `path`; what a killed process left there is still there."""

    path: Path
    ledger: Ledger = field(default_factory=Ledger)
    facts: dict[str, Any] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def artifact_at(folder: Path) -> Artifact | None:
    """The artifact in a folder; None where there is none, and where it is damaged, which is said."""
    found = Artifact(folder)
    if not has_manifest(folder):
        return None
    try:
        found.manifest  # noqa: B018 - it is read once, and kept
    except Damaged as error:
        if error.__cause__ is None or has_manifest(folder):  # else it went meanwhile
            tell_notes([f"{found.name} counts as not there: {MANIFEST} {error.why}; `graft clean` removes it"])
        return None
    return found


@dataclass(frozen=True)
class Store:
    """A folder of artifacts; `on_made(artifact, fresh)` is told of every artifact that is asked for."""

    root: Path
    on_made: Callable[[Artifact, bool], None] = lambda artifact, fresh: None

    @property
    def may_fetch(self) -> bool:
        """Whether inputs may be downloaded for a job that runs with this store."""
        return True

    @property
    def prints(self) -> Fingerprints:
        """The memory of file contents, by which inputs from outside are known."""
        if not is_store(self.root):  # what is one may be read where nothing can be written
            self._make_room("")
        return Fingerprints(self.root / MEMORY)

    @classmethod
    def default(cls) -> Store:
        """The store at $GRAFT_STORE, or .graft in the working folder."""
        return cls(Path(os.environ.get("GRAFT_STORE", ".graft")))

    def make(
        self,
        kind: str,
        settings: Any,
        inputs: Mapping[str, Artifact | str],
        code: Code,
        build: Callable[[Draft], None],
        *,
        origins: Mapping[str, str] | None = None,
        together: Meet | None = None,
    ) -> Artifact:
        """The artifact of this request: found when it exists, else built by `build(draft)` and put in place.

        inputs: artifacts, or fingerprints of what comes from outside. code: the stage's `__name__`; what it imports and
        the plug-ins in `settings` are found from there (`graft.core.store.code_identity`), and only modules that are
        chosen by something else, as a reader is by a file's suffix, are named beside it. origins: what people call
        inputs from outside (paths, the artifact a model folder lies in), by input; kept for `graft why`, no part of the
        identity. together: where several processes do one job, the first makes what is to be made and the others find
        it; with `together` all of them build it at once, in the draft of the first, which alone puts it in place.
        Errors: FaultError when the disk is full; whatever `build` raises.
        """
        identity = self.identity(settings, inputs, code)
        name = _name(kind, identity)
        final = self.root / name
        if rank():
            if together is not None and together(False):
                build(Draft(self.root / DRAFTS / name))
            self._await(final)
            fresh = False
        else:
            fresh = self._lead(final, identity | {"origins": dict(origins or {})}, build, together or bool)
        artifact = Artifact(final)
        self.on_made(artifact, fresh)
        return artifact

    def _lead(self, final: Path, known: dict[str, Any], build: Callable[[Draft], None], tell: Meet) -> bool:
        """Find or build an artifact; returns whether it was built, which `tell` heard before it began."""
        if has_manifest(final):
            read_manifest(final)  # a damaged one is refused before anything is made of it
            return tell(False)
        with naming_full_disk(final), naming_read_only(self.root), self._locked(final.name):
            fresh = tell(not has_manifest(final))
            if fresh:
                _require_free(final)
                self._build(final, known, build)
        return fresh

    def _await(self, final: Path) -> None:
        """Waits until the first rank has made an artifact. Errors: FaultError where it does not even try."""
        seen = time.monotonic()
        while not has_manifest(final):
            if is_held(self._lock(final.name)):
                seen = time.monotonic()
            elif time.monotonic() - seen > PATIENCE:
                raise FaultError(
                    f"process {rank()} waited {PATIENCE:.0f} s for {final.name}, and nobody makes it",
                    where=str(self.root),
                    do="give all processes of the job the same --store, on a file system that all of them see",
                )
            time.sleep(0.05)

    @staticmethod
    def identity(settings: Any, inputs: Mapping[str, Artifact | str], code: Code) -> dict[str, Any]:
        """What decides an artifact's content, as JSON; of the code, the one hash that counts and whose it is."""
        parts = (code,) if isinstance(code, str) else code
        return {
            "settings": to_json(settings),
            "inputs": {key: one.name if isinstance(one, Artifact) else one for key, one in inputs.items()},
            "code": code_identity(parts, settings).to_json(),
        }

    def find(self, kind: str, settings: Any, inputs: Mapping[str, Artifact | str], code: Code) -> Artifact | None:
        """The finished artifact of this request, or None; builds nothing."""
        path, _ = self.places(kind, settings, inputs, code)
        return Artifact(path) if has_manifest(path) else None

    def places(self, kind: str, settings: Any, inputs: Mapping[str, Artifact | str], code: Code) -> tuple[Path, Path]:
        """Where the artifact of this request lies or would lie: finished, and as a draft."""
        name = _name(kind, self.identity(settings, inputs, code))
        return self.root / name, self.root / DRAFTS / name

    def _build(self, final: Path, known: dict[str, Any], build: Callable[[Draft], None]) -> None:
        draft = Draft(self.root / DRAFTS / final.name)
        started = time.time()
        draft.path.mkdir(parents=True, exist_ok=True)
        with phase(WORDS.get(final.name.rpartition("-")[0], final.name.rpartition("-")[0])):
            build(draft)
        draft.ledger.check()
        manifest = known | {
            "ledger": draft.ledger.to_json(),
            "facts": draft.facts,
            "versions": versions(),
            "device": machine(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 3),
        }
        for part in list(draft.path.rglob("*.partial")):  # of a process that was killed while it wrote
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        write_whole(draft / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False))
        os.replace(draft.path, final)

    @contextmanager
    def _locked(self, name: str) -> Generator[None]:
        """One process at a time builds an artifact; a second says so, waits, and then finds it."""
        self._make_room(DRAFTS)
        self._make_room(LOCKS)
        with locked(self._lock(name), lambda holder: _say_waiting(name, holder)):
            yield

    def _make_room(self, name: str) -> Path:
        """A folder of the store, made where it is missing. Errors: UsageError where it cannot be, FaultError on a full
        disk."""
        folder = self.root / name
        with naming_full_disk(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                mark_store(self.root)
            except OSError as error:
                if error.errno not in UNUSABLE:
                    raise
                raise not_writable(folder, error.errno) from error
        return folder

    @contextmanager
    def scratch(self, label: str) -> Generator[Path]:
        """A folder in the store for work that is no artifact: gone afterwards, and known to `clean` after a kill."""
        name = f"{label}-{os.getpid()}-{time.monotonic_ns():x}"
        with naming_full_disk(self.root), naming_read_only(self.root), self._locked(name):
            place = self.root / DRAFTS / name
            place.mkdir()
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def drafts(self) -> list[Unfinished]:
        """What was begun and is not finished, and all else that a process left, the longest untouched first."""
        return unfinished(self.root)

    def clean(self) -> list[Path]:
        """Remove all of that which no living process is at; returns what is gone. Raises: UsageError, read-only."""
        with naming_read_only(self.root):
            return clean(self.root)

    def _lock(self, name: str) -> Path:
        return lock_of(self.root, name)

    def artifacts(self) -> list[Artifact]:
        """Every finished artifact, oldest first; one that is damaged is left out, and a note names it."""
        found = [one for one in map(artifact_at, artifact_folders(self.root)) if one is not None]
        return sorted(found, key=lambda artifact: (artifact.manifest["started"], artifact.name))

    def get(self, name: str) -> Artifact:
        """The artifact of this name, of an unambiguous beginning of it, or at this path.

        Raises: UsageError for no artifact and for several; FaultError for one that is damaged.
        """
        if has_manifest(Path(name)):
            return _read(Path(name).resolve())
        names = [folder.name for folder in artifact_folders(self.root)]
        matches = [full for full in names if name and full.startswith(name)]
        if len(matches) == 1:
            return _read(self.root / matches[0])
        raise UsageError(
            f'"{name}" fits {len(matches)} artifacts',
            where=str(self.root),
            allowed=", ".join(matches[:8]) or "the name of one artifact, or a beginning of it",
            do=nearest(name, names) or "run `graft ls artifacts`",
        )


def _read(folder: Path) -> Artifact:
    """The artifact in a folder, its manifest read. Raises: Damaged."""
    found = Artifact(folder)
    found.manifest  # noqa: B018 - it is read once, and kept
    return found


def _require_free(final: Path) -> None:
    """Raises: FaultError where a folder of this name is there, which no rename could replace."""
    if os.path.lexists(final):
        raise FaultError(
            f"a folder of this artifact's name is there, without {MANIFEST}",
            where=str(final),
            do="move it away, and run the same command again",
        )


def digest(identity: Any) -> str:
    """12 hexadecimal digits over a JSON value, independent of key order."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()


def _name(kind: str, identity: Mapping[str, Any]) -> str:
    """KIND-HASH; names of modules are there to be read, and where a module lies is no part of the name."""
    return f"{kind}-{digest({**identity, 'code': identity['code']['identity']})}"


def _say_waiting(name: str, holder: str) -> None:
    say(f"waiting for {name}: process {holder or '(unknown)'} is making it\n")


def versions() -> dict[str, str]:
    """Installed versions of the packages whose version can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


class NotMade(Exception):
    """What a dry store raises for the first artifact that is not there."""


@dataclass(frozen=True)
class DryStore(Store):
    """A store that finds and never makes: a job called with it stops, with NotMade, where work would begin."""

    @property
    def may_fetch(self) -> bool:
        return False

    @property
    def prints(self) -> Fingerprints:
        return Fingerprints(self.root / MEMORY, may_read=False)

    def make(
        self,
        kind: str,
        settings: Any,
        inputs: Mapping[str, Artifact | str],
        code: Code,
        build: Callable[[Draft], None],
        *,
        origins: Mapping[str, str] | None = None,
        together: Meet | None = None,
    ) -> Artifact:
        """The artifact of this request. Errors: NotMade when it is not there."""
        found = self.find(kind, settings, inputs, code)
        if found is None:
            raise NotMade(kind)
        self.on_made(found, False)
        return found
