"""Plug-ins by name: the file is the name, the folder is the shelf, and there is no registry.

`training/objectives/stay_close.py` holds the class `StayClose`; a recipe says `stay_close`. A user's own plug-in is
named by its dotted path, `my_package.module.Class`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from graft.core.config.errors import UsageError, nearest

HOUSE = Path(__file__).resolve().parents[2]
CONTRACT = "contract"  # the module of a folder that says what its plug-ins look like


class Folder(NamedTuple):
    """A folder of plug-ins. contract: its `Protocol`, in the module `contract` beside the plug-ins; "": it has two."""

    package: str
    contract: str
    summary: str


FOLDERS = {
    "objectives": Folder("graft.training.objectives", "Objective", "what training minimises"),
    "tunings": Folder("graft.training.tunings", "Tuning", "which weights train"),
    "schedules": Folder("graft.training.schedules", "Schedule", "the learning rate over a run"),
    "steps": Folder("graft.data.steps", "", "curation of documents"),
    "metrics": Folder("graft.evaluation.metrics", "Metric", "numbers read off evidence"),
    "probes": Folder("graft.evaluation.probes", "Probe", "comparisons of before and after"),
    "methods": Folder("graft.continual.methods", "Method", "how a stream of domains is learned"),
    "stream_metrics": Folder("graft.continual.metrics", "StreamMetric", "numbers read off the matrix of a stream"),
    "similarities": Folder("graft.evaluation.similarity.measures", "Similarity", "how alike two texts are"),
    "laws": Folder("graft.scaling.laws", "Law", "formulas for the loss of a run before it is paid for"),
}


def class_name(file_name: str) -> str:
    """'stay_close' -> 'StayClose'."""
    return "".join(part.capitalize() for part in file_name.split("_"))


def file_name(name: str) -> str:
    """'StayClose' -> 'stay_close'."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


@dataclass(frozen=True)
class Shelf:
    """A folder of plug-ins of one kind; also the annotation that marks a settings field as holding one."""

    name: str

    @property
    def package(self) -> str:
        """The package that holds the plug-ins; of jobs, which have no contract, the package `jobs`."""
        return FOLDERS[self.name].package if self.name in FOLDERS else f"graft.{self.name}"

    @property
    def folder(self) -> Path:
        return HOUSE.joinpath(*self.package.split(".")[1:])

    def names(self) -> list[str]:
        """The plug-ins on this shelf, in alphabetical order, without importing any of them."""
        found = (path.stem for path in self.folder.glob("*.py"))
        return sorted(name for name in found if not name.startswith("_") and name != CONTRACT)

    def summary(self, name: str) -> str:
        """First line of the plug-in's docstring, read from its source so that torch stays unloaded."""
        tree = ast.parse((self.folder / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == class_name(name):
                return (ast.get_docstring(node) or "").split("\n")[0]
        return ""

    def load(self, name: str, *, where: str = "") -> type[Any]:
        """The class called `name` (file name on this shelf, or a dotted path of the user's).

        Raises: UsageError when there is no such plug-in, with the nearest name, or it breaks the shelf's contract.
        """
        if "." in name:
            return self.check(self._load_dotted(name, where), where)
        if name not in self.names():
            raise UsageError(
                f'no {self.name} plug-in is called "{name}"',
                where=where,
                allowed=", ".join(self.names()) + ", or the dotted path of your own class",
                do=nearest(name, self.names()) or f"run `graft ls {self.name}` for what each one does",
            )
        return getattr(importlib.import_module(f"{self.package}.{name}"), class_name(name))

    def check(self, kind: type[Any], where: str = "") -> type[Any]:
        """The class itself. Raises: UsageError where it breaks the contract of this shelf."""
        if self.name in FOLDERS and FOLDERS[self.name].contract:
            check_contract(kind, FOLDERS[self.name], where)
        return kind

    def _load_dotted(self, path: str, where: str) -> type[Any]:
        module, _, attribute = path.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
            raise UsageError(
                f'cannot import "{path}": {error}', where=where, do="check the spelling and that it is importable"
            ) from error
        if not (is_dataclass(found) and isinstance(found, type)):
            raise UsageError(f'"{path}" is not a dataclass', where=where, allowed="a frozen dataclass of settings")
        return found


@functools.cache  # of what holds: every look at the needs of a plug-in asks
def check_contract(kind: type[Any], folder: Folder, where: str = "") -> None:
    """A plug-in has the members of its folder's `Protocol`, its settings, and no other public member.

    Raises: UsageError that names the member, what is allowed, and the nearest name.
    """
    where = where or f"{kind.__module__}.{kind.__qualname__}"
    contract = importlib.import_module(f"{folder.package}.{CONTRACT}")
    members, optional = members_of(contract, folder.contract)
    settings = {one.name for one in dataclasses.fields(kind)}
    for name, parameters in members.items():
        found = inspect.getattr_static(kind, name, None)
        if found is None and name not in settings:
            raise UsageError(
                f"{kind.__name__} has no {name}, which every {folder.contract} has",
                where=where,
                allowed=_listed(members),
                do=nearest(name, _public(kind)),
            )
        if parameters is not None and (own := _parameters(found)) != parameters:
            raise UsageError(
                f"{kind.__name__}.{name} takes ({', '.join(own)})",
                where=where,
                allowed=f"({', '.join(parameters)}), as {folder.package}.{CONTRACT}.{folder.contract} has it",
            )
    known = {*members, *optional, *settings}
    for name in _public(kind):
        if name not in known:
            raise UsageError(
                f'{kind.__name__} has "{name}", which no {folder.contract} is asked for',
                where=where,
                allowed=f"settings, {_listed({**members, **optional})}, and names that begin with _",
                do=nearest(name, {*members, *optional}),
            )


@functools.cache
def members_of(contract: ModuleType, name: str) -> tuple[dict[str, tuple[str, ...] | None], dict[str, None]]:
    """({what a `Protocol` requires: parameters of a method, None for a value}, what a plug-in may have besides)."""
    protocol: type[Any] = getattr(contract, name)
    optional: dict[str, None] = dict.fromkeys(getattr(contract, "OPTIONAL", ()), None)
    own: dict[str, Any] = dict.fromkeys(protocol.__annotations__)
    own |= {one: value for one, value in vars(protocol).items() if _counts(one) and inspect.isfunction(value)}
    required = {one: _parameters(value) if value else None for one, value in own.items() if one not in optional}
    return required, optional


def needs_of(plugin: Any, shelf: str, default: Any) -> Any:
    """What a plug-in asks of its host: its `needs()`, else `default`, the `Needs()` of its folder.

    Raises: UsageError for a plug-in that breaks the contract, and where `needs()` gives something else.
    """
    check_contract(type(plugin), FOLDERS[shelf])
    if not hasattr(plugin, "needs"):
        return default
    found = plugin.needs()
    if type(found) is not type(default):
        raise UsageError(
            f"{type(plugin).__name__}.needs() gives a {type(found).__name__}",
            allowed=f"{type(default).__module__}.{type(default).__name__}",
        )
    return found


def _public(kind: type[Any]) -> list[str]:
    own = [name for one in kind.__mro__ if one is not object for name in vars(one)]
    return [name for name in dict.fromkeys(own) if not name.startswith("_")]


def _counts(name: str) -> bool:
    return not name.startswith("_") or name == "__call__"


def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)[1:] if callable(function) else ()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def plugin_name(plugin: object) -> str:
    """The name under which a recipe finds this plug-in: its file name in the house, its dotted path elsewhere."""
    kind = type(plugin)
    if kind.__module__.startswith("graft."):
        return kind.__module__.rpartition(".")[2]
    return f"{kind.__module__}.{kind.__qualname__}"
