"""How a byte-pair tokenizer spells: which of its tokens may grow together, and its file with more merges in it."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.core.config.errors import UsageError

SPACE = "▁"  # SentencePiece's mark for a space
ALLOWED = "byte-level BPE (GPT-2, NeoX, Llama 3, Qwen ...) or SentencePiece BPE (Llama 2, Mistral, Gemma ...)"


@dataclass
class Spelling:
    """What of a tokenizer decides which pairs of tokens may become a token.

    Of byte-level BPE any pair that its pre-tokenizer leaves in one word. Of SentencePiece BPE, which knows no words,
    letters and marks alone with at most one space in front: stricter than SentencePiece's own rule (one script per
    token), since its file does not say under which settings it was made; so digits and punctuation stay as they are,
    and so do characters that it has no token for and spells in bytes. Added and special tokens never grow.

    text: every token's characters as the vocabulary has them. first_new: the id of the first new token, see `read`.
    """

    text: dict[int, str]
    taken: set[str]
    fixed: frozenset[int]  # added tokens, and the one for what cannot be spelled
    by_bytes: bool
    whole_words: bool  # a word that is a token is read as that token, whatever the merges (`ignore_merges`)
    first_new: int
    _parts: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def read(cls, file: dict[str, Any], in_use: Sequence[int] = (), where: str = "") -> Spelling:
        """Of the contents of a tokenizer.json. in_use: ids that a model's configuration names.

        New ids begin behind the largest that the tokenizer or the configuration names, so that the vocabulary gets no
        gap (tokenizers gives tokens that are added later the number of tokens as id) and rows with which an embedding
        was filled up, which no text ever reached, come into use. Errors: UsageError for other kinds of tokenizer.
        """
        model = file["model"]
        _check_kind(model, where)
        by_bytes = {"ByteLevel"} & {*_types(file.get("pre_tokenizer")), *_types(file.get("normalizer"))}
        if not by_bytes and SPACE not in model["vocab"]:
            raise UsageError(
                "the tokenizer is BPE over neither bytes nor text with marked spaces", where=where, allowed=ALLOWED
            )
        added = {token["content"]: int(token["id"]) for token in file.get("added_tokens") or ()}
        text = {number: word for word, number in (model["vocab"] | added).items()}
        unknown = model["vocab"].get(model.get("unk_token"))
        return cls(
            text=text,
            taken=set(text.values()),
            fixed=frozenset([*added.values(), *([] if unknown is None else [unknown])]),
            by_bytes=bool(by_bytes),
            whole_words=bool(model.get("ignore_merges")),
            first_new=1 + max([*text, *in_use]),
        )

    def spelled(self, word: Sequence[int]) -> str:
        return "".join(self.text.get(token, "\0") for token in word)

    def joined(self, left: int, right: int) -> str:
        """The characters of the token that the two would make; empty where they may not, or it is there already."""
        if not (self._may_grow(left) and self._may_grow(right)):
            return ""
        if not self.by_bytes and self.text[right].startswith(SPACE):
            return ""
        both = self.text[left] + self.text[right]
        return "" if both in self.taken else both

    def add(self, left: int, right: int, made: int) -> None:
        """A new token from now on."""
        self.text[made] = self.text[left] + self.text[right]
        self.taken.add(self.text[made])

    def cut(self, tokens: list[int]) -> Iterator[tuple[int, ...]]:
        """A word of the tokenizer, cut further at what no new merge crosses where it knows no words."""
        if self.by_bytes or self.whole_words:
            yield tuple(tokens)
            return
        begin = 0
        for place, token in enumerate(tokens):
            if place > begin and (
                self.text[token].startswith(SPACE) or not (self._may_grow(token) and self._may_grow(tokens[place - 1]))
            ):
                yield tuple(tokens[begin:place])
                begin = place
        yield tuple(tokens[begin:])

    def _may_grow(self, token: int) -> bool:
        known = self._parts.get(token)
        if known is None:
            word = self.text.get(token, "")
            letters = word.removeprefix(SPACE)
            known = self._parts[token] = token not in self.fixed and (
                bool(word) if self.by_bytes else all(unicodedata.category(one)[0] in "LM" for one in letters)
            )
        return known


def _check_kind(model: dict[str, Any], where: str) -> None:
    """Errors: UsageError for what is no BPE, or one whose segmentation is not that of its merges."""
    kind = model.get("type") or ("BPE" if "merges" in model else "of an unknown kind")
    if kind != "BPE":
        raise UsageError(
            f"the tokenizer's model is {kind}, and only byte-pair encoding can be continued by more merges",
            where=where,
            allowed=ALLOWED,
            do="take a base whose tokenizer is BPE, or adapt this one without new tokens",
        )
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            raise UsageError(
                f"the tokenizer has a {setting} of {model[setting]!r}", where=where, allowed=f"{ALLOWED}, without it"
            )


def _types(part: Any) -> Iterator[str]:
    """The kinds of all steps of a part of tokenizer.json."""
    if isinstance(part, dict):
        yield part.get("type", "")
        for inside in ("pretokenizers", "normalizers"):
            for step in part.get(inside) or ():
                yield from _types(step)


def with_merges(file: dict[str, Any], merges: Sequence[tuple[int, int, int]], spelling: Spelling) -> dict[str, Any]:
    """The contents of a tokenizer.json with (left, right, made) behind the merges it has, in the form that they have.

    Tokens added beside the model are put into its vocabulary too, under their ids: tokenizers numbers those that are
    not there by the size of the vocabulary when it reads the file, and a larger one would move them all.
    """
    grown = copy.deepcopy(file)
    vocabulary, listed = grown["model"]["vocab"], grown["model"]["merges"]
    for token in grown.get("added_tokens") or ():
        vocabulary.setdefault(token["content"], token["id"])
    as_text = bool(listed) and isinstance(listed[0], str)
    for left, right, made in merges:
        pair = [spelling.text[left], spelling.text[right]]
        listed.append(" ".join(pair) if as_text else pair)
        vocabulary[spelling.text[made]] = made
    return grown
