r"""Where a text can be cut so that a tokenizer reads both sides as it would have read the whole, and which tokenizers.

An *edge* is a place with an ASCII letter or digit before it and, after it, an ASCII character of another of the
classes letter, digit, rest, which is not an apostrophe. For the tokenizers that `separable` accepts, the ids of a text
are those of its parts between edges, one after the other, because
  1. no token of the patterns below holds both sides of an edge: wherever one takes a letter or a digit, what it may
     take next is its own kind, a mark or the rest of a contraction, and an apostrophe in those that end on one;
  2. they match from left to right, never look back, and look ahead only after white space; so what they make of one
     side does not hang on the other. A step `Digits` before them cuts by single characters, ByteLevel maps bytes, and
     the classes of ASCII characters are the same in every version of Unicode;
  3. NFC changes nothing across an edge: no ASCII character composes with what stands before it, and an ASCII letter
     or digit composes only with marks, which are not ASCII;
  4. the model is asked for each piece alone, and the post-processor adds nothing when no special tokens are asked for;
  5. tokens added beside the vocabulary are sought first, as strings from left to right, the longest one winning. Where
     none has an edge inside, a cut changes none of these finds; a text that spells one with an edge inside is not to
     be cut at all (`with_edges_inside`). Special ones are found too, and then read as text, where
     `encode_special_tokens` is set: they matter then only as far as they can hide one that is not special.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_OTHER = r"[\x00-&(-\x7f]"  # ASCII but for the apostrophe
_RUN = r"[^A-Za-z0-9]*+(?:[A-Za-z]++|[0-9]++)"
EDGE = re.compile(rf"[A-Za-z](?![A-Za-z])(?={_OTHER})|[0-9](?![0-9])(?={_OTHER})")
# The parts between edges: runs that end on no edge, then one that does (or ends the text); else all that is left.
PART = re.compile(rf"(?:{_RUN}(?=[^\x00-&(-\x7f]))*+{_RUN}(?={_OTHER}|\Z)|.+", re.DOTALL)

_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_LOWERED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPERED = r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
# As the files of these models spell them. Each covers any text without a gap.
PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-3": _SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _SPACES,
    "qwen-2": _SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _SPACES,
    "qwen-3.5": _SUFFIX + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _SPACES,
    "o200k": _LOWERED + _SUFFIX + "?" + _UPPERED + _SUFFIX + r"?|\p{N}{1,3}" + _SLASHED + _SPACES,
    "tekken": _LOWERED + _UPPERED + r"|\p{N}" + _SLASHED + _SPACES,
}
# One after the other; the third alone would take a digit and the letters after it as one token.
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    + _SPACES,
]


def separable(tokenizer: Tokenizer) -> bool:
    """Whether the argument above holds for this tokenizer, its state included (padding, encode_special_tokens ...)."""
    if getattr(tokenizer.model, "dropout", None):
        return False  # drawn anew for every word
    return (
        not any(getattr(tokenizer, setting) for setting in ("truncation", "padding"))
        and all(step == {"type": "NFC"} for step in _steps(tokenizer.normalizer, "normalizers"))
        and _cuts_at_edges(_steps(tokenizer.pre_tokenizer, "pretokenizers"))
        and all(map(_adds_nothing, _steps(tokenizer.post_processor, "processors")))
        and all(_is_plain(token, tokenizer) for token in _sought(tokenizer))
    )


def with_edges_inside(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Finds the added tokens that a cut could go through; None when there are none."""
    inside = [re.escape(token.content) for token in _sought(tokenizer) if EDGE.search(token.content)]
    return re.compile("|".join(inside)) if inside else None


def _steps(part: Any, plural: str) -> list[dict[str, Any]]:
    """A part of a tokenizer as the JSON of its steps, in order; one of type "custom" for a part written in Python."""
    if part is None:
        return []
    try:
        step = json.loads(part.__getstate__())
    except Exception as error:  # the library raises no narrower class when a part has no JSON
        if "custom" not in str(error).lower():
            raise
        return [{"type": "custom"}]
    return list(_flat([step], plural))


def _flat(steps: Iterable[dict[str, Any]], plural: str) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield from _flat(step[plural], plural) if step["type"] == "Sequence" else [step]


def _cuts_at_edges(steps: list[dict[str, Any]]) -> bool:
    """Whether these steps cut at every edge and at nothing that hangs on both sides of one."""
    cuts = False
    if [_isolated(step) for step in steps[:3]] == DEEPSEEK:
        steps, cuts = steps[3:], True
    for step in steps:
        if step["type"] == "ByteLevel":
            if step["add_prefix_space"]:
                return False
            cuts = cuts or step["use_regex"]
        elif step["type"] == "Split":
            if _isolated(step) not in PATTERNS.values():
                return False
            cuts = True
        elif step["type"] != "Digits":
            return False
    return cuts


def _isolated(step: dict[str, Any]) -> str | None:
    """The pattern that this step cuts a text into the matches of (what is between matches stays, if there is any)."""
    if step["type"] != "Split":
        return None
    pattern = step["pattern"].get("Regex")
    if (step["behavior"], step["invert"]) == ("Isolated", False):
        return pattern
    covers_all = pattern in PATTERNS.values()  # so removing what does not match removes nothing
    return pattern if covers_all and (step["behavior"], step["invert"]) == ("Removed", True) else None


def _adds_nothing(step: dict[str, Any]) -> bool:
    """Whether this post-processor leaves a single text as it is when no special tokens are asked for."""
    if step["type"] == "TemplateProcessing":
        return sum("Sequence" in piece for piece in step["single"]) == 1
    return step["type"] in ("ByteLevel", "RobertaProcessing", "BertProcessing")


def _sought(tokenizer: Tokenizer) -> list[AddedToken]:
    """The added tokens that decide what a text becomes; none when all are special and read as text."""
    added = list(tokenizer.get_added_tokens_decoder().values())
    return [] if tokenizer.encode_special_tokens and all(token.special for token in added) else added


def _is_plain(token: AddedToken, tokenizer: Tokenizer) -> bool:
    """Whether this token is found by its own characters alone, in the text as it is where an edge is inside."""
    if token.normalized and tokenizer.normalizer is not None and EDGE.search(token.content):
        return False  # NFC could spell it out of other characters
    read_as_text = token.special and tokenizer.encode_special_tokens
    return read_as_text or not (token.lstrip or token.rstrip or token.single_word)
