"""The identity of code: every line that can decide a result is in the name, and nothing else is."""

from __future__ import annotations

import ast
import importlib
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graft.cli.listing import show_artifact
from graft.core.config.errors import FaultError, UsageError
from graft.core.config.plugins import HOUSE
from graft.core.store.artifact import Store
from graft.core.store.code_identity import WITHOUT_EFFECT, Tree, closure, code_identity
from graft.core.store.normal_source import _Form, normal_source
from graft.core.store.parsed_sources import ParsedSources
from graft.training.objectives.causal import Causal
from graft.training.objectives.denoise import Denoise
from graft.training.objectives.stay_close import StayClose
from graft.training.schedules.constant import Constant
from graft.training.settings import Train

EVERY_FILE = sorted(HOUSE.rglob("*.py"))
SOURCES = ParsedSources()  # of all tests here: what is parsed once is not parsed again, and nothing is written down


def module_of(path: Path, house: Path = HOUSE) -> str:
    name = ".".join(["graft", *path.relative_to(house).with_suffix("").parts])
    return name.removesuffix(".__init__")


def makers() -> list[str]:
    """Every module that makes artifacts: it calls `store.make`."""
    return [
        module_of(path)
        for path in EVERY_FILE
        for text in [path.read_text()]
        if re.search(r"\bstore\.make\(", text) and "build=" not in text
    ]


STAGES = makers()
PAGES = [name for name in STAGES if any(one.endswith(".html") for one in code_identity([name]).modules)]


def tree_of(texts: dict[Path, bytes] | None = None, house: Path = HOUSE) -> Tree:
    return Tree(house=house, texts=texts or {}, sources=SOURCES)


def whole(stage: str, texts: dict[Path, bytes] | None = None, asked: Any = None) -> str:
    return code_identity([stage], asked, tree_of(texts)).whole


def counted(stage: str) -> dict[str, Path]:
    """The modules in a stage's identity, by name."""
    tree = tree_of()
    return {name: path for name in closure([stage], tree) if name not in WITHOUT_EFFECT if (path := tree.file(name))}


# ---- what changes a name


class Arithmetic(ast.NodeTransformer):
    """Changes the node of this number among those that compute something; counts them when there is no such number."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    def _meet(self) -> bool:
        self.seen += 1
        return self.seen - 1 == self.number

    def visit_If(self, node: ast.If) -> ast.AST:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return node
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if self._meet():
            return ast.BinOp(node.left, ast.Pow() if isinstance(node.op, ast.Sub) else ast.Sub(), node.right)
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if self._meet():
            first = ast.LtE() if isinstance(node.ops[0], ast.Gt) else ast.Gt()
            return ast.Compare(node.left, [first, *node.ops[1:]], node.comparators)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, int | float) and self._meet():
            return ast.Constant(node.value + 1)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if self._meet():
            return ast.Return(ast.UnaryOp(ast.USub(), node.value or ast.Constant(0)))
        return self.generic_visit(node)


@cache
def sums_in(path: Path) -> int:
    counting = Arithmetic(-1)
    counting.visit(ast.parse(path.read_bytes()))
    return counting.seen


@cache
def changed(path: Path, number: int = 0) -> bytes:
    """A module's source with one computation changed; where it has none, with one added."""
    if not sums_in(path):
        return path.read_bytes() + b"\nADDED = 1 + 1\n"
    tree = Arithmetic(number).visit(ast.parse(path.read_bytes()))
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


@pytest.mark.parametrize("stage", STAGES)
def test_arithmetic_in_any_module_of_the_closure_gives_another_name(stage: str) -> None:
    before = whole(stage)
    names = counted(stage)
    assert stage in names and len(names) > 5
    same = {name for name, path in names.items() if whole(stage, {path: changed(path)}) == before}
    assert same == set()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_computation_in_any_module_counts(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in EVERY_FILE if sums_in(path)]))
    number = data.draw(st.integers(0, sums_in(path) - 1))
    assert SOURCES.of(changed(path, number), path).text != SOURCES.of(path.read_bytes(), path).text


def small(house: Path, **texts: str) -> str:
    """The identity of a module `use`, in a package of these modules."""
    house.mkdir(exist_ok=True)
    for name, text in {"__init__": "", **texts}.items():
        (house / f"{name}.py").write_text(text)
    return code_identity(["graft.use"], None, tree_of(house=house)).whole


def test_which_function_an_import_stands_for_counts(tmp_path: Path) -> None:
    """Both functions and both names are there before and after: only what each name stands for is another."""
    two = {"a": "def f(x): return x + 1", "b": "def f(x): return x - 1", "c": "from graft import a", "d": ""}
    uses = [
        "from graft.a import f as p\nfrom graft.b import f as q\np(q(2))",
        "from graft.b import f as p\nfrom graft.a import f as q\np(q(2))",
        "from graft import a as p, b as q\np.f(q.f(2))",
        "from graft import b as p, a as q\np.f(q.f(2))",
        "from graft.a import *\nfrom graft.b import f as q\nf(q(2))",
        "from graft.b import *\nfrom graft.a import f as q\nf(q(2))",
    ]
    assert len({small(tmp_path / "graft", use=text, **two) for text in uses}) == len(uses)


def test_modules_that_import_each_other_are_told_apart(tmp_path: Path) -> None:
    """c and d have the same text but for what they import; use has one of them first."""
    texts = {
        "a": "from graft import use\nx = 1",
        "b": "x = 2",
        "c": "from graft.a import x",
        "d": "from graft.b import x",
    }
    one = small(tmp_path / "graft", use="from graft.c import x as p\nfrom graft.d import x as q", **texts)
    other = small(tmp_path / "graft", use="from graft.d import x as p\nfrom graft.c import x as q", **texts)
    assert one != other


@pytest.mark.parametrize("stage", PAGES)
def test_every_file_that_shapes_a_page_is_in_its_name(stage: str) -> None:
    before = whole(stage)
    files = [
        path for name in code_identity([stage]).modules for path in HOUSE.rglob(name) if "." in name and path.is_file()
    ]
    assert {path.suffix for path in files} == {".html", ".css", ".js"}
    for path in files:
        assert whole(stage, {path: path.read_bytes() + b" "}) != before, path


def test_no_file_of_a_page_is_forgotten() -> None:
    there = {path.name for suffix in ("html", "css", "js") for path in HOUSE.rglob(f"*.{suffix}")}
    assert there == {name for stage in PAGES for name in code_identity([stage]).modules if name in there}
    assert len(PAGES) == 6


def test_the_fault_that_was_seen_cannot_come_back() -> None:
    """Evidence kept its name after edits to these, so an old result was taken for the new one."""
    assert {"graft.core.tokens.token_shards", "graft.core.records.evidence"} <= set(
        counted("graft.evaluation.score_documents")
    )


# ---- what changes no name


def rewritten(source: bytes, rng: random.Random) -> bytes:
    """Other docstrings, comments, formatting, order of imports; what is computed is the same."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            note = ast.Expr(ast.Constant(f"words {rng.random()}"))
            future = sum(isinstance(one, ast.ImportFrom) and one.module == "__future__" for one in node.body)
            if node.body and ast.get_docstring(node, clean=False) is not None:
                node.body[0] = note
            elif not future:
                node.body.insert(0, note)
    lines = ast.unparse(ast.fix_missing_locations(tree)).split("\n")
    body = "\n".join(line for line in lines)
    return f"# {rng.random()}\n{body}\n\n\n# the end\nif 1 == 2:\n    pass\n".encode().replace(
        b"if 1 == 2:\n    pass\n", b""
    )


@pytest.mark.parametrize("stage", STAGES)
def test_words_and_formatting_count_for_nothing(stage: str) -> None:
    rng = random.Random(0)
    texts = {path: rewritten(path.read_bytes(), rng) for path in counted(stage).values()}
    assert all(text != path.read_bytes() for path, text in texts.items())
    assert whole(stage, texts) == whole(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_modules_without_effect_are_in_no_name(stage: str) -> None:
    tree = tree_of()
    texts = {path: changed(path) for name in WITHOUT_EFFECT if (path := tree.file(name))}
    assert len(texts) == len(WITHOUT_EFFECT)  # each of them is there
    assert whole(stage, texts) == whole(stage)


def test_imports_for_type_checkers_count_for_nothing() -> None:
    assert normal_source("if TYPE_CHECKING:\n    from a import b\nx = 1") == normal_source("x = 1")
    assert normal_source("if typing.TYPE_CHECKING:\n    from a import b\nelse:\n    b = 2") == normal_source("b = 2")
    plain, lazy = normal_source("from a import b, c"), normal_source("def f():\n    from a import b")
    assert [(one.module, one.attribute) for one in plain.imports] == [("a", "b"), ("a", "c")]
    assert [(one.module, one.attribute) for one in lazy.imports] == [("a", "b")]
    assert plain == normal_source("from a import c\nfrom a import b")  # as sorting them leaves them


def written(source: str) -> str:
    form = _Form(set())
    form.statements(ast.parse(source).body)
    return form.written


def test_the_form_is_the_same_on_every_python() -> None:
    """Written out by hand from the grammar, where versions of `ast` differ: empty fields, f-strings, characters."""
    x, one = "Name(id=str:'x')", "int:1"
    assert written("x = 1") == f"Assign(targets=[{x},]value={one})"
    assert written("def f(): return x") == f"FunctionDef(args=arguments()body=[Return(value={x})]name=str:'f')"
    assert written("x(1)") == f"Expr(value=Call(args=[{one},]func={x}))"
    assert written("'\U0001fae9' + x") == f"Expr(value=BinOp(left=str:'\\U0001fae9'op=Add()right={x}))"
    bare = f"FormattedValue(conversion=int:-1value={x})"
    width = f"FormattedValue(conversion=int:-1format_spec=JoinedStr(values=[{bare},])value={x})"
    assert written("f'a' f'b{x:{x}}'") == f"Expr(value=JoinedStr(values=[str:'ab',{width},]))"
    assert written("f'{x:}'") == f"Expr(value=JoinedStr(values=[{bare},]))"


# ---- where a file lies


class Moving(ast.NodeTransformer):
    """Writes the imports of a module anew, for modules that have other names."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        found: list[ast.stmt] = []
        for one in node.names:
            inner = f"{node.module}.{one.name}"
            if inner in self.names:
                package, _, name = self.names[inner].rpartition(".")
                found.append(ast.ImportFrom(package, [ast.alias(name, one.asname or one.name)], 0))
            else:
                found.append(ast.ImportFrom(self.names.get(str(node.module), node.module), [one], 0))
        return found


def moved(stage: str, house: Path, place: Any) -> str:
    """Writes the closure of a stage below `house`, each module where `place(name)` says; returns the stage's name."""
    modules = {name: path for name in closure([stage], tree_of()) if (path := tree_of().file(name))}
    names = {
        name: name if name in WITHOUT_EFFECT or path.name == "__init__.py" else place(name)
        for name, path in modules.items()
    }
    assert len(set(names.values())) == len(names)
    for name, path in modules.items():
        at = house.joinpath(*names[name].split(".")[1:])
        at = at / "__init__.py" if path.name == "__init__.py" else at.with_name(f"{at.name}.py")
        at.parent.mkdir(parents=True, exist_ok=True)
        text = ast.unparse(ast.fix_missing_locations(Moving(names).visit(ast.parse(path.read_bytes()))))
        at.write_text(text)
    return names[stage]


SMALL = [
    "graft.data.ingest",
    "graft.data.curate",
    "graft.data.tokenize",
    "graft.evaluation.compare.compare_extension",
    "graft.evaluation.run_probes",
    "graft.evaluation.similarity.measure_similarity",
]


@settings(max_examples=10, deadline=None)
@example(
    "graft.evaluation.compare.token_differences",
    ["deep.er", "core", "a.b.c", "stages", "core", "a.b.c", "deep.er"],
    True,
)
@given(
    st.sampled_from(SMALL),
    st.lists(st.sampled_from(["core", "deep.er", "a.b.c", "stages"]), min_size=7, max_size=7),
    st.booleans(),
)
def test_where_a_module_lies_and_what_it_is_called_count_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, stage: str, folders: list[str], renamed: bool
) -> None:
    house = tmp_path_factory.mktemp("moved") / "graft"

    def place(name: str) -> str:
        last = name.replace("graft.", "").replace(".", "_")
        last = f"x{sum(map(ord, last))}_{last}" if renamed else name.rpartition(".")[2]
        own = "" if renamed else f".{name.split('.')[1]}"  # two modules of one name stay apart
        return f"graft.{folders[len(name) % 7]}{own}.{last}"

    at = moved(stage, house, place)
    assert at != stage
    assert code_identity([at], None, tree_of(house=house)).whole == whole(stage)


def test_a_moved_page_finds_its_files(tmp_path: Path) -> None:
    house = tmp_path / "graft"
    at = moved("graft.report.comparison.stage", house, lambda name: name.replace("graft.report", "graft.pages"))
    for path in HOUSE.glob("report/*/*.*"):
        if path.suffix != ".py":
            beside = house / "report" / "templates" / path.name
            beside.parent.mkdir(exist_ok=True, parents=True)
            beside.write_bytes(path.read_bytes())
    assert code_identity([at], None, tree_of(house=house)).whole == whole("graft.report.comparison.stage")
    (house / "report" / "templates" / "page.css").write_text("body { color: red }")
    assert code_identity([at], None, tree_of(house=house)).whole != whole("graft.report.comparison.stage")


# ---- plug-ins


def changing(name: str, asked: Any, stage: str = "graft.training.train") -> bool:
    path = tree_of().file(f"graft.{name}")
    assert path is not None
    return whole(stage, {path: changed(path)}, asked) != whole(stage, None, asked)


def test_plugins_count_where_they_are_in_use() -> None:
    usual = Train()
    assert changing("training.objectives.causal", usual) and changing("training.schedules.warm_stable_decay", usual)
    assert not changing("training.objectives.denoise", usual) and not changing("training.objectives.stay_close", usual)
    other = replace(usual, objective=Denoise(), schedule=Constant())
    assert changing("training.objectives.denoise", other) and changing("training.schedules.constant", other)
    assert not changing("training.objectives.causal", other) and not changing(
        "training.schedules.warm_stable_decay", other
    )


def test_a_plugin_that_is_made_of_another_changes_with_it() -> None:
    leashed = Train(objective=StayClose())
    assert changing("training.objectives.causal", leashed)  # at a kl_weight of 0 the one is the other
    assert not changing("training.objectives.anchor", leashed)
    assert whole("graft.training.train", None, leashed) != whole(
        "graft.training.train", None, Train(objective=Causal())
    )


@dataclass(frozen=True)
class Asked:
    one: Any = None
    several: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)


Asked.__module__ = "graft.core.stats.tally"  # this file imports plug-ins, and a class counts with its file


def test_plugins_are_found_wherever_settings_hold_them() -> None:
    for asked in (Asked(one=Asked(one=Denoise())), Asked(several=(1, Denoise())), Asked(named={"a": [Denoise()]})):
        assert changing("training.objectives.denoise", asked)
    assert not changing("training.objectives.denoise", Asked(one="denoise"))


FOREIGN = {
    "mine/__init__.py": "",
    "mine/deep/__init__.py": "from .helper import double",
    "mine/deep/metrics/count.py": (
        "from dataclasses import dataclass\nimport mine.deep\nfrom ...sums import add\nfrom graft import Store\n"
        "@dataclass(frozen=True)\nclass Count:\n    by: int = 2\n    def __call__(self, x):\n"
        "        return add(mine.deep.double(x), self.by)\n"
    ),
    "mine/deep/helper.py": "def double(x):\n    return 2 * x\n",
    "mine/sums.py": "import beside_mine\ndef add(a, b):\n    return a + b\n",
    "mine/unused.py": "x = 1 + 1\n",
    "beside_mine.py": "x = 1 + 1\n",
}


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, text in FOREIGN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("mine.deep.metrics.count")
    yield module.Count()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "beside_mine")]:
        del sys.modules[name]


def test_a_users_plugin_counts_with_all_of_the_users_that_it_imports(tmp_path: Path, foreign: Any) -> None:
    before = code_identity([], Asked(one=foreign), tree_of())
    mine = {name for name in before.modules if name.startswith(("mine", "beside"))}
    assert mine == {"mine.deep", "mine.deep.metrics.count", "mine.deep.helper", "mine.sums", "beside_mine"}
    for name in FOREIGN:
        path = tmp_path / name
        now = code_identity([], Asked(one=foreign), tree_of({path: changed(path) + b"\ny = 1\n"}))
        assert (now.whole != before.whole) == (name != "mine/unused.py"), name


def test_what_is_had_from_the_package_by_its_short_name_is_followed(foreign: Any) -> None:
    """`from graft import Store` names a module that is not imported from there in so many words."""
    reached = closure(["mine.deep.metrics.count"], admitted("mine.deep.metrics.count"))
    assert "graft.core.store.artifact" in reached and "graft.training.train" not in reached


def admitted(name: str) -> Tree:
    tree = tree_of()
    tree.admit(name)
    return tree


def test_a_package_used_by_its_bare_name_is_followed() -> None:
    source = normal_source("import graft\nx = graft.train(graft.Train())\n")
    assert [one.attribute for one in source.imports if not one.local] == ["Train", "train"]


def test_a_class_without_a_file_is_refused() -> None:
    Loose = make_dataclass("Loose", ["x"])
    Loose.__module__ = "typed_by_hand"
    with pytest.raises(UsageError, match="the source of typed_by_hand is in no file"):
        code_identity([], Loose(1))


def test_plugin_folders_may_lie_at_any_depth(tmp_path: Path) -> None:
    house = tmp_path / "graft"
    deep = house / "evaluation" / "metrics" / "by_word"
    deep.mkdir(parents=True)
    (house / "__init__.py").write_text("")
    (deep / "count.py").write_text("from graft.evaluation.metrics.by_word.cut import cut\nfrom ..sums import add\n")
    (deep / "cut.py").write_text("def cut(x):\n    return x - 1\n")
    (deep.parent / "sums.py").write_text("def add(x, y):\n    return x + y\n")
    start = ["graft.evaluation.metrics.by_word.count"]
    before = code_identity(start, None, tree_of(house=house))
    assert len(before.modules) == 3
    for path in (deep / "cut.py", deep.parent / "sums.py"):
        now = code_identity(start, None, tree_of({path: changed(path)}, house))
        assert now.whole != before.whole


# ---- that the rule holds for all of the package


DYNAMIC = {
    "__init__.py": "names of the package, told to type checkers as well",
    "core/config/recipe.py": "jobs, which make no artifact themselves",
    "core/config/plugins.py": "plug-ins, which are found in settings",
    "readers/folder.py": "readers, which `ingest` names beside itself",
}


def test_nothing_is_imported_by_name_unseen() -> None:
    found = {
        path.relative_to(HOUSE).as_posix()
        for path in EVERY_FILE
        if re.search(
            r"import_module\(|__import__\(|spec_from_file_location|\bexec\(|run_module|run_path", path.read_text()
        )
    }
    assert found == set(DYNAMIC)


def test_the_reader_of_a_file_is_in_the_name_of_what_was_read(tmp_path: Path) -> None:
    from graft.data.ingest import ingest

    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "b.txt").write_text("two")
    readers: dict[str, set[str]] = {}
    for name in ("a.jsonl", "b.txt"):
        made = ingest([str(tmp_path / name)], "domain", store=Store(tmp_path / "store"))
        readers[name] = {one for one in made.manifest["code"]["modules"] if one.startswith("readers.")}
    assert readers["a.jsonl"] - readers["b.txt"] == {"readers.json_lines"}
    assert readers["b.txt"] - readers["a.jsonl"] == {"readers.plain"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_closure_holds_a_subject_and_not_the_package(stage: str) -> None:
    found = {name: path for name, path in counted(stage).items() if path.name != "__init__.py"}
    rooms = {name.split(".")[1] for name in found}
    assert not rooms & {"cli", "jobs", "planning", "launch"}
    if stage.startswith("graft.data.") or stage.rpartition(".")[2] in (
        "compare_extension",
        "run_probes",
        "measure_similarity",
        "token_differences",
    ):
        assert not {
            name for name in found if name.startswith(("graft.models.forward", "graft.training.", "graft.report"))
        }
    if stage in PAGES:
        assert not {name for name in found if name.startswith("graft.models.forward")}
    else:
        assert "report" not in rooms
    assert len(found) <= 95


# What modules that count may import from those that do not: names that bring nothing new into an artifact.
HARMLESS = {
    "core.config.errors": "said shortened UsageError FaultError GateClosed GraftError nearest joined flat UnknownKey",
    "core.process.progress": "Progress track clock phase",
    "core.process.notes": "say tell tell_notes",
    "data.user_notes": "tell_notes by_place",
    "core.store.leftovers": "artifact_folders",  # which there are
    "core.config.plain_text": "plain",  # on its way to the terminal
    "core.process.interrupts": "note_signal",
    "core.store.artifact": "Artifact artifact_at Draft Store Meet NotMade digest MANIFEST",  # digest: of inputs
    "core.store.manifest": "MANIFEST",
    "core.store.code_identity": "code_identity",
    "core.store.fingerprints": "Fingerprints Unread stamp",
    "core.config.settings": "check_choices to_json whole_number build_plugin",  # plug-ins are in settings, too
    "core.config.plugins": "Shelf plugin_name HOUSE needs_of",
}


def test_the_short_list_stays_harmless() -> None:
    tree = tree_of()
    seen: dict[str, set[str]] = {}
    for stage in STAGES:
        for name, used in closure([stage], tree).items():
            for one, target in used if name not in WITHOUT_EFFECT else ():
                if target in WITHOUT_EFFECT:
                    seen.setdefault(target.removeprefix("graft."), set()).add(one.attribute)
    assert seen.keys() == HARMLESS.keys()
    assert not [(name, one) for name, found in seen.items() for one in found - set(HARMLESS[name].split())]


def test_an_artifact_shows_the_code_it_was_made_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Store(tmp_path).make("docs", {}, {}, "graft.evaluation.compare.compare_extension", lambda draft: None)
    code = made.manifest["code"]
    assert code == code_identity(["graft.evaluation.compare.compare_extension"]).to_json()
    show_artifact(made)
    said = capsys.readouterr().out
    assert code["identity"] in said and "core.stats.bootstrap" in said


# ---- memory


def test_what_is_remembered_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    first = ParsedSources(tmp_path / "cache")
    one, other = first.of(b"x = 1", path), first.of(b"x = 2", path)
    first.keep()
    [file] = (tmp_path / "cache").iterdir()
    again = ParsedSources(tmp_path / "cache")
    again.of(b"x = 3", path, lasting=False)
    assert (again.of(b"x = 1", path), again.of(b"x = 2", path)) == (one, other) and not again.new
    for nonsense in ("{broken", "[]", re.sub(r"\[", '["more", ', file.read_text(), count=1)):
        file.write_text(nonsense)
        broken = ParsedSources(tmp_path / "cache")
        assert broken.of(b"x = 1", path) == one and broken.new


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    sources = ParsedSources(tmp_path / "file" / "cache")
    sources.of(b"x = 1", tmp_path)
    sources.keep()
    assert not sources.new


def test_a_source_that_is_no_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="cannot read this source"):
        ParsedSources(tmp_path).of(b"x = = 1", tmp_path / "broken.py")


EDITED = """
import importlib, sys
from pathlib import Path
from graft.core.store.code_identity import code_identity
path = Path(sys.argv[1])
path.write_text("x = 1 + 1")
sys.path.insert(0, str(path.parent))
import edited
first = code_identity(["edited"]).whole
path.write_text("x = 1 - 1")
assert code_identity(["edited"]).whole == first  # what runs is what was loaded
importlib.invalidate_caches()
importlib.reload(edited)
assert code_identity(["edited"]).whole != first
"""


def test_code_that_is_edited_while_it_runs_keeps_the_name_of_what_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", EDITED, str(tmp_path / "edited.py")],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
