"""Real text that every installation already has: the prose in its packages, the standard library's code, and dialogues.

`embedded:prose`       docstrings and comments of a few packages and Python's own reference topics: some megabytes
`embedded:prose-full`  the same documents and those of all other packages listed here
`embedded:code`        the modules of the standard library, docstrings cut out, comments kept, tests left out
`embedded:questions`   dialogues: what a function or class of the standard library is for, and what its docstring says
`embedded:pairs`       preference pairs: such a question, the right answer, and that of another one of the same module

The text depends on the installed versions and on nothing else; a package that is missing is left out and named.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError, nearest
from graft.core.text.drop_reasons import read_fate
from graft.embedded.docstrings import paragraphs, told
from graft.embedded.questions import DocstringQuestion, asked_of, pairs_of
from graft.readers.file_record import Fields, FileRecord, piece
from graft.readers.row import from_row

SCHEME = "embedded:"
SPOKEN = ("embedded:questions", "embedded:pairs")
OF_LIBRARY = ("embedded:code", *SPOKEN)  # of the standard library alone
NAMES = ("embedded:prose", "embedded:prose-full", *OF_LIBRARY)

# (import name, distribution name) of what a plain installation brings. The order decides which package keeps a
# paragraph that several have.
QUICK = (("numpy", "numpy"), ("networkx", "networkx"), ("torch", "torch"), ("huggingface_hub", "huggingface-hub"))
REST = (
    ("transformers", "transformers"),
    ("sympy", "sympy"),
    ("daft", "daft"),
    ("pydantic", "pydantic"),
    ("mpmath", "mpmath"),
    ("pygments", "Pygments"),
    ("rich", "rich"),
    ("pyarrow", "pyarrow"),
    ("jinja2", "Jinja2"),
    ("fsspec", "fsspec"),
    ("babel", "babel"),
    ("trafilatura", "trafilatura"),
    ("typer", "typer"),
    ("regex", "regex"),
    ("click", "click"),
)
TOPICS = "pydoc_data.topics"
TESTS = {"test", "tests", "testing", "idle_test", "conftest.py"}
# Tables of numbers and settings that nobody wrote, and packages that only lodge in the library's folder.
NOT_CODE = {"site-packages", "dist-packages", "encodings", "pydoc_data", "__pycache__", "__phello__"}
NOT_PYTHON = read_fate("not_python")
SHORTEST, LONGEST = 400, 12_000  # characters of a prose document; a longer module becomes several


@dataclass(frozen=True)
class Module:
    """A file of Python source; comments: whether they are taken as prose, with the docstrings."""

    name: str
    path: Path
    comments: bool = True


@dataclass
class Embedded:
    """One of the embedded texts; `facts` are complete once `pieces` has been read to its end.

    every: read only every so many-th module, for a survey.
    """

    name: str
    every: int = 1
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
        return {"embedded:prose": QUICK, "embedded:prose-full": QUICK + REST}.get(self.name, ())

    @cached_property
    def modules(self) -> list[Module]:
        """Every module that is read, in reading order."""
        if self.name in OF_LIBRARY:
            return [Module(name, path) for name, path in _standard_library()]
        found = [Module(TOPICS, Path(str(_origin(TOPICS))))]
        for top, _ in self._packages:
            found += [Module(name, path) for name, path in _package_modules(top)]
        if self.name == "embedded:prose-full":
            # Its comments belong to embedded:code, so that the two names share no text.
            found += [Module(f"library/{name}", path, comments=False) for name, path in _standard_library()]
        return found

    @property
    def extent(self) -> str:
        """A hash over names and sizes of all modules: one version is not the same text from every distributor."""
        listed = "\n".join(f"{module.name} {module.path.stat().st_size}" for module in self.modules)
        return hashlib.blake2b(listed.encode(), digest_size=8).hexdigest()

    @cached_property
    def size(self) -> int:
        """Bytes of source code that are read."""
        return sum(module.path.stat().st_size for module in self.modules)

    @property
    def sparse(self) -> int:
        """How many times as much source code as for prose has to be read, about, for as much text."""
        return 8 if self.name in SPOKEN else 1

    @property
    def _read(self) -> list[Module]:
        return self.modules[self.every // 2 :: self.every]

    @property
    def size_read(self) -> int:
        """Bytes of source code in those modules that are read."""
        return sum(module.path.stat().st_size for module in self._read)

    def pieces(self) -> Iterator[FileRecord]:
        """The documents; `seen` of each is the bytes of source read since the one before."""
        self.facts["versions"] = self.identity
        self.facts["missing"] = [top for top, _ in self._packages if not _origin(top)]
        if self.name in SPOKEN:
            yield from self._dialogues(paired=self.name == "embedded:pairs")
        else:
            yield from self._code() if self.name == "embedded:code" else self._prose()

    def _code(self) -> Iterator[FileRecord]:
        for module in self._read:
            content = module.path.read_bytes()
            try:
                text = without_docstrings(content)
            except (SyntaxError, UnicodeDecodeError, ValueError):  # kept in the library as an example of what is wrong
                yield FileRecord("", module.name, len(content), len(content), NOT_PYTHON)
                continue
            yield piece(text.strip() + "\n", module.name, len(content))

    def _dialogues(self, *, paired: bool) -> Iterator[FileRecord]:
        """As rows of a file with these fields would be read. An answer is given once, and a name asked about once."""
        known: set[str] = set()
        self.facts["repeated_answers"] = 0
        seen = 0
        for module in self._read:
            content = module.path.read_bytes()
            seen += len(content)
            try:
                every = list(asked_of(content, _dotted(module.name)))
            except (SyntaxError, ValueError):
                yield FileRecord("", module.name, len(content), seen, NOT_PYTHON)
                seen = 0
                continue
            fresh: list[DocstringQuestion] = []
            for one in every:
                if one.answer in known or one.question in known:
                    self.facts["repeated_answers"] += 1
                    continue
                known |= {one.answer, one.question}
                fresh.append(one)
            for one, wrong in pairs_of(fresh) if paired else ((one, "") for one in fresh):
                row = {"question": one.question, "answer": one.answer}
                if paired:
                    row = {"prompt": one.question, "chosen": one.answer, "rejected": wrong}
                yield from_row(row, Fields(), f"{module.name}#{one.name}", 0, seen)
                seen = 0

    def _prose(self) -> Iterator[FileRecord]:
        known: set[str] = set()
        self.facts["repeated_characters"] = 0
        seen = 0
        for module in self._read:
            seen += module.path.stat().st_size
            if module.name == TOPICS:
                pages = [page for name, text in _topics() for page in self._pages(f"{TOPICS}/{name}", [text], known)]
            else:
                pages = self._pages(module.name, told(module.path.read_bytes(), comments=module.comments), known)
            for name, page in pages:
                yield piece(page, name, seen)
                seen = 0

    def _pages(self, name: str, texts: list[str], known: set[str]) -> Iterator[tuple[str, str]]:
        """(name#number, prose) of a module, of at most about LONGEST characters; known paragraphs are left out."""
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
                yield f"{name}#{number}", page.strip() + "\n"


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


def _dotted(name: str) -> str:
    """'json/decoder.py' -> 'json.decoder', 'json/__init__.py' -> 'json'."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _topics() -> Iterator[tuple[str, str]]:
    """Python's own reference texts, which `help()` shows."""
    from pydoc_data import topics

    yield from sorted(topics.topics.items())


def _standard_library() -> list[tuple[str, Path]]:
    top = Path(sysconfig.get_paths()["stdlib"])
    return _sources(top, top)


def _package_modules(top: str) -> list[tuple[str, Path]]:
    origin = _origin(top)
    return _sources(origin.parent, origin.parent.parent) if origin else []


def _sources(folder: Path, root: Path) -> list[tuple[str, Path]]:
    """(path below `root`, path) of the modules in `folder`, without tests, by name."""
    found: dict[str, Path] = {}
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in TESTS | NOT_CODE and not name.startswith("config-")]
        for name in names:
            if name.endswith(".py") and not _is_test(name):
                path = Path(here, name)
                found[path.relative_to(root).as_posix()] = path
    return sorted(found.items())


def _is_test(name: str) -> bool:
    return name.startswith(("test_", "_sysconfigdata")) or name.endswith("_test.py") or name in TESTS


def _origin(name: str) -> Path | None:
    """The file of a module or package, found without importing it; None where there is none."""
    try:
        spec = util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"
