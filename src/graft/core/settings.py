"""Settings: frozen dataclasses to JSON and back, every wrong key or value named with its place.

Three kinds of field are understood: plain values (checked by pydantic, strictly), nested settings (another
dataclass), and plug-ins (`Annotated[Any, Shelf("objectives")]`), written as a name or as {name: {settings}}.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from graft.core.errors import UsageError, nearest
from graft.core.shelf import Shelf, plugin_name

T = TypeVar("T")
Place = Callable[[tuple[str | int, ...]], str]  # path of keys -> "file.yaml:12", for messages


def no_place(path: tuple[str | int, ...]) -> str:
    """The place of a value that came from no file: its dotted path."""
    return ".".join(map(str, path))


def to_json(settings: Any) -> Any:
    """Settings as plain JSON values; plug-ins become {name: {field: value}}."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        hints = typing.get_type_hints(type(settings), include_extras=True)
        return {f.name: _field_to_json(getattr(settings, f.name), hints[f.name]) for f in dataclasses.fields(settings)}
    if isinstance(settings, tuple | list):
        return [to_json(item) for item in settings]
    if isinstance(settings, Mapping):
        return {str(key): to_json(item) for key, item in settings.items()}
    return settings


def _field_to_json(value: Any, hint: Any) -> Any:
    shelf, inner = _shelf_of(hint)
    if shelf is None or value is None:
        return to_json(value)
    if _is_sequence(inner):
        return [{plugin_name(item): to_json(item)} for item in value]
    return {plugin_name(value): to_json(value)}


def build(kind: type[T], values: Any, *, path: tuple[str | int, ...] = (), place: Place = no_place) -> T:
    """An instance of the settings class `kind` from plain values.

    Errors: UsageError naming the key or value, its place, what is allowed, and the nearest known key.
    """
    if isinstance(values, kind):
        return values
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise UsageError(
            f"{'.'.join(map(str, path)) or kind.__name__} is {values!r}",
            where=place(path),
            allowed=f"a mapping with the keys {', '.join(fields)}",
        )
    hints = typing.get_type_hints(kind, include_extras=True)
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise UsageError(
                f'unknown key "{key}"' + (f" in {'.'.join(map(str, path))}" if path else ""),
                where=place((*path, key)),
                allowed=", ".join(fields) or "no keys",
                do=nearest(str(key), fields),
            )
        given[key] = _build_field(hints[key], value, (*path, key), place)
    missing = [
        name
        for name, f in fields.items()
        if name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"missing key {missing[0]!r}", where=place(path), do=f"add `{missing[0]}: ...`")
    try:
        return kind(**given)
    except UsageError as error:
        if error.where:
            raise
        raise UsageError(error.what, where=place(path), allowed=error.allowed, do=error.do) from error


def build_plugin(shelf: Shelf, value: Any, *, path: tuple[str | int, ...] = (), place: Place = no_place) -> Any:
    """A plug-in from its name, from {name: {settings}}, or itself when it is one already."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, Mapping) or len(value) != 1:
        raise UsageError(
            f"{no_place(path)} is {value!r}",
            where=place(path),
            allowed=f"one name from {', '.join(shelf.names())}, or `name: {{settings}}`",
        )
    [(name, settings)] = value.items()
    kind = shelf.load(str(name), where=place((*path, name)))
    return build(kind, settings, path=(*path, name), place=place)


def _build_field(hint: Any, value: Any, path: tuple[str | int, ...], place: Place) -> Any:
    shelf, inner = _shelf_of(hint)
    if shelf is not None and value is not None:
        if _is_sequence(inner):
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(build_plugin(shelf, item, path=(*path, i), place=place) for i, item in enumerate(items))
        return build_plugin(shelf, value, path=path, place=place)
    for option in typing.get_args(inner) if _is_union(inner) else (inner,):
        if dataclasses.is_dataclass(option) and value is not None:
            return build(typing.cast(type, option), value, path=path, place=place)
    return _check_plain(inner, value, path, place)


def _check_plain(hint: Any, value: Any, path: tuple[str | int, ...], place: Place) -> Any:
    if _is_sequence(hint) and isinstance(value, str | int | float):
        value = (value,)  # a single path or name where several are allowed
    if _is_sequence(hint) and isinstance(value, list):
        value = tuple(value)
    try:
        return TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{no_place(path)} is {value!r}: {first['msg'].lower()}", where=place(path), allowed=describe_type(hint)
        ) from error


def describe_type(hint: Any) -> str:
    """A type as words for an error message or a reference page."""
    if _is_union(hint):
        return " or ".join(describe_type(option) for option in typing.get_args(hint))
    if hint is type(None):
        return "nothing (null)"
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(str(option) for option in typing.get_args(hint))
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if hint in words:
        return words[hint]
    if _is_sequence(hint):
        return f"a list of {describe_type(typing.get_args(hint)[0])}"
    return str(hint).replace("typing.", "")


def _shelf_of(hint: Any) -> tuple[Shelf | None, Any]:
    """The shelf a field is marked with, and the type under the mark."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *marks = typing.get_args(hint)
        return next((mark for mark in marks if isinstance(mark, Shelf)), None), inner
    return None, hint


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_sequence(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple
