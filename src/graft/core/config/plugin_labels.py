"""Plug-ins by a label each, where a list may hold one several times with other settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.config.plugins import plugin_name

SHARES = ("share", "replay")  # settings that people write in percent


def labelled(plugins: Sequence[Any], what: str) -> dict[str, Any]:
    """Plug-ins by name and by those settings in which they are not the default, or not like another of the same name.

    Errors: UsageError for the same one twice, naming `what` the list is.
    """
    found: dict[str, Any] = {}
    for plugin in plugins:
        alike = [other for other in plugins if type(other) is type(plugin)]
        label = " ".join([plugin_name(plugin).rpartition(".")[2], ", ".join(_telling(plugin, alike))]).strip()
        if label in found:
            raise UsageError(f"{what} hold {label} twice", allowed="each once", do="drop one of them")
        found[label] = plugin
    return found


def _telling(plugin: Any, alike: Sequence[Any]) -> list[str]:
    """The settings that set one apart; a share alone goes without its name."""
    default, said = type(plugin)(), {}
    for one in dataclasses.fields(plugin):
        value = getattr(plugin, one.name)
        differs = value != getattr(default, one.name) or any(getattr(other, one.name) != value for other in alike)
        if differs or one.name == "share":
            said[one.name] = value
    words = [_written(name, value) for name, value in said.items()]
    return [word.removeprefix("share ") for word in words] if set(said) == {"share"} else words


def _written(name: str, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{name} {plugin_name(value)}"
    if name in SHARES:
        return f"{name} {100 * value:g} %"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}".replace("_", " ")
