"""Many texts to token ids, exactly as the tokenizer would give them, and sooner: every distinct word is asked once."""

from __future__ import annotations

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLOCK = 1 << 20  # characters of text looked up together
SPAN = 1 << 18  # characters; a longer text is taken in spans of about this length
SLICE = 4 << 20  # characters handed at once to a tokenizer that is asked for whole texts
GROUP, GROUP_CHARS = 256, 4096  # new words that share one call inside the tokenizer
WORD_BYTES = 250  # what a remembered word costs besides its characters (str, dict entry, number, ids)

# A word ends after a run of ASCII letters or ASCII digits on which another ASCII character follows, ' excepted.
FOLLOWS = r"[\x00-&(-\x7f]"
RUN = r"[^A-Za-z0-9]*+(?:[A-Za-z]++|[0-9]++)"
WORD = re.compile(rf"(?:{RUN}(?=[^\x00-&(-\x7f]))*+{RUN}(?={FOLLOWS}|\Z)|.+", re.DOTALL)
EDGE = re.compile(rf"[A-Za-z](?![A-Za-z])(?={FOLLOWS})|[0-9](?![0-9])(?={FOLLOWS})")

# The splitting patterns for which the argument of `Encoder` was made, as the files of these models spell them.
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-3": rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_SPACES}",
    "qwen-2": rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_SPACES}",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}",
}


class Encoded(NamedTuple):
    """Token ids of many texts, end to end (uint32), and how many belong to each (int64). D texts."""

    ids: NDArray[np.uint32]
    length_D: NDArray[np.int64]


class Encoder:
    """Token ids of many texts: those of `tokenizer.encode_batch_fast(texts, add_special_tokens=False)`, id by id.

    Most of a text is words seen before. Texts are cut into words by one compiled expression (`WORD`), each distinct
    word is numbered by a dict, only new words go to the tokenizer, and the ids are gathered by number.

    Why that is exact. Call a place in a text an edge when an ASCII letter or digit stands before it, an ASCII
    character of another of the classes letter, digit, rest after it, and that is not an apostrophe. Then
      1. no token of the patterns in `PATTERNS` holds both sides of an edge: in each alternative a letter or a digit is
         followed by its own kind, by the rest of a contraction, or, for o200k, by an apostrophe;
      2. they match from left to right without looking back, and ahead only after white space, so what they make of
         either side does not depend on the other, however ASCII is classed by any version of Unicode (it never
         changed); a step `Digits` before them cuts at places that depend on one character each; ByteLevel maps bytes;
      3. NFC changes nothing across an edge: ASCII never composes with what stands before it;
      4. the model is asked piece by piece; the post-processor adds nothing without special tokens.
    So the ids of a text are those of its words, one after the other, and those of a word are the tokenizer's own.
    Tokens added beside the vocabulary are sought in the text before all that, wherever they stand: a text that spells
    one with an edge inside is not cut. Special ones are sought too (and then read as text) where
    `encode_special_tokens` is set, so they count here only as far as they could hide one that is not special.
    Any other tokenizer (`separable` says which) is asked for whole texts, which costs 5 to 10 % more than asking alone.

    memory: bytes (about) after which the words are forgotten and learned anew.
    Left out: Metaspace, WordPiece and Unigram; a second process (one core at this is sooner than two without it).
    """

    def __init__(self, tokenizer: Tokenizer, memory: int = 256 << 20) -> None:
        self.tokenizer = tokenizer
        self.memory = memory
        self.separable = _splits_at_edges(tokenizer) and _added_are_plain(tokenizer)
        self._uncut = _with_edges_inside(tokenizer)
        self._forget()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The ids of each text, with no token added before or after."""
        if not self.separable:
            return self._whole(texts)
        parts = [np.zeros(0, np.uint32)]
        length_D = np.zeros(len(texts), np.int64)
        for owners, words in self._blocks(texts):
            ids, lengths = self._look_up(words)
            parts.append(ids)
            np.add.at(length_D, owners, lengths)
        return Encoded(np.concatenate(parts), length_D)

    def _whole(self, texts: Sequence[str]) -> Encoded:
        ids, lengths = array("I"), array("q")
        for part in _slices(texts, SLICE, len(texts)):
            for encoding in self.tokenizer.encode_batch_fast(part, add_special_tokens=False):
                ids.extend(encoding.ids)
                lengths.append(len(encoding))
        return Encoded(np.array(ids, np.uint32), np.array(lengths, np.int64))

    def _blocks(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[list[str]]]]:
        """Spans of text as lists of words, and the text each belongs to; as many as make up a block."""
        owners: list[int] = []
        words: list[list[str]] = []
        size = 0
        for owner, text in enumerate(texts):
            for span in self._spans(text):
                owners.append(owner)
                words.append([span] if self._uncut and self._uncut.search(text) else WORD.findall(span) or [span])
                size += len(span)
                if size >= BLOCK:
                    yield owners, words
                    owners, words, size = [], [], 0
        if owners:
            yield owners, words

    def _spans(self, text: str) -> Iterator[str]:
        begin = 0
        if len(text) > SPAN and not (self._uncut and self._uncut.search(text)):
            while edge := EDGE.search(text, begin + SPAN):
                yield text[begin : edge.end()]
                begin = edge.end()
        yield text[begin:] if begin else text

    def _look_up(self, words: list[list[str]]) -> Encoded:
        """The ids of each list of words."""
        counts = np.fromiter(map(len, words), np.int64, len(words))
        numbers = np.fromiter(map(self._number.__getitem__, chain.from_iterable(words)), np.int64, int(counts.sum()))
        if len(self._number) > len(self._length):
            self._learn(list(islice(reversed(self._number), len(self._number) - len(self._length)))[::-1])
        lengths = self._length[numbers]
        ends = np.cumsum(lengths)
        places = np.repeat(self._first[numbers] - (ends - lengths), lengths) + np.arange(len(lengths) and ends[-1])
        per_list = np.diff(np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(counts)])])
        found = Encoded(self._ids[places], per_list)
        if self._bytes > self.memory:
            self._forget()
        return found

    def _learn(self, words: list[str]) -> None:
        """Ask the tokenizer for words never seen; inside it they are texts of their own, only the calls are shared."""
        ids, lengths = array("I"), [self._length]
        groups = list(_slices(words, GROUP_CHARS, GROUP))
        encodings = self.tokenizer.encode_batch(groups, add_special_tokens=False, is_pretokenized=True)
        for group, encoding in zip(groups, encodings, strict=True):
            ids.extend(encoding.ids)
            owners = np.array(encoding.word_ids, np.int64)
            lengths.append(np.bincount(owners, minlength=len(group)))
        self._ids = np.concatenate([self._ids, np.array(ids, np.uint32)])
        self._length = np.concatenate(lengths)
        self._first = np.cumsum(self._length) - self._length
        self._bytes += sum(map(len, words)) + WORD_BYTES * len(words)

    def _forget(self) -> None:
        self._number: defaultdict[str, int] = defaultdict(count().__next__)
        self._ids = np.zeros(0, np.uint32)
        self._first = np.zeros(0, np.int64)
        self._length = np.zeros(0, np.int64)
        self._bytes = 0


def _slices(texts: Sequence[str], num_chars: int, num_texts: int) -> Iterator[list[str]]:
    """Neighbours together, up to so many texts; full once they have so many characters."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= num_chars or len(held) >= num_texts:
            yield held
            held, size = [], 0
    if held:
        yield held


def _splits_at_edges(tokenizer: Tokenizer) -> bool:
    """Whether normalizer, pre-tokenizer, model and post-processor are all of the kinds the argument speaks of."""
    if getattr(tokenizer.model, "dropout", None) or tokenizer.truncation or tokenizer.padding:
        return False
    if not all(step == {"type": "NFC"} for step in _steps(tokenizer.normalizer, "normalizers")):
        return False
    if not all(_adds_nothing(step) for step in _steps(tokenizer.post_processor, "processors")):
        return False
    steps = _steps(tokenizer.pre_tokenizer, "pretokenizers")
    return all(map(_keeps_edges, steps)) and any(map(_cuts_at_edges, steps))


def _steps(part: Any, plural: str) -> list[dict[str, Any]]:
    """A part of a tokenizer as the JSON of its steps, in order; one of an unknown kind for a part made in Python."""
    if part is None:
        return []
    try:
        step = json.loads(part.__getstate__())
    except Exception as error:  # the library's own error has no name; it says that a custom part has no JSON
        if "custom" not in str(error).lower():
            raise
        return [{"type": "custom"}]
    return list(_flat([step], plural))


def _flat(steps: Iterable[dict[str, Any]], plural: str) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield from _flat(step[plural], plural) if step["type"] == "Sequence" else [step]


def _keeps_edges(step: dict[str, Any]) -> bool:
    """Whether what this step makes of a text is what it makes of both sides of an edge."""
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or _is_known_split(step)


def _cuts_at_edges(step: dict[str, Any]) -> bool:
    return bool(step["type"] == "ByteLevel" and step["use_regex"]) or _is_known_split(step)


def _is_known_split(step: dict[str, Any]) -> bool:
    """A split into the matches of a known pattern; these leave no gaps, so "what is between them" is nothing."""
    if step["type"] != "Split" or step["pattern"].get("Regex") not in PATTERNS.values():
        return False
    return (step["behavior"], step["invert"]) in (("Isolated", False), ("Isolated", True), ("Removed", True))


def _adds_nothing(step: dict[str, Any]) -> bool:
    """Whether this post-processor leaves a single text as it is when no special tokens are asked for."""
    if step["type"] == "TemplateProcessing":
        return sum("Sequence" in piece for piece in step["single"]) == 1
    return step["type"] in ("ByteLevel", "RobertaProcessing", "BertProcessing")


def _added_are_plain(tokenizer: Tokenizer) -> bool:
    """Whether added tokens are found by their characters alone, before and after normalising."""
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.special and tokenizer.encode_special_tokens:
            continue
        if token.lstrip or token.rstrip or token.single_word:
            return False
        if token.normalized and tokenizer.normalizer is not None and EDGE.search(token.content):
            return False  # NFC could spell it out of other characters
    return True


def _with_edges_inside(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Finds the added tokens that a cut could go through; None when there are none that matter."""
    added = tokenizer.get_added_tokens_decoder().values()
    if tokenizer.encode_special_tokens and all(token.special for token in added):
        return None
    inside = [re.escape(token.content) for token in added if EDGE.search(token.content)]
    return re.compile("|".join(inside)) if inside else None
