"""How much of a text a tokenizer does not keep: a model that never sees it is not asked to predict it either.

Bits per byte divide by all bytes of a text. Where a tokenizer reads words as unknown, lower-cases, takes accents off or
joins white space, texts that differ only in these get the same nats, so the quotient is too small by what is lost.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graft.core.text.documents import canonical
from graft.core.tokens.safe_cuts import separable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NOTED = 0.001  # a smaller share is not worth a note
DOCUMENTS, CHARACTERS = 32, 2000  # of a shard that are looked at, and of each document


@dataclass(frozen=True)
class LostText:
    """Characters, and how many of them are lost: in unknown tokens, changed by the normaliser, as white space."""

    characters: int = 0
    unknown: int = 0
    changed: int = 0
    white_space: int = 0

    def __add__(self, other: LostText) -> LostText:
        return LostText(*(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.characters, self.unknown, self.changed, self.white_space

    @property
    def shares(self) -> dict[str, float]:
        """By sort, and "all": shares of the characters."""
        of = max(1, self.characters)
        parts = {"unknown": self.unknown / of, "changed": self.changed / of, "white_space": self.white_space / of}
        return {"all": sum(parts.values()), **parts}


def keeps_all(tokenizer: Tokenizer) -> bool:
    """Whether it is known without a look at the text that nothing is lost: byte-level, with a token for every byte."""
    from tokenizers.pre_tokenizers import ByteLevel

    return separable(tokenizer) and all(tokenizer.token_to_id(char) is not None for char in ByteLevel.alphabet())


def lost_text(tokenizer: Tokenizer, texts: Sequence[str], unknown: int | None) -> LostText:
    """What is lost of these texts, in their canonical form; unknown: the id that stands for unknown words."""
    found = LostText()
    texts = [canonical(text) for text in texts]
    letters = set[str]().union(*texts)
    changed = np.array([ord(one) for one in letters if not one.isspace() and _changes(tokenizer, one)], np.uint32)
    plain = _ids(tokenizer, "a b")
    white = [ord(one) for one in letters if one.isspace() and one != " " and _ids(tokenizer, f"a{one}b") == plain]
    joins = _ids(tokenizer, "a  b") == plain
    for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        codes_N = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        steps_N, unread_N = np.zeros(len(codes_N) + 1, np.int64), np.zeros(len(codes_N), bool)
        for number, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
            steps_N[first] += 1
            steps_N[last] -= 1
            if number == unknown:
                unread_N[first:last] = True
        space_N = np.array([one.isspace() for one in text], bool)
        unread_N |= (np.cumsum(steps_N[:-1]) == 0) & ~space_N
        changed_N = np.isin(codes_N, changed)
        run_N = np.concatenate([[False], (codes_N[1:] == 32) & (codes_N[:-1] == 32)])[: len(codes_N)] & joins
        white_N = np.isin(codes_N, np.array(white, np.uint32)) | run_N
        found += LostText(
            len(codes_N),
            int((unread_N & ~changed_N & ~white_N).sum() + (unread_N & changed_N).sum()),
            int((changed_N & ~unread_N).sum()),
            int(white_N.sum()),
        )
    return found


def lost_notes(name: str, lost: dict[str, dict[str, float]]) -> list[str]:
    """In words, by source, what a tokenizer loses; name: of the model."""
    sorts = {"unknown": "unknown words", "changed": "letters made alike", "white_space": "white space made alike"}
    return [
        f"{source}: the tokenizer of {name} loses {shares['all']:.1%} of the text ("
        + ", ".join(f"{sorts[key]} {shares[key]:.1%}" for key in sorts if shares[key])
        + "), so bits per byte are too low by about as much and do not compare with those of another tokenizer"
        for source, shares in lost.items()
        if shares["all"] >= NOTED
    ]


def _changes(tokenizer: Tokenizer, letter: str) -> bool:
    """Whether the normaliser makes another character of this one, up to canonical equivalence."""
    if tokenizer.normalizer is None or "a" not in tokenizer.normalizer.normalize_str("a"):
        return False
    made = tokenizer.normalizer.normalize_str(f"a{letter}a")
    inner = made[made.find("a") + 1 : made.rfind("a")].strip()
    return unicodedata.normalize("NFC", inner) != unicodedata.normalize("NFC", letter)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids
