"""Where in a rendered text the parts of messages are: followed through a chat template by private characters.

Every stretch of words in a message is put between two marks, the template is rendered, and the marks are taken out
again. Marks stand next to words and outside of whatever the template itself spells, so that what a template looks for
in a content (white space at its ends, "</think>") is found as before. Whoever traces has to compare: only where the
text without marks is the template's own text does a trace hold.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PRIVATE = 0xF0000  # first of the characters (plane 15) that stand for something while a template is rendered
NUM_PRIVATE = 0xFFFD
UNMARKED = ("role", "type", "id", "tool_call_id")  # keys whose values are no words of the message
TAGS = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
CONSTANTS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class MessagePart(NamedTuple):
    """A field of a message, or one element of a field that is a list; of the tools, message is -1."""

    message: int
    name: str


@dataclass
class Trace:
    """What is seen of a part: marks that were put in, marks that came out, and the first and last place of those."""

    part: MessagePart
    put: int = 0
    seen: int = 0
    first: int = -1
    last: int = -1


@dataclass
class Marked:
    """Messages and tools with marks in them, and what each mark belongs to."""

    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    tools: list[Any] = field(default_factory=list[Any])
    traces: dict[str, Trace] = field(default_factory=dict[str, Trace])

    def read(self, rendered: str) -> str:
        """The text without its marks; where they were goes into `traces`."""
        text: list[str] = []
        at = 0
        for part in re.split(f"([{chr(PRIVATE)}-{chr(PRIVATE + NUM_PRIVATE)}])", rendered):
            trace = self.traces.get(part)
            if trace is None:
                text.append(part)
                at += len(part)
                continue
            trace.first = at if not trace.seen else trace.first
            trace.last = at
            trace.seen += 1
        return "".join(text)


def marked(messages: Messages, tools: Tools, literals: re.Pattern[str]) -> Marked | None:
    """Marks around all words but those that `literals` finds; None where there are more parts than marks."""
    found = Marked()
    free = private((messages, tools))

    def put(part: MessagePart, value: Any) -> Any:
        mark = next(free)
        trace = found.traces[mark] = Trace(part)

        def around(text: str) -> str:
            changed = _around_words(text, mark, literals)
            trace.put += changed.count(mark)
            return changed

        return mapped(value, around, UNMARKED)

    try:
        for number, message in enumerate(messages):
            found.messages.append(
                {
                    key: value if key in UNMARKED else _by_element(MessagePart(number, key), value, put)
                    for key, value in message.items()
                }
            )
        found.tools = [put(MessagePart(-1, "tools"), tool) for tool in tools]
    except StopIteration:
        return None
    return found


def private(value: Any) -> Iterator[str]:
    """Characters that stand nowhere in a value and that no text should have."""
    taken = set[str]().union(*strings(value))
    return (mark for code in range(NUM_PRIVATE) if (mark := chr(PRIVATE + code)) not in taken)


def mapped(value: Any, change: Callable[[str], str], but: Sequence[str] = ()) -> Any:
    """A value with every text inside changed; keys stay, and what stands under those of `but`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        return {key: one if key in but else mapped(one, change, but) for key, one in named.items()}
    if isinstance(value, list | tuple):
        listed: Sequence[Any] = value
        return [mapped(one, change, but) for one in listed]
    return value


def strings(value: Any) -> Iterator[str]:
    """Every text inside a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        for key, one in named.items():
            yield str(key)
            yield from strings(one)
    elif isinstance(value, list | tuple):
        listed: Sequence[Any] = value
        for one in listed:
            yield from strings(one)


def literals_of(source: str, *, names: bool) -> re.Pattern[str]:
    """What a template spells in its tags, but for white space and single characters: what it may look for.

    names: also what is a single word, as names of roles and fields are.
    """
    found: set[str] = set()
    for tag in TAGS.findall(source):
        for constant in CONSTANTS.findall(tag):
            try:
                found.add(str(ast.literal_eval(constant)).strip())
            except (ValueError, SyntaxError):
                found.add(constant[1:-1].strip())
    found = {one for one in found if len(one) > 1 and (names or not one.isidentifier())}
    longest = sorted(found, key=lambda one: (-len(one), one))
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")


def _by_element(part: MessagePart, value: Any, put: Callable[[MessagePart, Any], Any]) -> Any:
    if isinstance(value, list):
        listed: list[Any] = value
        return [put(part, one) for one in listed]
    return put(part, value)


def _around_words(text: str, mark: str, literals: re.Pattern[str]) -> str:
    out: list[str] = []
    at = 0
    for first, last in [*(found.span() for found in literals.finditer(text)), (len(text), len(text))]:
        between = text[at:first]
        words = between.strip()
        if words:
            lead = len(between) - len(between.lstrip())
            between = f"{between[:lead]}{mark}{words}{mark}{between[lead + len(words) :]}"
        out += [between, text[first:last]]
        at = last
    return "".join(out)
