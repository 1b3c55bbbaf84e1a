"""Settings: frozen dataclasses to JSON and back, every wrong key or value named with its place.

Three kinds of field are understood: plain values (checked by pydantic, strictly), nested settings (another
dataclass), and plug-ins (`Annotated[Any, Shelf("objectives")]`), written as a name or as {name: {settings}}.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from graft.core.config.errors import UnknownKey, UsageError, flat, joined, nearest
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.renamed import CALLED, new_name, with_new_names

T = TypeVar("T")
MOST = 10**15  # more tokens, bytes or rows than any job has
SUFFIXES = {"k": 10**3, "m": 10**6, "b": 10**9}
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
    shelf, inner = shelf_of(hint)
    if shelf is None:
        return to_json(value)
    if is_sequence(inner):
        return [{plugin_name(item): to_json(item)} for item in value]
    return {plugin_name(value): to_json(value)}


def check_choices(settings: Any) -> None:
    """For `__post_init__`: fields that are one of a few words hold one of them, and numbers are numbers.

    Raises: UsageError, which names every field that is wrong.
    """
    faults: list[UsageError] = []
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name, None)
        if allowed := _absurd(name, value):
            faults.append(UsageError(f"{name} is {value}", allowed=allowed))
        for choice in (hint, *typing.get_args(hint)):
            words = typing.get_args(choice)
            if typing.get_origin(choice) is typing.Literal and value is not None and value not in words:
                near = nearest(str(value), map(str, words))
                faults.append(UsageError(f'{name} is "{value}"', allowed=", ".join(map(str, words)), do=near))
    if faults:
        raise joined(faults)


def build(
    kind: type[T], values: Any, *, path: tuple[str | int, ...] = (), place: Place = no_place, default: T | None = None
) -> T:
    """An instance of the settings class `kind` from plain values; keys that are not given are those of `default`.

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
    values = with_new_names(values, fields, path)
    hints = typing.get_type_hints(kind, include_extras=True)
    given: dict[str, Any] = {}
    faults: list[UsageError] = []
    for key, value in values.items():
        at = (*path, key)
        if key not in fields:
            faults.append(_unknown_key(key, path, place(at), fields))
            continue
        try:
            given[key] = _build_field(hints[key], value, at, place, default_of(fields[key], default))
        except UsageError as fault:
            faults.append(fault)
    if default is not None:
        given = {name: getattr(default, name) for name in fields} | given
    known = {*given, *values}
    missing = [name for name, f in fields.items() if name not in known and default_of(f) is dataclasses.MISSING]
    if missing:
        faults.append(UsageError(f"missing key {missing[0]!r}", where=place(path), do=f"add `{missing[0]}: ...`"))
    if faults:
        raise joined(faults)
    try:
        return kind(**given)
    except UsageError as error:
        raise joined(error.at(place(path)) for error in flat(error)) from error


def _unknown_key(key: Any, path: tuple[str | int, ...], where: str, fields: Mapping[str, Any]) -> UnknownKey:
    return UnknownKey(
        f'unknown key "{key}"' + (f" in {'.'.join(map(str, path))}" if path else ""),
        (*path, key),
        where=where,
        allowed=", ".join(fields) or "no keys",
        do=f"{CALLED} {new} now" if (new := new_name(key, fields)) else nearest(str(key), fields),
    )


def default_of(field: dataclasses.Field[Any], whole: Any = None) -> Any:
    """What a field is when nobody says: as in `whole`, else the class's own default; MISSING where it has none."""
    if whole is not None:
        return getattr(whole, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def build_plugin(shelf: Shelf, value: Any, *, path: tuple[str | int, ...] = (), place: Place = no_place) -> Any:
    """A plug-in from its name, from {name: {settings}}, or itself when it is one already."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shelf.check(type(value))
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


def _build_field(hint: Any, value: Any, path: tuple[str | int, ...], place: Place, default: Any) -> Any:
    shelf, inner = shelf_of(hint)
    if shelf is not None:
        if value is None:
            several = "a list of names" if is_sequence(inner) else "one name"
            raise UsageError(
                f"{no_place(path)} is nothing", where=place(path), allowed=f"{several} from {', '.join(shelf.names())}"
            )
        if is_sequence(inner):
            items = value if isinstance(value, list | tuple) else [value]
            return tuple(build_plugin(shelf, item, path=(*path, i), place=place) for i, item in enumerate(items))
        return build_plugin(shelf, value, path=path, place=place)
    kind = settings_class(inner)
    if kind is not None and (value is not None or type(None) not in options(inner)):
        return build(kind, value, path=path, place=place, default=default if isinstance(default, kind) else None)
    return _check_plain(inner, value, path, place)


def _check_plain(hint: Any, value: Any, path: tuple[str | int, ...], place: Place) -> Any:
    found = _read_plain(hint, value, path, place)
    for number in found if isinstance(found, tuple) else (found,):
        if fault := _absurd(str(path[-1]) if path else "", number):
            raise UsageError(f"{no_place(path)} is {value!r}", where=place(path), allowed=fault)
    return found


def _absurd(name: str, number: Any) -> str:
    """What is allowed instead of a number that no setting can mean; empty where it is none of these."""
    if isinstance(number, float) and not math.isfinite(number):
        return "a finite number"
    if isinstance(number, int) and abs(number) > MOST and not name.startswith("seed"):
        return f"a whole number up to {MOST:,}"
    return ""


def _read_plain(hint: Any, value: Any, path: tuple[str | int, ...], place: Place) -> Any:
    if is_sequence(hint) and isinstance(value, str | int | float):
        value = (value,)  # a single path or name where several are allowed
    if is_sequence(hint) and isinstance(value, list):
        value = tuple(value)
    try:
        return TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        whole = whole_number(value) if int in options(hint) else None
        if whole is not None:
            return whole
        share = percentage(value) if float in options(hint) else None
        if share is not None:
            return share
        first = error.errors()[0]
        raise UsageError(
            f"{no_place(path)} is {value!r}: {first['msg'].lower()}", where=place(path), allowed=describe_type(hint)
        ) from error


def whole_number(value: Any) -> int | None:
    """A whole number as people write it: 400000, 400_000, 4e5, "400k", "20M", "1.5B"; None for anything else."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    factor = 1
    if isinstance(value, str):
        factor = SUFFIXES.get(value[-1:].lower(), 1)
        try:
            value = float(value[:-1] if factor > 1 else value)
        except ValueError:
            return None
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    if not math.isfinite(value * factor):
        return None
    whole = round(value * factor)
    return whole if math.isclose(whole, value * factor, rel_tol=1e-12) and abs(whole) < 1 << 63 else None


def percentage(value: Any) -> float | None:
    """A share as people write it: "2%", "0.5 %"; None for anything else."""
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        return None
    try:
        share = float(value.rstrip()[:-1]) / 100
    except ValueError:
        return None
    return share if math.isfinite(share) else None


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
    if is_sequence(hint):
        return f"a list of {describe_type(typing.get_args(hint)[0])}"
    return str(hint).replace("typing.", "")


def shelf_of(hint: Any) -> tuple[Shelf | None, Any]:
    """The shelf a field is marked with, and the type under the mark."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *marks = typing.get_args(hint)
        return next((mark for mark in marks if isinstance(mark, Shelf)), None), inner
    return None, hint


def options(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type there is."""
    return typing.get_args(hint) if _is_union(hint) else (hint,)


def settings_class(hint: Any) -> type[Any] | None:
    """The dataclass among the options of a type."""
    return next((one for one in options(hint) if dataclasses.is_dataclass(one) and isinstance(one, type)), None)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def is_sequence(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple
