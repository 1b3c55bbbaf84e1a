"""Normal forms of sources, each parsed once: kept by the content of the file, in this process and in the user's cache.

A module that is loaded counts as it was when it was first looked at, even where its file is edited afterwards: what
runs is the old code until the process ends or the module is reloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError
from graft.core.store import normal_source as form
from graft.core.store.atomic_files import write_whole
from graft.core.store.normal_source import NormalSource, normal_source

PACKAGE = "graft"
SHARED = ("site-packages", "dist-packages")  # folders whose packages do not belong together
LIBRARY = str(Path(os.__file__).parent)  # of Python itself
KEPT = 800  # sources in the cache: two versions of the package
NAMED = re.compile(rb"""["']([\w.-]+\.(?:html|css|js))["']""")  # web files that a template names


@dataclass
class ParsedSources:
    """folder: where normal forms are kept between processes; None: the user's cache folder."""

    folder: Path | None = None
    known: dict[str, NormalSource] = field(default_factory=dict[str, NormalSource])
    new: set[str] = field(default_factory=set[str])
    held: dict[str, tuple[Any, bytes]] = field(default_factory=dict[str, tuple[Any, bytes]])
    _saved: dict[str, Any] | None = None  # as they are in the cache

    def of(self, source: bytes, path: Path, *, lasting: bool = True) -> NormalSource:
        """The normal form of a source; lasting: another process will ask for it.

        Errors: FaultError where it is not Python.
        """
        key = hashlib.blake2b(source, digest_size=16).hexdigest()
        if key not in self.known and self._saved is None:
            self._saved = _remembered(self._cache())
        if key not in self.known and self._saved and key in self._saved:
            with suppress(TypeError, ValueError):
                self.known[key] = NormalSource.from_json(self._saved[key])
        if key not in self.known:
            try:
                self.known[key] = normal_source(source)
            except (SyntaxError, ValueError) as error:
                raise FaultError(f"cannot read this source: {error}", where=str(path), do="mend the file") from error
            if lasting:
                self.new.add(key)
        return self.known[key]

    def of_module(self, module: str, path: Path) -> NormalSource:
        """The normal form of a module: as it was loaded, else as its file is now."""
        spec = getattr(sys.modules.get(module), "__spec__", None)
        held, source = self.held.get(module, (None, b""))
        return self.of(source if spec is not None and held is spec else read_source(path), path)

    def hold_loaded(self) -> None:
        """Take down the sources of all modules that are loaded by now, before they can be edited.

        Modules of installed packages other than this one do not count in any name. A module that is loaded again has
        another `__spec__`, and is taken down again.
        """
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if spec is None or (name in self.held and self.held[name][0] is spec):
                continue
            origin = getattr(spec, "origin", None) or ""
            if name.partition(".")[0] == PACKAGE or not (origin.startswith(LIBRARY) or _is_installed(origin)):
                with suppress(OSError):
                    self.held[name] = (spec, Path(origin).read_bytes() if origin.endswith(".py") else b"")

    def keep(self) -> None:
        """Write down what was parsed, for the next process. A folder that cannot be written to costs time only."""
        if not self.new:
            return
        path = self._cache()
        every = _remembered(path)
        for key in [key for key in self.known if key in every or key in self.new]:  # those in use come last, and stay
            every.pop(key, None)
            every[key] = self.known[key].to_json()
        last = list(every)[-KEPT:]
        with suppress(OSError, FaultError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps({key: every[key] for key in last}))
        self.new.clear()

    def _cache(self) -> Path:
        """One file per form and version of Python, so that no change of either is answered by the other."""
        rule = hashlib.blake2b(Path(form.__file__).read_bytes(), digest_size=6).hexdigest()
        folder = self.folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "graft"
        return folder / f"sources-{sys.version_info.major}.{sys.version_info.minor}-{rule}.json"

    @staticmethod
    def named_in(content: bytes) -> set[str]:
        return {name.decode() for name in NAMED.findall(content)}


def _is_installed(origin: str) -> bool:
    return not origin.endswith(".py") or any(name in origin for name in SHARED)


def read_source(path: Path) -> bytes:
    """Errors: FaultError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FaultError(f"cannot read this source: {error.strerror}", where=str(path)) from error


def _remembered(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
