"""What a run does not use or cannot know is said where a user looks, with its reason."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import OTHER, WORDS, write_texts
from graft.core.config.errors import nearest
from graft.core.process import precision as deciding
from graft.core.process.precision import runtime
from graft.core.store.artifact import Store
from graft.core.store.ledger import Amount, Ledger
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.readers.file_record import Fields
from graft.readers.folder import listing, read
from graft.report.shared.cautions import of_training

TEMPLATE = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"


def test_dialogues_that_a_template_refuses_are_a_note_with_the_first_and_why(world, tmp_path):
    asked = [{"role": "user", "content": "what is law"}, {"role": "assistant", "content": "a claim"}]
    rows = [{"messages": [{**turn, "content": f"{turn['content']} {n}"} for turn in asked]} for n in range(40)]
    for row in rows[5:9]:
        row["messages"].insert(0, {"role": "system", "content": "the judge may rule"})
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "store")
    corpus = curate({"domain": ingest([str(tmp_path / "chat.jsonl")], "domain", store=store)}, store=store)
    settings = Tokenize(chat="template", template=TEMPLATE, count="answers")
    tokens = tokenize(corpus, world.base, settings, store=store)
    [note] = [note for note in tokens.facts["notes"] if "refuses" in note]
    assert "domain: the chat template refuses 4 dialogues" in note and "chat.jsonl#6" in note
    assert "it leaves out what is said in turn 1, of role system" in note


@pytest.mark.parametrize("able", [True, False])
def test_a_precision_that_auto_would_not_choose_is_not_explained_by_what_auto_would(monkeypatch, able):
    monkeypatch.delenv("GRAFT_PRECISION")
    monkeypatch.setattr(deciding, "multiplies_bf16", lambda device: (able, "the processor says so"))
    own, other = ("bf16", "fp32") if able else ("fp32", "bf16")
    assert runtime("auto") == runtime(own) and runtime(own).why == "the processor says so"
    assert "set by hand" in runtime(other).why and f"auto would choose {own}" in runtime(other).why


def training(train: int, held_out: int, passes: float) -> list[str]:
    ledger = Ledger()
    ledger.enter("domain", Amount(3, 30, train + held_out))
    ledger.settle("domain", "train", Amount(1, 10, train))
    ledger.settle("domain", "test", Amount(2, 20, held_out))
    tokens, trained = SimpleNamespace(ledger=ledger), SimpleNamespace(facts={"passes": {"domain": passes}})
    return of_training(tokens, trained)  # type: ignore[arg-type]


def test_a_source_that_is_mostly_held_out_or_read_many_times_is_a_note():
    assert training(900, 100, 4.0) == []
    [held_out] = training(100, 900, 1.0)
    assert "90% of its tokens are held out" in held_out and "1 of 3 documents" in held_out
    [many] = training(900, 100, 9.6)
    assert "was read 9.6 times" in many


def test_a_damaged_table_says_that_its_rows_are_not_read(tmp_path):
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(60)]}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    [file] = listing(tmp_path).files
    [found] = read(file, Fields())
    assert "the file is damaged, and its rows from here on are not read" in found.hint


@pytest.mark.parametrize(("content", "reason"), [(None, "holds nothing"), ({"image": 1}, "more than text")])
def test_a_turn_of_nothing_is_not_called_more_than_text(tmp_path, content, reason):
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    [file] = listing(tmp_path).files
    [found] = read(file, Fields())
    assert reason in found.dropped


def test_the_nearest_of_very_many_words():
    words = [f"{letter}ard_{number}" for letter in "abcdefg" for number in range(1000)] + ["hellaswag"]
    assert nearest("hellaswagg", words) == 'did you mean "hellaswag"?'


def test_tokens_of_a_corpus_without_token_shards_are_not_called_exact(world, tmp_path):
    from graft.jobs.adapt import Adapt
    from graft.planning import text

    folder = write_texts(tmp_path / "domain", WORDS, 40, seed=4)
    store = Store(tmp_path / "store")
    other = write_texts(tmp_path / "general", OTHER, 40, seed=5)
    docs = {one.name: ingest([str(one)], one.name, store=store) for one in (folder, other)}
    corpus = curate(docs, store=store)
    job = Adapt(base=str(world.base.folder), domain=(str(folder),), general=(str(other),))
    known = text.sources_of(job, world.base, [corpus])
    assert known["domain"].exact and known["domain"].tokens == sum(
        one.tokens for one in tokenize(corpus, world.base, store=store).ledger.fates["domain"].values()
    )
