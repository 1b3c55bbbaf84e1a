"""Old names of settings. They work for one release, and a note gives the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CALLED = "it is called"
# Settings that had another name, which works for one release: old name -> names that it may have now.
RENAMED = {
    "window": ("sequence_length",), "rows": ("batch_size",), "micro_rows": ("micro_batch_size",),
    "rate": ("learning_rate",), "leash": ("kl_weight", "penalty_weight"),
}  # fmt: skip
OLD_NAMES: dict[str, str] = {}  # that were used in this process, by path -> the new name; the command line says so


def new_name(key: Any, fields: Mapping[str, Any]) -> str:
    """The name that one of these fields has in the place of an old one; "" where there is none."""
    return next((one for one in RENAMED.get(str(key), ()) if one in fields), "")


def with_new_names(
    values: Mapping[Any, Any], fields: Mapping[str, Any], path: tuple[str | int, ...]
) -> Mapping[Any, Any]:
    """The values with old names of settings replaced, where the new one is not given too."""
    found: dict[Any, Any] = {}
    for key, value in values.items():
        new = new_name(key, fields)
        if not new or key in fields or new in values:
            found[key] = value
        else:
            found[new] = value
            OLD_NAMES[".".join(map(str, (*path, key)))] = new
    return found
