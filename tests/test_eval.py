"""Suites of questions: what is read, what is refused, how a model answers, and how two models' answers compare."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
import zstandard

from conftest import OTHER, WORDS, World
from graft.cli.gate import check_gate, reach, read_conditions
from graft.core.config.errors import FaultError, GateClosed, UsageError
from graft.core.models.base_model import Base
from graft.core.records.benchmark_answers import FILE, read_answers
from graft.core.stats.accuracy_tests import Answered, holm, mcnemar, over_items, over_tasks, wilson
from graft.core.store.artifact import Artifact, Store
from graft.evaluation.benchmarks.question import FORMS, BadQuestion, question_of
from graft.evaluation.benchmarks.run_benchmark import answer
from graft.evaluation.benchmarks.settings import Answer
from graft.evaluation.benchmarks.suite import Choosing, read_tasks, suite_files
from graft.jobs.eval import Eval
from graft.report.benchmark.items import Graded, items_of
from graft.report.benchmark.stage import Grade, grade, number_keys, summarize
from graft.report.benchmark.verdict import named

CHOICES = [
    {"query": "the court of law shall", "choices": ["hear a case", "walked by", "sea in"], "gold": 0},
    {"query": "children played with sand: ", "choices": ["every claim", "near boats.", "judge"], "gold": 1},
    {"query": "a case and", "choices": ["then the judge may rule", "birds"], "gold": 0, "id": "third"},
    {"query": "we walked", "choices": ["by the sea", "by the sea in summer", "by", "claim"], "gold": 1},
]
CONTEXTS = [
    {"context_options": ["the judge", "the sea"], "continuation": "may rule", "gold": 0},
    {"context_options": ["birds sang", "the court"], "continuation": "above us and", "gold": 1},
]
CONTINUATION = [
    {"context": "the court of law", "continuation": "shall hear"},
    {"context": "boats " * 70 + "near", "continuation": "boats"},
    {"context": "it is made", "continuation": " before it"},
]
LETTERED = [
    {"question": f"which one is it, {n}?", "choices": ["law", "sea", "sand", "case"], "answer": n % 4,
     "subject": subject, "split": split, "id": f"{subject}-{n}"}
    for subject in ("high_law", "sea") for split, count in (("dev", 2), ("test", 3)) for n in range(count)
]  # fmt: skip
WRITTEN = [
    {"context": "who may rule on every claim? the", "answer": "judge", "aliases": ["A Judge!"]},
    {"context": "what sang above us?", "answer": "birds"},
]
FILES = {
    "choices": CHOICES,
    "contexts": CONTEXTS,
    "continuation": CONTINUATION,
    "lettered": LETTERED,
    "written": WRITTEN,
}


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    return pq.read_table(artifact / FILE).to_pylist()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every form."""
    folder = tmp_path_factory.mktemp("suite")
    for name, rows in FILES.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def other(world: World, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny base with its weights moved, so that it answers otherwise."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("other") / "moved"
    shutil.copytree(world.base.folder, folder)
    path = folder / "model.safetensors"
    draw = torch.Generator().manual_seed(5)
    moved = {name: one + 0.05 * torch.randn(one.shape, generator=draw) for name, one in load_file(path).items()}
    save_file(moved, path, metadata={"format": "pt"})
    return Base.find(str(folder))


# --- reading ---------------------------------------------------------------------------------------------------------


def read(tmp_path: Path, rows: Sequence[Any], *, name: str = "t.jsonl", **choosing: Any) -> list[Any]:
    file = suite_files(write_rows(tmp_path / name, rows))[0][0]
    return read_tasks(file, Choosing(**choosing))


def test_every_form_is_read(suite: Path) -> None:
    files, others = suite_files(suite)
    tasks = {task.name: task for file in files for task in read_tasks(file, Choosing())}
    assert not others
    assert set(FORMS) == {task.form for task in tasks.values()}
    assert list(tasks) == ["choices", "contexts", "continuation", "lettered/high_law", "lettered/sea", "written"]
    one = tasks["choices"].questions[2]
    assert (one.id, one.gold, one.chance, one.place) == ("third", 0, 1 / 2, "choices.jsonl#3")
    assert one.contexts == ("a case and",) * 2 and one.endings == ("then the judge may rule", "birds")
    schema = tasks["contexts"].questions[1]
    assert schema.contexts == ("birds sang", "the court") and schema.endings == ("above us and",) * 2
    assert tasks["continuation"].questions[0].chance == 0
    assert tasks["written"].questions[0].accepted == ("judge", "A Judge!")
    assert tasks["lettered/sea"].left_out == {"of another split than test": 2}


def test_the_prompt_of_mmlu_is_that_of_the_harness(tmp_path: Path) -> None:
    """Written out by hand from the description and template of lm-eval's tasks/mmlu/default."""
    [task] = read(tmp_path, [one for one in LETTERED if one["subject"] == "high_law"], shots=1)
    asked = task.questions[0].after(task.examples, " ", "\n\n")
    choices = "A. law\nB. sea\nC. sand\nD. case\nAnswer:"
    assert asked.contexts[0] == (
        "The following are multiple choice questions (with answers) about high law.\n\n"
        f"which one is it, 0?\n{choices} A\n\nwhich one is it, 0?\n{choices}"
    )
    assert asked.endings == (" A", " B", " C", " D")


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".ndjson", ".json"])
def test_files_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    plain, packed = read(tmp_path / "a", CHOICES), read(tmp_path / "b", CHOICES, name=f"t{suffix}")
    assert [one.contexts for one in plain[0].questions] == [one.contexts for one in packed[0].questions]
    assert packed[0].name == "t"


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    rows = [{"query": "a\u2028b\x85c", "choices": ["x", "y"], "gold": 0}]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(rows[0], ensure_ascii=False) + "\n", encoding="utf-8")
    [task] = read_tasks(suite_files(path)[0][0], Choosing())
    assert task.questions[0].contexts[0] == "a\u2028b\x85c"


ROW = CHOICES[0]
BAD: list[tuple[Any, str, str, str]] = [
    (ROW | {"gold": 3}, "gold is 3", "0 to 2", "did you mean 2?"),
    (ROW | {"gold": -1}, "gold is -1", "counted from 0: 0 to 2", ""),
    (ROW | {"gold": True}, "gold is True", "0 to 2", ""),
    (ROW | {"gold": "E"}, "gold is 'E'", "0 to 2", ""),
    (ROW | {"gold": "by the sea"}, "gold is 'by the sea'", "or its text", ""),
    (ROW | {"gold": None}, "gold is nothing", "0 to 2", ""),
    (ROW | {"choices": ["one"]}, "choices has 1 entries", "2 or more", ""),
    (ROW | {"choices": []}, "choices has 0 entries", "2 or more", ""),
    (ROW | {"choices": "ab"}, "choices is 'ab'", "a list of 2 or more texts", ""),
    (ROW | {"choices": ["a", ""]}, "choices[1] is ''", "not empty", ""),
    (ROW | {"choices": ["a", True]}, "choices[1] is True", "not empty", ""),
    (ROW | {"query": 5}, "query is 5", "text", ""),
    (ROW | {"qestion": "x"}, 'unknown field "qestion"', "query, choices, gold", "answer.ignore=[qestion]"),
    (ROW | {"categroy": "x"}, 'unknown field "categroy"', "category", 'did you mean "category"?'),
    (
        {"query": "x", "choises": ["a", "b"], "gold": 0},
        "no form of question has the fields query, choises, gold; nearest is query + choices + gold, without choices",
        "context_options + continuation + gold",
        '"choises": did you mean "choices"?',
    ),
    ({"wxyz": "x"}, "no form of question has the fields wxyz", "context + continuation", "rename"),
    ({}, "an empty row", "query + choices + gold", ""),
    ([1], "this row is [1]", "an object", ""),
    ({"context": "x", "continuation": " "}, "continuation is ' '", "not empty", ""),
    ({"context": "x", "answer": "y", "aliases": "z"}, "aliases is 'z'", "a list", ""),
    ({"question": "x", "choices": list("abcdefghijklmnopqrstuvwxyzä"), "answer": 0}, "27 entries", "2 to 26", ""),
]


@pytest.mark.parametrize(("row", "what", "allowed", "do"), BAD, ids=lambda value: str(value)[:30])
def test_a_row_that_is_wrong_is_named(tmp_path: Path, row: Any, what: str, allowed: str, do: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, [CHOICES[1], row])
    error = caught.value
    assert what in error.what and allowed in error.allowed and do in error.do
    assert error.where == f"{tmp_path / 't.jsonl'}#2"


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"query": ')
    with pytest.raises(UsageError, match="not JSON") as caught:
        read_tasks(suite_files(path)[0][0], Choosing())
    assert caught.value.where.endswith("t.jsonl#1")
    path.write_text("\n\n")
    with pytest.raises(UsageError, match="holds no questions"):
        read_tasks(suite_files(path)[0][0], Choosing())
    whole = write_rows(tmp_path / "cut.jsonl.gz", CHOICES * 200)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UsageError, match="breaks off"):
        read_tasks(suite_files(whole)[0][0], Choosing())
    with pytest.raises(UsageError, match="the form contexts, and the first of its file is choices") as caught:
        read(tmp_path, [CHOICES[0], CONTEXTS[0]])
    assert caught.value.do == "put them into two files"
    with pytest.raises(UsageError, match='no rows of the split "test"') as caught:
        read(tmp_path, [one | {"split": "dev"} for one in CHOICES])
    assert caught.value.do == "--set answer.split=dev"
    with pytest.raises(UsageError, match="too few for 4 examples"):
        read(tmp_path, CHOICES, shots=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no file of questions is in this folder"):
        suite_files(tmp_path / "empty")
    Store(tmp_path / "empty" / "store").make("docs", 1, {}, (), lambda draft: None)
    with pytest.raises(UsageError, match="no file of questions is in this folder"):
        suite_files(tmp_path / "empty")  # what graft made is not read
    (tmp_path / "a.pdf").touch()
    with pytest.raises(UsageError, match="this is no file of questions"):
        suite_files(tmp_path / "a.pdf")


def test_rows_that_nothing_here_asks_are_refused() -> None:
    with pytest.raises(BadQuestion, match="chain of thought"):
        question_of({"context": "a", "chain_of_thought": "b", "answer": "c"}, "p", 1)
    with pytest.raises(BadQuestion, match="programs"):
        question_of({"task_id": 1, "prompt": "a", "test": "b", "entry_point": "c"}, "p", 1)


def test_twins_among_the_choices(tmp_path: Path) -> None:
    rows = [*CHOICES, {"query": "x", "choices": ["a", "b", "a"], "gold": 1}]
    [task] = read(tmp_path, rows)
    assert len(task.questions) == 4 and task.left_out == {"two of its choices are the same": 1}
    assert task.places == {"two of its choices are the same": "t.jsonl#5"}
    assert len(read(tmp_path, rows, repeated="keep")[0].questions) == 5
    with pytest.raises(UsageError, match="choices 0 and 2 are the same: 'a'") as caught:
        read(tmp_path, rows, repeated="refuse")
    assert caught.value.where == "t.jsonl#5" and "answer.repeated" in caught.value.do


def test_a_limit_is_spread_over_the_file(tmp_path: Path) -> None:
    rows = [ROW | {"query": str(n)} for n in range(1000)]
    [task] = read(tmp_path, rows, limit=50)
    numbers = [one.number for one in task.questions]
    assert len(numbers) == 50 and numbers == sorted(numbers) and task.left_out == {"beyond the limit": 950}
    assert np.abs(np.diff(numbers)).max() < 60, "no stretch of the file is left out"
    assert set(numbers) < {one.number for one in read(tmp_path, rows, limit=90)[0].questions}, "a larger limit adds"


def test_examples_are_of_another_split_else_first_rows_else_of_a_file(tmp_path: Path) -> None:
    [first] = read(tmp_path, CHOICES, shots=2)
    assert [one.number for one in first.examples] == [1, 2] and [one.number for one in first.questions] == [3, 4]
    assert first.left_out == {"shown as an example": 2}
    mine = [one for one in LETTERED if one["subject"] == "sea"]
    [split] = read(tmp_path, mine, shots=1)
    assert [one.id for one in split.examples] == ["sea-0"] and len(split.questions) == 3
    given = write_rows(tmp_path / "given.jsonl", CHOICES[2:])
    [apart] = read(tmp_path, CHOICES, shots=2, shots_from=str(given))
    assert len(apart.questions) == 4 and [one.contexts[0] for one in apart.examples] == ["a case and", "we walked"]
    asked = apart.questions[0].after(apart.examples, "_", "|")
    assert (
        asked.contexts[0] == "a case and_then the judge may rule|we walked_by the sea in summer|the court of law shall"
    )
    assert asked.endings == ("_hear a case", "_walked by", "_sea in")
    schema = read(tmp_path, CONTEXTS, shots=1)[0]
    assert schema.questions[0].after(schema.examples, " ", "\n").contexts[0] == "the judge may rule\nbirds sang"


def test_tasks_are_parted_by_a_field(tmp_path: Path) -> None:
    assert [task.name for task in read(tmp_path, LETTERED)] == ["t/high_law", "t/sea"]
    assert [len(task.questions) for task in read(tmp_path, LETTERED, part="")] == [6]
    rows = [one | {"category": "ab"[n % 2]} for n, one in enumerate(CHOICES)]
    assert [task.name for task in read(tmp_path, rows, part="category")] == ["t/a", "t/b"]


# --- the engine ------------------------------------------------------------------------------------------------------


def test_rows_as_tries_hold_every_text() -> None:
    from graft.packing.prefix_tries import batches, lay, rounded

    draw = np.random.default_rng(3)
    texts = [draw.integers(0, 3, draw.integers(1, 30)) for _ in range(300)]
    rows = lay(texts, 1 << 20)
    seen = sorted(number for row in rows for number in row.paths)
    assert seen == list(range(300)), "each text once"
    assert sum(len(row.tokens) for row in rows) < 0.8 * sum(map(len, texts)), "and what they share once"
    for row in rows:
        sees_TT = row.sees(rounded(len(row.tokens)))
        for number, path in row.paths.items():
            assert [row.tokens[place] for place in path] == texts[number].tolist()
            assert [row.depth[place] for place in path] == list(range(len(path)))
            for at, place in enumerate(path):
                assert np.flatnonzero(sees_TT[place]).tolist() == sorted(path[: at + 1].tolist())
    for batch in batches(rows, 512):
        width = rounded(len(batch[0].tokens))
        assert len(batch) == 1 or len(batch) * width <= 512
    alone = lay(texts, 0)
    distinct = {one.tobytes() for one in texts}
    assert sum(len(row.tokens) for row in alone) >= sum(len(np.frombuffer(one, np.int64)) for one in distinct) / 2


@pytest.mark.parametrize("ways", ["tries", "packed"])
def test_endings_are_scored_as_transformers_would(world: World, ways: str) -> None:
    from transformers import AutoModelForCausalLM

    from graft.models.files.weights import open_model
    from graft.models.scoring.continuations import Ending, EndingScorer

    draw = np.random.default_rng(0)
    shots = draw.integers(2, 300, 20)
    stems = [np.concatenate([shots, draw.integers(2, 300, 10)]) for _ in range(6)]
    endings = []
    for number in range(60):
        size = int(draw.integers(1, 6))
        ids = np.concatenate([stems[number % 6][: draw.integers(5, 31)], draw.integers(2, 300, size)])
        endings.append(Ending(ids, size))
    endings += [Ending(np.append(stems[0], n), 1) for n in range(5)]  # one place, several tokens asked of it
    model = open_model(world.base.folder, "fp32", frozen=True)
    scorer = EndingScorer(model, 64, tokens=300)
    if ways == "packed":
        scorer.takes_masks = False
    done: list[int] = []
    found = scorer(endings, done.append)
    plain = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32)
    for one, nats, greedy in zip(endings, found.nats_E, found.greedy_E, strict=True):
        with torch.no_grad():
            log_TV = plain(torch.from_numpy(one.ids)[None]).logits[0].log_softmax(-1)[len(one.ids) - one.size - 1 : -1]
        target = torch.from_numpy(one.ids[-one.size :])
        assert abs(-float(log_TV.gather(1, target[:, None]).sum()) - nats) < 1e-4
        assert bool((log_TV.argmax(-1) == target).all()) == greedy
    assert scorer.takes_masks == (ways == "tries") and sum(done) == 65 and not model.notes


def test_a_model_that_takes_no_mask_reads_texts_one_by_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.models.files.weights import open_model
    from graft.models.scoring import continuations as engine
    from graft.models.scoring.continuations import Ending, EndingScorer

    model = open_model(world.base.folder, "fp32", frozen=True)
    asked = [Ending(np.array([5, 6, n, 7]), 2) for n in range(10, 14)]
    right = EndingScorer(model, 64)(asked)

    def blind(self: Any, width: int) -> np.ndarray:  # as a family that goes its own way with masks would
        return np.tri(width, dtype=bool)

    monkeypatch.setattr(engine.Row, "sees", blind)
    wrong = EndingScorer(model, 64)
    assert np.allclose(wrong(asked).nats_E, right.nats_E, atol=1e-5)
    assert wrong.takes_masks is False and "read one by one" in model.notes[0]


def test_what_is_written_is_what_transformers_writes(world: World) -> None:
    from transformers import AutoModelForCausalLM

    from graft.models.files.weights import open_model
    from graft.models.generation.greedy import write

    draw = np.random.default_rng(1)
    prompts = [draw.integers(2, 300, size) for size in (4, 9, 4, 4, 1)]
    model = open_model(world.base.folder, "fp32", frozen=True)
    plain = AutoModelForCausalLM.from_pretrained(world.base.folder, dtype=torch.float32)

    def expected(prompt: np.ndarray, limit: int) -> list[int]:
        ids = torch.from_numpy(prompt)[None]
        for _ in range(limit):
            ids = torch.cat([ids, plain(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        return ids[0, len(prompt) :].tolist()

    with torch.no_grad():
        whole = [expected(prompt, 8) for prompt in prompts]
    assert write(model, prompts, limit=8, done=lambda ids: False) == whole
    stop = whole[2][3]
    cut = [one[: one.index(stop) + 1] if stop in one else one for one in whole]
    counted: list[int] = []
    assert write(model, prompts, limit=8, done=lambda ids: ids[-1] == stop, watch=counted.append) == cut
    assert sum(counted) == 5


# --- answers ---------------------------------------------------------------------------------------------------------


def test_all_forms_are_answered_and_kept(world: World, suite: Path, tmp_path: Path) -> None:
    found = answer(world.base, [str(suite)], store=Store(tmp_path / "store"))
    rows = rows_of(found)
    assert [row["task"] for row in rows] == ["choices"] * 4 + ["contexts"] * 2 + ["continuation"] * 3 + [
        "lettered/high_law"
    ] * 3 + ["lettered/sea"] * 3 + ["written"] * 2
    for row in rows:
        nats, size = row["nats"], len(row["choices"])
        if row["form"] in ("choices", "contexts", "lettered"):
            assert len(nats) == size and row["chance"] == 1 / size
            assert row["chosen"] == int(np.argmin(nats)) and row["correct"] == (row["chosen"] == row["gold"])
            per = [n / c for n, c in zip(nats, row["characters"], strict=True)]
            assert row["chosen_norm"] == int(np.argmin(per))
        elif row["form"] == "continuation":
            assert len(nats) == 1 and row["chance"] == 0 and row["correct"] == row["greedy"][0]
        else:
            assert row["written"] is not None and not nats
    facts = found.facts["tasks"]
    assert facts["choices"]["items"] == 4 and facts["choices"]["chance"] == pytest.approx(
        (1 / 3 + 1 / 3 + 1 / 2 + 1 / 4) / 4
    )
    assert facts["continuation"]["cut"] == 1 and rows[7]["cut"] > 0
    assert any("the beginning of the context was cut off" in note for note in found.facts["notes"])
    hits = sum(row["correct"] for row in rows[:4])
    assert facts["choices"]["acc"] == {"hits": hits, "accuracy": hits / 4, "interval": list(wilson(hits, 4))}
    read = read_answers(found)
    assert read.tasks == tuple(facts) and read.correct_I.tolist() == [row["correct"] for row in rows]
    assert read.id_I[2] == "third" and read.chance_I.tolist() == [row["chance"] for row in rows]
    norm = read_answers(found, "acc_norm")
    assert norm.correct_I.tolist() == [row["correct_norm"] for row in rows]


def test_a_second_run_does_nothing_and_content_decides(world: World, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", CHOICES)
    made: list[bool] = []
    store = Store(tmp_path / "store", on_made=lambda artifact, fresh: made.append(fresh))
    first = answer(world.base, [str(path)], store=store)
    assert answer(world.base, [str(path)], store=store) == first and made == [True, False]
    moved = write_rows(tmp_path / "elsewhere" / "t.jsonl", CHOICES)
    assert answer(world.base, [str(moved)], store=store) == first, "the same content under the same name"
    write_rows(path, CHOICES[:3])
    assert answer(world.base, [str(path)], store=store) != first


def test_what_a_killed_run_has_answered_is_not_asked_again(
    world: World, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graft.evaluation.benchmarks import ask_task as asking

    whole = answer(world.base, [str(suite)], store=Store(tmp_path / "whole"))
    asked: list[str] = []
    real = asking.ask

    def ask(task: Any, *rest: Any) -> Any:
        if task.name == "continuation" and "continuation" not in asked:
            asked.append(task.name)
            raise KeyboardInterrupt
        asked.append(task.name)
        return real(task, *rest)

    monkeypatch.setattr(asking, "ask", ask)
    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        answer(world.base, [str(suite)], store=store)
    assert {one.kind for one in store.artifacts()} <= {"runtime"}
    again = answer(world.base, [str(suite)], store=store)
    assert asked == [
        "choices",
        "contexts",
        "continuation",
        "continuation",
        "lettered/high_law",
        "lettered/sea",
        "written",
    ]
    assert rows_of(again) == rows_of(whole) and again.facts == whole.facts
    assert sorted(path.name for path in again.path.iterdir()) == [FILE, "manifest.json"]


def test_every_setting_is_read(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    path = write_rows(tmp_path / "t.jsonl", [one | {"subject": "ab"[n % 2]} for n, one in enumerate(CHOICES * 2)])
    given = write_rows(tmp_path / "given.jsonl", CHOICES)

    def nats(*, file: Path = path, **settings: Any) -> Any:
        return [row["nats"] for row in rows_of(answer(world.base, [str(file)], Answer(**settings), store=store))]

    plain = nats()
    assert len(nats(limit=1)) == 2
    assert nats(shots=1) != plain and len(nats(shots=1)) == 6
    assert len(nats(shots=1, shots_from=str(given))) == 8
    assert nats(shots=2, shots_from=str(given), between="\n") != nats(shots=2, shots_from=str(given))
    assert nats(delimiter="\n") != plain
    assert nats(window=12) != plain
    with pytest.raises(UsageError, match="no item of t/a could be scored: 4 its ending is longer than the window"):
        nats(window=2)
    assert np.abs(np.array(nats(precision="bf16")[0]) - plain[0]).max() > 1e-5

    split = write_rows(tmp_path / "split.jsonl", LETTERED)
    assert len(nats(file=split, split="dev")) == 4 and len(nats(file=split)) == 6
    assert list(answer(world.base, [str(split)], Answer(by=""), store=store).facts["tasks"]) == ["split"]
    twins = write_rows(tmp_path / "twins.jsonl", [*CHOICES, ROW | {"choices": ["a", "a"], "gold": 0}])
    assert len(nats(file=twins)) == 4 and len(nats(file=twins, repeated="keep")) == 5
    extra = write_rows(tmp_path / "extra.jsonl", [one | {"hint": "x"} for one in CHOICES])
    assert len(nats(file=extra, ignore=("hint",))) == 4
    texts = write_rows(tmp_path / "texts.jsonl", WRITTEN)
    short, long = (
        rows_of(answer(world.base, [str(texts)], Answer(tokens=tokens), store=store))[0]["written"]
        for tokens in (1, 12)
    )
    assert len(short) < len(long)
    for wrong, word in ({"limit": -1}, "limit"), ({"tokens": 0}, "tokens"), ({"precision": "int8"}, "precision"):
        with pytest.raises(UsageError, match=word):
            Answer(**wrong)


def test_what_is_right_when_the_model_writes(world: World, tmp_path: Path) -> None:
    from graft.evaluation.benchmarks.ask_task import plain

    assert plain("  The Judge!  of a LAW ") == "judge of law"
    store = Store(tmp_path / "store")
    first = write_rows(tmp_path / "a.jsonl", [{"context": "the court", "answer": "no such thing"}])
    [row] = rows_of(answer(world.base, [str(first)], Answer(tokens=3), store=store))
    assert not row["correct"] and "\n" not in row["written"]
    if plain(row["written"]):
        second = write_rows(
            tmp_path / "b.jsonl",
            [{"context": "the court", "answer": "none", "aliases": [f"The {row['written'].upper()}."]}],
        )
        assert rows_of(answer(world.base, [str(second)], Answer(tokens=3), store=store))[0]["correct"]


def test_an_answer_of_articles_or_marks_alone_is_compared_as_it_stands() -> None:
    from graft.evaluation.benchmarks.ask_task import is_right

    assert is_right("A", ["A"]) and is_right("!!!", ["none", "!!!"]) and is_right("The", [" The"])
    assert not is_right("the", ["A"]) and not is_right("", ["A", "!!!"]) and not is_right("...", ["A"])
    assert is_right("the Judge.", ["A judge"]) and not is_right("", ["judge"])


def test_what_cannot_be_asked_is_counted_in_a_folder_and_refused_alone(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    write_rows(tmp_path / "s" / "choices.jsonl", CHOICES)
    worked = write_rows(tmp_path / "s" / "worked.jsonl", [{"context": "a", "chain_of_thought": "b", "answer": "c"}])
    (tmp_path / "s" / "README.md").write_text("notes")
    found = answer(world.base, [str(tmp_path / "s")], store=store)
    assert list(found.facts["tasks"]) == ["choices"] and list(found.facts["refused"]) == ["worked"]
    notes = " ".join(found.facts["notes"])
    assert "not asked: worked (1 file)" in notes and "README.md" in notes
    with pytest.raises(UsageError, match="chain of thought"):
        answer(world.base, [str(worked)], store=store)
    with pytest.raises(UsageError, match="no such file or folder") as caught:
        answer(world.base, [str(tmp_path / "s" / "choice.jsonl")], store=store)
    assert "choices.jsonl" in caught.value.do
    with pytest.raises(UsageError, match="suite names nothing"):
        answer(world.base, [], store=store)
    with pytest.raises(UsageError, match="window is 999"):
        answer(world.base, [str(tmp_path / "s")], Answer(window=999), store=store)
    with pytest.raises(UsageError, match="no embedded suite"):
        answer(world.base, ["embedded:prose"], store=store)
    twins = write_rows(tmp_path / "twins.jsonl", [ROW | {"choices": ["a", "a"], "gold": 0}])
    with pytest.raises(UsageError, match="no question of twins is left"):
        answer(world.base, [str(twins)], store=store)


def test_an_ending_longer_than_the_window_is_left_out_and_counted(world: World, tmp_path: Path) -> None:
    rows = [*CHOICES, {"query": "x", "choices": ["judge " * 200, "b"], "gold": 0}]
    path = write_rows(tmp_path / "t.jsonl", rows)
    found = answer(world.base, [str(path)], store=Store(tmp_path / "store"))
    assert len(rows_of(found)) == 4
    assert found.facts["tasks"]["t"]["left_out"] == {"its ending is longer than the window": 1}
    assert any("longer than the window, first t.jsonl#5" in note for note in found.facts["notes"])


def test_two_files_of_one_name_are_two_tasks(world: World, tmp_path: Path) -> None:
    paths = [str(write_rows(tmp_path / folder / "t.jsonl", CHOICES)) for folder in "ab"]
    found = answer(world.base, paths, store=Store(tmp_path / "store"))
    assert list(found.facts["tasks"]) == ["t", "t_2"]
    inside = answer(world.base, [str(tmp_path)], Answer(limit=2), store=Store(tmp_path / "store"))
    assert list(inside.facts["tasks"]) == ["a/t", "b/t"]


def test_names_are_one_each_whatever_they_come_from(world: World, tmp_path: Path) -> None:
    """A file, a part of a file, the quiz and tasks of lm-eval: none hides another."""
    parted = write_rows(tmp_path / "t.jsonl", [one | {"subject": "law"} for one in CHOICES])
    names = [
        str(parted),
        str(tmp_path / "inner"),
        str(write_rows(tmp_path / "quiz.jsonl", CHOICES[:2])),
        "embedded:quiz",
    ]
    write_rows(tmp_path / "inner" / "t" / "law.jsonl", CHOICES[:3])
    write_rows(tmp_path / "inner" / "law.jsonl", CHOICES[:1])
    for name in ("a", "b"):  # two tasks of one name, and neither is the other
        (tmp_path / name).mkdir()
        rows = write_rows(tmp_path / name / "rows.jsonl", [ROW | {"query": f"the {name} {n}"} for n in range(5)])
        names.append(str(task_file(tmp_path / name, rows, "choices", "law")))
    found = answer(world.base, names, Answer(limit=5), store=Store(tmp_path / "store"))
    sizes = {name: facts["items"] for name, facts in found.facts["tasks"].items()}
    rest = sizes["quiz_2"]  # the window has no room for most docstrings
    assert sizes == {"t/law": 4, "law": 1, "t/law_2": 3, "quiz": 2, "quiz_2": rest, "law_2": 5, "law_3": 5}
    rows = rows_of(found)
    assert len(rows) == len({(row["task"], row["item"]) for row in rows}) == sum(sizes.values())
    assert {row["query"][:5] for row in rows if row["task"] == "law_3"} == {"the b"}


def test_what_is_named_twice_is_asked_once_with_a_note(world: World, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "s" / "t.jsonl", CHOICES)
    task = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", CHOICES), "choices", "twice")
    store = Store(tmp_path / "store")
    once = answer(world.base, [str(path)], store=store)
    names = [str(path), str(path), str(tmp_path / "s"), f"{tmp_path}/s/../s/t.jsonl", str(task), str(task)]
    found = answer(world.base, names, store=store)
    assert list(found.facts["tasks"]) == ["t", "twice"] and len(rows_of(found)) == 8
    notes = [note for note in found.facts["notes"] if "named more than once" in note]
    assert len(notes) == 1 and "t.jsonl" in notes[0] and "twice" in notes[0]
    again = answer(world.base, [str(path)] * 2, store=store)
    assert any("named more than once" in note for note in again.facts["notes"]) and not once.facts["notes"]


def test_an_encoder_is_refused(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(world.base.folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="fills in hidden words"):
        answer(Base.find(str(folder)), ["x.jsonl"], store=Store(tmp_path / "store"))


def test_items_whose_nats_are_no_number_are_named(world: World, suite: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(world.base.folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(one for one in weights if one.endswith("norm.weight"))
    save_file(weights | {name: weights[name] * float("nan")}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FaultError, match=r"choices\.jsonl#1") as caught:
        answer(Base.find(str(folder)), [str(suite / "choices.jsonl")], store=Store(tmp_path / "store"))
    assert "not a number" in caught.value.what


def test_the_embedded_quiz_has_four_answers_to_each_question() -> None:
    from itertools import islice

    from graft.embedded import quiz

    rows = [row for _, row in islice(quiz.rows(), 40)]
    assert [row["gold"] for row in rows[:3]] != [0, 0, 0] and {len(row["choices"]) for row in rows} == {4}
    every = [choice for row in rows for choice in row["choices"]]
    assert len(set(every)) == len(every), "no docstring is in two questions"
    assert "python" in quiz.identity()


# --- lm-eval ---------------------------------------------------------------------------------------------------------

TEMPLATES: dict[str, dict[str, Any]] = {
    "choices": {"output_type": "multiple_choice", "doc_to_text": "{{query}}", "doc_to_target": "gold",
                "doc_to_choice": "choices", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
    "contexts": {"output_type": "multiple_choice", "doc_to_text": "gold", "doc_to_target": "continuation",
                 "doc_to_choice": "context_options", "metric_list": [{"metric": "acc"}]},
    "continuation": {"output_type": "loglikelihood", "doc_to_text": "{{context}}",
                     "doc_to_target": "{{' ' + continuation}}", "metric_list": [{"metric": "acc"}]},
    "written": {"output_type": "generate_until", "doc_to_text": "{{context}}", "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
                "metric_list": [{"metric": "exact_match"}]},
}  # fmt: skip


def task_file(folder: Path, rows: Path, form: str, name: str = "", **more: Any) -> Path:
    """An lm-eval task on a local file."""
    made = folder / f"{name or form}.yaml"
    data = {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")}
    config = {"task": name or f"made_{form}", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
    made.write_text(yaml.safe_dump(config | TEMPLATES[form] | more))
    return made


@pytest.fixture(scope="module")
def hflm(world: World) -> Any:
    """lm-eval's own reader of the same model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(world.base.folder), device="cpu", dtype="float32", batch_size=4)


def by_harness(hflm: Any, path: Path) -> list[dict[str, Any]]:
    """Per document: what lm-eval itself makes of a task."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_defaults=False).load([str(path)])
    [samples] = evaluate(hflm, loaded, bootstrap_iters=0, log_samples=True)["samples"].values()
    return sorted(samples, key=lambda one: one["doc_id"])


@pytest.mark.parametrize("form", list(TEMPLATES))
def test_numbers_are_those_of_the_harness(world: World, suite: Path, hflm: Any, form: str, tmp_path: Path) -> None:
    """Every choice's log-likelihood to 1e-4, and every item's judgement; read as our form, and as lm-eval's task."""
    path = task_file(tmp_path, suite / f"{form}.jsonl", form)
    theirs, store = by_harness(hflm, path), Store(tmp_path / "store")
    ours = rows_of(answer(world.base, [str(suite / f"{form}.jsonl")], store=store))
    within = rows_of(answer(world.base, [str(path)], store=store))
    assert len(theirs) == len(ours) == len(within) > 0
    for sample, own, inner in zip(theirs, ours, within, strict=True):
        if form == "written":
            assert inner["written"] == sample["filtered_resps"][0] and inner["correct"] == bool(sample["exact_match"])
            assert inner["task"] == "made_written"
            continue
        lls = [float(resps[0][0]) for resps in sample["resps"]]
        assert np.allclose(lls, -np.array(own["nats"]), atol=1e-4) and np.allclose(own["nats"], inner["nats"])
        assert bool(sample["acc"]) == own["correct"] == inner["correct"]
        assert [bool(resps[0][1]) for resps in sample["resps"]] == own["greedy"] == inner["greedy"]
        if "acc_norm" in sample:
            assert bool(sample["acc_norm"]) == own["correct_norm"] == inner["correct_norm"]
        assert own["gold"] == inner["gold"] and own["chance"] == inner["chance"]


def test_rolling_log_likelihoods_are_those_of_the_harness(world: World, hflm: Any) -> None:
    from lm_eval.api.instance import Instance

    from graft.models.files.weights import open_model
    from graft.models.scoring.context_pairs import PairEncoder
    from graft.models.scoring.continuations import EndingScorer
    from graft.models.scoring.lm_eval_adapter import Speaker

    texts = [" ".join(WORDS[:12]), " ".join((WORDS + OTHER) * 4), "a"]
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    model = open_model(world.base.folder, "fp32", frozen=True)
    speaker = Speaker(EndingScorer(model, world.base.window), world.base, PairEncoder(world.base, world.base.window))
    theirs = hflm.loglikelihood_rolling(requests, disable_tqdm=True)
    assert np.allclose(speaker.loglikelihood_rolling(requests), theirs, rtol=1e-5)


def test_tasks_of_the_harness_are_limited_shown_examples_and_known_by_content(
    world: World, suite: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [ROW | {"query": f"the law {n}"} for n in range(40)])
    path = task_file(tmp_path, rows, "choices", "limited")
    store = Store(tmp_path / "store")
    found = answer(world.base, [str(path)], Answer(limit=5), store=store)
    numbers = [row["item"] for row in rows_of(found)]
    assert len(numbers) == 5 and max(numbers) > 30 and rows_of(found)[0]["place"].startswith("limited#")
    assert answer(world.base, [str(path)], Answer(limit=5), store=store) == found
    shown = answer(world.base, [str(path)], Answer(limit=5, shots=2), store=store)
    assert shown.facts["tasks"]["limited"]["shots"] == 2
    assert rows_of(shown)[0]["query"].count("hear a case") == 2
    write_rows(rows, [ROW | {"query": f"the sea {n}"} for n in range(40)])
    assert answer(world.base, [str(path)], Answer(limit=5), store=store) != found


def test_examples_before_a_question_are_those_of_the_harness(world: World, hflm: Any, tmp_path: Path) -> None:
    """lm-eval draws examples anew whenever it builds its requests; ours are its first draw, and what was hashed."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    draw = np.random.default_rng(8)
    rows = [
        {"query": " ".join(draw.choice(WORDS, 6)), "choices": list(draw.choice(OTHER, 3, replace=False)), "gold": 1}
        for _ in range(12)
    ]
    path = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), "choices", "shown")
    manager = TaskManager(include_defaults=False)
    found: Any = simple_evaluate(
        hflm, tasks=[str(path)], num_fewshot=2, fewshot_random_seed=1234, bootstrap_iters=0, task_manager=manager
    )
    theirs = sorted(found["samples"]["shown"], key=lambda one: one["doc_id"])
    ours = rows_of(answer(world.base, [str(path)], Answer(shots=2), store=Store(tmp_path / "store")))
    assert [row["query"] for row in ours] == [one["arguments"][0][0] for one in theirs]
    for row, one in zip(ours, theirs, strict=True):
        assert np.allclose(row["nats"], [-float(resps[0][0]) for resps in one["resps"]], atol=1e-4)
    limited = rows_of(answer(world.base, [str(path)], Answer(shots=2, limit=5), store=Store(tmp_path / "store")))
    assert len(limited) == 5


def test_a_task_that_is_built_otherwise_each_time_is_no_task(world: World, tmp_path: Path) -> None:
    from graft.evaluation.benchmarks import lm_eval_tasks as harness

    path = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", CHOICES), "choices", "fickle")
    [task] = harness.open_tasks([str(path)], 0, None)
    task.task.config.doc_to_text = "{{query}} {{range(100000) | random}}"
    with pytest.raises(FaultError, match="the task fickle asks other things than a moment ago"):
        task.ask(*speaking(world))


def speaking(world: World) -> tuple[Any, Base, Any]:
    """What a task is asked with."""
    from graft.models.files.weights import open_model
    from graft.models.scoring.context_pairs import PairEncoder
    from graft.models.scoring.continuations import EndingScorer

    window = world.base.window
    scorer = EndingScorer(open_model(world.base.folder, "fp32", frozen=True), window)
    return scorer, world.base, PairEncoder(world.base, window)


def test_settings_that_no_task_of_the_harness_reads_are_refused(world: World, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", CHOICES)
    path, store = task_file(tmp_path, rows, "choices", "settled"), Store(tmp_path / "store")
    other: dict[str, Any] = {
        "delimiter": "\n",
        "between": " ",
        "split": "dev",
        "by": "",
        "repeated": "keep",
        "ignore": ("hint",),
        "tokens": 5,
    }
    for name, value in other.items():
        with pytest.raises(UsageError, match=f"answer.{name} is .*tasks of lm-eval") as caught:
            answer(world.base, [str(path)], Answer(**{name: value}), store=store)
        assert "limit, shots" in caught.value.allowed
    with pytest.raises(UsageError, match="answer.shots_from is .*tasks of lm-eval"):
        answer(world.base, [str(path)], Answer(shots=1, shots_from=str(rows)), store=store)
    both = answer(world.base, [str(path), str(rows)], Answer(delimiter="\n"), store=store)
    assert len(rows_of(both)) == 8, "they act on the file beside it"
    with pytest.raises(UsageError, match=r"shots_from is .*no example is shown") as caught:
        Answer(shots_from=str(rows))
    assert "shots" in caught.value.do


def test_a_right_answer_that_is_no_choice_is_named_before_anything_is_scored(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graft.models.files import weights

    def opened(*rest: Any, **more: Any) -> Any:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(weights, "open_model", opened)
    store = Store(tmp_path / "store")
    for number, (gold, words) in enumerate((("neither", "'neither'"), ("9", "9"), ("", "''"))):
        rows = [one | {"gold": "0"} for one in CHOICES[:2]] + [CHOICES[2] | {"gold": gold}]
        path = task_file(tmp_path, write_rows(tmp_path / f"{number}.jsonl", rows), "choices", f"wrong{number}",
                         doc_to_target="{{gold}}")  # fmt: skip
        with pytest.raises(UsageError, match=f"the right answer is {words}, which is no choice") as caught:
            answer(world.base, [str(path)], store=store)
        assert caught.value.where == f"wrong{number}#2" and "0 to 1" in caught.value.allowed


def test_a_right_answer_may_be_written_out(world: World, tmp_path: Path) -> None:
    rows = [one | {"gold": one["choices"][one["gold"]]} for one in CHOICES]
    path = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), "choices", "spelled")
    found = rows_of(answer(world.base, [str(path)], store=Store(tmp_path / "store")))
    assert [row["gold"] for row in found] == [one["gold"] for one in CHOICES]


def test_a_question_with_one_choice_says_nothing_of_what_is_known(world: World, tmp_path: Path) -> None:
    rows = [*CHOICES, ROW | {"choices": ["hear a case"]}]
    path = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), "choices", "single")
    store = Store(tmp_path / "store")
    one = answer(world.base, [str(path)], store=store)
    summary = json.loads((grade(Graded("a", one, "b", one, []), store=store) / "summary.json").read_text())
    four = rows_of(one)[:4]
    known = np.mean([(row["correct"] - row["chance"]) / (1 - row["chance"]) for row in four])
    assert summary["all"]["items"] == 5 and summary["all"]["known"] == pytest.approx(known)
    assert summary["all"]["adjusted"] == 3, "those with three choices and more"
    alone = task_file(tmp_path, write_rows(tmp_path / "one.jsonl", rows[4:] * 3), "choices", "alone")
    two = answer(world.base, [str(alone)], store=store)
    made = grade(Graded("a", two, "", None, []), store=store)
    assert json.loads((made / "summary.json").read_text())["all"]["known"] is None
    assert "<h1" in (made / "report.html").read_text()


def test_a_document_is_named_by_its_own_number_under_a_limit(world: World, tmp_path: Path) -> None:
    long = {"context": "the judge " * 90, "continuation": "may"}
    rows = [CONTINUATION[0] | {"context": f"the law {n}"} if n != 34 else long for n in range(40)]
    path = task_file(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), "continuation", "far")
    store = Store(tmp_path / "store")
    found = {
        row["item"]: row["cut"] > 0 for row in rows_of(answer(world.base, [str(path)], Answer(limit=9), store=store))
    }
    assert len(found) == 9 and 34 in found, "or the choice of places has changed: take another number here"
    assert [number for number, cut in found.items() if cut] == [34]
    rows[34] = {"context": "the", "continuation": "judge " * 300}
    path = task_file(tmp_path, write_rows(tmp_path / "more.jsonl", rows), "continuation", "farther")
    with pytest.raises(UsageError, match="document 34 of farther cannot be scored"):
        answer(world.base, [str(path)], Answer(limit=9), store=store)


def test_what_the_model_writes_needs_room_in_the_window(world: World, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = write_rows(tmp_path / "rows.jsonl", [*WRITTEN, {"context": "claim " * 80, "answer": "x"}])
    window = world.base.window
    wide = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": window, "do_sample": False}}
    path = task_file(tmp_path, rows, "written", "wide", **wide)
    with pytest.raises(UsageError, match=f"wide has {window} tokens written.*window holds {window}"):
        answer(world.base, [str(path)], store=store)
    with pytest.raises(UsageError, match="rows has 8 tokens written.*window holds 8"):
        answer(world.base, [str(rows)], Answer(tokens=8, window=8), store=store)
    path = task_file(tmp_path, rows, "written", "narrow")  # which has 6 tokens written
    inner = rows_of(answer(world.base, [str(path)], Answer(window=48), store=store))
    own = rows_of(answer(world.base, [str(rows)], Answer(window=48, tokens=6), store=store))
    cut = [row["cut"] for row in own]
    assert [row["cut"] for row in inner] == cut and cut[:2] == [0, 0] and cut[2] > 30


def test_words_for_tasks_that_cannot_be_asked(
    world: World, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError, match='no file, folder or task of lm-eval "hellaswagg"') as caught:
        answer(world.base, ["hellaswagg"], store=store)
    assert caught.value.do == 'did you mean "hellaswag"?'
    rolling = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{context}}"}
    path = task_file(tmp_path, suite / "continuation.jsonl", "continuation", "rolled", **rolling, metric_list=None)
    with pytest.raises(UsageError, match="no item of it is right or wrong"):
        answer(world.base, [str(path)], store=store)
    bleu = task_file(tmp_path, suite / "written.jsonl", "written", "scored", metric_list=[{"metric": "bleu"}])
    with pytest.raises(UsageError, match="measures bleu"):
        answer(world.base, [str(bleu)], store=store)
    typo = task_file(tmp_path, suite / "choices.jsonl", "choices", "typo", doc_to_text="{{qurey}}")
    with pytest.raises(UsageError, match="a template of the task cannot be filled in: 'qurey' is undefined"):
        answer(world.base, [str(typo)], store=store)
    gone = task_file(tmp_path, tmp_path / "gone.jsonl", "choices", "gone")
    with pytest.raises(FaultError, match="the data of the task"):
        answer(world.base, [str(gone)], store=store)
    (tmp_path / "bad.yaml").write_text("task: bad\nnonsense: 1\ndataset_path: json\n")
    with pytest.raises(UsageError, match="lm-eval cannot read this task"):
        answer(world.base, [str(tmp_path / "bad.yaml")], store=store)
    with pytest.raises(UsageError, match="there is no such task file"):
        answer(world.base, ["nowhere.yaml"], store=store)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "lm_eval" else real(name, *a))
    with pytest.raises(UsageError, match="not installed") as caught:
        answer(world.base, ["hellaswag"], store=store)
    assert caught.value.do == 'pip install "lm-eval==0.4.13"'


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_intervals_and_tests_by_hand() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # (0.5 + z^2/20 -+ z sqrt(...)) / (1 + z^2/10)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # z^2 / (n + z^2)
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(0, 6) == pytest.approx(2 / 64) and mcnemar(3, 3) == 1 and mcnemar(0, 0) == 1
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def answered(before: str, after: str, *, choices: int = 4, apart: str = "", task: Sequence[int] = ()) -> Answered:
    """'1101' as right, right, wrong, right."""
    was, now = (np.array([letter == "1" for letter in word]) for word in (before, after))
    count = len(was)
    return Answered(
        was,
        now,
        np.full(count, 1 / choices if choices > 1 else 0.0),
        np.array([letter == "1" for letter in apart or "0" * count]),
        np.full(count, choices),
        np.array(task or [0] * count),
    )


def test_a_table_of_two_by_two_by_hand() -> None:
    both = answered("1110000000", "1001000000", apart="0000110000")
    means = over_items(both)
    expected = {"before": 0.3, "after": 0.2, "change": -0.1, "lost": 0.2, "gained": 0.1}
    for name, value in expected.items():
        assert means.mean[name] == pytest.approx(value)
    assert means.mean["forgotten"] == pytest.approx((0.2 - 0.2 / 2) / 0.75)
    assert means.mean["learned"] == pytest.approx((0.1 - 0.2 / 2) / 0.75)
    known = [(share - 0.25) / 0.75 for share in (0.3, 0.2)]
    difference = means.mean["learned"] - means.mean["forgotten"]  # type: ignore[operator]
    assert difference == pytest.approx(known[1] - known[0])
    plain = over_items(answered("1100", "1010", choices=1))
    assert plain.mean["forgotten"] == plain.mean["lost"] == 0.25, "nothing is guessed where there is no choice"
    two = over_items(answered("1100", "1010", choices=2))
    assert two.mean["forgotten"] is None and two.interval["learned"] is None and two.mean["lost"] == 0.25


def test_means_over_tasks_count_each_task_once() -> None:
    both = answered("1" * 40 + "0" * 10, "0" * 40 + "1" * 10, task=[0] * 40 + [1] * 10)
    assert over_items(both).mean["change"] == pytest.approx((10 - 40) / 50)
    assert over_tasks(both).mean["change"] == pytest.approx(0.0)
    assert over_tasks(both).interval["change"] == pytest.approx((0.0, 0.0)), "every draw within tasks is the same"
    mixed = answered("1010", "0110", task=[0, 0, 1, 1])
    sizes = Answered(mixed.before_I, mixed.after_I, np.array([0.5, 0.5, 0.25, 0.25]), mixed.apart_I,
                     np.array([2, 2, 4, 4]), mixed.task_I)  # fmt: skip
    assert over_tasks(sizes).mean["forgotten"] == pytest.approx(0.0), "a task of two choices is left out, not a zero"


@pytest.mark.parametrize("alike", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("choices", [3, 5])
def test_what_guessing_does_is_taken_off(alike: float, choices: int) -> None:
    """20 % forgotten and 10 % learned, whatever share of the guesses are made alike; plain flips say otherwise."""
    draw = np.random.default_rng(7)
    count = 200_000
    state = draw.choice(4, count, p=[0.3, 0.2, 0.1, 0.4])  # known to both, before alone, after alone, to neither
    first, second = draw.integers(0, choices, (2, count))
    second = np.where(draw.random(count) < alike, first, second)
    before, after = np.where(state <= 1, 0, first), np.where((state == 0) | (state == 2), 0, second)  # 0 is right
    both = Answered(
        before == 0,
        after == 0,
        np.full(count, 1 / choices),
        (before != 0) & (after != 0) & (before != after),
        np.full(count, choices),
        np.zeros(count, np.int64),
    )
    means = over_items(both)
    assert means.mean["forgotten"] == pytest.approx(0.2, abs=0.006)
    assert means.mean["learned"] == pytest.approx(0.1, abs=0.006)
    assert abs(means.mean["lost"] - 0.2) > 0.01, "1 -> 0 alone is something else"  # type: ignore[operator]
    low, high = means.interval["forgotten"]  # type: ignore[misc]
    assert low < means.mean["forgotten"] < high and high - low < 0.02


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 200 samples of 150 items the 95 % interval of the change holds the true change in about 190."""
    draw = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        state = draw.choice(4, 150, p=[0.4, 0.15, 0.1, 0.35])
        was, now = state <= 1, (state == 0) | (state == 2)
        both = Answered(was, now, np.full(150, 0.25), np.zeros(150, bool), np.full(150, 4), np.zeros(150, np.int64))
        low, high = over_items(both).interval["change"]  # type: ignore[misc]
        held += low <= -0.05 <= high
    assert 181 <= held <= 198


def test_tasks_of_one_item_have_an_interval() -> None:
    """Two of twenty tasks of an item each go from wrong to right: p is 1/2, and nothing is certain."""
    both = answered("0" * 20, "11" + "0" * 18, task=list(range(20)))
    for means in (over_items(both), over_tasks(both)):
        low, high = means.interval["change"]  # type: ignore[misc]
        assert means.mean["change"] == pytest.approx(0.1) and low == 0 and 0.2 <= high <= 0.35
    few = over_items(answered("1100", "1010")).interval["change"]
    assert few == pytest.approx((-1, 1)), "of four items hardly anything is known"
    assert over_items(answered("1", "0")).interval["change"] is None


def test_a_coin_over_tasks_is_mcnemar_where_tasks_are_alike() -> None:
    from graft.core.stats.accuracy_tests import coin

    both = answered("1" * 9 + "0" * 31, "0" * 9 + "1" * 2 + "0" * 29, task=[n % 20 for n in range(40)])
    assert coin(both) == pytest.approx(mcnemar(9, 2), abs=0.02)
    assert coin(answered("1100", "1100")) == 1
    lone = answered("0" + "1" * 6 + "0" * 14, "1" + "0" * 6 + "0" * 14, task=[0] + [1] * 20)
    assert coin(lone) == pytest.approx(1 / 2 + 1 / 2, abs=0.02), "a task of one item decides the mean of two"


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_equal_models_are_seldom_called_better_or_worse(size: int) -> None:
    """Two models that are right as often, in 20 tasks: false verdicts in about 5 % of 60 draws or fewer.

    More than 7 of 60 would come about by luck at 5 % once in fifty times; the draws are fixed.
    """
    from graft.core.stats.accuracy_tests import coin
    from graft.report.benchmark.verdict import called

    draw, wrong = np.random.default_rng(size), np.zeros(2, int)
    for _ in range(60):
        was, now = draw.random((2, 20 * size)) < 0.5
        ones = np.arange(20 * size)
        both = Answered(was, now, np.full(len(was), 0.25), ~was & ~now, np.full(len(was), 4), ones // size)
        p = mcnemar(int((was & ~now).sum()), int((~was & now).sum()))
        wrong[0] += called(over_items(both).interval["change"], p, 0.05) != "no change"
        wrong[1] += called(over_tasks(both).interval["change"], coin(both), 0.05) != "no change"
    assert (wrong <= 7).all(), wrong


def test_a_verdict_needs_the_interval_and_the_test() -> None:
    from graft.report.benchmark.verdict import called

    assert called((0.1, 0.1), 0.5, 0.05) == "no change" and called((0.1, 0.2), 0.01, 0.05) == "improved"
    assert called((-0.2, -0.1), 0.01, 0.05) == "worse" and called((-0.2, 0.1), 0.01, 0.05) == "no change"
    assert called((0.1, 0.2), 0.5, 0.6) == "improved" and called(None, 0.01, 0.05) == "no interval (one item)"


# --- two models ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of enough questions for something to change."""
    folder = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(4)
    for name, words in (("law", WORDS), ("sea", OTHER)):
        rows = []
        for _ in range(60):
            choices = list(dict.fromkeys(" ".join(draw.choice(words, 2)) for _ in range(8)))[:4]
            rows.append({"query": " ".join(draw.choice(words, 5)), "choices": choices, "gold": int(draw.integers(4))})
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def pair(world: World, other: Base, many: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graded, Store]:
    store = Store(tmp_path_factory.mktemp("pair"))
    new, old = (answer(base, [str(many)], store=store) for base in (other, world.base))
    return Graded("a/moved", new, "b/tiny", old, [str(many)]), store


def test_two_models_are_compared_item_by_item(pair: tuple[Graded, Store]) -> None:
    graded, store = pair
    made = grade(graded, store=store)
    summary = json.loads((made / "summary.json").read_text())
    new, old = (read_answers(one) for one in graded.each)
    lost, gained = int((old.correct_I & ~new.correct_I).sum()), int((~old.correct_I & new.correct_I).sum())
    whole = summary["all"]
    assert lost and gained and whole["items"] == 120 and whole["flips"] == {"lost": lost, "gained": gained}
    assert whole["accuracy"]["model"] == pytest.approx(new.correct_I.mean())
    assert whole["accuracy"]["change"] == pytest.approx((gained - lost) / 120) and whole["lost"] == pytest.approx(
        lost / 120
    )
    assert whole["p"] == pytest.approx(mcnemar(lost, gained)) and whole["chance"] == 0.25 and whole["adjusted"] == 120
    by_task = [new.correct_I[new.task_I == t].mean() for t in (0, 1)]
    assert summary["macro"]["accuracy"]["model"] == pytest.approx(np.mean(by_task))
    rows = list(summary["tasks"].values())
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))
    assert summary["worst"]["task"] == min(summary["tasks"], key=lambda t: summary["tasks"][t]["accuracy"]["change"])
    items = pq.read_table(made / "items.parquet")
    flips = items["flip"].to_pylist()
    assert flips.count("1 -> 0") == lost and flips.count("0 -> 1") == gained and len(flips) == 120
    assert summary["verdict"].startswith("moved ") and " tiny: " in summary["verdict"]
    assert (made / "report.html").stat().st_size > 10_000


def test_settings_of_the_grade_are_read(pair: tuple[Graded, Store]) -> None:
    graded, store = pair
    table, lone = items_of(graded, "acc")
    assert lone == 0
    plain = summarize(graded, table, lone, Grade())
    norm = summarize(graded, items_of(graded, "acc_norm")[0], 0, Grade(measure="acc_norm"))
    assert norm["all"]["accuracy"] != plain["all"]["accuracy"]
    seeded = summarize(graded, table, lone, Grade(seed=1))
    assert seeded["all"]["interval"] != plain["all"]["interval"]
    page = (grade(graded, Grade(items=3, title="My title"), store=store) / "report.html").read_text()
    assert page.count('<li class="question"') == 3 and "<h1>My title</h1>" in page
    for wrong in ({"measure": "f1"}, {"certain": 0.0}, {"items": -1}):
        with pytest.raises(UsageError):
            Grade(**wrong)


@pytest.mark.parametrize("moved", [6, 9])
def test_certain_is_the_p_below_which_tasks_and_all_are_called(pair: tuple[Graded, Store], moved: int) -> None:
    """Of each task so many items are made lost and none gained, so that p is known by hand: 2 / 2 ** moved."""
    graded, _ = pair
    table, lone = items_of(graded, "acc")
    place_I = np.concatenate([np.arange(n) for n in Counter(table["task"].to_pylist()).values()])
    now = table.column_names.index("correct_model")
    table = table.set_column(now, "correct_model", pa.array(place_I >= moved))
    table = table.set_column(table.column_names.index("correct_against"), "correct_against", pa.array(place_I >= 0))
    p = 2 / 2**moved
    for certain in (0.9 * 2 * p, 1.1 * 2 * p):
        summary = summarize(graded, table, lone, Grade(certain=certain))
        for row in summary["tasks"].values():
            assert row["p"] == pytest.approx(p) and row["p_holm"] == pytest.approx(2 * p)
            assert row["verdict"] == ("worse" if 2 * p <= certain else "no change")
    both = 2 / 4**moved  # of all items twice as many are lost
    for certain in (0.9 * both, 1.1 * both):
        whole = summarize(graded, table, lone, Grade(certain=certain))["all"]
        assert whole["p"] == pytest.approx(both)
        assert (whole["verdict"] == "worse") == (both <= certain), whole


def test_a_task_is_called_by_its_corrected_test() -> None:
    """7 lost and none gained of one task among two: p = 2/128, doubled by Holm to 0.031; of ten tasks not certain."""
    assert holm([mcnemar(7, 0), 1.0])[0] == pytest.approx(4 / 128)
    assert holm([mcnemar(7, 0), *[1.0] * 9])[0] > 0.05


def test_the_same_model_twice_does_not_differ(world: World, many: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one = answer(world.base, [str(many)], store=store)
    summary = json.loads((grade(Graded("a", one, "b", one, []), store=store) / "summary.json").read_text())
    assert summary["all"]["accuracy"]["change"] == 0 and summary["all"]["p"] == 1
    assert summary["all"]["verdict"] == "no change" and any("same model" in note for note in summary["notes"])


def test_items_that_one_model_alone_answered_are_counted(world: World, other: Base, many: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    all_of_it = answer(world.base, [str(many)], store=store)
    some = answer(other, [str(many)], Answer(limit=20), store=store)
    summary = json.loads((grade(Graded("a", all_of_it, "b", some, []), store=store) / "summary.json").read_text())
    assert summary["all"]["items"] == 40 and any("80 items were answered by one" in note for note in summary["notes"])
    elsewhere = answer(other, [str(write_rows(tmp_path / "x.jsonl", CHOICES))], store=store)
    with pytest.raises(UsageError, match="no item in common"):
        grade(Graded("a", some, "b", elsewhere, []), store=store)


def test_models_are_named_by_what_tells_them_apart() -> None:
    assert named("runs/a/model", "runs/b/model") == ("a/model", "b/model")
    assert named("x/one", "y/two") == ("one", "two")
    assert named("x/same", "y/same") == ("x/same", "y/same")
    assert named("embedded", None)[0] == "embedded"


@pytest.mark.parametrize("two", [False, True])
def test_every_number_of_a_gate_is_in_the_summary(pair: tuple[Graded, Store], two: bool) -> None:
    graded, store = pair
    one = graded if two else Graded(graded.model, graded.answers, suites=graded.suites)
    summary = json.loads((grade(one, store=store) / "summary.json").read_text())
    for key in (key.replace("*", task) for key in number_keys(two) for task in summary["tasks"]):
        assert isinstance(reach(summary, key), int | float), key
    if not two:
        assert summary["worst"] is None and summary["all"]["accuracy"]["change"] is None


def test_the_job_lays_out_its_results_and_a_gate_reads_them(
    world: World, other: Base, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = Eval(model=str(other.folder), against=str(world.base.folder), suite=(str(many),), out=str(out))
    made: list[bool] = []
    store = Store(tmp_path / "store", on_made=lambda artifact, fresh: made.append(fresh))
    outcome = job(store)
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "items.parquet", "report.html", "summary.json"
    ]  # fmt: skip
    assert made == [True] * 4 and [one.kind for one in outcome.artifacts] == ["answers", "answers", "report"]
    job(store)
    assert made[4:] == [False] * 4, "a second run does nothing"
    change = outcome.summary["all"]["accuracy"]["change"]
    closed = read_conditions([f"all.accuracy.change < {change + 0.01:.6f}"], job)
    with pytest.raises(GateClosed, match=r"all\.accuracy\.change is"):
        check_gate(closed, outcome.summary)
    check_gate(read_conditions(["all.accuracy.change < -99%", "worst.p_holm > 1"], job), outcome.summary)
    with pytest.raises(UsageError, match="has no number"):
        read_conditions(["all.accuracy.chnge < 0"], job)
    task = next(iter(outcome.summary["tasks"]))
    with pytest.raises(GateClosed, match=f"tasks.{task}.accuracy.model is"):
        check_gate(read_conditions([f"tasks.{task}.accuracy.model <= 100%"], job), outcome.summary)
    with pytest.raises(GateClosed, match="tasks.nowhere.chance was not measured"):
        check_gate(read_conditions(["tasks.nowhere.chance > 1"], job), outcome.summary)
    with pytest.raises(UsageError, match="has no number"):
        read_conditions(["all.accuracy.change < 0"], Eval(suite=(str(many),)))
    with pytest.raises(UsageError, match="suite names nothing"):
        Eval()


def test_the_command(world: World, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from graft.cli.app import app

    monkeypatch.chdir(tmp_path)
    arguments = ["eval", str(world.base.folder), "--suite", str(many), "--limit", "5", "--shots", "1", "--out", "mine"]
    done = CliRunner().invoke(app, [*arguments, "--set", "grade.measure=acc_norm", "--store", "store"])
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    assert summary["all"]["items"] == 10 and summary["measure"] == "acc_norm"
    assert summary["tasks"]["law"]["shots"] == 1
    failed = CliRunner().invoke(app, [*arguments, "--store", "store", "--fail-if", "all.accuracy.model < 101%"])
    assert isinstance(failed.exception, GateClosed)


def test_reading_the_job_loads_neither_torch_nor_the_harness() -> None:
    import subprocess

    code = "import sys, graft.jobs.eval; print([m for m in ('torch', 'lm_eval', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"


# --- real files ------------------------------------------------------------------------------------------------------

REAL = (
    "commonsense_reasoning__copa",
    "language_understanding__winograd_wsc",
    "reading_comprehension__bigbench_understanding_fables",
    "symbolic_problem_solving__bigbench_operators",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_come_to_what_the_harness_says(shared_data: Path, name: str, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    model = shared_data.parent / "models" / "prose-2m"
    path = shared_data / "eval_multiple_choice" / "llm_foundry_local_data" / f"{name}.jsonl.gz"
    form = read_tasks(suite_files(path)[0][0], Choosing())[0].form
    rows = rows_of(answer(Base.find(str(model)), [str(path)], Answer(limit=60), store=Store(tmp_path / "store")))
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    few = write_rows(tmp_path / "few.jsonl", [json.loads(lines[row["item"] - 1]) for row in rows])
    theirs = by_harness(HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8),
                        task_file(tmp_path, few, form))  # fmt: skip
    assert len(theirs) == len(rows) >= 60
    for sample, row in zip(theirs, rows, strict=True):
        assert np.allclose([float(one[0][0]) for one in sample["resps"]], -np.array(row["nats"]), atol=1e-3, rtol=1e-5)
        assert bool(sample["acc"]) == row["correct"]
        if "acc_norm" in sample:
            assert bool(sample["acc_norm"]) == row["correct_norm"]


@pytest.mark.slow
def test_every_real_file_is_read_or_refused_with_a_word(shared_data: Path) -> None:
    files, others = suite_files(shared_data / "eval_multiple_choice")
    assert len(files) == 44 and not others
    refused, items = [], 0
    for file in files:
        try:
            items += sum(len(task.questions) for task in read_tasks(file, Choosing()))
        except BadQuestion:
            refused.append(file.name.rpartition("__")[2])
    assert refused == ["human_eval", "aqua", "gsm8k", "svamp"] and items > 70_000
