"""Real text that every installation already has: the prose in its packages, and the standard library's code.

`embedded:prose`       docstrings and comments of a few packages and Python's own reference topics: some megabytes
`embedded:prose-full`  the same documents and those of all other packages listed here
`embedded:code`        the modules of the standard library, docstrings cut out, comments kept, tests left out

The text depends on the installed versions and on nothing else; a package that is missing is left out and named.
"""

from __future__ import annotations

import ast
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any

from graft.core.errors import UsageError, nearest
from graft.embedded.docstrings import paragraphs, told
from graft.readers.piece import Piece, piece

SCHEME = "embedded:"
NAMES = ("embedded:prose", "embedded:prose-full", "embedded:code")

# (import name, distribution name). The order decides which package keeps a paragraph that several have.
QUICK = (("numpy", "numpy"), ("networkx", "networkx"), ("torch", "torch"), ("huggingface_hub", "huggingface-hub"))
REST = (
    ("transformers", "transformers"),
    ("sympy", "sympy"),
    ("scipy", "scipy"),
    ("sklearn", "scikit-learn"),
    ("daft", "daft"),
    ("openai", "openai"),
    ("selenium", "selenium"),
    ("peft", "peft"),
    ("accelerate", "accelerate"),
    ("pydantic", "pydantic"),
    ("narwhals", "narwhals"),
    ("mpmath", "mpmath"),
    ("setuptools", "setuptools"),
    ("pip", "pip"),
    ("hypothesis", "hypothesis"),
    ("trio", "trio"),
    ("plotly", "plotly"),
    ("pygments", "Pygments"),
    ("rich", "rich"),
    ("pyarrow", "pyarrow"),
    ("jinja2", "Jinja2"),
    ("fsspec", "fsspec"),
    ("joblib", "joblib"),
    ("babel", "babel"),
)
TESTS = {"test", "tests", "testing", "idle_test", "conftest.py"}
# Tables of numbers and settings that nobody wrote, and packages that only lodge in the library's folder.
NOT_CODE = {"site-packages", "dist-packages", "encodings", "pydoc_data", "__pycache__", "__phello__"}
SHORTEST, LONGEST = 400, 12_000  # characters of a prose document; a longer module becomes several


@dataclass
class Embedded:
    """One of the embedded texts; `facts` are complete once `pieces` has been read to its end."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str) -> Embedded:
        """Errors: UsageError when there is no embedded text of this name."""
        if name not in NAMES:
            raise UsageError(f'no embedded text is called "{name}"', allowed=", ".join(NAMES), do=nearest(name, NAMES))
        return cls(name)

    @cached_property
    def identity(self) -> str:
        """The versions that decide the text."""
        versions = [f"{top} {_version(distribution)}" for top, distribution in self._packages]
        return ", ".join([self.name, f"python {platform.python_version()}", *versions])

    @property
    def _packages(self) -> tuple[tuple[str, str], ...]:
        return {"embedded:prose": QUICK, "embedded:prose-full": QUICK + REST, "embedded:code": ()}[self.name]

    @cached_property
    def modules(self) -> list[tuple[str, Path]]:
        """(name, file) of every module that is read, in reading order."""
        if self.name == "embedded:code":
            return _standard_library()
        found: list[tuple[str, Path]] = []
        for top, _ in self._packages:
            found += _package_modules(top)
        return found

    @cached_property
    def size(self) -> int:
        """Bytes of source code that are read."""
        return sum(path.stat().st_size for _, path in self.modules)

    def pieces(self) -> Iterator[Piece]:
        """The documents; `seen` of each is the bytes of source read since the one before."""
        self.facts["versions"] = self.identity
        self.facts["missing"] = [top for top, _ in self._packages if not _folder(top)]
        yield from self._code() if self.name == "embedded:code" else self._prose()

    def _code(self) -> Iterator[Piece]:
        for name, path in self.modules:
            content = path.read_bytes()
            try:
                text = without_docstrings(content)
            except (SyntaxError, UnicodeDecodeError, ValueError):  # kept in the library as an example of what is wrong
                yield Piece("", name, len(content), len(content), "dropped: not python")
                continue
            yield piece(text.strip() + "\n", name, len(content))

    def _prose(self) -> Iterator[Piece]:
        known: set[str] = set()
        self.facts["repeated_characters"] = 0
        for name, text in _topics():
            yield from self._documents(name, [text], known, 0)
        for name, path in self.modules:
            content = path.read_bytes()
            yield from self._documents(name, told(content, comments=True), known, len(content))
        for name, path in _standard_library() if self.name == "embedded:prose-full" else []:
            # Its comments belong to embedded:code, so that the two names share no text.
            yield from self._documents(f"library/{name}", told(path.read_bytes(), comments=False), known, 0)

    def _documents(self, name: str, texts: list[str], known: set[str], seen: int) -> Iterator[Piece]:
        """A module's prose in documents of at most about LONGEST characters; paragraphs seen before are left out."""
        pages: list[str] = [""]
        for text in texts:
            for paragraph in paragraphs(text):
                if paragraph in known:
                    self.facts["repeated_characters"] += len(paragraph)
                    continue
                known.add(paragraph)
                if len(pages[-1]) > LONGEST:
                    pages.append("")
                pages[-1] += paragraph + "\n\n"
        for number, page in enumerate(pages, 1):
            if len(page) >= SHORTEST:
                yield piece(page.strip() + "\n", f"{name}#{number}", seen)
                seen = 0


def without_docstrings(content: bytes) -> str:
    """Python source with the docstrings of modules, classes and functions cut out; comments and layout stay.

    Where a docstring is the whole body, `pass` takes its place. Errors: SyntaxError where it is no Python.
    """
    text = content.decode("utf-8-sig")
    lines = text.encode().split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    cuts: list[tuple[int, int, bytes]] = []
    stack: list[ast.AST] = [ast.parse(text)]
    while stack:
        node = stack.pop()
        body: list[ast.stmt] = getattr(node, "body", [])
        stack += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.excepthandler)]
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not body:
            continue
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            assert first.end_lineno is not None and first.end_col_offset is not None
            start = starts[first.lineno - 1] + first.col_offset
            end = starts[first.end_lineno - 1] + first.end_col_offset
            cuts.append((start, end, b"pass" if len(body) == 1 and not isinstance(node, ast.Module) else b""))
    return _cut(text.encode(), cuts).decode()


def _cut(content: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """`content` with each (start, end) replaced; a line that is left blank by it goes too."""
    kept: list[bytes] = []
    place = 0
    for start, end, instead in sorted(cuts):
        line = content.rfind(b"\n", 0, start) + 1
        after = content.find(b"\n", end)
        after = len(content) if after < 0 else after + 1
        if not instead and not content[line:start].strip() and not content[end:after].strip():
            start, end = line, after
        elif not instead and content[end:after].lstrip().startswith(b";"):  # """doc"""; x = 1
            end += content[end:after].index(b";") + 1
        kept += [content[place:start], instead]
        place = end
    return b"".join([*kept, content[place:]])


def _topics() -> Iterator[tuple[str, str]]:
    """Python's own reference texts, which `help()` shows."""
    from pydoc_data import topics

    for name in sorted(topics.topics):
        yield f"pydoc_data/{name}", topics.topics[name]


def _standard_library() -> list[tuple[str, Path]]:
    top = Path(sysconfig.get_paths()["stdlib"])
    return [(name, path) for name, path in _sources(top, top) if not name.startswith(("_sysconfigdata", "config-"))]


def _package_modules(top: str) -> list[tuple[str, Path]]:
    folder = _folder(top)
    return _sources(folder, folder.parent) if folder else []


def _sources(folder: Path, root: Path) -> list[tuple[str, Path]]:
    found = [path.relative_to(root) for path in folder.rglob("*.py")]
    wanted = [path for path in found if not (TESTS | NOT_CODE).intersection(path.parts[:-1]) and not _is_test(path.name)]
    return [(path.as_posix(), root / path) for path in sorted(wanted, key=lambda one: one.as_posix())]


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py") or name in TESTS


def _folder(top: str) -> Path | None:
    spec = util.find_spec(top)  # of a top-level name: finds it without importing it
    return Path(spec.origin).parent if spec and spec.origin and spec.submodule_search_locations else None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"
