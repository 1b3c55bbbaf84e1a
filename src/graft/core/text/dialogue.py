"""A dialogue: messages in order, as one plain text in which every turn has its stretch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NOTE = "dialogue"  # its key in the notes of a document
BETWEEN = "\n"
ANSWERS = "assistant"  # the role whose turns are answers; the others are "user", "system" and "tool"
THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # fields with what is thought before the content
CALLS = ("tool_calls", "function_call")  # fields with calls of tools


@dataclass(frozen=True)
class Message:
    """One message. content: None where it has none; a list of text parts where it came as one.

    more: its other fields as they came (tool_calls, reasoning_content, name ...). learned: False where the row gives
    it a weight of 0.
    """

    role: str
    content: Any = ""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    learned: bool = True

    @property
    def text(self) -> str:
        """Its plain form: thoughts, content and calls (as JSON), each on a line of its own."""
        thoughts = next((self.more[key] for key in THOUGHTS if isinstance(self.more.get(key), str)), "")
        calls = [call for key in CALLS if key in self.more for call in _listed(self.more[key])]
        parts = [thoughts, words_of(self.content), *(json.dumps(call, ensure_ascii=False) for call in calls)]
        return "\n".join(part for part in parts if part)

    @property
    def whole(self) -> dict[str, Any]:
        """The message as a chat template reads it."""
        content = {} if self.content is None else {"content": self.content}
        return {"role": self.role, **content, **self.more}


def words_of(content: Any) -> str:
    """The text of a content: a text, text parts end to end, or nothing."""
    if isinstance(content, list):
        parts: list[Any] = content
        return "".join(part if isinstance(part, str) else part["text"] for part in parts)
    return content or ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class MessageSpan:
    """One turn: who speaks, and the characters first..last (exclusive) of the text; an empty turn has none.

    message: the whole message, where it has more than its role and these characters. learned: see `Message`.
    """

    role: str
    first: int
    last: int
    message: Mapping[str, Any] | None = None
    learned: bool = True

    @property
    def note(self) -> list[Any]:
        """[role, first, last], with the rest behind it where there is any."""
        short: list[Any] = [self.role, self.first, self.last]
        return short if self.message is None and self.learned else [*short, self.message, self.learned]


@dataclass(frozen=True)
class Dialogue:
    """Messages, turn by turn; where there is `rejected`, the last turn is the chosen one of two answers.

    text: the plain form, all turns with words joined by a newline (Mix-CPT, arXiv 2407.10804: a preference is
    its prompt and the chosen answer). The rejected answer is no part of it, so what looks at texts alone (duplicates,
    overlap, plain training) takes a dialogue as any text and never sees the rejected one.
    rejected_message: the whole rejected message, where it has more than text. tools: descriptions of tools, which the
    plain form leaves out.
    """

    text: str
    turns: tuple[MessageSpan, ...]
    rejected: str | None = None
    rejected_message: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def joined(
        cls,
        messages: Iterable[tuple[str, str] | Message],
        rejected: str | Message | None = None,
        tools: Iterable[Mapping[str, Any]] = (),
    ) -> Dialogue:
        """From messages in order; a pair is a role and its text."""
        text, turns = "", list[MessageSpan]()
        for one in messages:
            message = one if isinstance(one, Message) else Message(*one)
            words = message.text
            if words:
                text += BETWEEN if text else ""
            turns.append(MessageSpan(message.role, len(text), len(text) + len(words), _rest(message), message.learned))
            text += words
        worse = Message(ANSWERS, rejected) if isinstance(rejected, str) else rejected
        return cls(
            text, tuple(turns), worse.text if worse else None, _rest(worse) if worse else None, tuple(tools)
        )  # fmt: skip

    @classmethod
    def noted(cls, text: str, notes: str) -> Dialogue | None:
        """The dialogue of a document, from its text and its notes; None where it is none."""
        note = json.loads(notes).get(NOTE) if f'"{NOTE}"' in notes else None
        if not note:
            return None
        turns = tuple(MessageSpan(*turn) for turn in note["turns"])
        return cls(text, turns, note.get("rejected"), note.get("rejected_message"), tuple(note.get("tools", ())))

    @property
    def note(self) -> dict[str, Any]:
        """What `noted` needs besides the text: {"turns": [[role, first, last], ...], "rejected": "..."}."""
        found: dict[str, Any] = {"turns": [turn.note for turn in self.turns]}
        if self.rejected is not None:
            found["rejected"] = self.rejected
        if self.rejected_message is not None:
            found["rejected_message"] = self.rejected_message
        if self.tools:
            found["tools"] = list(self.tools)
        return found

    @property
    def said(self) -> list[tuple[str, str]]:
        """(role, text) in order."""
        return [(turn.role, self.text[turn.first : turn.last]) for turn in self.turns]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as a chat template reads them."""
        return [
            dict(turn.message) if turn.message is not None else {"role": turn.role, "content": content}
            for turn, (_, content) in zip(self.turns, self.said, strict=True)
        ]

    @property
    def weighted(self) -> bool:
        """Whether some turn is not to be learned."""
        return not all(turn.learned for turn in self.turns)

    @property
    def worse(self) -> Dialogue:
        """The same up to the answer, and then the rejected one."""
        assert self.rejected is not None, "only a pair has a worse side"
        kept = self.turns[:-1]
        text = self.text[: max((turn.last for turn in kept), default=0)]
        text += BETWEEN if text and self.rejected else ""
        turn = MessageSpan(self.turns[-1].role, len(text), len(text) + len(self.rejected), self.rejected_message)
        return Dialogue(text + self.rejected, (*kept, turn), tools=self.tools)

    @property
    def chosen(self) -> Dialogue:
        """The dialogue alone, without what was rejected."""
        return replace(self, rejected=None, rejected_message=None)


def _rest(message: Message) -> dict[str, Any] | None:
    """The whole message, where its role and its text do not say it all."""
    return message.whole if message.more or not isinstance(message.content, str) else None
