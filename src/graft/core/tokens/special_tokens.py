"""Tokens that are no words: which id hides a word, which ids stand for spans, and which are never predicted."""

from __future__ import annotations

import re

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.models.named_tokens import named_tokens

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SENTINEL = re.compile(r"<extra_id_(\d+)>")  # T5's: <extra_id_0> stands for the first span of a piece


def mask_id(base: Base) -> int:
    """The id that a hidden word is read as. Errors: UsageError where the tokenizer has no such token."""
    found = _named(base, "mask_token")
    if found is None:
        raise UsageError(
            f"the tokenizer of {base.name} has no mask token, so no word can be hidden",
            where=str(base.folder / "tokenizer_config.json"),
            allowed='"mask_token" names a token of the vocabulary',
            do="name one that the model was trained with; a base without any is trained with objective causal, or "
            "given one (transformers: tokenizer.add_special_tokens, model.resize_token_embeddings)",
        )
    return found


def sentinel_ids(base: Base) -> list[int]:
    """The ids that stand for hidden spans, first span first. Errors: UsageError where the tokenizer has none."""
    vocabulary = base.tokenizer.get_vocab(with_added_tokens=True)
    numbered = {int(match[1]): number for word, number in vocabulary.items() if (match := SENTINEL.fullmatch(word))}
    if not numbered:
        raise UsageError(
            f"the tokenizer of {base.name} has no tokens <extra_id_0>, <extra_id_1> ... to stand for hidden spans",
            where=str(base.folder),
            allowed="a T5-type tokenizer",
            do="take a base of the T5 family, or make one: job pretrain with initialize.architecture t5",
        )
    return [numbered[number] for number in sorted(numbered)]


def special_ids(base: Base) -> list[int]:
    """Ids that are never hidden, predicted or drawn: marks, what the tokenizer calls special, sentinels; sorted."""
    added = base.tokenizer.get_added_tokens_decoder()
    named = (_named(base, name) for name in NAMED)
    every = {base.marks.start, base.marks.end, *named, *(number for number, token in added.items() if token.special)}
    every |= {number for number, token in added.items() if SENTINEL.fullmatch(token.content)}
    return sorted(number for number in every if number is not None)


def unknown_id(base: Base) -> int | None:
    """The id that unknown words are read as; None where there is none."""
    text = getattr(base.tokenizer.model, "unk_token", None)
    found = base.tokenizer.token_to_id(text) if isinstance(text, str) else None
    return _named(base, "unk_token") if found is None else found


def _named(base: Base, name: str) -> int | None:
    text = named_tokens(base.folder).get(name)
    return base.tokenizer.token_to_id(text) if text else None
