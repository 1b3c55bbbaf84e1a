"""The embedded text: prose, code, dialogues from docstrings, the same on every machine with the same versions."""

from __future__ import annotations

import ast
import fractions
import functools
import inspect
import json
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Store
from graft.core.text.dialogue import Dialogue
from graft.data.curate import curate
from graft.data.estimate_sizes import survey
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.embedded import text as embedded
from graft.embedded.docstrings import paragraphs, told
from graft.embedded.questions import DocstringQuestion, asked_of, pairs_of
from graft.embedded.text import LONGEST, SHORTEST, Embedded, without_docstrings
from graft.readers.file_record import FileRecord

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


@pytest.fixture(scope="module")
def whole() -> Callable[[str], list[FileRecord]]:
    """The pieces of an embedded text, each of which is read once."""
    return functools.cache(lambda name: list(Embedded.named(name).pieces()))


def test_the_default_text_is_large_and_reads_as_prose(whole) -> None:
    found = whole("embedded:prose")
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


@pytest.mark.parametrize(
    ("name", "budget"),
    [("embedded:prose", 2_000_000), ("embedded:code", 2_000_000), ("embedded:questions", 400_000)],
)
def test_survey_of_embedded_text_is_quick_and_near(whole, name: str, budget: int) -> None:
    look = survey([name], budget_seconds=30, budget_bytes=budget)
    assert 0 < look.share_seen < 0.5 and not look.exact and len(look.docs) > 30
    true = sum(one.num_bytes for one in whole(name) if not one.dropped)
    assert look.text_total == pytest.approx(true, rel=0.35)


def test_a_misspelt_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        ingest(["embedded:pros"], "general", store=Store(tmp_path))
    for word in ('no embedded text is called "embedded:pros"', "embedded:prose-full", 'did you mean "embedded:prose"?'):
        assert word in str(error.value)


MODULE = b'''"""The module."""
def plain(a):
    """Give back what  goes in,
    as it was.

    More about it.
    """
def short(): "Too few words."
def silent(): pass
def _private():
    """Nobody asks about such a function here."""
def items():
    """- a list of things, and not a sentence"""
def coded():
    """x[1] += {2: 3} ** 4; y = f(z)[5] / 6 != 7"""
class Pot:
    """Holds a plant, and some earth, and water."""
    class Lid:
        """What is put on top of it in winter."""
    async def water(self):
        """Pour, and :meth:`wait` until it is ``wet``."""
        def inner():
            """A function that only its owner can know."""
class _Hidden:
    def seen(self):
        """Its class is hidden, so it is hidden too."""
if True:
    def perhaps():
        """It may or may not be there, who knows."""
'''


def test_questions_are_asked_about_what_is_public_and_says_what_it_is_for() -> None:
    found = [(one.question, one.answer) for one in asked_of(MODULE, "garden.shed")]
    assert found == [
        ("What does `garden.shed.plain` do?", "Give back what goes in, as it was."),
        ("What is `garden.shed.Pot`?", "Holds a plant, and some earth, and water."),
        ("What is `garden.shed.Pot.Lid`?", "What is put on top of it in winter."),
        ("What does `garden.shed.Pot.water` do?", "Pour, and wait until it is wet."),
    ]
    with pytest.raises(SyntaxError):
        list(asked_of(b"print 1", "old"))


def test_of_two_that_are_alike_one_is_asked_about_and_the_other_gives_the_wrong_answer() -> None:
    def one(name: str, *, is_class: bool = False) -> DocstringQuestion:
        return DocstringQuestion(name, is_class, f"{name}?", f"{name}!")

    asked = [one("a"), one("A", is_class=True), one("b"), one("c"), one("B", is_class=True), one("d"), one("e")]
    found = [(right.question, right.answer, wrong) for right, wrong in pairs_of(asked)]
    assert found == [("a?", "a!", "b!"), ("d?", "d!", "c!"), ("A?", "A!", "B!")]


@pytest.fixture(scope="module")
def spoken(whole) -> dict[str, list[tuple[str, Dialogue]]]:
    """(parent, dialogue) of the embedded dialogues, by name."""
    found: dict[str, list[tuple[str, Dialogue]]] = {}
    for name in ("embedded:questions", "embedded:pairs"):
        pieces = [one for one in whole(name) if not one.dropped]
        dialogues = [(one.parent, Dialogue.noted(one.text, one.notes)) for one in pieces]
        found[name] = [(parent, dialogue) for parent, dialogue in dialogues if dialogue is not None]
        assert len(found[name]) == len(pieces), "all of them are dialogues"
    return found


def test_embedded_questions_are_what_the_library_says_of_itself(spoken) -> None:
    """Against the documentation that Python itself finds for the living objects."""
    said = [dialogue.said for _, dialogue in spoken["embedded:questions"]]
    assert len(said) > 3000 and all([role for role, _ in one] == ["user", "assistant"] for one in said)
    questions, answers = zip(*((one[0][1], one[1][1]) for one in said), strict=True)
    assert len(set(questions)) == len(questions) and len(set(answers)) == len(answers)
    assert all(len(answer.split()) >= 5 and "\n" not in answer for answer in answers)
    named = dict(zip(questions, answers, strict=True))
    for asked, thing in (
        ("What does `textwrap.dedent` do?", textwrap.dedent),
        ("What does `json.dumps` do?", json.dumps),
        ("What is `fractions.Fraction`?", fractions.Fraction),
    ):
        first = (inspect.getdoc(thing) or "").split("\n\n")[0]
        assert named[asked] == " ".join(first.replace("`", "").split())


def test_embedded_pairs_give_no_answer_twice(spoken) -> None:
    answers = {dialogue.text.partition("\n")[2]: parent for parent, dialogue in spoken["embedded:questions"]}
    pairs = spoken["embedded:pairs"]
    assert len(pairs) > 1500
    given = [one for _, dialogue in pairs for one in (dialogue.said[-1][1], dialogue.rejected)]
    assert len(set(given)) == len(given) and set(given) <= answers.keys()
    for parent, dialogue in pairs:
        assert answers[dialogue.said[-1][1]] == parent, "the right answer is that of what is asked about"
        assert answers[dialogue.rejected].partition("#")[0] == parent.partition("#")[0], "both are of one module"


def test_embedded_dialogues_go_the_way_of_dialogues_in_files(tmp_path: Path, monkeypatch, world) -> None:
    """Read, curated and stored with weights as rows of a file are; the same rows in a file give the same tokens."""
    some = [(name, path) for name, path in embedded._standard_library() if name in MODULES]
    monkeypatch.setattr(embedded, "_standard_library", lambda: some)
    store = Store(tmp_path / "store")
    for name, settings in (
        ("embedded:questions", Tokenize(count="answers")),
        ("embedded:pairs", Tokenize(pairs=True)),
    ):
        found = [Dialogue.noted(one.text, one.notes) for one in Embedded.named(name).pieces()]
        rows = [
            {"prompt": one.said[0][1], "completion": one.said[1][1]}
            | ({"chosen": one.said[1][1], "rejected": one.rejected} if one.rejected else {})
            for one in found
            if one
        ]
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = []
        for path in (name, str(file)):
            docs = ingest([path], "domain", store=store)
            assert docs.facts["dialogues"] == len(rows) > 30
            assert docs.facts["pairs"] == (len(rows) if "pairs" in name else 0)
            tokens = tokenize(curate({"domain": docs}, store=store), world.base, settings, store=store)
            made.append((tokens.facts["counted"], (tokens / "domain-00000.bin").read_bytes()))
        assert made[0] == made[1] and 0 < made[0][0]["domain"]["counted"] < made[0][0]["domain"]["tokens"]


def test_what_is_said_twice_in_the_library_is_asked_once(tmp_path: Path, monkeypatch) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_bytes(MODULE)
    (tmp_path / "old.py").write_text("print 1")
    monkeypatch.setattr(embedded, "_standard_library", lambda: embedded._sources(tmp_path, tmp_path))
    text = Embedded.named("embedded:questions")
    found = [(one.parent, one.dropped) for one in text.pieces()]
    assert found[0] == ("old.py", "dropped: not python") and len(found) == 5 and text.facts["repeated_answers"] == 4
    names = ("plain", "Pot", "Pot.Lid", "Pot.water")
    assert [parent for parent, _ in found[1:]] == [f"one.py#{name}" for name in names]
