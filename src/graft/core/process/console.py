"""The console that all tables and lines of ours are shown on."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from graft.core.config.plain_text import plain


class Screen(Console):
    """Rich's console; what steers a terminal in the text that is shown is written as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for one in super().render(renderable, options):
            yield one if one.control else one._replace(text=plain(one.text))
