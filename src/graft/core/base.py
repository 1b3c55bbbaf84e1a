"""The model to start from: where it is, what its files say, and how its tokenizer marks documents. No torch."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.errors import FaultError, UsageError, nearest
from graft.core.fingerprint import Fingerprints
from graft.core.shelf import HOUSE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EMBEDDED = {"embedded": HOUSE / "embedded" / "base"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
WINDOW_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length")


@dataclass(frozen=True)
class Base:
    """A model folder in Hugging Face form, and the name by which it was asked for."""

    name: str
    folder: Path

    @classmethod
    def find(cls, name: str) -> Base:
        """The base of this name: embedded, a local folder, or a hub id (downloaded once, then cached).

        Errors: UsageError when there is nothing of that name or the folder lacks a config, weights or a tokenizer;
        FaultError when the hub cannot be reached.
        """
        if name in EMBEDDED:
            return cls(name, EMBEDDED[name]).checked()
        folder = Path(name).expanduser()
        if folder.exists():
            return cls(name, folder.resolve()).checked()
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise UsageError(
                f'there is no base model "{name}"',
                allowed=f"{', '.join(EMBEDDED)}, a local folder in Hugging Face form, or a hub id like `owner/name`",
                do=nearest(name, EMBEDDED) or "check the path",
            )
        return cls(name, _download(name)).checked()

    def checked(self) -> Base:
        """Itself, when everything an adaptation needs is there."""
        if not (self.folder / "config.json").exists():
            raise UsageError(
                "no config.json in the model folder",
                where=str(self.folder),
                allowed="a folder in Hugging Face form: config.json, *.safetensors, tokenizer.json",
            )
        if not any((self.folder / file).exists() for file in TOKENIZER_FILES):
            raise UsageError(
                "the model has no tokenizer",
                where=str(self.folder),
                allowed=f"one of {', '.join(TOKENIZER_FILES)} beside config.json",
                do="copy the tokenizer files of the model it was made from into this folder",
            )
        if not self.weight_files:
            raise UsageError(
                "no weights in the model folder",
                where=str(self.folder),
                allowed="model.safetensors, or its shards",
                do="convert .bin weights with transformers: AutoModel.from_pretrained(...).save_pretrained(...)",
            )
        return self

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; the text part where a model has several."""
        whole = json.loads((self.folder / "config.json").read_text())
        return whole | whole.get("text_config", {})

    @property
    def weight_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def num_parameters(self) -> int:
        """Stored weights, read off the headers of the safetensors files."""
        return sum(_count_weights(path) for path in self.weight_files)

    @property
    def window(self) -> int:
        """The longest row the model can read, in tokens."""
        return next((int(self.config[key]) for key in WINDOW_KEYS if self.config.get(key)), 2048)

    @property
    def training_notes(self) -> dict[str, Any]:
        """training.json beside the weights, where its makers left one (peak_lr, final_lr, tokens ...)."""
        path = self.folder / "training.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The fast tokenizer, with neither truncation nor padding."""
        if (self.folder / "tokenizer.json").exists():
            from tokenizers import Tokenizer

            found = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        else:  # an older vocabulary, which transformers converts
            from transformers import AutoTokenizer

            found = AutoTokenizer.from_pretrained(str(self.folder), use_fast=True).backend_tokenizer
        found.no_truncation()
        found.no_padding()
        return found

    @cached_property
    def marks(self) -> Marks:
        """The tokens that stand before and after a document."""
        path = self.folder / "tokenizer_config.json"
        said = json.loads(path.read_text()) if path.exists() else {}
        end = self._mark_id(said.get("eos_token"), self.config.get("eos_token_id"))
        added = self.tokenizer.encode("").ids
        return Marks(start=added[0] if added and added[0] != end else end, end=end)

    def _mark_id(self, named: Any, configured: Any) -> int | None:
        content = named.get("content") if isinstance(named, dict) else named
        found = self.tokenizer.token_to_id(content) if content else None
        if found is not None:
            return found
        return configured[0] if isinstance(configured, list) else configured

    def fingerprint(self, memory: Fingerprints) -> str:
        """Identity by content of the config, the weights and the tokenizer."""
        files = [self.folder / "config.json", *self.weight_files]
        files += [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).exists()]
        return memory.of(files, self.folder)

    def tokenizer_fingerprint(self, memory: Fingerprints) -> str:
        """Identity of the tokenizer alone: models that share it share their token shards."""
        files = [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).exists()]
        return f"{memory.of(files, self.folder)}:{self.marks.start}:{self.marks.end}"


@dataclass(frozen=True)
class Marks:
    """Token ids set before and after each document; None where the tokenizer has no such token.

    start: what the tokenizer itself puts first (a begin-of-text token), else the end token, which then serves as
    the border from which a first word is predicted. It is read and never counted.
    """

    start: int | None
    end: int | None


def _count_weights(path: Path) -> int:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            size = 1
            for side in entry["shape"]:
                size *= side
            total += size
    return total


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.md"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise UsageError(f'the hub has no model "{name}" (or it needs a login)', do="check the id") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FaultError(
            f'cannot fetch "{name}" from the hub: {error}', do="check the network, or give a local folder"
        ) from error
