"""More merges for a byte-pair tokenizer: those that save the most tokens of a body of text, behind all it has."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from graft.core.tokens.bpe_spelling import Spelling
from graft.core.tokens.safe_cuts import PART, separable, with_edges_inside

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Word = tuple[int, ...]  # token ids
Pair = tuple[int, int]
GROUP = 4096  # parts of text handed to the tokenizer at once


class Merge(NamedTuple):
    """left and right, side by side, become `made`, which saved that many tokens of the text when it was chosen."""

    left: int
    right: int
    made: int
    saved: int


@dataclass(frozen=True)
class LearnedMerges:
    """New merges, the first chosen first, and the text's length in tokens without and with them.

    words: the distinct words as they end up, and how often each occurs.
    """

    merges: list[Merge]
    tokens_before: int
    tokens_after: int
    words: list[tuple[Word, int]]

    def idle(self) -> list[int]:
        """New tokens that later merges took up wholly: the text holds none of them any more."""
        used = {token for word, _ in self.words for token in word}
        return [merge.made for merge in self.merges if merge.made not in used]

    def parts(self) -> dict[int, Word]:
        """Every new token spelled out in old ones."""
        found: dict[int, Word] = {}
        for merge in self.merges:
            found[merge.made] = found.get(merge.left, (merge.left,)) + found.get(merge.right, (merge.right,))
        return found


def count_words(texts: Iterable[str], tokenizer: Tokenizer, spelling: Spelling) -> Counter[Word]:
    """How often each distinct word occurs, as the ids it has today.

    A word is what the tokenizer's normalizer and pre-tokenizer make of a text, which no merge crosses; where they cut
    none (SentencePiece), what `spelling.cut` makes of it, which no new merge crosses.
    """
    plain, inside = separable(tokenizer), with_edges_inside(tokenizer)
    parts: Counter[str] = Counter()
    words: Counter[Word] = Counter()
    for text in texts:
        if plain and not (inside and inside.search(text)):
            parts.update(
                PART.findall(text)
            )  # whole words, nearly all of them seen before; see graft.core.tokens.safe_cuts
        else:
            _encode([(text, 1)], tokenizer, spelling, words)
    known = list(parts.items())
    for first in range(0, len(known), GROUP):
        _encode(known[first : first + GROUP], tokenizer, spelling, words)
    return words


def _encode(parts: list[tuple[str, int]], tokenizer: Tokenizer, spelling: Spelling, words: Counter[Word]) -> None:
    encodings = tokenizer.encode_batch([text for text, _ in parts], add_special_tokens=False)
    for encoding, (_, times) in zip(encodings, parts, strict=True):
        for _, group in groupby(zip(encoding.word_ids, encoding.ids, strict=True), key=itemgetter(0)):
            for word in spelling.cut([token for _, token in group]):
                words[word] += times


def learn(words: Mapping[Word, int], spelling: Spelling, *, tokens: int, min_count: int) -> LearnedMerges:
    """At most `tokens` merges: again and again the pair that saves the most tokens, as long as it saves `min_count`.

    Byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv 1508.07909, algorithm 1), begun where the tokenizer
    ended. What a pair saves is how often it can be replaced, left to right: "aaaa" holds the pair (a, a) twice. Of
    pairs that save the same the one with the smaller ids is taken. A pair whose characters are a token already is
    passed over: only so is every new token made by one merge, after all those that it consists of, and a text's
    segmentation that of the merges one after the other. The order of `words` does not matter.
    """
    text = _Text(words, spelling)
    before = text.num_tokens
    merges: list[Merge] = []
    while len(merges) < tokens and (best := text.best(min_count)):
        (left, right), saved = best
        made = spelling.first_new + len(merges)
        text.merge(left, right, made)
        merges.append(Merge(left, right, made, saved))
    return LearnedMerges(merges, before, text.num_tokens, list(zip(map(tuple, text.words), text.times, strict=True)))


class _Text:
    """The distinct words, their pairs, and where each pair is; changed merge by merge, only where the merge occurs."""

    def __init__(self, words: Mapping[Word, int], spelling: Spelling) -> None:
        self.spelling = spelling
        self.words = [list(word) for word in words]
        self.times = list(words.values())
        self.count: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)  # words that hold it, or did
        self.refused: set[Pair] = set()
        for number, word in enumerate(self.words):
            for pair in pairs(word):
                self.count[pair] += self.times[number]
                self.places[pair].add(number)
        self.heap = [(-count, pair) for pair, count in self.count.items()]
        heapq.heapify(self.heap)
        # Where a word that is a token is read as it whatever its merges, a new token takes up that word at once.
        self.whole = (
            {spelling.spelled(word): number for number, word in enumerate(self.words)} if spelling.whole_words else {}
        )

    @property
    def num_tokens(self) -> int:
        return sum(len(word) * times for word, times in zip(self.words, self.times, strict=True))

    def best(self, least: int) -> tuple[Pair, int] | None:
        """The pair that saves the most and may be merged; None when none saves `least`. Old entries are set right."""
        while self.heap:
            entry, pair = heapq.heappop(self.heap)
            count = self.count[pair]
            if pair in self.refused or count < least:
                continue
            if count != -entry:
                heapq.heappush(self.heap, (-count, pair))
            elif self.spelling.joined(*pair):
                return pair, count
            else:
                self.refused.add(pair)
        return None

    def merge(self, left: int, right: int, made: int) -> None:
        self.spelling.add(left, right, made)
        grown: set[Pair] = set()
        for number in sorted(self.places.pop((left, right))):
            self._replace(number, replaced(self.words[number], left, right, made), grown)
        alone = self.whole.get(self.spelling.text[made])
        if alone is not None:
            self._replace(alone, [made], grown)
        for pair in grown:
            heapq.heappush(self.heap, (-self.count[pair], pair))

    def _replace(self, number: int, word: list[int], grown: set[Pair]) -> None:
        times = self.times[number]
        old, new = Counter(pairs(self.words[number])), Counter(pairs(word))
        self.words[number] = word
        for pair in old.keys() | new.keys():
            change = new[pair] - old[pair]
            self.count[pair] += change * times
            if change > 0:
                self.places[pair].add(number)
                grown.add(pair)


def pairs(word: list[int]) -> Iterator[Pair]:
    """Neighbours; of a token beside itself, as often as they can be replaced."""
    taken = False  # the pair before this one was (a, a), and this one shares its second a
    before: Pair | None = None
    for pair in pairwise(word):
        taken = pair == before and pair[0] == pair[1] and not taken
        before = pair
        if not taken:
            yield pair


def replaced(word: list[int], left: int, right: int, made: int) -> list[int]:
    """The word with every such pair replaced, from left to right."""
    merged: list[int] = []
    skip = False
    for token, after in pairwise([*word, -1]):
        if skip:
            skip = False
        elif token == left and after == right:
            merged.append(made)
            skip = True
        else:
            merged.append(token)
    return merged
