"""Artifacts: finished work in folders named by content, which appear whole or not at all.

A store is a folder of artifacts. Each is called KIND-HASH, the hash being over its settings, its inputs and the
code that makes it, so the same request finds the same folder and a changed one can never be taken for it. Work in
progress lives in `drafts/` under the name it will have, survives a kill, and is renamed into place at the end.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from graft.core.errors import FaultError, UsageError, nearest
from graft.core.files import is_held, locked, naming_full_disk, write_whole
from graft.core.fingerprint import Fingerprints
from graft.core.ledger import Ledger
from graft.core.mark import ARTIFACT, DRAFTS, LOCKS, MEMORY, mark_store
from graft.core.progress import phase
from graft.core.ranks import rank
from graft.core.settings import to_json
from graft.core.shelf import HOUSE

MANIFEST = "manifest.json"
PATIENCE = 1800.0  # seconds that another rank waits while nobody makes what it waits for
Meet = Callable[[bool], bool]  # the word of rank 0, told to all ranks: is this to be built?
Code = tuple[ModuleType | type | str, ...]  # modules, plug-in classes, or folders of the house by name ("tensors")
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
        """settings, inputs, ledger, facts, versions, device, started, seconds: as written at the end."""
        return json.loads((self.path / MANIFEST).read_text())

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


@dataclass(frozen=True)
class Unfinished:
    """A draft as it lies there; changed: when it last was, in seconds since 1970. busy: a process is at it."""

    path: Path
    size: int
    changed: float
    busy: bool

    @property
    def name(self) -> str:
        return self.path.name


class _Busy(Exception):
    """What is to be removed is in use."""


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

        inputs: artifacts, or fingerprints of what comes from outside. code: the modules and plug-in classes whose
        source decides the outcome. origins: what people call inputs from outside (paths, the artifact a model folder
        lies in), by input; kept for `graft why`, no part of the identity. together: where several processes do one job,
        the first makes what is to be made and the others find it; with `together` all of them build it at once, in
        the draft of the first, which alone puts it in place. Errors: FaultError when the disk is full; whatever
        `build` raises.
        """
        identity = self.identity(settings, inputs, code)
        name = f"{kind}-{digest(identity)}"
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
        if (final / MANIFEST).exists():
            return tell(False)
        with naming_full_disk(final), self._locked(final.name):
            fresh = tell(not (final / MANIFEST).exists())
            if fresh:
                self._build(final, known, build)
        return fresh

    def _await(self, final: Path) -> None:
        """Waits until the first rank has made an artifact. Errors: FaultError where it does not even try."""
        seen = time.monotonic()
        while not (final / MANIFEST).exists():
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
        """What decides an artifact's content, as JSON."""
        return {
            "settings": to_json(settings),
            "inputs": {key: one.name if isinstance(one, Artifact) else one for key, one in inputs.items()},
            "code": {_code_name(part): code_hash(part) for part in code},
        }

    def find(self, kind: str, settings: Any, inputs: Mapping[str, Artifact | str], code: Code) -> Artifact | None:
        """The finished artifact of this request, or None; builds nothing."""
        path, _ = self.places(kind, settings, inputs, code)
        return Artifact(path) if (path / MANIFEST).exists() else None

    def places(self, kind: str, settings: Any, inputs: Mapping[str, Artifact | str], code: Code) -> tuple[Path, Path]:
        """Where the artifact of this request lies or would lie: finished, and as a draft."""
        name = f"{kind}-{digest(self.identity(settings, inputs, code))}"
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
            "device": f"{platform.machine()}, {os.cpu_count()} cores",
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
            except (FileExistsError, NotADirectoryError, PermissionError) as error:
                raise UsageError(
                    f"cannot write to the store: {error.strerror}", where=str(folder), do="choose another --store"
                ) from error
        return folder

    def drafts(self) -> list[Unfinished]:
        """What was begun and is not finished, the longest untouched first."""
        found = [self._unfinished(path) for path in (self.root / DRAFTS).glob("*/")]
        return sorted(found, key=lambda draft: (draft.changed, draft.name))

    def _unfinished(self, path: Path) -> Unfinished:
        seen = [one.stat() for one in (path, *path.rglob("*")) if one.exists()]
        return Unfinished(
            path,
            size=sum(stat.st_size for stat in seen[1:]),
            changed=max((stat.st_mtime for stat in seen), default=0.0),
            busy=is_held(self._lock(path.name)),
        )

    def clean(self) -> list[Path]:
        """Remove every draft that no living process is at; returns the folders that are gone."""
        gone: list[Path] = []
        for draft in self.drafts():
            with suppress(_Busy), locked(self._lock(draft.name), _refuse_to_wait):
                shutil.rmtree(draft.path)
                gone.append(draft.path)
        return gone

    def _lock(self, name: str) -> Path:
        return self.root / LOCKS / f"{name}.lock"

    def artifacts(self) -> list[Artifact]:
        """Every finished artifact, oldest first."""
        found = [Artifact(p.parent) for p in self.root.glob(f"*-*/{MANIFEST}") if ARTIFACT.fullmatch(p.parent.name)]
        return sorted(found, key=lambda artifact: (artifact.manifest["started"], artifact.name))

    def get(self, name: str) -> Artifact:
        """The artifact of this name, of an unambiguous beginning of it, or at this path."""
        if os.path.exists(Path(name) / MANIFEST):  # noqa: PTH110 - Path.exists raises for a name that is too long
            return Artifact(Path(name).resolve())
        names = [artifact.name for artifact in self.artifacts()]
        matches = [full for full in names if name and full.startswith(name)]
        if len(matches) == 1:
            return Artifact(self.root / matches[0])
        raise UsageError(
            f'"{name}" fits {len(matches)} artifacts',
            where=str(self.root),
            allowed=", ".join(matches[:8]) or "the name of one artifact, or a beginning of it",
            do=nearest(name, names) or "run `graft ls artifacts`",
        )


def digest(identity: Any) -> str:
    """12 hexadecimal digits over a JSON value, independent of key order."""
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=6).hexdigest()


def code_hash(part: ModuleType | type | str) -> str:
    """Hash of the source of a module, of a class's module, or of all modules of a folder; nothing is imported.

    A module of the house counts with those beside it on its shelf that it imports: `stay_close` is `causal` at a leash
    of 0, and one that was changed is another.
    """
    if isinstance(part, str):
        files = sorted((HOUSE / part).glob("*.py"))
    else:
        module = inspect.getmodule(part)
        assert module is not None and module.__file__, part
        files = sorted(_with_neighbours(Path(module.__file__), set()))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=6).hexdigest()


def _with_neighbours(file: Path, seen: set[Path]) -> set[Path]:
    """A module's file, and those in its folder that it imports, and so on; of plug-ins only."""
    seen.add(file)
    if file.parent.parent == HOUSE and file.parent.name not in ("core", "stages", "jobs"):
        for name in re.findall(rf"from graft\.{file.parent.name}\.(\w+) import", file.read_text(encoding="utf-8")):
            if (near := file.with_name(f"{name}.py")) not in seen:
                _with_neighbours(near, seen)
    return seen


def _say_waiting(name: str, holder: str) -> None:
    sys.stderr.write(f"waiting for {name}: process {holder or '(unknown)'} is making it\n")


def _refuse_to_wait(holder: str) -> None:
    raise _Busy(holder)


def _code_name(part: ModuleType | type | str) -> str:
    return part if isinstance(part, str) else getattr(part, "__qualname__", part.__name__)


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
