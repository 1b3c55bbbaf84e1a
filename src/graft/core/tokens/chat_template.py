"""A chat template: a dialogue as the text that a chat model reads, and where in it the answers stand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.models.named_tokens import named_tokens
from graft.core.models.weight_files import read_json
from graft.core.text.dialogue import ANSWERS, CALLS, words_of
from graft.core.tokens import template_traces as traces
from graft.core.tokens.template_traces import PRIVATE, Marked, Messages, Tools, Trace

if TYPE_CHECKING:
    from graft.core.models.base_model import Base

Said = Sequence[tuple[str, str]]
Span = tuple[int, int]
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
NEEDED = ("content", *CALLS)  # fields without which a dialogue is another one
ALIKE = 0.5  # share of the generation prompt that has to stand before an answer to show where it begins


class TemplateRefusal(Exception):
    """The template does not render this dialogue, or does not show where an answer is; the words say which."""


@dataclass(frozen=True)
class Rendered:
    """text: what the model reads. forged: stretches of it, in order, that are said in a turn and spell a special token.

    answers: the stretch of every answer, in order, with what ends the turn; empty where they were not asked for.
    ends: the special token that ends each of these, "" where none does. lost: fields of messages that the text lacks,
    and how many.
    """

    text: str
    forged: list[Span]
    answers: list[Span]
    ends: list[str] = field(default_factory=list[str])
    lost: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True)
class Template:
    """A Jinja template, rendered as transformers' `apply_chat_template` renders it.

    source: the template. words: what it may name besides the messages ("bos_token": "<s>", ...).
    special: texts of the tokenizer's special tokens. render_jinja: transformers' `render_jinja_template`, handed in
    because nothing here may import transformers. Left out: documents, images. A template
    that writes today's date writes the day of the rendering.
    """

    source: str
    words: Mapping[str, str]
    special: tuple[str, ...]
    render_jinja: Callable[..., Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, base: Base, render_jinja: Callable[..., Any], source: str = "") -> Template:
        """`source`, or the base's own template. Errors: UsageError when it has none, or it is not Jinja."""
        found = source or own_template(base.folder)
        if not found:
            raise UsageError(
                "the base has no chat template",
                where=str(base.folder),
                allowed="chat_template.jinja, or chat_template in tokenizer_config.json, beside the tokenizer",
                do="set tokenize.template to a Jinja template, or tokenize.chat to plain",
            )
        special = sorted(token.content for token in base.tokenizer.get_added_tokens_decoder().values() if token.special)
        template = cls(found, named_tokens(base.folder), tuple(special), render_jinja)
        template.check()
        return template

    @property
    def identity(self) -> str:
        """All that decides a rendering, as one text."""
        return json.dumps([self.source, dict(self.words), self.special])

    def check(self) -> None:
        """Errors: UsageError where it is not Jinja."""
        from jinja2.exceptions import TemplateSyntaxError

        try:
            self._render([{"role": "user", "content": "?"}])
        except TemplateSyntaxError as error:
            raise UsageError(
                f"the chat template is not Jinja: {error.message}",
                where=f"line {error.lineno} of the template",
                allowed="a template as in chat_template.jinja of a chat model",
            ) from error
        except TemplateRefusal:  # of one question alone; a dialogue may still be to its taste
            pass

    def render(self, messages: Messages | Said, tools: Tools = (), *, answers: bool = True) -> Rendered:
        """The text of a dialogue. Errors: Refused, also where a content or a call of a tool is not in the text.

        An answer's stretch is what the template puts in its place (the content, trimmed where the template trims),
        and after it, over white space, one special token: the end of the turn, which the model has to learn to say.
        In a template with {% generation %} it is that block, just as it is. Where a message has more than its content,
        or the template makes something else of it, the stretch is all from where an answer is asked for to the end of
        the turn, found in this one text: a template may write earlier turns in another way than the last one.
        """
        whole: Messages = [_message(one) for one in messages]
        whole = self._accepted(whole, tools)
        text, forged = self._with_forged(whole, tools)
        plain = not tools and all(len(one) == 2 and isinstance(one.get("content"), str) for one in whole)
        found = self._in_place([(one["role"], one["content"]) for one in whole], text) if plain else None
        seen = None if found else self._traced(whole, tools, text)
        lost = Counter[str]() if found else self._lost(whole, tools, text, seen)
        if GENERATION.search(self.source):
            found = self._generated(whole, tools, text, seen) if answers else []
        elif found is None:
            found = self._around_traces(whole, text, seen) if seen else None
            if found is None:
                found = self._by_turn(whole, tools, text) if answers else []
        return Rendered(text, forged, [span for span, _ in found] if answers else [], [end for _, end in found], lost)

    def _accepted(self, messages: Messages, tools: Tools) -> Messages:
        """The messages as they came, else in the form that the template takes. Errors: Refused."""
        first: TemplateRefusal | None = None
        for form in _forms(messages):
            try:
                text = self._render(form, tools)
            except TemplateRefusal as refused:
                first = first or refused
                continue
            if not any(isinstance(one.get("content"), list) and str(one["content"]) in text for one in form):
                return form
        raise first or TemplateRefusal("it takes no content that is a list")

    def _with_forged(self, messages: Messages, tools: Tools) -> tuple[str, list[Span]]:
        """The text, and the stretches of what is said in it that spell special tokens.

        They are followed through the template between two private characters that stand in no message.
        """
        text = self._render(messages, tools)
        if not any(self._special.search(one) for one in traces.strings((messages, tools))):
            return text, []
        free = traces.private((messages, tools))
        begin, end = next(free), next(free)

        def between(said: str) -> str:
            return self._special.sub(lambda found: f"{begin}{found[0]}{end}", said)

        changed = [dict(traces.mapped(one, between)) for one in messages]
        if _keys_spell(self._special, (messages, tools)):
            raise TemplateRefusal("a key in it spells a special token")
        parts, forged, opened = list[str](), list[Span](), None
        at = 0
        for part in re.split(f"([{begin}{end}])", self._render(changed, traces.mapped(tools, between))):
            if part == begin and opened is None:
                opened = at
            elif part == end and opened is not None:
                forged.append((opened, at))
                opened = None
            elif part in (begin, end):
                raise TemplateRefusal("it takes apart a special token that is spelled in a turn")
            else:
                parts.append(part)
                at += len(part)
        if opened is not None:
            raise TemplateRefusal("it takes apart a special token that is spelled in a turn")
        if "".join(parts) != text:
            raise TemplateRefusal("it makes another text of a turn that spells a special token")
        return text, forged

    def _in_place(self, said: Said, text: str) -> list[tuple[Span, str]] | None:
        """Answers by what the template puts around contents, found by rendering marks for them; None: unclear."""
        around = self._around(tuple(role for role, _ in said))
        if around is None or not text.startswith(around[0]):
            return None
        spans: list[tuple[Span, str]] = []
        at = len(around[0])
        for (role, content), after in zip(said, around[1:], strict=True):
            forms = dict.fromkeys((content, content.rstrip(), content.lstrip(), content.strip()))
            form = next((one for one in forms if text.startswith(one + after, at)), None)
            if form is None:
                return None
            if role == ANSWERS:
                ending = self._ending.match(after)
                spans.append(((at, at + len(form) + (ending.end() if ending else 0)), ending[1] if ending else ""))
            at += len(form) + len(after)
        return spans if at == len(text) else None

    def _around(self, roles: tuple[str, ...]) -> list[str] | None:
        """What stands before the first content, between contents and after the last one; None where that is unclear."""
        if roles not in self._known:
            marks = [chr(PRIVATE + 64 + number) for number in range(len(roles))]
            messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
            try:
                parts = re.split(f"([{marks[0]}-{marks[-1]}])", self._render(messages))
            except TemplateRefusal:
                parts = []
            self._known[roles] = parts[::2] if parts[1::2] == marks else None
        return self._known[roles]

    def _traced(self, messages: Messages, tools: Tools, text: str) -> Marked | None:
        """Where the parts of the messages are in the text; None where the template does not let them be followed."""
        for literals in self._literals:
            found = traces.marked(messages, tools, literals)
            try:
                if found and found.read(self._render(found.messages, found.tools)) == text:
                    return found
            except TemplateRefusal:
                pass
        return None

    def _lost(self, messages: Messages, tools: Tools, text: str, seen: Marked | None) -> Counter[str]:
        """Fields that the text lacks. Errors: Refused, where one of them is a content or a call."""
        if seen:
            gone = [(one.part, bool(one.seen)) for one in seen.traces.values() if one.seen < one.put]
        else:
            gone = [(part, False) for part in self._without_effect(messages, tools, text)]
        lost: Counter[str] = Counter()
        for (number, name), partly in gone:
            if name in NEEDED and not partly:
                what = "what is said" if name == "content" else "a call of a tool"
                raise TemplateRefusal(f"it leaves out {what} in turn {number + 1}, of role {messages[number]['role']}")
            lost[f"part of {name}" if partly else name] += 1
        if not seen:  # all of a content has an effect, and still it may be cut
            short = sum(words_of(one.get("content")).strip() not in text for one in messages)
            lost.update({"part of content": short} if short else {})
        return lost

    def _without_effect(self, messages: Messages, tools: Tools, text: str) -> Iterator[traces.MessagePart]:
        """The fields without which the text is the same."""
        for number, message in enumerate(messages):
            for name, value in message.items():
                if name in traces.UNMARKED or not any(one.strip() for one in traces.strings(value)):
                    continue
                less = {key: one for key, one in message.items() if key != name}
                try:
                    same = self._render([*messages[:number], less, *messages[number + 1 :]], tools) == text
                except TemplateRefusal:
                    same = False
                if same:
                    yield traces.MessagePart(number, name)
        if tools and self._render(messages) == text:
            yield traces.MessagePart(-1, "tools")

    def _around_traces(self, messages: Messages, text: str, seen: Marked) -> list[tuple[Span, str]] | None:
        """Answers by where their words are; None where messages lie in each other, or one shows nowhere."""
        borders = _borders(messages, seen.traces.values(), len(text))
        if borders is None:
            return None
        found: list[tuple[Span, str]] = []
        for message, (before, first, last, after) in zip(messages, borders, strict=True):
            if message["role"] != ANSWERS:
                continue
            begin = self._asked_for(text, before, first)
            length, end = self._turn_end(text[last:after])
            found.append(((begin, last + length), end))
        return found

    def _asked_for(self, text: str, before: int, first: int) -> int:
        """Where, in what comes before an answer's words, the template has asked for an answer."""
        prompt = self._prompt
        between = text[before:first]
        best, begin = 0, 0
        for place in range(len(between)):
            length = next((n for n, c in enumerate(prompt) if between[place + n : place + n + 1] != c), len(prompt))
            if length and length >= best:
                best, begin = length, place + length
        return before + begin if prompt and best >= ALIKE * len(prompt) else first

    def _turn_end(self, after: str) -> tuple[int, str]:
        """How far into what follows an answer's words its turn goes, and the special token that ends it."""
        usual = self._usual_end
        if usual and usual in after:
            return after.index(usual) + len(usual), usual
        ending = self._special.search(after)
        return (ending.end(), ending[0]) if ending else (0, "")

    def _generated(
        self, messages: Messages, tools: Tools, text: str, seen: Marked | None
    ) -> list[tuple[Span, str]]:  # fmt: skip
        """Answers by {% generation %} blocks. Errors: Refused where it is unclear whose they are."""
        blocks = self._rendered(messages, tools, return_assistant_tokens_mask=True)[1]
        answers = [number for number, one in enumerate(messages) if one["role"] == ANSWERS]
        if len(blocks) != len(answers):  # several to an answer, or none: by the words that they hold
            borders = _borders(messages, seen.traces.values(), len(text)) if seen else None
            if borders is None:
                raise TemplateRefusal("its {% generation %} blocks are not the answers")
            owned = {
                number: [one for one in blocks if borders[number][0] <= one[0] < borders[number][3]]
                for number in answers
            }
            if sum(map(len, owned.values())) != len(blocks) or not all(owned.values()):
                raise TemplateRefusal("its {% generation %} blocks are not the answers")
            blocks = [(owned[number][0][0], owned[number][-1][1]) for number in answers]
        return [((first, last), self._last_special(text[first:last])) for first, last in blocks]

    def _by_turn(self, messages: Messages, tools: Tools, text: str) -> list[tuple[Span, str]]:
        """Answers by rendering the dialogue up to each, and up to its end, where these are beginnings of the text."""
        spans: list[tuple[Span, str]] = []
        for number, message in enumerate(messages):
            if message["role"] != ANSWERS:
                continue
            last = number + 1 == len(messages)
            asked = self._render(messages[:number], tools, add_generation_prompt=True)
            told = text if last else self._render(messages[: number + 1], tools)
            if not (text.startswith(asked) and text.startswith(told) and len(asked) <= len(told)):
                raise TemplateRefusal("it does not show where an answer is")
            span = len(asked), max(len(asked), len(told.rstrip()))
            spans.append((span, self._last_special(text[slice(*span)])))
        return spans

    def _last_special(self, answer: str) -> str:
        """The special token that an answer ends in."""
        found = self._at_end.search(answer)
        return found[1] if found else ""

    def _render(self, messages: Messages, tools: Tools = (), **wishes: Any) -> str:
        return self._rendered(messages, tools, **wishes)[0]

    def _rendered(self, messages: Messages, tools: Tools = (), **wishes: Any) -> tuple[str, list[Span]]:
        from jinja2.exceptions import TemplateError, TemplateSyntaxError

        if tools:
            wishes["tools"] = list(tools)
        try:
            texts, blocks = self.render_jinja(
                conversations=[messages], chat_template=self.source, **wishes, **self.words
            )
        except TemplateSyntaxError:
            raise
        except (TemplateError, TypeError, ValueError, LookupError) as error:  # what templates raise by will or mistake
            raise TemplateRefusal(str(error)) from error
        return texts[0], [(first, last) for first, last in blocks[0]] if blocks else []

    @cached_property
    def _known(self) -> dict[tuple[str, ...], list[str] | None]:
        return {}

    @cached_property
    def _prompt(self) -> str:
        """What the template writes to ask for an answer, else what it puts before one; "" where neither is seen."""
        asked = [{"role": "user", "content": "?"}]
        try:
            before, after = self._render(asked), self._render(asked, add_generation_prompt=True)
        except TemplateRefusal:
            before = after = ""
        if after.startswith(before) and len(after) > len(before):
            return after[len(before) :]
        around = self._around(("user", ANSWERS))
        return around[1] if around else ""

    @cached_property
    def _usual_end(self) -> str:
        """The special token that ends an answer of a question and an answer; "" where none is seen."""
        around = self._around(("user", ANSWERS))
        ending = self._ending.match(around[-1]) if around else None
        return ending[1] if ending else ""

    @cached_property
    def _literals(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What a template may look for in a content: marks first, such as "</think>", then names too."""
        return traces.literals_of(self.source, names=False), traces.literals_of(self.source, names=True)

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """Any special token, the longest where one begins with another."""
        longest = sorted(self.special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    @cached_property
    def _ending(self) -> re.Pattern[str]:
        return re.compile(rf"\s*({self._special.pattern})")

    @cached_property
    def _at_end(self) -> re.Pattern[str]:
        return re.compile(rf"({self._special.pattern})\s*\Z")


def _message(one: Mapping[str, Any] | tuple[str, str]) -> Mapping[str, Any]:
    return {"role": one[0], "content": one[1]} if isinstance(one, tuple) else one


def _forms(messages: Messages) -> Iterator[Messages]:
    """The messages as they came; contents as one text; and the arguments of calls as JSON and no longer as its text."""
    yield messages
    texts = [{**one, "content": words_of(one.get("content"))} for one in messages]
    if texts != messages:
        yield texts
    parsed = [
        {key: _with_arguments(value) if key in CALLS else value for key, value in one.items()} for one in messages
    ]
    if parsed != messages:
        yield parsed
        yield [{**one, "content": words_of(one.get("content"))} for one in parsed]


def _with_arguments(value: Any) -> Any:
    """Calls of tools whose arguments are JSON text, with the arguments themselves."""
    if isinstance(value, list):
        listed: list[Any] = value
        return [_with_arguments(one) for one in listed]
    if not isinstance(value, dict):
        return value
    named: dict[str, Any] = value
    return {
        key: _with_arguments(one) if key == "function" else _json(one) if key == "arguments" else one
        for key, one in named.items()
    }


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _keys_spell(special: re.Pattern[str], value: Any) -> bool:
    if isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        return any(special.search(str(key)) for key in named) or _keys_spell(special, list(named.values()))
    if isinstance(value, list | tuple):
        listed: Sequence[Any] = value
        return any(_keys_spell(special, one) for one in listed)
    return False


def _borders(messages: Messages, seen: Iterable[Trace], length: int) -> list[tuple[int, int, int, int]] | None:
    """For each message (end of the words before it, its first, its last, begin of the words after it).

    None where the words of two messages are mixed, or an answer has none.
    """
    spans: list[Span | None] = [None] * len(messages)
    for one in seen:
        if one.part.message >= 0 and one.seen:
            first, last = spans[one.part.message] or (one.first, one.last)
            spans[one.part.message] = min(first, one.first), max(last, one.last)
    shown = [span for span in spans if span]
    if any(before[1] > after[0] for before, after in pairwise(shown)):
        return None
    if any(span is None and message["role"] == ANSWERS for span, message in zip(spans, messages, strict=True)):
        return None
    found: list[tuple[int, int, int, int]] = []
    for number, span in enumerate(spans):
        before = max((one[1] for one in spans[:number] if one), default=0)
        after = min((one[0] for one in spans[number + 1 :] if one), default=length)
        found.append((before, *(span or (before, before)), after))
    return found


def own_template(folder: Path) -> str:
    """The template in a model's folder, found as transformers finds it; "" where there is none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text("utf-8")
    path = folder / "tokenizer_config.json"
    found = read_json(path).get("chat_template") if path.exists() else None
    if isinstance(found, list):  # of several, by name
        found = {one["name"]: one["template"] for one in found}
    return (found.get("default") or "") if isinstance(found, dict) else found or ""
