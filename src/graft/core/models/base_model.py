"""The model to start from: where it is, what its files say, and how its tokenizer marks documents. No torch."""

from __future__ import annotations

import math
import os.path
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import HOUSE
from graft.core.models import hub as hub_model
from graft.core.models.families import window_of
from graft.core.models.named_tokens import GENERATION, named_ids, named_tokens, special_texts
from graft.core.models.quantised import refuse_packed, refuse_quantised
from graft.core.models.weight_files import LFS_DO, POINTER, read_json, weight_entries, weight_files
from graft.core.store.fingerprints import Fingerprints, Unread
from graft.core.store.ownership import ARTIFACT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EMBEDDED = {"embedded": HOUSE / "embedded" / "base"}
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")  # one has to be there
# What a tokenizer and its notes may consist of: copied as it is, and part of what a model is known by.
TOKENIZER_FILES = (
    *VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja",
)  # fmt: skip
NOTES = ("config.json", "training.json", *TOKENIZER_FILES)  # all but the weights
FORM = "a folder in Hugging Face form: config.json, *.safetensors, tokenizer.json"
OWNERS = {  # of models that are called by one word
    "gpt2": "openai-community/gpt2", "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large", "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A model folder in Hugging Face form, and the name by which it was asked for.

    hub: its id, where the weights were left on the hub; it can then be looked at and not trained.
    """

    name: str
    folder: Path
    hub: str = ""

    @classmethod
    def find(cls, name: str, *, weights: bool = True, local_only: bool = False) -> Base:
        """The base of this name: embedded, a local folder, or a hub id (downloaded once, then cached).

        weights False: of a hub id only the config and the tokenizer, for who plans. local_only: nothing is
        downloaded. Errors: UsageError when there is nothing of that name or the folder lacks a config, weights or a
        tokenizer, or they cannot be read; FaultError when the hub cannot be reached; Unread when it may not be.
        """
        if name in EMBEDDED:
            return cls(name, EMBEDDED[name]).checked()
        folder = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's raises where there is no such user
        if name and _is_folder(folder):
            return cls(name, folder.resolve()).checked()
        if not hub_model.HUB_ID.fullmatch(name) or _is_folder(folder.parent):
            raise _nowhere(name, folder)
        found = hub_model.fetched(name, hub_model.WHOLE if weights else NOTES, local_only=local_only)
        if found is None:
            raise Unread(name)
        return cls(name, found, hub="" if weights else name).checked()

    def checked(self) -> Base:
        """Itself, when everything an adaptation needs is there and can be read; weights are not read, headers are."""
        if not (self.folder / "config.json").exists():
            raise UsageError("no config.json in the model folder", where=str(self.folder), allowed=FORM)
        for name in NOTES:
            if (self.folder / name).exists() and not (self.folder / name).is_file():
                raise UsageError("this is no file", where=str(self.folder / name), allowed="a file of a model")
        if not self.config:
            raise UsageError("the config says nothing", where=str(self.folder / "config.json"), allowed=FORM)
        if not any((self.folder / file).exists() for file in VOCABULARIES):
            raise UsageError(
                "the model has no tokenizer",
                where=str(self.folder),
                allowed=f"one of {', '.join(VOCABULARIES)} beside config.json",
                do="copy the tokenizer files of the model it was made from into this folder",
            )
        refuse_quantised(self.config, self.folder / "config.json")
        if self.hub:
            return self
        if not self.weight_files:
            raise UsageError(
                "no weights in the model folder",
                where=str(self.folder),
                allowed="model.safetensors, or its shards",
                do="convert .bin weights with transformers: AutoModel.from_pretrained(...).save_pretrained(...)",
            )
        if not self.num_parameters:  # which reads every header
            raise UsageError("the weight files hold no weights", where=str(self.folder))
        for path, entries in self._entries.items():
            refuse_packed({name: kind for name, (kind, _) in entries.items()}, path)
        return self

    @property
    def origin(self) -> str:
        """What people call it: the artifact whose folder this is, else the local folder, else the name."""
        if ARTIFACT.fullmatch(self.folder.parent.name) and (self.folder.parent / "manifest.json").exists():
            return self.folder.parent.name
        local = self.name not in EMBEDDED and not hub_model.HUB_ID.fullmatch(self.name)
        return str(self.folder) if local or _is_folder(Path(self.name)) else self.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; the text part where a model has several."""
        whole = read_json(self.folder / "config.json")
        inner = whole.get("text_config")
        return whole | (inner if isinstance(inner, dict) else {})

    @cached_property
    def weight_files(self) -> list[Path]:
        """The safetensors files that are loaded."""
        return weight_files(self.folder)

    @cached_property
    def num_parameters(self) -> int:
        """Stored weights, read off the headers of the safetensors files, on the hub where they were left there."""
        if self.hub:
            return hub_model.count_weights(self.hub)
        return sum(math.prod(shape) for entries in self._entries.values() for _, shape in entries.values())

    @property
    def num_tensors(self) -> int:
        """Stored tensors; 0 where they were left on the hub."""
        return len(self.shapes)

    @property
    def window(self) -> int:
        """The longest row the model can read, in tokens: by the classes of its family, else by its own tables."""
        return window_of(self.config, self.shapes)

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Of the stored weights, by their names; none where they were left on the hub."""
        entries = [] if self.hub else self._entries.values()
        return {name: shape for each in entries for name, (_, shape) in each.items()}

    @cached_property
    def _entries(self) -> dict[Path, dict[str, tuple[str, list[int]]]]:
        """Type and shape of every stored tensor, by file: each header is read once."""
        return {path: weight_entries(path) for path in self.weight_files}

    @property
    def training_notes(self) -> dict[str, Any]:
        """training.json beside the weights, where its makers left one (peak_lr, final_lr, tokens ...)."""
        path = self.folder / "training.json"
        return read_json(path) if path.exists() else {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The fast tokenizer, with neither truncation nor padding; special is what any file of the folder calls so.

        Errors: UsageError when it cannot be read.
        """
        found = self._own_tokenizer() if (self.folder / "tokenizer.json").exists() else self._converted_tokenizer()
        if not found.get_vocab_size(with_added_tokens=False):
            raise UsageError(
                "the tokenizer has an empty vocabulary: no text has a token",
                where=str(self.folder),
                do="put back the tokenizer files of the model",
            )
        found.no_truncation()
        found.no_padding()
        self._more_special.extend(self._called_special_elsewhere(found))
        if self._more_special:
            from tokenizers import AddedToken

            there = {token.content: token for token in found.get_added_tokens_decoder().values()}
            for text in self._more_special:
                token = there.get(text) or AddedToken(text, normalized=False)
                token.special = True
                found.add_special_tokens([token])
        return found

    @cached_property
    def _more_special(self) -> list[str]:
        """Tokens that tokenizer.json has and does not call special, and another file does; known with the tokenizer."""
        return []

    def _called_special_elsewhere(self, tokenizer: Tokenizer) -> list[str]:
        added = tokenizer.get_added_tokens_decoder()
        by_id = {added[one].content for one in self._named_ids if one in added}
        flagged = {token.content for token in added.values() if token.special}
        found = (special_texts(self.folder) | by_id) - flagged
        return sorted(text for text in found if tokenizer.token_to_id(text) is not None)

    @property
    def _named_ids(self) -> set[int]:
        return named_ids(self.config) | named_ids(self.generation)

    @property
    def generation(self) -> dict[str, Any]:
        """generation_config.json; nothing where there is none."""
        path = self.folder / GENERATION
        return read_json(path) if path.exists() else {}

    def _own_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            with path.open("rb") as stream:
                pointer = stream.read(len(POINTER)) == POINTER
            raise UsageError(
                "the tokenizer cannot be read: " + ("this is a pointer of git-lfs" if pointer else str(error)),
                where=str(path),
                do=LFS_DO if pointer else "download it again, or bring `tokenizers` up to date",
            ) from error

    def _converted_tokenizer(self) -> Tokenizer:
        """Of an older vocabulary, which transformers converts where it knows the type of model."""
        from transformers import AutoTokenizer

        there = ", ".join(name for name in VOCABULARIES if (self.folder / name).exists())
        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False).backend_tokenizer
        except Exception as error:  # ImportError, ValueError, OSError, KeyError ...: as many as there are types
            raise UsageError(
                f"transformers makes no fast tokenizer of {there}: {_brief(error)}",
                where=str(self.folder),
                allowed="tokenizer.json, or a vocabulary that transformers can convert",
                do="pip install sentencepiece tiktoken protobuf, and look at tokenizer_config.json (tokenizer_class); "
                "or put the tokenizer.json of the same model on the hub into this folder",
            ) from error

    @cached_property
    def marks(self) -> BoundaryTokens:
        """The tokens that stand before and after a document."""
        named = named_tokens(self.folder)
        found = (self.tokenizer.token_to_id(text) for key in ("eos_token", "sep_token") if (text := named.get(key)))
        end = next((one for one in found if one is not None), None)
        if end is None:
            ids = (
                self.config.get("eos_token_id"),
                self.config.get("sep_token_id"),
                self.generation.get("eos_token_id"),
            )
            end = next((one[0] if isinstance(one, list) else one for one in ids if one is not None and one != []), None)
        added = self.tokenizer.encode("").ids
        return BoundaryTokens(start=added[0] if added and added[0] != end else end, end=end)

    def fingerprint(self, memory: Fingerprints) -> str:
        """Identity by content of the configuration, the weights and the tokenizer. Errors: Unread without the weights.

        training.json is no part of it: it says how a model was made, and only what is trained from it depends on that.
        """
        if self.hub:
            raise Unread(self.name)
        others = self._files((GENERATION, *TOKENIZER_FILES))
        return memory.of([self.folder / "config.json", *self.weight_files, *others], self.folder)

    def tokenizer_fingerprint(self, memory: Fingerprints) -> str:
        """Identity of the tokenizer alone: models that share it share their token shards.

        A tokenizer.json decides every id by itself, but for tokens that only another file calls special; without one,
        all that transformers may look at counts.
        """
        own = self._files(("tokenizer.json",))
        found = f"{memory.of(own or self._files(TOKENIZER_FILES), self.folder)}:{self.marks.start}:{self.marks.end}"
        return f"{found}:{self._more_special}" if own and self._more_special else found

    def _files(self, names: tuple[str, ...]) -> list[Path]:
        return [self.folder / name for name in names if (self.folder / name).exists()]


@dataclass(frozen=True)
class BoundaryTokens:
    """Token ids set before and after each document; None where the tokenizer has no such token.

    start: what the tokenizer itself puts first (a begin-of-text token), else the end token, which then serves as
    the border from which a first word is predicted. It is read and never counted.
    """

    start: int | None
    end: int | None


def _nowhere(name: str, folder: Path) -> UsageError:
    """Why there is no base of this name, in words for what the name looks like."""
    if os.path.isfile(folder):  # noqa: PTH113 - see _is_folder
        return UsageError("this is a file, and a base model is a folder", where=name, allowed=FORM)
    parent = folder.parent
    siblings = [one.name for one in parent.iterdir() if one.is_dir()] if _is_folder(parent) else []
    if "/" in name and (name[0] in "./~" or name.count("/") > 1 or _is_folder(parent)):
        near = nearest(folder.name, siblings)
        return UsageError(
            "there is no such folder",
            where=name,
            allowed=f"{FORM}; or a hub id like `owner/name`, where there is no local folder `owner`",
            do=near or f"check the path; it is taken relative to {Path.cwd()}",
        )
    known = OWNERS.get(name.lower())
    return UsageError(
        f'there is no base model "{name}"',
        allowed=f"{', '.join(EMBEDDED)}, a local folder in Hugging Face form, or a hub id like `owner/name`",
        do=f'did you mean "{known}"?' if known else nearest(name, [*EMBEDDED, *siblings]) or "check the path",
    )


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path's raises for a name that is too long


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
