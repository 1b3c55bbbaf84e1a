"""The normal form of a module's source: what of it can decide a result, and which other modules it uses.

Left out are docstrings and other strings that nothing reads, comments, formatting, and everything under
`if TYPE_CHECKING`. Imports are taken out of the text and kept beside it, since the place of a module is no part of
what it does. The form is the same on every version of Python that Graft supports, so it is written here and not by
`ast.dump`, whose output differs between versions.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

UNUSED = {"ctx", "kind", "type_comment", "type_ignores"}  # fields of nodes that follow from the others or do nothing
WEB_FILES = (".html", ".css", ".js")  # files in the package that a module names and that end up in its result
SHELF = "Shelf"  # the annotation that marks a field as holding a plug-in


class Import(NamedTuple):
    """One name that an import statement binds.

    module, level: as in the statement; attribute: what is taken from the module, "" for the module itself; local: the
    name that it gets, "" where a name is only reached through another one (`graft.tally` after `import graft`).
    """

    module: str
    level: int
    attribute: str
    local: str


@dataclass(frozen=True)
class NormalSource:
    """text: hash of the normal form without its imports, "" where nothing is left. imports: in the order of the form.

    lazy: names that a module with `__getattr__` hands on from elsewhere, as it tells type checkers.
    """

    text: str
    imports: tuple[Import, ...] = ()
    lazy: tuple[Import, ...] = ()
    files: tuple[str, ...] = ()

    def to_json(self) -> list[Any]:
        return [self.text, self.imports, self.lazy, self.files]

    @classmethod
    def from_json(cls, saved: Any) -> NormalSource:
        text, imports, lazy, files = saved
        return cls(text, tuple(Import(*one) for one in imports), tuple(Import(*one) for one in lazy), tuple(files))


def normal_source(source: str | bytes) -> NormalSource:
    """The normal form of a module's source. Raises: SyntaxError where it is not Python."""
    tree = ast.parse(source)
    form = _Form(_defaults_only(tree))
    form.statements(tree.body)
    written = form.written
    lazy = any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
    return NormalSource(
        text=hashlib.blake2b(written.encode(), digest_size=12).hexdigest() if written else "",
        imports=tuple(form.imports) + tuple(_reached(tree, form.imports)),
        lazy=tuple(_typing_imports(tree)) if lazy else (),
        files=tuple(sorted(form.files)),
    )


@dataclass
class _Form:
    """The normal form in the making. unused: names whose import has no effect on what the module does."""

    unused: set[str]
    parts: list[str] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    @property
    def written(self) -> str:
        return "".join(self.parts)

    def statements(self, body: Sequence[ast.stmt]) -> None:
        """A block; its imports come first, in the order of their names, however they are spread over lines."""
        kept = list(_effective(body))
        bound = sorted(
            (one for node in kept for one in imports_of(node) if one.local not in self.unused),
            key=lambda one: (one.local, one.attribute, one.module),
        )
        for one in bound:
            self.parts.append(f"<{one.local}>")
            self.imports.append(one)
        for node in kept:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                self.node(node)

    def node(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            self.constant(node.value)
            return
        self.parts.append(f"{type(node).__name__}(")
        for name in _fields(type(node)):
            value = getattr(node, name, None)
            if isinstance(value, ast.JoinedStr) and name == "format_spec" and not _pieces(value):
                value = None
            if isinstance(node, ast.JoinedStr):
                value = _pieces(node)
            if value is None or value == []:  # some versions leave these away, others do not have the field
                continue
            self.parts.append(f"{name}=")
            self.value(value)
        self.parts.append(")")

    def value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list):
            self.parts.append("[")
            if value and isinstance(value[0], ast.stmt):
                self.statements(value)
            else:
                for one in value:
                    self.value(one)
                    self.parts.append(",")
            self.parts.append("]")
        else:
            self.constant(value)

    def constant(self, value: Any) -> None:
        self.parts.append(f"{type(value).__name__}:{value!a}")  # repr depends on the version's Unicode tables
        if isinstance(value, str) and value.endswith(WEB_FILES):
            self.files.add(value.rpartition("/")[2])


_known_fields: dict[type, tuple[str, ...]] = {}


def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    if kind not in _known_fields:
        _known_fields[kind] = tuple(sorted(set(kind._fields) - UNUSED))
    return _known_fields[kind]


def _pieces(node: ast.JoinedStr) -> list[ast.expr]:
    """The parts of an f-string; versions differ in where they cut its text, and whether they keep empty pieces."""
    found: list[ast.expr] = []
    for one in node.values:
        last = found[-1] if found else None
        if isinstance(one, ast.Constant) and isinstance(last, ast.Constant):
            found[-1] = ast.Constant(f"{last.value}{one.value}")
        elif not isinstance(one, ast.Constant) or one.value:
            found.append(one)
    return found


def _effective(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block that do something when it runs."""
    for node in body:
        if isinstance(node, ast.If) and _is_typing(node.test):
            yield from _effective(node.orelse)
        elif not isinstance(node, ast.Pass) and not _is_note(node):
            yield node


def _is_note(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_typing(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def imports_of(node: ast.AST) -> Iterator[Import]:
    """What an import statement binds; nothing for any other node."""
    if isinstance(node, ast.ImportFrom):
        for one in node.names:
            yield Import(node.module or "", node.level, one.name, one.asname or one.name)
    elif isinstance(node, ast.Import):
        for one in node.names:
            yield Import(one.name, 0, "", one.asname or one.name.partition(".")[0])


def _typing_imports(tree: ast.Module) -> Iterator[Import]:
    for node in tree.body:
        if isinstance(node, ast.If) and _is_typing(node.test):
            for inner in ast.walk(node):
                yield from imports_of(inner)


def _reached(tree: ast.Module, imports: Sequence[Import]) -> Iterator[Import]:
    """`graft.tally` after `import graft`: names of a package that are reached through the package's own name."""
    whole = {one.local: one for one in imports if not one.attribute}
    found = {
        Import(whole[node.value.id].local, 0, node.attr, "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole
        if whole[node.value.id].module.partition(".")[0] == node.value.id
    }
    yield from sorted(found)


def _defaults_only(tree: ast.Module) -> set[str]:
    """Names that occur nowhere but in defaults of fields that hold plug-ins.

    Such a plug-in decides a result where it is in use, and then it is found in the settings; that it is a default
    decides nothing.
    """
    every = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    marked = Counter(
        inner.id
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.AnnAssign) and node.value is not None and _holds_plugin(node.annotation)
        for inner in ast.walk(node.value)
        if isinstance(inner, ast.Name)
    )
    return {name for name, count in marked.items() if every[name] == count}


def _holds_plugin(annotation: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == SHELF
        for node in ast.walk(annotation)
    )
