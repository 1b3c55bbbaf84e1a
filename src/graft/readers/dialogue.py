"""Dialogues and preference pairs in rows, in the forms that the field's data sets have.

    messages       [{role, content}, ...]                     OpenAI, TRL
    conversations  [{from, value}, ...]                       ShareGPT
    prompt         + completion or response
    instruction    (+ input or context) + output or response  Alpaca, Dolly
    question       + answer
    chosen         + rejected                                 one of the above as the prompt, or the prompt inside both

A field that may hold one turn holds a text, a message or a list of messages; lists may be written as JSON text.
`system` goes before all, and `history`, a list of (question, answer), before the question, where a row has them.
`tools` (or `functions`) describes the tools that may be called. Fields that are null, an empty list or an empty text
are as good as absent: rows of several forms in one table are filled with them.

A message keeps all its fields: tool_calls, reasoning_content, name ... Its `weight` (OpenAI, Mistral) or `train`
(axolotl) says whether an answer is to be learned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from graft.core.text.dialogue import ANSWERS, CALLS, THOUGHTS, Dialogue, Message
from graft.core.text.drop_reasons import read_fate
from graft.readers.file_record import BOM, UNDECODABLE, clean, has_surrogate

MALFORMED = read_fate("dialogue_malformed")
UNKNOWN_ROLE = read_fate("dialogue_role")
NOT_WORDS = read_fate("dialogue_not_words")
NO_WORDS = read_fate("dialogue_no_words")
NO_ANSWER = read_fate("dialogue_no_answer")
NO_PROMPT = read_fate("pair_no_prompt")
PARTS_EARLY = read_fate("pair_parts_early")
SAME = read_fate("pair_equal")
NOT_JSON_TEXT = read_fate("dialogue_not_json")
NOT_TOOLS = read_fate("dialogue_tools")
NOT_WEIGHT = read_fate("dialogue_weight")
NOT_LEARNED = read_fate("dialogue_unlearned")

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys((ANSWERS, "gpt", "model", "bot", "chatgpt", "function_call"), ANSWERS),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "ipython"), "tool"),
}
LISTS = ("messages", "conversations")
PROMPTS = {"prompt": (), "instruction": ("input", "context"), "question": ()}  # and what is put under each
REPLIES = {"prompt": ("completion", "response"), "instruction": ("output", "response"), "question": ("answer",)}
PAIR = ("chosen", "rejected")
TOOLS = ("tools", "functions")
FIELDS = tuple(
    dict.fromkeys(
        (*PAIR, *LISTS, "system", "history", *TOOLS, *PROMPTS, *sum(PROMPTS.values(), ()), *sum(REPLIES.values(), ()))
    )
)
NAMES, WORDS = ("role", "from"), ("content", "value")  # of a message's fields, the first that is there
WEIGHTS = ("weight", "train", "training")
HUMAN = re.compile(r"\n\n(Human|Assistant):(?: |(?=\n)|\Z)")  # turns inside one text, as in Bai et al. 2022 (HH-RLHF)

Said = list[Message]


class _Malformed(Exception):
    """Why a row that has the fields of a dialogue is none, in the words of the ledger."""


def dialogue_in(row: Mapping[str, Any]) -> Dialogue | str | None:
    """The dialogue of a row; a reason, where its fields are those of one and it is malformed; None where they are not.

    Malformed: a turn is no text, its role is unknown, there is no answer with words in it; of a pair, the answers are
    the same, there is no prompt, or the two part before the last turn.
    """
    try:
        if all(_there(row, field) for field in PAIR) or (any(_there(row, field) for field in PAIR) and _paired(row)):
            return _pair(row)
        said = _dialogue(row)
        if said is None:
            return MALFORMED if any(row.get(field) is not None for field in LISTS) else None
        said = _before(row, said) + said
        answers = [one for one in said if one.role == ANSWERS and one.text.strip()]
        if not answers:
            return NO_ANSWER
        return Dialogue.joined(said, tools=_tools(row)) if any(one.learned for one in answers) else NOT_LEARNED
    except _Malformed as malformed:
        return str(malformed)


def looks_like_one(fields: Sequence[str]) -> bool:
    """Whether rows with these fields can hold dialogues."""
    return (
        all(field in fields for field in PAIR)
        or any(field in fields for field in LISTS)
        or any(prompt in fields and any(reply in fields for reply in replies) for prompt, replies in REPLIES.items())
    )


def _empty(value: Any) -> bool:
    """Null, and what a field is filled with that a row lacks."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def _there(row: Mapping[str, Any], field: str) -> bool:
    return not _empty(row.get(field))


def _paired(row: Mapping[str, Any]) -> bool:
    """Whether a row with one empty side is a pair all the same: both sides are there, and nothing else is answered."""
    return all(row.get(field) is not None for field in PAIR) and not any(
        _there(row, field) for field in (*LISTS, *sum(REPLIES.values(), ()))
    )


def _dialogue(row: Mapping[str, Any]) -> Said | None:
    for field in LISTS:
        if _there(row, field):
            return _turns(row[field], "user", spelled=True)
    given = [
        (prompt, row[field])
        for prompt, replies in REPLIES.items()
        if row.get(prompt) is not None
        for field in replies
        if row.get(field) is not None
    ]
    full = [(prompt, reply) for prompt, reply in given if not _empty(reply)]
    for prompt, reply in (*full, *given):
        return _asked(row, prompt) + _turns(reply, ANSWERS)
    return None


def _pair(row: Mapping[str, Any]) -> Dialogue | str:
    """Where the two sides hold the prompt themselves (they begin with a turn that is no answer), theirs is taken."""
    better, worse = (_side(row[field]) for field in PAIR)
    shared = 0
    while shared < min(len(better), len(worse)) - 1 and better[shared] == worse[shared]:
        shared += 1
    if [one.role for one in (*better[shared:], *worse[shared:])] != [ANSWERS, ANSWERS]:
        return PARTS_EARLY if max(len(better), len(worse)) - shared > 1 else MALFORMED
    prompt = better[:shared]
    if not prompt or prompt[0].role == ANSWERS:
        prompt = _prompt(row) + prompt
    prompt = _before(row, prompt) + prompt
    if not any(one.text.strip() for one in prompt if one.role != "system"):
        return NO_PROMPT
    chosen, rejected = better[-1], worse[-1]
    if not chosen.text.strip() or not rejected.text.strip():
        return NO_ANSWER
    if not chosen.learned or not rejected.learned:
        return NOT_LEARNED
    if chosen == rejected:
        return SAME
    if "\0" in rejected.text or has_surrogate(rejected.text):
        return UNDECODABLE
    return Dialogue.joined([*prompt, chosen], rejected, _tools(row))


def _side(value: Any) -> Said:
    """One side of a pair; a text that spells its turns is taken apart."""
    if isinstance(value, str) and HUMAN.match(value):
        _, *parts = HUMAN.split(value)
        roles = ["user" if name == "Human" else ANSWERS for name in parts[::2]]
        return [Message(role, clean(content.strip())) for role, content in zip(roles, parts[1::2], strict=True)]
    return _turns(value, ANSWERS)


def _prompt(row: Mapping[str, Any]) -> Said:
    for field in LISTS:
        if _there(row, field):
            return _turns(row[field], "user", spelled=True)
    return next((_asked(row, field) for field in PROMPTS if _there(row, field)), [])


def _asked(row: Mapping[str, Any], field: str) -> Said:
    """What the user asks, with the input put under the instruction; nothing where there are no words."""
    value = row[field]
    if isinstance(value, str):
        under = [row[name] for name in PROMPTS[field] if row.get(name)]
        if not all(isinstance(one, str) for one in under):
            raise _Malformed(MALFORMED)
        if not under and (spelled := _spelled(value)) is not None:
            return _turns(spelled, "user")
        value = "\n".join(part for part in (value, *under) if part)
        return [] if not value.strip() else _turns(value, "user")
    return [] if isinstance(value, list) and not value else _turns(value, "user")


def _before(row: Mapping[str, Any], said: Said) -> Said:
    """The turns that a row keeps in fields of their own."""
    begun: Said = []
    system = row.get("system")
    if isinstance(system, str) and system.strip() and (not said or said[0].role != "system"):
        begun += _turns(system, "system")
    history = row.get("history") or []
    if isinstance(history, str):
        history = _json(history)
    if not isinstance(history, list):
        raise _Malformed(MALFORMED)
    for turn in cast("list[Any]", history):
        if not isinstance(turn, list) or len(cast("list[Any]", turn)) != 2:
            raise _Malformed(MALFORMED)
        question, answer = cast("list[Any]", turn)
        begun += _turns(question, "user") + _turns(answer, ANSWERS)
    return begun


def _tools(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The descriptions of tools, which may be JSON text. Those of `functions` (OpenAI's older form) have no type."""
    for field in TOOLS:
        value = row.get(field)
        if isinstance(value, str):
            value = _json(value) if value.strip() else None
            if value is None and row[field].strip() not in ("", "null"):
                raise _Malformed(NOT_TOOLS)
        if _empty(value):
            continue
        found: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in found):
            raise _Malformed(NOT_TOOLS)
        if has_surrogate(json.dumps(found, ensure_ascii=False)):
            raise _Malformed(UNDECODABLE)
        return [{"type": "function", "function": one} for one in found] if field == "functions" else found
    return []


def _turns(value: Any, role: str, *, spelled: bool = False) -> Said:
    """Messages of a text (by `role`), of a message, or of a list of messages. spelled: a text has to be JSON."""
    if isinstance(value, str):
        found = _spelled(value)
        if found is None:
            if spelled:
                raise _Malformed(NOT_JSON_TEXT)
            return [Message(role, clean(value).lstrip(BOM))]
        value = found
    if isinstance(value, dict):
        return [_message(cast("dict[str, Any]", value))]
    if not isinstance(value, list) or not value:
        raise _Malformed(MALFORMED)
    return [_message(one) for one in cast("list[Any]", value)]


def _spelled(text: str) -> Any:
    """The message or messages that a text spells as JSON; None where it is a text like any other."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    found = _json(text)
    one = found[0] if isinstance(found, list) and found else found
    return found if isinstance(one, dict) and any(name in one for name in NAMES) else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise _Malformed(MALFORMED)
    named = {key: value for key, value in cast("dict[Any, Any]", message).items() if not _empty(value)}
    name = next((named[key] for key in NAMES if key in named), None)
    if not isinstance(name, str):
        raise _Malformed(MALFORMED)
    if name.lower() not in ROLES:
        raise _Malformed(UNKNOWN_ROLE)
    learned = _learned(named)
    more = {key: value for key, value in named.items() if key not in (*NAMES, *WORDS, *WEIGHTS)}
    for key in (*CALLS, *THOUGHTS):
        if key in more:
            more[key] = _calls(more[key]) if key in CALLS else _thought(more[key])
    if more and has_surrogate(json.dumps(more, ensure_ascii=False, default=str)):
        raise _Malformed(UNDECODABLE)
    content = next((named[key] for key in WORDS if key in named), None)
    if content is None and any(message.get(key) == "" for key in WORDS):
        content = ""
    if content is None and any(key in more for key in (*CALLS, *THOUGHTS)):
        return Message(ROLES[name.lower()], None, more, learned)
    return Message(ROLES[name.lower()], _content(content), more, learned)


def _content(content: Any) -> Any:
    """A text, or parts that are all text, without what `clean` takes off."""
    if isinstance(content, str):
        return clean(content).lstrip(BOM)
    if content is None:
        raise _Malformed(NO_WORDS)
    if not isinstance(content, list):
        raise _Malformed(NOT_WORDS)
    parts: list[Any] = []
    for part in cast("list[Any]", content):
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):  # an image, a sound ...
            raise _Malformed(NOT_WORDS)
        text = clean(text).lstrip(BOM)
        parts.append(text if isinstance(part, str) else {**_without_nulls(part), "text": text})
    return "".join(parts) if all(isinstance(part, str) for part in parts) else parts


def _without_nulls(part: Any) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value is not None}


def _thought(value: Any) -> str:
    if not isinstance(value, str):
        raise _Malformed(NOT_WORDS)
    return clean(value).lstrip(BOM)


def _calls(value: Any) -> Any:
    """Calls of tools, which may be JSON text."""
    found = _json(value) if isinstance(value, str) else value
    calls = cast("list[Any]", found) if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) for call in calls):
        raise _Malformed(MALFORMED)
    return found


def _learned(named: Mapping[str, Any]) -> bool:
    for key in WEIGHTS:
        value = named.get(key)
        if isinstance(value, bool | int | float) and value in (0, 1):
            if not value:
                return False
        elif value is not None:
            raise _Malformed(NOT_WEIGHT)
    return True
