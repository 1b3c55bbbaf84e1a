"""How to get what an optional part of graft needs, in the installation that is running."""

from __future__ import annotations

import re
from importlib import metadata

DISTRIBUTION = "graft-lm"
OF_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def requirements(extra: str) -> list[str]:
    """What an extra of this installation requires beside graft itself, as pip takes it; nothing where it has none."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # the source folder is on the path, and nothing is installed
        return []
    found: list[str] = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        if extra in OF_EXTRA.findall(marker):
            found.append(requirement.strip())
    return found


def pip_install(extra: str, otherwise: str) -> str:
    """The command that installs what an extra needs. otherwise: what it is where the installation does not say.

    It names the packages themselves: "graft-lm[extra]" would be looked up on an index that may not have it.
    """
    names = requirements(extra) or [otherwise]
    return "pip install " + " ".join(f'"{name}"' for name in names)
