"""What kind of language model a folder holds, and which kinds an objective can train. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base

Kind = Literal["decoder", "encoder", "encoder-decoder"]

ENCODERS = ("ForMaskedLM", "ForPreTraining")  # how the classes of transformers end that fill in masked words
WORDS: dict[Kind, str] = {
    "decoder": "predicts the next word (a causal language model)",
    "encoder": "fills in hidden words and sees both sides of them (a masked language model)",
    "encoder-decoder": "reads with one half and writes with the other",
}
DO: dict[Kind, str] = {
    "decoder": "train it with objective causal",
    "encoder": "train it with objective masked",
    "encoder-decoder": "train it with objective denoise",
}


def kind_of(config: Mapping[str, Any]) -> Kind:
    """As config.json says it: is_encoder_decoder, else the class it was saved from, else a decoder."""
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    said = config.get("architectures")
    names = said if isinstance(said, list) else ()
    if not config.get("is_decoder") and any(str(name).endswith(ENCODERS) for name in names):
        return "encoder"
    return "decoder"


def check_kind(base: Base, name: str, kinds: Sequence[Kind]) -> None:
    """Raises: UsageError where an objective that trains `kinds` does not train this kind of model."""
    kind = kind_of(base.config)
    if kind not in kinds:
        raise UsageError(
            f"objective {name} cannot train {base.name}, which {WORDS[kind]}",
            where=str(base.folder / "config.json"),
            allowed="; ".join(f"{one}: {WORDS[one]}" for one in kinds),
            do=DO[kind],
        )
