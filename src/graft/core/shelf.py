"""Plug-ins by name: the file is the name, the folder is the shelf, and there is no registry.

`objectives/stay_close.py` holds the class `StayClose`; a recipe says `stay_close`. A user's own plug-in is
named by its dotted path, `my_package.module.Class`.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from graft.core.errors import UsageError, nearest

HOUSE = Path(__file__).resolve().parents[1]


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

    def names(self) -> list[str]:
        """The plug-ins on this shelf, in alphabetical order, without importing any of them."""
        return sorted(p.stem for p in (HOUSE / self.name).glob("*.py") if not p.stem.startswith("_"))

    def summary(self, name: str) -> str:
        """First line of the plug-in's docstring, read from its source so that torch stays unloaded."""
        tree = ast.parse((HOUSE / self.name / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == class_name(name):
                return (ast.get_docstring(node) or "").split("\n")[0]
        return ""

    def load(self, name: str, *, where: str = "") -> type[Any]:
        """The class called `name` (file name on this shelf, or a dotted path of the user's).

        Errors: UsageError when there is no such plug-in, with the nearest name.
        """
        if "." in name:
            return self._load_dotted(name, where)
        if name not in self.names():
            raise UsageError(
                f'no {self.name} plug-in is called "{name}"',
                where=where,
                allowed=", ".join(self.names()) + ", or the dotted path of your own class",
                do=nearest(name, self.names()) or f"run `graft ls {self.name}` for what each one does",
            )
        return getattr(importlib.import_module(f"graft.{self.name}.{name}"), class_name(name))

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


def plugin_name(plugin: object) -> str:
    """The name under which a recipe finds this plug-in: its file name in the house, its dotted path elsewhere."""
    kind = type(plugin)
    if kind.__module__.startswith("graft."):
        return kind.__module__.rpartition(".")[2]
    return f"{kind.__module__}.{kind.__qualname__}"
