"""Files of anybody: tables, saved laws, suites and recipes that are damaged, endless, nested or no files at all.

Each ends in an error in words (exit code 2): no traceback, no waiting, and no number that nobody wrote.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command import call
from graft.core.config.errors import UsageError, nearest, shortened
from graft.core.config.recipe import read_recipe
from graft.core.config.settings import whole_number
from graft.core.config.strict_json import parse_json
from graft.core.config.yaml_bounds import ALIASES, DEEPEST, LONGEST, NODES
from graft.evaluation.benchmarks.answer_key import options_of
from graft.evaluation.benchmarks.question import question_of
from graft.evaluation.benchmarks.suite import Choosing, SuiteFile, read_tasks
from graft.scaling.queries.words import open_law
from graft.scaling.tables.table import number_of

ROWS = [
    {"size": 1e9, "tokens": tokens, "ratio": ratio, "loss": 2.0 + 0.3 * (1 - ratio) + 1e9 / tokens}
    for ratio in (0.1, 0.3, 0.5, 0.9)
    for tokens in (1e9, 2e9, 4e9)
]
DIGITS = int("9" * 400)


def refused(*words: object, **environment: str) -> str:
    """What is said of a request that cannot be carried out."""
    done = call(*words, **environment)
    assert done.returncode == 2, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    assert "Traceback" not in done.stderr and len(done.stderr) < 20_000
    return done.stderr


def nested(depth: int, sign: str = "[]") -> str:
    return sign[0] * depth + sign[1] * depth


def table(path: Path, **cells: Any) -> Path:
    """The table as JSON, with some cells of its second row replaced."""
    path.write_text(json.dumps([{**row, **(cells if number == 1 else {})} for number, row in enumerate(ROWS)]))
    return path


CELLS: dict[str, Any] = {
    "400 digits": DIGITS, "minus 400 digits": -DIGITS, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf,
    "text of digits": "9" * 400, "text of many digits": "9" * 10_000, "1e999": "1e999", "nan": "nan",
    "huge suffix": "1e308B",
    "a list": [1.0], "an object": {"a": 1}, "true": True, "null": None, "long": "x" * 3_000_000, "zero": 0,
    "a null byte": "\0",
}  # fmt: skip


@pytest.mark.parametrize("column", ["loss", "size", "tokens", "ratio"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_is_no_number_it_could_be_is_refused_by_its_row(tmp_path, column, cell):
    if (column, cell) == ("ratio", "zero"):
        return  # a share may be 0
    said = refused("law", "fit", table(tmp_path / "runs.json", **{column: CELLS[cell]}))
    assert "row 2" in said and f'"{column}"' in said


@pytest.mark.parametrize("column", ["loss", "tokens", "ratio"])
@pytest.mark.parametrize("cell", [DIGITS, math.nan, "9" * 10_000, [1.0], "x" * 100_000])
def test_such_cells_are_refused_wherever_a_table_is_read(tmp_path, fitted, column, cell):
    bad = table(tmp_path / "runs.json", **{column: cell})
    good = table(tmp_path / "good.json")
    assert "row 2" in refused("law", "fit", good, "--test", bad)
    if column != "loss":
        assert "row 2" in refused("law", "predict", fitted, "--table", bad)


WHOLE: dict[str, Any] = {
    "empty": b"", "white": b"  \n", "cut off": b'[{"loss": 2.1', "nested": nested(100_000).encode(),
    "nested objects": ('{"a":' * 5000 + "1" + "}" * 5000).encode(),
    "nested in a cell": f'[{{"loss": {nested(900)}}}]'.encode(),
    "just too deep": f'[{{"loss": {nested(150)}}}]'.encode(), "5000 digits": b'[{"loss": ' + b"9" * 5000 + b"}]",
    "latin": '[{"größe": 1}]'.encode("latin-1"), "zeros": bytes(5000), "a number": b"7", "text": b'"loss"',
    "null": b"null",
    "no rows": b"[]", "rows of numbers": b"[1, 2]", "twice": b'[{"loss": 1, "loss": 2}]', "an object": b'{"loss": 3}',
    "uneven": b'{"loss": [1, 2], "size": [1]}', "half a pair": b'[{"loss": "\\ud800"}]',
}  # fmt: skip


@pytest.mark.parametrize("name", ["runs.json", "runs.jsonl", "runs.csv", "runs.tsv", "runs.parquet", "runs.json.gz"])
@pytest.mark.parametrize("damage", WHOLE)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, damage):
    (tmp_path / name).write_bytes(WHOLE[damage])
    assert name in refused("law", "fit", tmp_path / name)


@pytest.mark.parametrize("name", ["runs.json", "runs.csv", "runs.parquet", "runs.csv.gz", "runs.csv.zst"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "missing", "link to itself", "a long name", "a device"])
def test_what_is_no_file_is_refused_everywhere(tmp_path, fitted, name, kind):
    path = tmp_path / (name if kind != "a long name" else "x" * 300 + name)
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "link to itself":
        path.symlink_to(path.name)
    if kind == "a device":
        path.symlink_to("/dev/zero")
    good = table(tmp_path / "good.json")
    store = ("--store", tmp_path / "store")
    for words in (
        ("law", "fit", path), ("law", "fit", good, "--join", path), ("law", "fit", good, "--test", path),
        ("law", "predict", path), ("law", "predict", fitted, "--table", path), ("law", "solve", path, "--flops", "1"),
        ("law", "solve", "--measured", path, "--forget", "3%"), ("law", "next", path, "--at", "size=1"),
        ("run", path, *store), ("plan", path, *store), ("eval", "embedded", "--suite", path, *store),
    ):  # fmt: skip
        assert path.name in refused(*words, cwd=tmp_path).replace("\n", ""), words


@pytest.mark.parametrize("weights", [[], ["--weights", "w*"]])
def test_very_wide_tables(tmp_path, weights):
    """20,000 columns: read as any other, and errors that list them stay short."""
    names = [f"w{k}" for k in range(20_000)]
    line = ",".join(["0.00005"] * len(names))
    lines = [",".join(["size", "tokens", "ratio", "loss", *names])]
    lines += [f"{r['size']},{r['tokens']},{r['ratio']},{r['loss']},{line}" for r in ROWS]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    assert call("law", "fit", tmp_path / "wide.csv", "--set", "fitting.draws=0").returncode == 0
    said = refused("law", "fit", tmp_path / "wide.csv", "--loss", "w99999x")
    assert "characters left out" in said
    if weights:
        assert "repeats row 1" in refused("law", "fit", tmp_path / "wide.csv", "--form", "regmix", *weights)
    (tmp_path / "wider.csv").write_text(",".join(f"c{k}" for k in range(60_000)) + "\n" + ",".join(["1"] * 60_000))
    assert "60,000 columns" in refused("law", "fit", tmp_path / "wider.csv")


def test_very_long_cells(tmp_path):
    csv.field_size_limit(1 << 24)  # as reading text leaves it, which is of the whole process
    lines = ["size,tokens,ratio,loss,note", *(f"1e9,1e9,0.{k},2.{k},{'x' * 500_000}" for k in range(1, 5))]
    (tmp_path / "long.csv").write_text("\n".join(lines))
    assert "long.csv" in refused("law", "fit", tmp_path / "long.csv")
    rows = [{**row, "note": "x" * 500_000} for row in ROWS]
    (tmp_path / "long.json").write_text(json.dumps(rows))
    assert "note" in refused("law", "fit", tmp_path / "long.json", "--where", f"note={'x' * 499_999}y")


@pytest.mark.parametrize("damage", ["cut", "bits", "decimals", "dates", "bytes", "far dates"])
def test_parquet_that_is_damaged_or_holds_no_numbers(tmp_path, damage):
    columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if damage == "decimals":
        columns["loss"] = pa.array([None] * len(ROWS), pa.decimal128(20, 2))
    if damage == "dates":
        columns["loss"] = pa.array([0] * len(ROWS), pa.timestamp("us"))
    if damage == "far dates":
        columns["loss"] = pa.array([2**62] * len(ROWS), pa.timestamp("us"))
    if damage == "bytes":
        columns["loss"] = pa.array([b"\xff"] * len(ROWS), pa.binary())
    path = tmp_path / "runs.parquet"
    pq.write_table(pa.table(columns), path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2] + content[-8:])
    if damage == "bits":
        draw = np.random.default_rng(0)
        for _ in range(60):
            broken = bytearray(content)
            for place in draw.integers(4, len(content) - 8, 30):
                broken[place] ^= int(draw.integers(1, 255))
            path.write_bytes(broken)
            done = call("law", "fit", path, "--set", "fitting.draws=0", "--set", "fitting.starts=4")
            assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr, done.stderr
        return
    refused("law", "fit", path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("laws")
    path = folder / "law.json"
    done = call("law", "fit", table(folder / "runs.json"), "--json", path, "--set", "fitting.draws=20")
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


@pytest.fixture
def fitted(saved, tmp_path) -> Path:
    path = tmp_path / "a law.json"
    path.write_text(json.dumps(saved))
    return path


READ = ("format", "form", "settings", "ratio_of", "ranges", "noise", "also", "base_loss", "fitted")
OTHERS: list[Any] = [None, True, "x", "", [], {}, [[]], {"a": None}, -1e300, DIGITS, math.nan, math.inf, [1], ["1"]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the part of a law that is read; of long lists the first two and the last."""
    if path:
        yield path
    keys: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        keys = sorted({0, 1, len(value) - 1} & set(range(len(value))))
    for key in keys:
        if path or key in READ:
            yield from places(value[key], (*path, key))


def changed(saved: dict[str, Any], path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    whole = copy.deepcopy(saved)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if change is DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = change
    return whole


DELETED = object()
FREE = {("ranges", "values"), ("fitted", "warnings"), ("fitted", "facts")}  # may hold fewer


def test_a_saved_law_that_lacks_anything_is_refused(saved, tmp_path):
    """Every field and element taken out in turn."""
    optional = 0
    for path in places(saved):
        whole = changed(saved, path, DELETED)
        (tmp_path / "law.json").write_text(json.dumps(whole))
        done = call("law", "predict", tmp_path / "law.json", "--size", "1e9", "--tokens", "2e9", "--ratio", "0.3")
        assert "Traceback" not in done.stderr, (path, done.stderr)
        if done.returncode == 0:  # a draw less, a setting at its default, a value less of a column
            optional += 1
            assert path[:2] == ("fitted", "draws") or path[0] == "settings" or path[:2] in FREE, path
            assert len(path) != 4 or path[:2] != ("fitted", "draws"), path
        else:
            assert done.returncode == 2 and "law.json" in done.stderr, (path, done.stderr)
    assert optional < 60


def test_a_saved_law_with_anything_of_a_wrong_type_is_refused(saved, tmp_path):
    """Every place in turn holds what is of another type than it is, or no number that it can be."""
    (tmp_path / "law.json").write_text(json.dumps(saved))
    assert open_law(tmp_path / "law.json")[0].form == "d_cpt"
    for path in places(saved):
        value: Any = saved
        for key in path:
            value = value[key]
        for other in OTHERS:
            if path[0] == "settings" and len(path) > 1:
                continue  # settings are built, and refused, as those of a recipe are
            if type(other) is type(value) and not (isinstance(other, float) and not math.isfinite(other)):
                continue  # another text, or a list of nothing, where that may be
            if other is None and (path[-1] in ("low", "high", "objective") or path[1:-1] == ("facts",)):
                continue
            (tmp_path / "law.json").write_text(json.dumps(changed(saved, path, other)))
            with pytest.raises(UsageError, match=r"law\.json"):
                open_law(tmp_path / "law.json")
                pytest.fail(f"{path} may be {str(other)[:30]}")


@pytest.mark.parametrize("text", [nested(100_000), "[1]", "7", '{"format": 1', '{"format": 1}', '{"a": NaN}', "", "\0"])
def test_a_file_that_is_no_law_is_refused(tmp_path, text):
    (tmp_path / "law.json").write_text(text)
    for words in (("predict",), ("solve", "--flops", "1e20"), ("next", "--at", "size=1")):
        assert "law" in refused("law", words[0], tmp_path / "law.json", *words[1:])
    (tmp_path / "law.json").write_bytes(b"\xff\xfe\x00{")
    assert "law.json" in refused("law", "predict", tmp_path / "law.json")


@pytest.mark.parametrize(
    "words",
    [["--size", "nan"], ["--size", "inf"], ["--size", "9" * 400], ["--tokens", "1e308B"], ["--ratio", "nan"],
     ["--at", "size=nan"], ["--at", "size=1e999"], ["--size", "1/1e400"], ["--size", "x" * 100_000]],
)  # fmt: skip
def test_numbers_on_the_command_line_that_nobody_can_mean(fitted, words):
    refused("law", "predict", fitted, "--tokens", "1e9", "--ratio", "0.3", *words)


def test_a_budget_that_is_no_number(fitted):
    for share in ("nan%", "nan", "inf%", "1e999%"):
        assert "--forget" in refused("law", "solve", fitted, "--forget", share, "--against", fitted)


ROW = {"question": "which?", "choices": ["a", "b", "c"], "answer": 1}
QUESTIONS: dict[str, dict[str, Any]] = {
    "answer of 400 digits": {"answer": DIGITS}, "answer NaN": {"answer": math.nan},
    "answer Infinity": {"answer": math.inf},
    "answer true": {"answer": True}, "answer nested": {"answer": [[1]]}, "answer none": {"answer": None},
    "answer 3": {"answer": 3},
    "answer -1": {"answer": -1}, "answer half": {"answer": 0.5}, "answer far": {"answer": 1e300},
    "answer many": {"answer": "9" * 10_000},
    "choices null": {"choices": None}, "choices one": {"choices": ["a"]}, "choices text": {"choices": "abc"},
    "choices nested": {"choices": [["a"], ["b"]]},
    "choices NaN": {"choices": [math.nan, 1.0]}, "choices objects": {"choices": {"text": 3}},
    "choices python keys": {"choices": "{1: 'a', 2: 'b'}"},
    "choices unhashable": {"choices": "{[1]: 2}"}, "choices bomb": {"choices": "[" * 200_000},
    "choices long": {"choices": "[" + "'x'," * 400_000 + "]"},
    "question number": {"question": 3}, "question null": {"question": None}, "question empty": {"question": " "},
    "question list": {"question": ["a"]},
    "question object": {"question": {"stem": 3}}, "unknown": {"other": 1, "more" * 20_000: 2},
}  # fmt: skip


@pytest.mark.parametrize("change", QUESTIONS)
def test_a_row_that_is_no_question_is_refused_by_its_place(tmp_path, change):
    rows = [ROW, {**ROW, **QUESTIONS[change]}]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=r"suite\.jsonl#2"):
        read_tasks(SuiteFile(tmp_path / "suite.jsonl", "suite"), Choosing())


SUITES: dict[str, bytes] = {
    "empty": b"", "nested": nested(100_000).encode(), "nested row": b'{"question": ' + nested(900).encode() + b"}",
    "5000 digits": b'{"question": "a", "choices": ["a", "b"], "answer": ' + b"9" * 5000 + b"}",
    "NaN": b'{"answer": NaN}',
    "latin": '{"question": "größe"}'.encode("latin-1"), "zeros": bytes(5000), "cut": b'{"question": "a", "cho',
    "list": b"[[1]]", "numbers": b"1\n2\n",
    "an array cut off": b'[{"question": "a"}, ', "half a pair": b'{"question": "\\ud800", "choices": [1], "answer": 0}',
}  # fmt: skip


@pytest.mark.parametrize("name", ["s.jsonl", "s.json", "s.csv", "s.tsv", "s.parquet", "s.jsonl.gz", "s.jsonl.zst"])
@pytest.mark.parametrize("damage", SUITES)
def test_a_damaged_suite_is_refused(tmp_path, name, damage):
    (tmp_path / name).write_bytes(SUITES[damage])
    assert name in refused("eval", "embedded", "--suite", tmp_path / name, "--store", tmp_path / "store", cwd=tmp_path)


def test_a_suite_in_a_very_wide_table(tmp_path):
    names = [f"c{k}" for k in range(20_000)]
    (tmp_path / "s.csv").write_text(",".join(["question", "answer", *names]) + "\n" + ",".join(["1"] * 20_002) + "\n")
    assert "s.csv" in refused("eval", "embedded", "--suite", tmp_path / "s.csv", "--store", tmp_path / "store")


def test_aliases_are_texts_and_not_the_letters_of_one():
    row = {"question": "where?", "context": "here", "answer": "there"}
    assert question_of({**row, "aliases": ["yonder"]}, "s#1", 1, fields=FIELDS).accepted == ("there", "yonder")
    for aliases in ("yonder", 3, {"a": 1}, None):
        with pytest.raises(UsageError, match="aliases is"):
            question_of({**row, "aliases": aliases}, "s#1", 1, fields=FIELDS)


FIELDS = (("question", "question"), ("context", "context"), ("answer", "answer"), ("aliases", "aliases"))


def test_options_in_the_text_of_python():
    assert options_of("['a', 'b']") is not None and options_of("{1: 'a'}") is None and options_of("{[1]: 2}") is None


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
)
RECIPES = {
    "a bomb": BOMB + "adapt: *a11",
    "a bomb of mappings": BOMB.replace("[", "{k: [").replace("]", "]}") + "adapt: *a11",
    "deep": "adapt: " + "[" * 100_000,
    "deep and whole": "adapt: " + nested(5000),
    "deep mappings": "adapt: " + "{a: " * 3000 + "1" + "}" * 3000,
    "deep blocks": "".join(" " * k + "a:\n" for k in range(2000)),
    "deep lists": "- " * 5000 + "1",
    "many values": "adapt: [" + "1, " * (NODES + 10) + "]",
    "many aliases": "a: &a 1\nadapt: [" + "*a, " * (ALIASES + 10) + "]",
    "long": "adapt:\n  base: " + "x" * (LONGEST + 1),
    "itself": "adapt: &a [*a]",
    "5000 digits": "adapt: {seed: " + "9" * 5000 + "}",
    "a tag of nothing": "adapt: {seed: !!int ''}",
    "a tag of a date": "adapt: {seed: !!timestamp now}",
    "a tag of python": "adapt: !!python/object/apply:os.system [true]",
    "a tag of bytes": "adapt: {seed: !!binary 'ä'}",
    "a tag of truth": "adapt: {seed: !!bool maybe}",
    "infinite": "adapt: {domain: x, replay: .inf}",
    "not a number": "adapt: {domain: x, replay: .nan}",
    "a date of no calendar": "adapt: {domain: 2020-99-99}",
    "null": "\0",
    "empty": "",
    "no mapping": "7",
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_that_would_never_end_or_is_none_is_refused(tmp_path, recipe):
    (tmp_path / "recipe.yaml").write_text(RECIPES[recipe])
    for verb in ("run", "plan"):
        assert "recipe.yaml" in refused(verb, tmp_path / "recipe.yaml", "--store", tmp_path / "store", cwd=tmp_path)


@pytest.mark.parametrize("value", [nested(5000), "&a [*a]", "!!int ''", "9" * 5000, "x" * (LONGEST + 1)])
def test_changes_are_held_to_the_same(tmp_path, value):
    (tmp_path / "recipe.yaml").write_text("adapt: {domain: x}")
    said = refused("run", tmp_path / "recipe.yaml", "--set", f"seed={value}", "--store", tmp_path / "store")
    assert "--set" in said


def test_aliases_and_some_depth_are_welcome(tmp_path):
    text = "adapt:\n  domain: &texts [a, b, c]\n  general: *texts\n  train: {tuning: {lora: {rank: 4}}}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    assert read_recipe(tmp_path / "recipe.yaml").general == ("a", "b", "c")
    assert DEEPEST >= 20


def test_parts_of_errors():
    assert number_of(DIGITS) == math.inf and number_of(-DIGITS) == -math.inf and number_of([1]) is None
    assert whole_number("1e308B") is None
    assert nearest("x" * 10**6, ["y" * 10**6]) == "" and nearest("size", ["sizes"]) == 'did you mean "sizes"?'
    assert len(shortened("x" * 10**6)) < 4100 and shortened("short") == "short"
    assert parse_json(nested(100)) and parse_json('{"a": NaN}', finite=False)
    with pytest.raises(ValueError, match="nested"):
        parse_json(nested(101))
