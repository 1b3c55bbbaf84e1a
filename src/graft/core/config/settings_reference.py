"""What settings there are, with their types, defaults and comments: read off the settings classes and their source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import json
import textwrap
import tokenize
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graft.core.config.plugins import plugin_name
from graft.core.config.settings import default_of, describe_type, is_sequence, settings_class, shelf_of, to_json


@dataclass(frozen=True)
class Setting:
    """One setting of a job, stage or plug-in. path: its keys joined by dots, from the class that was asked for."""

    path: str
    allowed: str
    default: str  # as a recipe writes it; empty where it has to be given
    words: str  # the comment beside it


def settings_of(kind: type[Any], path: tuple[str, ...] = (), default: Any = None) -> Iterator[Setting]:
    """Every setting of a settings class, those of the classes inside it too; of plug-ins the name alone.

    default: an instance, whose values stand in for the class's own.
    """
    hints, comments = typing.get_type_hints(kind, include_extras=True), _comments(kind)
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        value, keys = default_of(field, default), (*path, field.name)
        shelf, inner = shelf_of(hints[field.name])
        nested = None if shelf else settings_class(inner)
        if nested is not None:
            yield from settings_of(nested, keys, value if isinstance(value, nested) else None)
            continue
        words = f"a plug-in: {', '.join(shelf.names())}" if shelf else describe_type(inner)
        yield Setting(".".join(keys), words, _written(value, shelf is not None, inner), comments.get(field.name, ""))


def _written(value: Any, plugin: bool, hint: Any) -> str:
    if value is dataclasses.MISSING:
        return ""
    if not plugin:
        return json.dumps(to_json(value), ensure_ascii=False)
    names = [plugin_name(one) for one in value] if is_sequence(hint) else plugin_name(value)
    return f"[{', '.join(names)}]" if isinstance(names, list) else names


@functools.cache
def _comments(kind: type[Any]) -> dict[str, str]:
    """By field the comment on its line, else the lines of comment right above it."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # of a class that was made in no file
        return {}
    lines = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith(("# fmt", "# noqa"))
    }
    found: dict[str, str] = {}
    [tree] = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, line = [], node.lineno - 1
            while line in lines and not source.splitlines()[line - 1].partition("#")[0].strip():
                above.insert(0, lines[line])
                line -= 1
            found[node.target.id] = lines.get(node.end_lineno or node.lineno, "") or " ".join(above)
    return found
