"""What the files of a model folder say of special tokens, by the rules of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.core.models.weight_files import read_json

CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
GENERATION = "generation_config.json"  # names ids too, and is saved with every model made of this one
DECODER = "added_tokens_decoder"  # in tokenizer_config.json: {"258": {"content": "<|im_end|>", "special": true}}
MORE = ("additional_special_tokens", "extra_special_tokens")  # special, and without a name of their own


def named_tokens(folder: Path) -> dict[str, str]:
    """The special tokens by name ("eos_token": "</s>").

    special_tokens_map.json is the older file: it counts, before tokenizer_config.json, only where the latter has no
    added_tokens_decoder.
    """
    found: dict[str, str] = {}
    for key, value in _entries(folder):
        content = _content(value)
        if key.endswith("_token") and content:
            found[key] = content
    return found


def special_texts(folder: Path) -> set[str]:
    """All texts that some file of the tokenizer's notes calls a special token."""
    found = set(named_tokens(folder).values())
    for key, value in _entries(folder):
        if key in MORE:
            listed: list[Any] = list(value.values()) if isinstance(value, dict) else value or []
            found |= {content for one in listed if (content := _content(one))}
    decoder = _read(folder / CONFIG).get(DECODER)
    for token in decoder.values() if isinstance(decoder, dict) else ():
        if isinstance(token, dict) and token.get("special") and (content := _content(token)):
            found.add(content)
    return found


def named_ids(config: dict[str, Any]) -> set[int]:
    """The ids that a configuration names (eos_token_id ...), one or several to a name."""
    named: set[int] = set()
    for key, value in config.items():
        if key.endswith("_token_id"):
            ids: list[Any] = value if isinstance(value, list) else [value]
            named |= {one for one in ids if isinstance(one, int) and not isinstance(one, bool) and one >= 0}
    return named


def _entries(folder: Path) -> Iterator[tuple[str, Any]]:
    """The entries of the notes, later ones above earlier ones."""
    config = _read(folder / CONFIG)
    yield from config.items()
    if DECODER not in config:
        yield from _read(folder / MAP).items()


def _content(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _read(path: Path) -> dict[str, Any]:
    found: Any = read_json(path) if path.exists() else {}
    return found if isinstance(found, dict) else {}
