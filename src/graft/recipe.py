"""Recipes: YAML becomes settings; an error names the file, the line, the key, what is allowed, and the nearest name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from graft.core.errors import UsageError, nearest
from graft.core.settings import build
from graft.core.shelf import Shelf, class_name

JOBS = Shelf("jobs")


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Any:
    """The job a recipe describes, ready to be called with a store.

    A recipe is one top-level key naming the job (`adapt:`), and under it the job's settings. changes: "key.key=value"
    pairs that are laid over it, values in YAML. Errors: UsageError with file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError("there is no such recipe", where=str(path), do=_near_recipe(path)) from error
    except (IsADirectoryError, UnicodeDecodeError, PermissionError) as error:
        raise UsageError(f"the recipe cannot be read: {error}", where=str(path), allowed="a YAML file") from error
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        whole = _plain(node, (), lines, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"not YAML: {getattr(error, 'problem', error)}", where=where) from error

    def place(keys: tuple[str | int, ...]) -> str:
        """The line of a key, or of the nearest key above it that the file has."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in lines:
                return f"{path}:{lines[keys[:length]]}"
        return str(path)

    if not isinstance(whole, Mapping) or len(whole) != 1:
        raise UsageError(
            f"the recipe has {len(whole) if isinstance(whole, Mapping) else 0} top-level keys",
            where=str(path),
            allowed=f"exactly one, naming the job: {', '.join(JOBS.names())}",
        )
    [(name, settings)] = whole.items()
    if name not in JOBS.names():
        raise UsageError(
            f'there is no job "{name}"',
            where=place((name,)),
            allowed=", ".join(JOBS.names()),
            do=nearest(str(name), JOBS.names()),
        )
    settings = overlay(settings or {}, changes)
    job = getattr(importlib.import_module(f"graft.jobs.{name}"), class_name(str(name)))
    return build(job, settings, path=(name,), place=place)


def overlay(settings: Any, changes: Sequence[str]) -> Any:
    """Settings with "key.key=value" changes laid over them, values read as YAML."""
    for change in changes:
        keys, equals, value = change.partition("=")
        if not equals:
            raise UsageError(f'--set "{change}"', allowed="key=value, such as train.rows=8")
        *outer, last = keys.split(".")
        at = settings
        for key in outer:
            if not isinstance(at.get(key), dict):
                at[key] = {} if at.get(key) is None else {at[key]: {}} if isinstance(at[key], str) else at[key]
            at = at[key]
        at[last] = _plain(yaml.compose(value, Loader=yaml.SafeLoader), (), {}, Path("--set"))
    return settings


def _plain(node: yaml.Node | None, keys: tuple[str | int, ...], lines: dict, path: Path) -> Any:
    """A YAML tree as plain values; notes each key's line, and refuses a key given twice."""
    if node is None:
        return None
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node)
            line = key_node.start_mark.line + 1
            if key in found:
                raise UsageError(
                    f'the key "{key}" is given twice',
                    where=f"{path}:{line}",
                    do=f"keep one of them; the first is on line {lines[(*keys, key)]}",
                )
            lines[(*keys, key)] = line
            found[key] = _plain(value_node, (*keys, key), lines, path)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*keys, i), lines, path) for i, item in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    """A leaf's value; 1e-3 is a number, which YAML 1.1 would read as text."""
    loader = yaml.SafeLoader("")
    value = loader.construct_object(node, deep=True)
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
        try:
            return float(value) if value.lower() not in ("nan", "inf", "infinity") else value
        except ValueError:
            return value
    return value


def _near_recipe(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    return nearest(path.name, [p.name for p in folder.glob("*.y*ml")]) or "check the path"
