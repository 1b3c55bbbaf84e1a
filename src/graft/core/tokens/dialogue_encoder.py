"""Dialogues to stored documents: their token ids, and which of them count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graft.core.models.base_model import BoundaryTokens
from graft.core.text.dialogue import ANSWERS, Dialogue
from graft.core.text.drop_reasons import Reason
from graft.core.tokens.cached_encoder import slices
from graft.core.tokens.chat_template import Rendered, Span, Template, TemplateRefusal
from graft.core.tokens.token_shards import ALONE, CHOSEN, REJECTED

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SLICE = 1 << 20  # characters of text encoded together
REFUSAL = Reason("refused", "left out: a dialogue that the chat template refuses", "refused by the chat template")
REFUSED = REFUSAL.fate()


class Stored(NamedTuple):
    """A document as it is stored: N tokens, the weight of each (0 or 1), and its part in a pair.

    ends: of every answer that counts, the special token that ends it, "" where none does. lost: see `Rendered`.
    """

    ids_N: NDArray[np.uint32]
    weights_N: NDArray[np.uint8]
    role: int = ALONE
    ends: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class DialogueEncoder:
    """Token ids and weights of dialogues.

    Without a template a dialogue is its plain text between the marks. With one it is what transformers'
    `apply_chat_template(..., tokenize=True)` gives, and no mark is added: a template writes its own. There a special
    token that is spelled in a turn is read as text: the text before it, it, and the text after it are encoded each by
    itself (`sanitize_control_tokens` in transformers), so that no turn can forge a border.

    Which tokens count, where not all do (answers_only, and both sides of a pair): those that overlap an answer by at
    least one character, and the one token, over white space, that ends the answer's turn: the special token that the
    template puts there (see `Template.render`); without a template, the end mark after a last answer. A token begins
    where the one before it ended, so that white space a tokenizer trims off its offsets belongs to the token after
    it. Of a pair only the last answer counts: what was said before is the same on both sides. An answer of weight 0
    never counts, not even where all tokens do.

    tokenizer: reads special tokens as text (encode_special_tokens), as it does for every plain document.
    """

    tokenizer: Tokenizer
    marks: BoundaryTokens
    template: Template | None = None
    answers_only: bool = False
    pairs: bool = False

    def encode(self, dialogues: Sequence[Dialogue]) -> list[list[Stored] | str]:
        """For each dialogue what is stored of it, a chosen side before its rejected one; or why nothing is."""
        sides: list[tuple[Dialogue, int]] = []
        counts: list[int] = []
        for one in dialogues:
            paired = self.pairs and one.rejected is not None
            sides += [(one.chosen, CHOSEN), (one.worse, REJECTED)] if paired else [(one.chosen, ALONE)]
            counts.append(1 + paired)
        stored = iter(self._templated(sides) if self.template else self._plain(sides))
        found = [[next(stored) for _ in range(count)] for count in counts]
        return [
            [one for one in of if isinstance(one, Stored)] if not any(isinstance(one, str) for one in of) else REFUSED
            for of in found
        ]

    def _plain(self, sides: Sequence[tuple[Dialogue, int]]) -> list[Stored | str]:
        texts = [one.text for one, _ in sides]
        found: list[Stored | str] = []
        for (one, role), encoding in zip(sides, _encodings(self.tokenizer, texts), strict=True):
            ids_N = np.array(encoding.ids, np.uint32)
            answers = [turn for turn in one.turns if turn.role == ANSWERS]
            spans = [(turn.first, turn.last) for turn in answers]
            weights_N = self._weights(_stretches(encoding), spans, [turn.learned for turn in answers], role)
            last = one.turns[-1]
            ends = int(last.role == ANSWERS and last.learned) if self.answers_only or role != ALONE else last.learned
            before = np.array([self.marks.start], np.uint32) if self.marks.start is not None else ids_N[:0]
            after = np.array([self.marks.end], np.uint32) if self.marks.end is not None else ids_N[:0]
            weights_N = np.concatenate(
                [np.full(len(before), weights_N.all()), weights_N, np.full(len(after), ends)]
            ).astype(np.uint8)
            lost = ("tools",) if one.tools else ()
            end = self.tokenizer.id_to_token(self.marks.end) if ends and self.marks.end is not None else None
            counted = (end,) if end and last.role == ANSWERS else ()
            found.append(Stored(np.concatenate([before, ids_N, after]), weights_N, role, counted, lost))
        return found

    def _weights(
        self, stretches_N2: NDArray[np.int64], spans: Sequence[Span], learned: Sequence[bool], role: int
    ) -> NDArray[np.uint8]:
        """Which tokens count. spans, learned: of every answer; where all count, of those alone that do not."""
        if role != ALONE:
            return overlapping(stretches_N2, spans[-1:])
        if self.answers_only:
            return overlapping(stretches_N2, [span for span, wanted in zip(spans, learned, strict=True) if wanted])
        return 1 - overlapping(stretches_N2, [span for span, wanted in zip(spans, learned, strict=True) if not wanted])

    def _templated(self, sides: Sequence[tuple[Dialogue, int]]) -> list[Stored | str]:
        assert self.template is not None, "checked by encode"
        rendered: list[Rendered | str] = []
        for one, role in sides:
            try:
                wanted = self.answers_only or role != ALONE or one.weighted
                rendered.append(self.template.render(one.messages, one.tools, answers=wanted))
            except TemplateRefusal as refused:
                rendered.append(str(refused))
        whole = [one.text for one in rendered if isinstance(one, Rendered) and not one.forged]
        encodings = _encodings(self._with_special, whole)
        found: list[Stored | str] = []
        for (side, role), one in zip(sides, rendered, strict=True):
            if isinstance(one, str):
                found.append(one)
                continue
            learned = [turn.learned for turn in side.turns if turn.role == ANSWERS]
            if one.forged:
                ids_N, stretches_N2 = self._in_parts(one)
            else:
                encoding = next(encodings)
                ids_N, stretches_N2 = np.array(encoding.ids, np.uint32), _stretches(encoding)
            spans = one.answers or [(0, 0)] * len(learned)
            weights_N = self._weights(stretches_N2, spans, learned, role)
            ends = [end for end, wanted in zip(one.ends, learned, strict=False) if wanted]
            ends = ends if role == ALONE else one.ends[-1:]
            found.append(Stored(ids_N, weights_N, role, tuple(ends), tuple(one.lost.elements())))
        return found

    @cached_property
    def _with_special(self) -> Tokenizer:
        """The tokenizer that finds special tokens: a copy, since the other one is in use and must stay as it is."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.tokenizer.to_str())

    def _in_parts(self, rendered: Rendered) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Ids and stretches of a text in which what is forged is read as text."""
        ids, stretches = [np.zeros(0, np.uint32)], [np.zeros((0, 2), np.int64)]
        at = 0
        for first, last in [*rendered.forged, (len(rendered.text), len(rendered.text))]:
            for tokenizer, begin, end in ((self._with_special, at, first), (self.tokenizer, first, last)):
                if begin < end:
                    part_ids, part_N2 = _inside(tokenizer, rendered.text[begin:end], begin > 0)
                    ids.append(part_ids)
                    stretches.append(part_N2 + begin)
            at = last
        return np.concatenate(ids), np.concatenate(stretches)


def _encodings(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Encoding]:
    """The encoding of each text; those of SLICE characters are held at once, at about a hundred bytes a token."""
    for some in slices(texts, SLICE, len(texts)):
        yield from tokenizer.encode_batch(some, add_special_tokens=False)


def _inside(tokenizer: Tokenizer, part: str, later: bool) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Ids and stretches of a part of a text. A later one is encoded behind a line end where that can be taken off
    again: some tokenizers (SentencePiece's kind) put a space before whatever comes first."""
    if later:
        line_end = tokenizer.encode("\n", add_special_tokens=False).ids
        encoding = tokenizer.encode("\n" + part, add_special_tokens=False)
        if encoding.ids[: len(line_end)] == line_end:
            size = len(line_end)
            return np.array(encoding.ids[size:], np.uint32), np.maximum(_stretches(encoding)[size:] - 1, 0)
    encoding = tokenizer.encode(part, add_special_tokens=False)
    return np.array(encoding.ids, np.uint32), _stretches(encoding)


def _stretches(encoding: Encoding) -> NDArray[np.int64]:
    """(N, 2): the characters first..last that each token stands for; together they leave no gap.

    Tokenizers may trim white space off (ByteLevel's trim_offsets): it goes to the token that has it or comes after
    it. The tokens of one character in several bytes share its place.
    """
    stretches_N2 = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    if len(stretches_N2):
        ends_N = np.maximum.accumulate(stretches_N2[:, 1])
        stretches_N2[0, 0] = 0
        stretches_N2[1:, 0] = np.minimum(stretches_N2[1:, 0], ends_N[:-1])
    return stretches_N2


def overlapping(stretches_N2: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.uint8]:
    """1 for every token whose stretch has a character in one of the spans, which are in order and do not overlap."""
    weights_N = np.zeros(len(stretches_N2), np.uint8)
    for first, last in spans:
        weights_N |= (stretches_N2[:, 0] < last) & (stretches_N2[:, 1] > first) & (first < last)
    return weights_N
