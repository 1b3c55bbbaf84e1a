"""The embedded text: prose without code, code without docstrings, the same on every machine with the same versions."""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from graft.core.artifact import Store
from graft.core.errors import UsageError
from graft.embedded import text as embedded
from graft.embedded.docstrings import paragraphs, told
from graft.embedded.text import LONGEST, SHORTEST, Embedded, without_docstrings
from graft.stages.ingest import ingest
from graft.stages.survey import survey

LIBRARY = Path(sysconfig.get_paths()["stdlib"])


def documented(tree: ast.AST) -> list[ast.AST]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node) is not None]


MODULES = ["argparse.py", "ast.py", "enum.py", "json/decoder.py", "logging/__init__.py", "re/_parser.py"]


@pytest.mark.parametrize("name", MODULES)
def test_code_loses_its_docstrings_and_nothing_else(name: str) -> None:
    """Against the parser: the tree without docstrings is the same, and every comment is still there."""
    source = (LIBRARY / name).read_text()
    cut = without_docstrings(source.encode())
    wanted, found = ast.parse(source), ast.parse(cut)
    for node in documented(wanted):
        body = node.body  # type: ignore[attr-defined]
        body[0:1] = [ast.Pass()] if len(body) == 1 and not isinstance(node, ast.Module) else []
    assert ast.dump(found) == ast.dump(wanted)
    assert not documented(found)
    for line in source.splitlines():
        if line.strip().startswith("# "):
            assert line in cut


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Doc."""\nx = 1\n', "x = 1\n"),
        ('class A(B):\n    """Doc."""\n', "class A(B):\n    pass\n"),
        ('def f(): "doc"; return 1\n', "def f():  return 1\n"),
        ('def f():\n    """Doc."""  # why\n    return "é"\n', 'def f():\n      # why\n    return "é"\n'),
        ('é = "é"\ndef f():\n    "é"\n    """kept"""\n    é\n', 'é = "é"\ndef f():\n    """kept"""\n    é\n'),
        ('if x:\n    def f():\n        """A\n        b."""\n        pass\n', "if x:\n    def f():\n        pass\n"),
        ('\ufeff# first\n"""Doc."""\n', "# first\n"),
        ("x = '''not a docstring'''\n", "x = '''not a docstring'''\n"),
    ],
)  # fmt: skip
def test_docstrings_are_cut_by_their_place(source: str, expected: str) -> None:
    assert without_docstrings(source.encode()) == expected


@pytest.mark.parametrize("name", [*MODULES, "textwrap.py", "unittest/mock.py"])
def test_all_docstrings_are_found_without_parsing(name: str) -> None:
    """Against the parser, over real modules."""
    source = (LIBRARY / name).read_text()
    found = set(told(source.encode(), comments=False))
    for node in documented(ast.parse(source)):
        literal = node.body[0].value  # type: ignore[attr-defined]
        if ast.get_source_segment(source, literal).lstrip("rRuU").startswith(('"""', "'''")):  # type: ignore[union-attr]
            assert literal.value in found


def test_comments_are_told_where_wanted() -> None:
    source = (
        b'x = 1  # beside\n# one\n#two\n\n    # three\ny = "# no"\nz = """a\n# no\n"""\ndef f():\n    r"""D\\n."""\n'
    )
    assert told(source, comments=True) == ["one\ntwo", "three", "D\\n."]
    assert told(source, comments=False) == ["D\\n."]


DOCSTRING = """
    Return the whatsit of an array, as the paper by Somebody describes it.

    The whatsit is the sum of all entries that are larger than their
    neighbours, see :func:`~numpy.sum` and `the guide <https://e.org/x>`_ for
    ``axis`` and more.

    Parameters
    ----------
    a : array_like
        The array that is looked at, of any shape that has at least one axis.
    axis : int, optional
        The axis along which neighbours are looked for; the last one by default.

    .. note:: It is slow for arrays that do not fit into the cache of the machine.

    .. code-block:: python

        secret = code(1)

    Use it in the following manner whenever there is nothing else to do::

        more_secret = code(2)

    Examples
    --------
    >>> whatsit([1, 2, 3])
    printed_secret and more words that are printed by the example above here
    >>> x

    ```python
    fenced_secret = 3
    ```

    .. math:: \\sum_{i} formula_secret_{i}

    x = y[1] + {2: 3} / (4 ** 5) - f(6)[7:8, 9] = 10 + 11 / 12
    """


def test_prose_is_what_is_left_of_a_docstring() -> None:
    found = list(paragraphs(DOCSTRING))
    assert found == [
        "Return the whatsit of an array, as the paper by Somebody describes it.",
        "The whatsit is the sum of all entries that are larger than their neighbours, see numpy.sum and the guide for "
        "axis and more.",
        "a : array_like The array that is looked at, of any shape that has at least one axis.\n"
        "axis : int, optional The axis along which neighbours are looked for; the last one by default.",
        "It is slow for arrays that do not fit into the cache of the machine.",
        "Use it in the following manner whenever there is nothing else to do:",
    ]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small packages and one that is missing, in place of all."""
    monkeypatch.setattr(embedded, "QUICK", (("jinja2", "Jinja2"), ("no_such_package", "no-such-package")))
    monkeypatch.setattr(embedded, "REST", (("peft", "peft"),))


@pytest.mark.usefixtures("few")
def test_the_quick_prose_is_part_of_the_full_one() -> None:
    quick = [(one.parent, one.text) for one in Embedded.named("embedded:prose").pieces()]
    full = [(one.parent, one.text) for one in Embedded.named("embedded:prose-full").pieces()]
    assert full[: len(quick)] == quick and len(full) > len(quick) + 50
    assert any(name.startswith("library/") for name, _ in full)
    assert all(len(text) + 1 >= SHORTEST for _, text in full)
    lengths = sorted(len(text) for _, text in full)
    assert lengths[len(lengths) * 99 // 100] < 2 * LONGEST
    every = [paragraph for _, text in full for paragraph in text.strip().split("\n\n")]
    assert len(set(every)) == len(every), "a paragraph is said once"


@pytest.mark.usefixtures("few")
def test_missing_packages_are_named_and_versions_are_the_identity(tmp_path: Path) -> None:
    docs = ingest(["embedded:prose"], "general", store=Store(tmp_path))
    facts = docs.facts["embedded"]["embedded:prose"]
    assert facts["missing"] == ["no_such_package"] and "no_such_package missing" in facts["versions"]
    assert "jinja2 3." in facts["versions"] and f"python {sys.version.split()[0]}" in facts["versions"]
    assert facts["repeated_characters"] > 0
    assert ingest(["embedded:prose"], "general", store=Store(tmp_path)).path == docs.path
    again = ingest(["embedded:prose"], "general", store=Store(tmp_path / "other"))
    assert (again / "docs.parquet").read_bytes() == (docs / "docs.parquet").read_bytes()


def test_the_default_text_is_large_and_reads_as_prose() -> None:
    found = list(Embedded.named("embedded:prose").pieces())
    text = "".join(one.text for one in found)
    assert len(text) > 5_000_000 and ">>> " not in text[:200_000]
    words = text.split()
    assert sum(word.strip(".,()").isalpha() for word in words) > 0.8 * len(words)
    assert sum("\n" not in paragraph for paragraph in text.split("\n\n")) > 0.5 * text.count("\n\n")


def test_embedded_code_is_the_library_without_tests_and_docstrings(tmp_path: Path) -> None:
    docs = ingest(["embedded:code"], "code", store=Store(tmp_path))
    table = pq.read_table(docs / "docs.parquet").to_pylist()
    named = {row["parents"][0]: row["text"] for row in table if not row["dropped"]}
    assert {"argparse.py", "json/decoder.py", "asyncio/queues.py"} <= named.keys()
    assert not any(part in ("test", "tests", "idle_test") for name in named for part in name.split("/"))
    assert not any(name.startswith(("site-packages", "pydoc_data", "_sysconfigdata")) for name in named)
    assert "# " in named["argparse.py"] and not documented(ast.parse(named["argparse.py"]))
    assert sum(map(len, named.values())) > 4_000_000
    docs.ledger.check()
    assert json.loads(json.dumps(docs.facts)) == docs.facts


@pytest.mark.parametrize("name", ["embedded:prose", "embedded:code"])
def test_survey_of_embedded_text_is_quick_and_near(name: str) -> None:
    look = survey([name], budget_seconds=30)
    assert 0 < look.share_seen < 0.5 and not look.exact and len(look.docs) > 30
    true = sum(one.num_bytes for one in Embedded.named(name).pieces() if not one.dropped)
    assert look.text_total == pytest.approx(true, rel=0.35)


def test_a_misspelt_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        ingest(["embedded:pros"], "general", store=Store(tmp_path))
    for word in ('no embedded text is called "embedded:pros"', "embedded:prose-full", 'did you mean "embedded:prose"?'):
        assert word in str(error.value)
