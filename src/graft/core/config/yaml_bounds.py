"""YAML of a size that settings can have, looked at before anything is built of it."""

from __future__ import annotations

import yaml

from graft.core.config.errors import UsageError

LONGEST = 1_000_000  # characters of a recipe
DEEPEST, ALIASES, NODES = 50, 1000, 10_000  # of its values; the largest recipes have some hundreds


def require_bounded(text: str, name: str) -> None:
    """Errors: UsageError for what is nested too deeply, or grows too large once its aliases stand for what they name.

    It goes by the events of the parser and builds nothing: neither depth nor aliases cost anything here.
    """
    if len(text) > LONGEST:
        raise UsageError(f"{len(text):,} characters", where=name, allowed=f"at most {LONGEST:,}")
    depth = nodes = aliases = 0
    open_: list[tuple[str, int]] = []  # anchors of what is being read, and how many nodes there were before it
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            aliases, nodes = aliases + 1, nodes + sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor or "", nodes))
            depth, nodes = depth + 1, nodes + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        for count, most, words in (
            (depth, DEEPEST, "levels of nesting"),
            (aliases, ALIASES, "aliases"),
            (nodes, NODES, "values, aliases written out"),
        ):
            if count > most:
                line = "" if name.startswith("--set") else f":{event.start_mark.line + 1}"
                raise UsageError(
                    f"more than {most:,} {words}",
                    where=f"{name}{line}",
                    allowed=f"at most {most:,}",
                    do="write the settings out: no job has so many",
                )
