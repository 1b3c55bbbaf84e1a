"""Rows as they are found: fields filled with null, lists as JSON text, calls of tools, weights."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.store.artifact import Store
from graft.core.text.dialogue import Dialogue, Message
from graft.data.ingest import ingest
from graft.readers import dialogue as shapes

Q, A = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
CALL = {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Graz"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "name": "weather", "tool_call_id": "c0", "content": "3 degrees"}

SAME_AS_QA = {
    "null role beside from": {"messages": [
        {"role": None, "content": None, "from": "human", "value": "Why?"},
        {"role": None, "content": None, "from": "gpt", "value": "So."},
    ]},
    "null from beside role": {"messages": [{**Q, "from": None, "value": None}, {**A, "from": None, "value": ""}]},
    "empty messages beside a prompt": {"messages": [], "conversations": None, "prompt": "Why?", "completion": "So."},
    "empty pair beside messages": {"messages": [Q, A], "chosen": [], "rejected": []},
    "null pair beside a prompt": {"prompt": "Why?", "response": "So.", "chosen": None, "rejected": ""},
    "empty prompt beside an instruction": {"prompt": "", "completion": "", "instruction": "Why?", "output": "So."},
    "empty completion beside a response": {"prompt": "Why?", "completion": "", "response": "So."},
    "messages as JSON text": {"messages": json.dumps([Q, A])},
    "conversations as JSON text": {"conversations": json.dumps([{"from": "human", "value": "Why?"}, A])},
    "prompt and completion as JSON text": {"prompt": json.dumps([Q]), "completion": json.dumps(A)},
    "empty text field": {"text": "", "messages": [Q, A]},
    "null fields of a message": {"messages": [{**Q, "tool_calls": None, "name": None}, {**A, "tool_calls": []}]},
    "empty tools": {"messages": [Q, A], "tools": "[]", "system": None},
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_AS_QA)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_what_a_row_lacks_is_as_if_it_were_not_there(tmp_path, name, kind):
    row = SAME_AS_QA[name]
    if kind == "jsonl":
        (tmp_path / "d.jsonl").write_text(json.dumps(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "d.parquet")
    docs = ingest([str(tmp_path / f"d.{kind}")], "chat", store=Store(tmp_path / "store"))
    [found] = pq.read_table(docs / "docs.parquet").to_pylist()
    assert not found["dropped"]
    assert Dialogue.noted(found["text"], found["notes"]) == Dialogue.joined([("user", "Why?"), ("assistant", "So.")])


@pytest.mark.parametrize(("row", "reason"), [
    ({"messages": "[{'role': 'user'}]"}, shapes.NOT_JSON_TEXT),
    ({"messages": "hello"}, shapes.NOT_JSON_TEXT),
    ({"messages": "[" * 100_000}, shapes.NOT_JSON_TEXT),
    ({"messages": []}, shapes.MALFORMED),
    ({"messages": [Q, {**A, "weight": 0.5}]}, shapes.NOT_WEIGHT),
    ({"messages": [Q, {**A, "weight": 0}]}, shapes.NOT_LEARNED),
    ({"messages": [Q, {**A, "train": False}]}, shapes.NOT_LEARNED),
    ({"messages": [Q, A], "tools": "{not json"}, shapes.NOT_TOOLS),
    ({"messages": [Q, A], "tools": ["hammer"]}, shapes.NOT_TOOLS),
    ({"messages": [Q, {**CALLING, "tool_calls": "broken"}]}, shapes.MALFORMED),
    ({"messages": [Q, {"role": "assistant", "content": None}]}, shapes.NO_WORDS),
])  # fmt: skip
def test_what_cannot_be_meant_has_its_reason(row, reason):
    assert shapes.dialogue_in(row) == reason


def test_a_text_that_looks_like_json_stays_a_text():
    for text in ("[1, 2]", '{"a": 1}', "[broken", "{}"):
        found = shapes.dialogue_in({"prompt": text, "completion": text})
        assert isinstance(found, Dialogue) and found.said == [("user", text), ("assistant", text)]


def test_a_message_keeps_all_its_fields():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    thinking = {"role": "assistant", "content": "3.", "reasoning_content": "It is cold."}
    row = {"messages": [Q, CALLING, RESULT, thinking], "tools": json.dumps(tools)}
    found = shapes.dialogue_in(row)
    assert isinstance(found, Dialogue)
    calling = {key: value for key, value in CALLING.items() if value is not None}
    assert found.messages == [Q, calling, RESULT, thinking]
    assert list(found.tools) == tools
    # The plain form has the calls too, so that dialogues of different calls are different texts.
    assert found.said[1:] == [
        ("assistant", json.dumps(CALL)), ("tool", "3 degrees"), ("assistant", "It is cold.\n3."),
    ]  # fmt: skip
    again = Dialogue.noted(found.text, json.dumps({"dialogue": found.note}))
    assert again == found


def test_calls_as_json_text_and_older_functions_are_calls():
    row = {
        "messages": [Q, {**CALLING, "tool_calls": json.dumps([CALL])}, RESULT, A],
        "functions": [{"name": "weather"}],
    }
    found = shapes.dialogue_in(row)
    assert isinstance(found, Dialogue)
    assert found.messages[1]["tool_calls"] == [CALL]
    assert list(found.tools) == [{"type": "function", "function": {"name": "weather"}}]


def test_weights_are_kept_with_their_turns():
    row = {"messages": [Q, {**A, "weight": 0}, Q, {**A, "weight": 1.0}, Q, {**A, "train": True}]}
    found = shapes.dialogue_in(row)
    assert isinstance(found, Dialogue) and found.weighted
    assert [turn.learned for turn in found.turns] == [True, False, True, True, True, True]
    assert Dialogue.noted(found.text, json.dumps({"dialogue": found.note})) == found


def test_both_sides_of_a_pair_keep_their_calls():
    row = {"prompt": "Why?", "chosen": [CALLING], "rejected": [{**CALLING, "content": "No."}]}
    found = shapes.dialogue_in(row)
    assert isinstance(found, Dialogue)
    assert found.worse.messages[-1] == {"role": "assistant", "content": "No.", "tool_calls": [CALL]}
    assert found.chosen.messages[-1]["tool_calls"] == [CALL]
    again = Dialogue.noted(found.text, json.dumps({"dialogue": found.note}))
    assert again is not None and again.worse == found.worse


scalars = st.sampled_from([None, True, 0, 1, "", "user", "assistant", "words", '[{"role": "user"}]', "[", 2.5])
keys = st.sampled_from(["role", "from", "content", "value", "tool_calls", "weight", "name", "text", "a"])
fields = st.dictionaries(keys, scalars | st.lists(st.dictionaries(keys, scalars, max_size=3), max_size=2), max_size=4)
json_like = scalars | fields | st.lists(scalars | fields, max_size=3)


@given(st.dictionaries(st.sampled_from(shapes.FIELDS), json_like, max_size=5))
@settings(deadline=None, max_examples=300)
def test_any_row_is_a_dialogue_a_reason_or_none(row):
    found = shapes.dialogue_in(row)
    assert found is None or isinstance(found, Dialogue) or found.startswith("dropped: ")
    if isinstance(found, Dialogue):
        assert Dialogue.noted(found.text, json.dumps({"dialogue": found.note})) == found


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), max_size=12)


@given(st.lists(st.tuples(words, words, st.booleans()), min_size=1, max_size=4))
def test_nulls_change_no_dialogue(turns):
    """A row filled with the other form's keys reads as the row without them."""
    rows = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a, "weight": int(w)}] for q, a, w in turns
    ]
    bare = {"messages": [one for pair in rows for one in pair]}
    filled = {
        "messages": [{**one, "from": None, "value": None, "tool_calls": [], "name": None} for one in bare["messages"]],
        "conversations": [], "prompt": None, "chosen": None, "rejected": [], "system": "",
    }  # fmt: skip
    assert shapes.dialogue_in(filled) == shapes.dialogue_in(bare)
    assert shapes.dialogue_in({"messages": json.dumps(bare["messages"])}) == shapes.dialogue_in(bare)


def test_a_message_speaks_for_itself():
    assert Message("user", [{"type": "text", "text": "a"}, "b"]).text == "ab"
