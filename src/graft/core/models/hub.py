"""Models of the Hugging Face hub: fetched into its cache once, whole or without their weights."""

from __future__ import annotations

import re
from pathlib import Path

from graft.core.config.errors import FaultError, UsageError

PART = r"[A-Za-z0-9](?:[\w.-]*\w)?"
HUB_ID = re.compile(rf"(?=.{{3,96}}\Z)(?!.*(?:--|\.\.)){PART}/{PART}", re.ASCII)
WHOLE = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.md")
NOT_WANTED = ("*/*", "consolidated*.safetensors")  # other forms of the same weights


def fetched(name: str, patterns: tuple[str, ...] = WHOLE, *, local_only: bool = False) -> Path | None:
    """The local folder of a model of the hub, downloaded where it is not there yet; None: not there, and local_only.

    Errors: UsageError when the hub has no such model or does not give it; FaultError when it cannot be reached.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name, allow_patterns=[*patterns], ignore_patterns=[*NOT_WANTED], local_files_only=local_only
            )
        )
    except (OSError, hub.HFValidationError, hub.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        if local_only and isinstance(error, hub.LocalEntryNotFoundError):
            return None
        raise _told(error, name) from error


def count_weights(name: str) -> int:
    """Stored numbers of a model of the hub, from the headers of its files alone. Errors: as `fetched`."""
    from huggingface_hub import errors as hub
    from huggingface_hub import get_safetensors_metadata

    try:
        return sum(get_safetensors_metadata(name).parameter_count.values())
    except (hub.NotASafetensorsRepoError, hub.SafetensorsParsingError) as error:
        raise UsageError(
            f'the model "{name}" has no weights as safetensors', do="choose a model with model.safetensors"
        ) from error
    except (OSError, hub.HFValidationError, hub.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise _told(error, name) from error


def _told(error: BaseException, name: str) -> UsageError | FaultError:
    """What the hub's client raised, in words."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return UsageError(f'the model "{name}" is gated', do="accept its terms on the hub and run `hf auth login`")
    if isinstance(error, hub.RepositoryNotFoundError | hub.RevisionNotFoundError | hub.HFValidationError):
        return UsageError(
            f'the hub has no model "{name}"', do="check the id; where the model is private, run `hf auth login`"
        )
    offline = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set and it is not in the cache" if offline else _first(error)
    return FaultError(
        f'cannot fetch the model "{name}" from the hub ({reason})',
        do="unset HF_HUB_OFFLINE, or give a local folder"
        if offline
        else "check the network and HF_ENDPOINT and run the same command again, or give a local folder",
    )


def _first(error: BaseException) -> str:
    """What started it, in a few words: the client wraps a broken connection twice."""
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".split("\n")[0][:120]
