"""Data sets of the Hugging Face hub: fetched into its cache once, then read like any folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.config.errors import FaultError, UsageError
from graft.core.store.artifact import NotMade
from graft.readers.folder import PACKED, READERS
from graft.readers.open_compressed import COMPRESSIONS

SCHEME = "hf://"
WANTED = [f"*{suffix}" for suffix in READERS] + [f"*{suffix}{packed}" for suffix in PACKED for packed in COMPRESSIONS]
NOT_DATA = ["README.md", "*/README.md", "dataset_infos.json", "*/dataset_infos.json", ".*"]


@dataclass(frozen=True)
class HubPath:
    """`hf://OWNER/NAME[@REVISION][/FOLDER]`; "datasets/" before the owner may be there or not."""

    repo: str
    revision: str | None
    folder: str

    @classmethod
    def parse(cls, path: str) -> HubPath:
        """Errors: UsageError where there is no owner and name."""
        parts = path.removeprefix(SCHEME).removeprefix("datasets/").strip("/").split("/", 2)
        name, _, revision = parts[1].partition("@") if len(parts) > 1 else ("", "", "")
        if not parts[0] or not name:
            raise UsageError(
                f'"{path}" names no data set',
                allowed=f"{SCHEME}OWNER/NAME, {SCHEME}OWNER/NAME@REVISION, {SCHEME}OWNER/NAME/FOLDER",
            )
        return cls(f"{parts[0]}/{name}", revision or None, parts[2] if len(parts) > 2 else "")


def fetched(path: str, *, may_fetch: bool = True) -> Path:
    """The local folder with the data set's readable files, downloaded where they are not there yet.

    Errors: NotMade when they are not all there and may not be fetched.
    """
    where = HubPath.parse(path)
    folder = Path(_snapshot(path, where, local_files_only=not may_fetch)) / where.folder
    if not may_fetch and not folder.exists():
        raise NotMade(path)
    return folder


def sizes(path: str) -> tuple[int, int]:
    """(files, bytes) of what `fetched` would hold, without downloading any of it."""
    planned = _snapshot(path, HubPath.parse(path), dry_run=True)
    return len(planned), sum(one.file_size for one in planned)


def _snapshot(path: str, where: HubPath, **options: Any) -> Any:
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    below = f"{where.folder}/" if where.folder else ""
    try:
        return snapshot_download(
            where.repo,
            repo_type="dataset",
            revision=where.revision,
            allow_patterns=[below + pattern for pattern in WANTED],
            ignore_patterns=NOT_DATA,
            **options,
        )
    except (OSError, hub.HFValidationError, hub.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        if options.get("local_files_only") and isinstance(error, hub.LocalEntryNotFoundError):
            raise NotMade(path) from error
        raise _told(error, path, where) from error


def _told(error: BaseException, path: str, where: HubPath) -> UsageError | FaultError:
    """What the hub's client raised, in words; a dry run wraps the reason once more."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.DryRunError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, hub.GatedRepoError):
        return UsageError(
            f'the data set "{where.repo}" is gated',
            where=path,
            do="accept its terms on the hub and run `hf auth login`",
        )
    if isinstance(error, hub.RepositoryNotFoundError | hub.RevisionNotFoundError | hub.HFValidationError):
        return UsageError(
            f'the hub has no data set "{where.repo}"' + (f' at "{where.revision}"' if where.revision else ""),
            where=path,
            do="check the name; where it is private, run `hf auth login`",
        )
    return FaultError(
        f"cannot fetch the data set from the hub ({type(error).__name__})",
        where=path,
        do="check the network and HF_ENDPOINT and run the same command again: finished files are kept; "
        "or download it elsewhere and give its folder as PATH",
    )
