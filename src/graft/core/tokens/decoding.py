"""From token ids back to text: which ids stand for text, and how far some ids are text at all."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

BROKEN = "\ufffd"  # what a decoder writes for bytes that are no UTF-8


def text_tokens(tokenizer: Tokenizer) -> list[int]:
    """Ids that stand for text: all that the tokenizer knows but its special tokens."""
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return sorted(set(tokenizer.get_vocab(with_added_tokens=True).values()) - special)


def sound_text(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, int]:
    """What some ids say, up to the first bytes that are no UTF-8; and how many of the ids that takes.

    A model may write part of a character and then something else, or be cut off inside of one. U+FFFD itself is taken
    for such a place too: decoders write it for nothing else, and it is a trace of broken text wherever it stands.
    """
    text = _decoded(ids, tokenizer)
    if BROKEN not in text:
        return text, len(ids)
    sound = text[: text.index(BROKEN)]
    needed = bisect_left(
        range(len(ids)), len(sound), key=lambda n: len(_decoded(ids[:n], tokenizer).partition(BROKEN)[0])
    )
    return sound, needed


def _decoded(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False)
