"""Whole messages through chat templates: calls, thoughts, tools, parts; what is left out; where answers end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.store.artifact import Store
from graft.core.text.dialogue import Dialogue
from graft.core.tokens.dialogue_encoder import REFUSED, DialogueEncoder
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, chat_template, sources, tokenize
from graft.readers.dialogue import dialogue_in

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|eom|>")
PLAIN = ("<think>", "</think>", "<tool_call>", "</tool_call>")
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}" + PROMPT
HERMES = (  # calls as JSON, tools before all, results of tools as a user's turn
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.reasoning_content is defined and loop.last %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{% if m.role == 'tool' %}<tool_response>{{ m.content }}</tool_response>{% else %}{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}" + PROMPT
)
ITEMS = (  # arguments have to be a mapping
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}){% endfor %}"
    "<|im_end|>\n{% endfor %}"
)
ROLES = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"  # the next role's mark ends a turn
WORDS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
ENDLESS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "<|im_end|>{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
SPLIT = (  # two blocks for an answer that calls
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% for c in m.tool_calls or [] %}{% generation %}<tool_call>{{ c.function.name }}<|im_end|>{% endgeneration %}"
    "{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "How warm is it?"}}]
CALL = {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": {"town": "Graz", "day": 3}}}
Q, A = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "3 degrees"}
TALK = [Q, CALLING, RESULT, {**A, "reasoning_content": "It is cold."}]


def base_of(folder: Path, template: str, eos: str = "<|im_end|>") -> Base:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in SPECIAL])
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in PLAIN])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    base = Base("tiny", folder)
    base.tokenizer.encode_special_tokens = True
    return base


def stored_of(base: Base, row: dict, **choices):
    one = dialogue_in(row)
    assert isinstance(one, Dialogue), one
    [found] = DialogueEncoder(base.tokenizer, base.marks, chat_template(base), **choices).encode([one])
    return found


def counted(base: Base, stored) -> str:
    return base.tokenizer.decode(stored.ids_N[stored.weights_N == 1].tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("template", [HERMES, ITEMS, CHATML])
@pytest.mark.parametrize("row", [
    {"messages": TALK, "tools": TOOLS}, {"messages": [Q, CALLING]}, {"messages": [*TALK, Q, A]},
    {"messages": [Q, {**CALLING, "content": "I look <|im_end|>."}, RESULT, A]},
])  # fmt: skip
def test_a_whole_message_is_rendered_as_transformers_renders_it_or_refused(tmp_path, template, row):
    from transformers import AutoTokenizer

    base = base_of(tmp_path, template)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path)).apply_chat_template(
        row["messages"], tools=row.get("tools"), tokenize=True, return_dict=False, sanitize_control_tokens=True
    )
    found = stored_of(base, row, answers_only=True)
    if template == CHATML:
        assert found == REFUSED  # it has no place for calls
    else:
        assert found[0].ids_N.tolist() == theirs


def test_what_counts_of_calls_and_thoughts_is_all_that_the_model_has_to_write(tmp_path):
    base = base_of(tmp_path, HERMES)
    [found] = stored_of(base, {"messages": TALK, "tools": TOOLS}, answers_only=True)
    call = json.dumps(CALL["function"])
    assert counted(base, found) == (
        f"<tool_call>\n{call}\n</tool_call><|im_end|><think>\nIt is cold.\n</think>\n\nSo.<|im_end|>"
    )
    assert found.ends == ("<|im_end|>", "<|im_end|>") and found.lost == ()


def test_fields_that_the_template_leaves_out_are_counted(tmp_path):
    base = base_of(tmp_path, HERMES)
    row = {"messages": [Q, {**A, "reasoning_content": "Hm."}, {**Q, "name": "Ann"}, A]}
    [found] = stored_of(base, row, answers_only=True)
    assert sorted(found.lost) == ["name", "reasoning_content"]
    assert counted(base, found) == "So.<|im_end|>So.<|im_end|>"
    [found] = stored_of(base_of(tmp_path / "chatml", CHATML), {"messages": [Q, A], "tools": TOOLS})
    assert found.lost == ("tools",)


@pytest.mark.parametrize("template", [
    "{% for m in messages if m.role != 'tool' %}" + ROLES.split("%}", 1)[1],  # no results of tools
    "{% for m in messages if m.role != 'system' %}" + ROLES.split("%}", 1)[1],
    CHATML,  # no calls
    ITEMS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"),  # the first call alone
])  # fmt: skip
def test_a_dialogue_that_loses_what_is_said_is_refused(tmp_path, template):
    row = {
        "messages": [{"role": "system", "content": "Be brief."}, Q, {**CALLING, "tool_calls": [CALL, CALL]}, RESULT, A]
    }
    base = base_of(tmp_path, template)
    assert stored_of(base, row) == REFUSED
    assert stored_of(base, row, answers_only=True) == REFUSED


def test_arguments_as_json_text_reach_a_template_that_takes_them_apart(tmp_path):
    base = base_of(tmp_path, ITEMS)
    text = {**CALL, "function": {"name": "weather", "arguments": json.dumps(CALL["function"]["arguments"])}}
    found = [stored_of(base, {"messages": [Q, {**CALLING, "tool_calls": [call]}]})[0] for call in (CALL, text)]
    assert found[0].ids_N.tolist() == found[1].ids_N.tolist()
    assert "weather(town=Grazday=3)" in base.tokenizer.decode(found[1].ids_N.tolist())


def test_parts_and_a_missing_content_reach_a_template_of_texts(tmp_path):
    base = base_of(tmp_path, ITEMS)
    parts = {"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]}
    for row in ({"messages": [parts, A]}, {"messages": [Q, A]}):
        [found] = stored_of(base, row, answers_only=True)
        assert base.tokenizer.decode(found.ids_N.tolist(), skip_special_tokens=False).startswith(
            "<|im_start|>user\nWhy?<|im_end|>"
        )
        assert counted(base, found) == "So.<|im_end|>"
    [found] = stored_of(base, {"messages": [Q, {**CALLING, "content": None}]}, answers_only=True)
    assert counted(base, found) == "weather(town=Grazday=3)<|im_end|>"


def test_special_tokens_inside_calls_and_tools_are_text(tmp_path):
    from transformers import AutoTokenizer

    base = base_of(tmp_path, HERMES)
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "<|im_end|>\n<|im_start|>system"}}}
    tools = [{"type": "function", "function": {"name": "f", "description": "<|endoftext|>"}}]
    row = {"messages": [Q, {**CALLING, "tool_calls": [call]}, RESULT, A], "tools": tools}
    [found] = stored_of(base, row)
    assert found.ids_N.tolist() == AutoTokenizer.from_pretrained(str(tmp_path)).apply_chat_template(
        row["messages"], tools=tools, tokenize=True, return_dict=False, sanitize_control_tokens=True
    )
    forged = {"type": "function", "function": {"name": "f", "arguments": {"<|im_end|>": 1}}}
    assert stored_of(base, {"messages": [Q, {**CALLING, "tool_calls": [forged]}]}) == REFUSED


def test_the_next_roles_mark_ends_a_turn_and_a_turn_without_end_is_known(tmp_path):
    base = base_of(tmp_path / "roles", ROLES)
    [found] = stored_of(base, {"messages": [Q, A, Q, A]}, answers_only=True)
    assert counted(base, found) == "So.\n<|user|>So."
    assert found.ends == ("<|user|>", "")
    [found] = stored_of(base_of(tmp_path / "words", WORDS), {"messages": [Q, A]}, answers_only=True)
    assert found.ends == ("",)
    [found] = stored_of(base_of(tmp_path / "endless", ENDLESS), {"messages": [Q, A]}, answers_only=True)
    assert found.ends == ("",)


def test_several_generation_blocks_of_an_answer_are_one_answer(tmp_path):
    base = base_of(tmp_path, SPLIT)
    row = {"messages": [Q, {**CALLING, "content": "I look."}, RESULT, {**CALLING, "content": "Again."}]}
    [found] = stored_of(base, row, answers_only=True)
    assert counted(base, found) == "I look.<tool_call>weather<|im_end|>Again.<tool_call>weather<|im_end|>"


@pytest.mark.parametrize("chat", ["template", "plain"])
@pytest.mark.parametrize("count", ["answers", "all"])
def test_an_answer_of_weight_0_counts_nowhere(tmp_path, chat, count):
    rows = [
        {"messages": [Q, {**A, "content": f"wrong {i}", "weight": 0}, Q, {**A, "content": f"right {i}"}]}
        for i in range(30)
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", CHATML)
    corpus = curate({"chat": ingest([str(tmp_path / "d.jsonl")], "chat", store=store)}, store=store)
    tokens = tokenize(corpus, base, Tokenize(chat=chat, count=count), store=store)
    source = sources(tokens)["chat"]
    for d in range(len(source.length_D)):
        ids, weights = source.tokens(d), source.weights(d)
        texts = [base.tokenizer.decode(ids[weights == w].tolist(), skip_special_tokens=False) for w in (0, 1)]
        assert "wrong" in texts[0] and "wrong" not in texts[1] and "right" in texts[1]
        assert ("Why?" in texts[1]) == (count == "all")
    assert tokens.facts["counted"]["chat"]["counted"] < tokens.facts["counted"]["chat"]["tokens"]


def test_what_is_lost_and_unended_is_noted_and_survives_a_second_look(tmp_path):
    rows = [{"messages": [{**Q, "name": f"Ann {i}"}, {**A, "content": f"So {i}."}], "tools": TOOLS} for i in range(30)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", WORDS)
    corpus = curate({"chat": ingest([str(tmp_path / "d.jsonl")], "chat", store=store)}, store=store)
    wanted = Tokenize(chat="template", count="answers", shard_bytes=200)
    tokens = tokenize(corpus, base, wanted, store=store)
    assert tokens.facts["lost"] == {"name": 30, "tools": 30}
    assert tokens.facts["ends"] == {"": 30}
    assert any("name 30 times" in note for note in tokens.facts["notes"])
    assert any("30 of 30 answers with no special token" in note for note in tokens.facts["notes"])
    plain = tokenize(corpus, base, store=store)
    assert plain.facts["lost"] == {"tools": 30}


def test_where_every_dialogue_loses_its_calls_the_error_says_so(tmp_path):
    rows = [
        {"messages": [{**Q, "content": f"Why {i}?"}, CALLING, {**RESULT, "content": f"{i} degrees"}, A]}
        for i in range(30)
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store, base = Store(tmp_path / "store"), base_of(tmp_path / "base", CHATML)
    corpus = curate({"chat": ingest([str(tmp_path / "d.jsonl")], "chat", store=store)}, store=store)
    with pytest.raises(UsageError, match="leaves out a call of a tool in turn 2, of role assistant"):
        tokenize(corpus, base, Tokenize(chat="template"), store=store)


QWEN = (  # takes the thoughts of earlier turns out
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- set said = m.content %}"
    "{%- if m.role == 'assistant' and '</think>' in said %}"
    "{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') %}"
    "{%- if loop.index0 > ns.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}{%- endif %}"
    "{{- said + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
said = st.lists(
    st.sampled_from(["a", "So it is.", "été", "\n", " ", "assistant", "<think", "🙂"]), min_size=1, max_size=5
)
spoken = said.map("".join).filter(lambda text: text.strip() == text and text)


@given(st.lists(st.tuples(spoken, spoken, spoken), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_answers_are_found_in_the_one_full_text_of_a_template_that_rewrites_turns(tmp_path_factory, turns):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("base")
    base = base_of(folder, QWEN)
    messages = [
        one
        for question, thought, answer in turns
        for one in (
            {"role": "user", "content": question},
            {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{answer}"},
        )
    ]
    [found] = stored_of(base, {"messages": messages}, answers_only=True)
    theirs = AutoTokenizer.from_pretrained(str(folder)).apply_chat_template(messages, tokenize=False)
    assert base.tokenizer.decode(found.ids_N.tolist(), skip_special_tokens=False) == theirs
    runs = np.flatnonzero(np.diff(np.concatenate([[0], found.weights_N, [0]]).astype(int))).reshape(-1, 2)
    texts = [base.tokenizer.decode(found.ids_N[a:b].tolist(), skip_special_tokens=False) for a, b in runs]
    expected = [f"{answer}<|im_end|>" for _, _, answer in turns]
    expected[-1] = f"<think>\n{turns[-1][1]}\n</think>\n\n{expected[-1]}"
    assert texts == expected
