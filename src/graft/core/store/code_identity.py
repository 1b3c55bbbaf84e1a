"""Code identity: one hash over all code that can decide what a stage makes, computed from the sources themselves.

The code of a request is the stage's module, the classes of all its settings (so the plug-ins in use), and every module
that these import, directly or through others, inside this package or inside a user's own. Sources are parsed and
nothing is imported. Each module counts in its normal form (`graft.core.store.normal_source`) and with what its imports
stand for, but not with its name or place: a moved or renamed file gives the same hash, a changed line another one.
A module that is only the default of a field marked with a `Shelf` counts where it is in use and not elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError, UsageError
from graft.core.config.plugins import HOUSE
from graft.core.store.normal_source import Import, NormalSource
from graft.core.store.parsed_sources import SHARED, ParsedSources, read_source

PACKAGE = "graft"

# The only modules of the package that do not count, and why each of them cannot change what an artifact holds.
# What they import counts all the same.
WITHOUT_EFFECT = {
    "graft": "gives names of the package to users",
    "graft.core.config.errors": "words of errors: where one is raised, nothing is made",
    "graft.core.process.progress": "what the terminal shows while something is made",
    "graft.core.config.plain_text": "how text is shown on a terminal",
    "graft.core.process.console": "what the terminal shows",
    "graft.core.process.interrupts": "which exit code a stopped process ends with",
    "graft.core.process.notes": "notes in words, on standard error",
    "graft.data.user_notes": "notes and faults in words, on standard error",
    "graft.core.store.artifact": "finds, names and keeps artifacts; what is in them is made by the stages",
    "graft.core.store.manifest": "reads what artifacts say of themselves; what that is the stages decide",
    "graft.core.store.leftovers": "finds and removes what nobody finished: no artifact is made of it",
    "graft.core.store.code_identity": "part of every name already: another rule gives other names",
    "graft.core.store.normal_source": "part of every name already: another form gives other names",
    "graft.core.store.parsed_sources": "remembers sources by their content",
    "graft.core.store.fingerprints": "part of every name already: files from outside are inputs by their content",
    "graft.core.config.renamed": "old names of settings: the new ones are in every name already",
    "graft.core.config.settings": "part of every name already: settings are in it as this module writes them",
    "graft.core.config.plugins": "finds plug-ins; those in use are in the settings, by name and by code",
}


@dataclass
class Tree:
    """Where modules lie, by the folder that holds their package, and what is in them, as it is at one moment.

    texts: sources that stand in for those on disk, for whoever wants to know what a change would do.
    """

    house: Path = HOUSE
    texts: Mapping[Path, bytes] = field(default_factory=dict[Path, bytes])
    sources: ParsedSources = field(default_factory=lambda: REMEMBERED)
    given: dict[str, Path] = field(default_factory=dict[str, Path])  # modules whose file is known from outside

    def __post_init__(self) -> None:
        self.roots = {PACKAGE: (self.house.parent,)}
        self._files: dict[str, Path | None] = {}
        self._parsed: dict[str, NormalSource] = {}

    def file(self, module: str) -> Path | None:
        """The source of a module by its dotted name; None for what is not ours."""
        if module not in self._files:
            self._files[module] = self.given.get(module) or self._find(module)
        return self._files[module]

    def _find(self, module: str) -> Path | None:
        top, *below = module.split(".")
        for root in self.roots.get(top, ()):
            place = root.joinpath(top, *below)
            for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if path.is_file():
                    return path
        return None

    def parsed(self, module: str) -> NormalSource:
        """The normal form of one of our modules; looked at once in the life of a tree."""
        if module not in self._parsed:
            self._parsed[module] = self._parse(module)
        return self._parsed[module]

    def _parse(self, module: str) -> NormalSource:
        path = self.file(module)
        assert path is not None, module
        if path in self.texts or self.house != HOUSE:
            return self.sources.of(self.texts.get(path) or read_source(path), path, lasting=False)
        return self.sources.of_module(module, path)

    def web_file(self, name: str) -> bytes:
        """The content of all files of the package with this name; empty where there is none."""
        if not hasattr(self, "_web"):
            every = (path for suffix in ("html", "css", "js") for path in sorted(self.house.rglob(f"*.{suffix}")))
            self._web: dict[str, list[Path]] = {}
            for path in every:
                self._web.setdefault(path.name, []).append(path)
        return b"\0".join(self.texts.get(path) or path.read_bytes() for path in self._web.get(name, ()))

    def admit(self, module: str) -> None:
        """Make known a module outside the package, its own top-level package, and what lies beside it.

        Errors: UsageError where its source is in no file.
        """
        loaded = sys.modules.get(module)
        source = getattr(loaded, "__file__", None)
        if source is None or not source.endswith(".py"):
            raise UsageError(
                f"the source of {module} is in no file, so Graft cannot notice when it changes",
                where=str(source or module),
                allowed="code in a .py file",
                do="put the class into a file and give its dotted path",
            )
        path = Path(source).resolve()
        self.given[module], self._files[module] = path, path
        depth = module.count(".") + (path.name == "__init__.py")
        root = path.parents[depth]
        self.roots.setdefault(module.partition(".")[0], (root,))
        if root.name not in SHARED:
            for beside in sorted(root.iterdir()):
                if beside.suffix == ".py" or (beside.is_dir() and beside.name.isidentifier()):
                    self.roots.setdefault(beside.stem, (root,))


REMEMBERED = ParsedSources()


@dataclass(frozen=True)
class CodeIdentity:
    """whole: the hash that counts. modules: a hash of each module's own text, by name, for whoever compares two."""

    whole: str
    modules: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"identity": self.whole, "modules": self.modules}


def code_identity(code: Iterable[str], settings: Any = None, tree: Tree | None = None) -> CodeIdentity:
    """The identity of the modules `code`, of the classes in `settings`, and of all they import from us.

    Errors: UsageError for a plug-in whose source is in no file; FaultError for a source that cannot be read.
    """
    tree = tree or Tree()
    tree.sources.hold_loaded()
    begin = list(dict.fromkeys([*code, *_classes(settings)]))
    for module in begin:
        if module.partition(".")[0] != PACKAGE:
            tree.admit(module)
        elif tree.file(module) is None:
            raise FaultError(f"there is no source of {module}", where=str(tree.house), do="install Graft again")
    uses = closure(begin, tree)
    colours = _wired({module: tree.parsed(module).text for module in uses}, uses)
    counted = [module for module in uses if module not in WITHOUT_EFFECT and tree.parsed(module).text]
    files = sorted({name for module in counted for name in _files(module, tree)})
    own = {module: colours[module] for module in counted}
    own_files = {name: _hash(content) for name in files if (content := tree.web_file(name))}
    tree.sources.keep()
    whole = _hash("\n".join([*sorted(own.values()), *sorted(own_files.values())]).encode())
    modules = {module.removeprefix(f"{PACKAGE}."): tree.parsed(module).text[:12] for module in sorted(counted)}
    return CodeIdentity(whole, modules | own_files)


def closure(begin: Iterable[str], tree: Tree) -> dict[str, list[tuple[Import, str]]]:
    """Every module that is reached from these by imports -> its imports in order, each with the module it comes from.

    That module is "" where it is none of ours.
    """
    found: dict[str, list[tuple[Import, str]]] = {}
    waiting = list(begin)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found[module] = [_resolved(one, module, tree) for one in tree.parsed(module).imports]
        waiting += [target for _, target in found[module] if target]
        waiting += [owner for owner in _owners(module) if tree.file(owner)]  # their __init__ runs first
    return found


def _resolved(one: Import, module: str, tree: Tree, depth: int = 0) -> tuple[Import, str]:
    """An import with the module whose text it comes from; its attribute is "" where it is that module."""
    base = one.module
    if one.level:
        path = tree.file(module)
        assert path is not None
        above = one.level - (path.name == "__init__.py")
        owner = module.rsplit(".", above)[0] if above else module
        base = f"{owner}.{one.module}" if one.module else owner
    owner_file, inner = tree.file(base), f"{base}.{one.attribute}"
    may_hold = owner_file is None or owner_file.name == "__init__.py"  # a package, with or without a file of its own
    if one.attribute and may_hold and tree.file(inner):
        return one._replace(attribute=""), inner
    if owner_file is None:
        return one._replace(module=base, level=0), ""
    for handed_on in tree.parsed(base).lazy:
        if handed_on.local == one.attribute and depth < 8:
            return _resolved(handed_on._replace(local=one.local), base, tree, depth + 1)
    return one, base


def _owners(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _wired(texts: Mapping[str, str], uses: Mapping[str, list[tuple[Import, str]]]) -> dict[str, str]:
    """A hash per module over its text and over what its imports stand for, without any module's name.

    An import of ours is given by the hash of the module it comes from. Modules import each other in circles, so hashes
    are made in rounds (colour refinement) until no round tells more modules apart. Imports from elsewhere are given as
    they are written.
    """
    colours = {module: "" if module in WITHOUT_EFFECT else text for module, text in texts.items()}
    while True:
        finer = {
            module: _hash("\n".join([colour, *(_slot(*used, colours) for used in uses[module])]).encode())
            if colour  # "": without effect, or nothing in it
            else ""
            for module, colour in colours.items()
        }
        if len(set(finer.values())) <= len(set(colours.values())):
            return finer
        colours = finer


def _slot(one: Import, target: str, colours: Mapping[str, str]) -> str:
    return f"{colours[target]} {one.attribute}" if target else f"{one.module} {one.attribute}"


def _files(module: str, tree: Tree) -> set[str]:
    """Web files that a module names, and those that these name in turn."""
    found: set[str] = set()
    waiting = set(tree.parsed(module).files)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= ParsedSources.named_in(tree.web_file(name)) - found
    return found


def _classes(settings: Any) -> Iterator[str]:
    """The modules of all dataclasses in settings: of the plug-ins in use, and of the settings around them."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        yield type(settings).__module__
        for one in dataclasses.fields(settings):
            yield from _classes(getattr(settings, one.name))
    elif isinstance(settings, Mapping):
        for one in settings.values():
            yield from _classes(one)
    elif isinstance(settings, tuple | list):
        for one in settings:
            yield from _classes(one)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
