"""Recipes: YAML becomes settings; an error names the file, the line, the key, what is allowed, and the nearest name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from graft.core.config.errors import UnknownKey, UsageError, flat, joined, nearest
from graft.core.config.plugins import Shelf, class_name, plugin_name
from graft.core.config.regular_file import require_file
from graft.core.config.renamed import CALLED, RENAMED
from graft.core.config.settings import (
    Place,
    build,
    default_of,
    describe_type,
    is_sequence,
    no_place,
    settings_class,
    shelf_of,
    to_json,
)
from graft.core.config.settings_reference import settings_of
from graft.core.config.yaml_bounds import require_bounded

T = TypeVar("T")
JOBS = Shelf("jobs")
RENAMED_JOBS = {"stream": "continual", "versus": "compare", "overview": "report", "benchmark": "eval"}  # old keys


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Any:
    """The job a recipe describes, ready to be called with a store.

    A recipe is one top-level key naming the job (`adapt:`), and under it the job's settings. changes: "key.key=value"
    pairs that are laid over it, values in YAML. Errors: UsageError with file and line.
    """
    path = Path(path)
    try:
        require_file(path, allowed="a YAML file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError("there is no such recipe", where=str(path), do=_near_recipe(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe cannot be read: {error}", where=str(path), allowed="a YAML file") from error
    lines: dict[tuple[str | int, ...], int] = {}
    whole = _values(text, str(path), lines)

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
            do=f"{CALLED} {RENAMED_JOBS[name]} now" if name in RENAMED_JOBS else nearest(str(name), JOBS.names()),
        )
    job = getattr(importlib.import_module(f"graft.jobs.{name}"), class_name(str(name)))
    return build_changed(job, settings, changes, job=(name,), place=place)


def build_changed(
    kind: type[T], settings: Any, changes: Sequence[str], *, job: tuple[str, ...] = (), place: Place = no_place
) -> T:
    """An instance of `kind` from plain values with "key.key=value" changes laid over them.

    Raises: UsageError, of every fault at once; an unknown key with the path of a setting that is called like it.
    """
    read = [SettingChange.read(change) for change in changes]
    try:
        return build(kind, overlay(settings, read, kind), path=job, place=placing(read, place, job))
    except UsageError as error:
        raise joined(_with_path(fault, kind, job) for fault in flat(error)) from error


def _with_path(fault: UsageError, kind: type[Any], job: tuple[str, ...]) -> UsageError:
    """An unknown key with where such a setting is: by the end of its path, else by the nearest path."""
    if not isinstance(fault, UnknownKey):
        return fault
    asked = ".".join(str(key) for key in fault.path[len(job) :])
    leaves = [one.path.split(".") for one in settings_of(kind)]
    paths = list(dict.fromkeys(".".join(keys[:depth]) for keys in leaves for depth in range(1, len(keys) + 1)))
    last = asked.rpartition(".")[2]
    if fault.do.startswith(CALLED):
        return fault
    ends = next(
        filter(None, ([p for p in paths if p.endswith(f".{end}")] for end in (asked, last, *RENAMED.get(last, ())))), []
    )
    words = f"did you mean {' or '.join(ends[:3])}?" if ends else fault.do or nearest(asked, paths)
    return UnknownKey(fault.what, fault.path, where=fault.where, allowed=fault.allowed, do=words)


@dataclass(frozen=True)
class SettingChange:
    """One "key.key=value": what it puts where, in settings that are still plain values."""

    text: str
    keys: tuple[str, ...]
    value: Any

    @classmethod
    def read(cls, text: str) -> SettingChange:
        """Errors: UsageError for what has no equals sign, and for a value that is not YAML."""
        keys, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set "{text}"', allowed="key=value, such as train.batch_size=8")
        return cls(text, tuple(keys.split(".")), _values(value, f"--set {text}", {}))

    @property
    def where(self) -> str:
        return f"--set {self.text}"

    def put(self, hint: Any, current: Any, default: Any, depth: int = 0) -> Any:
        """`current`, plain values for a field of type `hint`, changed; `default`: what the field is without them."""
        if depth == len(self.keys):
            return self.value
        shelf, inner = shelf_of(hint)
        if shelf is not None:
            return self._put_plugin(shelf, current, default, depth, several=is_sequence(inner))
        kind = settings_class(inner)
        if kind is None:
            raise UsageError(
                f"{'.'.join(self.keys[:depth])} has no keys", where=self.where, allowed=describe_type(inner)
            )
        fields = {field.name: field for field in dataclasses.fields(kind)}
        current = {} if current is None else current
        if not isinstance(current, Mapping):
            return current  # `build` refuses it, and names its line
        key = self.keys[depth]
        if key not in fields:
            return {**current, key: self.value}  # `build` refuses it, and names what is near
        below = get_type_hints(kind, include_extras=True)[key]
        return {**current, key: self.put(below, current.get(key), default_of(fields[key], default), depth + 1)}

    def _put_plugin(self, shelf: Shelf, current: Any, default: Any, depth: int, *, several: bool) -> Any:
        """A plug-in's own settings changed; in a list the one of that name, which the others stand around as before."""
        name = self._name_at(shelf, depth)
        kind = shelf.load(name, where=self.where)
        depth += len(name.split("."))
        if current is None and default is not None:
            current = [_as_json(one) for one in default] if several else _as_json(default)
        if not several:
            known = _entry(current)
            return {name: self.put(kind, known[1] if known and known[0] == name else None, None, depth)}
        items = list(current) if isinstance(current, list | tuple) else [current]
        found = [place for place, item in enumerate(items) if (_entry(item) or ("",))[0] == name]
        if len(found) != 1:
            at = ".".join(self.keys[: depth - len(name.split("."))])
            named = [entry[0] for item in items if (entry := _entry(item))]
            raise UsageError(
                f"{name} stands {len(found)} times in {at}" if found else f"{name} is not in {at}",
                where=self.where,
                allowed=", ".join(named) or "nothing: no plug-in is in it",
                do=f"give the whole list: --set '{at}=[..., {name}: {{...}}]'",
            )
        known = _entry(items[found[0]])
        items[found[0]] = {name: self.put(kind, known and known[1], None, depth)}
        return items

    def _name_at(self, shelf: Shelf, depth: int) -> str:
        """The plug-in that the keys from `depth` on begin with: of the house, or a dotted path that ends in a class."""
        if self.keys[depth] not in shelf.names():
            for end in range(depth + 1, len(self.keys)):
                if self.keys[end][:1].isupper():
                    return ".".join(self.keys[depth : end + 1])
        return self.keys[depth]


def overlay(settings: Any, changes: Sequence[SettingChange], kind: type[Any]) -> Any:
    """Plain values for the settings class `kind` with changes laid over them, one after the other.

    A path into plug-ins, `curate.steps.overlap.n`, changes that one and keeps the others. Errors: UsageError.
    """
    for change in changes:
        settings = change.put(kind, settings, None)
    return settings


def placing(changes: Sequence[SettingChange], place: Place, job: tuple[str, ...] = ()) -> Place:
    """`place`, but what a change has put there is named by the change; `job`: the key that a recipe begins with."""

    def at(path: tuple[str | int, ...]) -> str:
        own = ".".join(str(key) for key in path[len(job) :] if not isinstance(key, int))
        for change in reversed(changes):
            dotted = ".".join(change.keys)
            if own == dotted or own.startswith(f"{dotted}."):
                return change.where
        beside = [change.where for change in changes if ".".join(change.keys[:-1]) == own]
        return ", ".join(filter(None, [place(path), *beside]))

    return at


def _as_json(plugin: Any) -> dict[str, Any]:
    return {plugin_name(plugin): to_json(plugin)}


def _entry(item: Any) -> tuple[str, Any] | None:
    """(name, settings) of a plug-in in plain values; None for what is none."""
    if isinstance(item, str):
        return item, None
    return next(iter(item.items())) if isinstance(item, Mapping) and len(item) == 1 else None


def _values(text: str, name: str, lines: dict[tuple[str | int, ...], int]) -> Any:
    """YAML as plain values. Errors: UsageError, at a line where `name` is a file."""
    is_file = not name.startswith("--set")
    try:
        require_bounded(text, name)
        return _plain(yaml.compose(text, Loader=yaml.SafeLoader), (), lines, name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark and is_file else name
        raise UsageError(
            f"not YAML: {getattr(error, 'problem', error)}", where=where, allowed="a value as YAML writes it"
        ) from error


def _plain(
    node: yaml.Node | None, keys: tuple[str | int, ...], lines: dict, name: str, above: tuple[yaml.Node, ...] = ()
) -> Any:
    """A YAML tree as plain values; notes each key's line, refuses a key given twice and a value that holds itself."""
    if node is None:
        return None
    line = node.start_mark.line + 1
    lines.setdefault(keys, line)
    if any(node is one for one in above):
        raise UsageError("a value refers to itself", where=f"{name}:{line}", allowed="values that end somewhere")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                sort = "list" if isinstance(key_node, yaml.SequenceNode) else "mapping"
                raise UsageError(f"a key is a {sort}", where=f"{name}:{line}", allowed="the name of a setting")
            key = _scalar(key_node)
            if key in found:
                raise UsageError(
                    f'the key "{key}" is given twice',
                    where=f"{name}:{line}",
                    allowed="each key once",
                    do=f"keep one of them; the first is on line {lines[(*keys, key)]}",
                )
            lines[(*keys, key)] = line
            found[key] = _plain(value_node, (*keys, key), lines, name, above)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*keys, i), lines, name, above) for i, item in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    """A leaf's value; 1e-3 is a number, which YAML 1.1 would read as text. Errors: YAMLError."""
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node, deep=True)
    except yaml.YAMLError:
        raise
    except Exception as error:  # a date that no calendar has; what a tag promises and the text is not
        words = f"{type(error).__name__}: {error}"
        raise yaml.constructor.ConstructorError(None, None, words, node.start_mark) from error
    if isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
        try:
            return float(value) if value.lower() not in ("nan", "inf", "infinity") else value
        except ValueError:
            return value
    return value


def _near_recipe(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    return nearest(path.name, [p.name for p in folder.glob("*.y*ml")]) or "check the path"
