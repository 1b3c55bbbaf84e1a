"""`graft why`: from anything that Graft made back to its origin, and forward to the steps that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from graft.cli.law import JsonOption, write
from graft.core.config.errors import UsageError
from graft.core.process.progress import phase

# ruff: noqa: UP045 - typer wants Optional


def why(
    artifact: Annotated[
        str,
        typer.Argument(
            help="An artifact's name or a beginning of it, its path, or a folder that graft adapt left. RUN@STEP: "
            "what that step read."
        ),
    ],
    document: Annotated[
        str,
        typer.Argument(
            metavar="DOCUMENT",
            help="SOURCE:POSITION as the report has it, FILE#ROW, FILE, or an id: where it came from, what became of "
            "it, and which steps read it.",
        ),
    ] = "",
    step: Annotated[Optional[int], typer.Option(help="What this step of the run read.")] = None,
    spikes: Annotated[
        bool, typer.Option("--spikes", help="The steps whose loss stands out, and what they read.")
    ] = False,
    item: Annotated[
        Optional[str],
        typer.Option(help='A vocabulary item of the blame table ("\\n", " the") or a word: which documents hold it.'),
    ] = None,
    sort: Annotated[str, typer.Option("--class", help='A class of the blame table: "newline", "domain term" ...')] = "",
    fate: Annotated[
        str,
        typer.Option(help='A fate of the ledger ("overlaps train") or a step ("exact_duplicates"): which documents.'),
    ] = "",
    source: Annotated[str, typer.Option(help="Of --item, --class and --fate: in this source alone.")] = "",
    most: Annotated[int, typer.Option(help="How many documents, spikes or holders are shown; counts are of all.")] = 10,
    k: Annotated[Optional[float], typer.Option(help="Of --spikes: median distances above the median.")] = None,
    near: Annotated[Optional[int], typer.Option(help="Of --spikes: steps on either side.")] = None,
    least: Annotated[Optional[float], typer.Option(help="Of --spikes: least rise, as a share of the median.")] = None,
    out: JsonOption = None,
    store: Annotated[
        Optional[Path], typer.Option("--store", help="Folder of artifacts. \\[default: $GRAFT_STORE, or .graft]")
    ] = None,
) -> None:
    """Show what something was made from; of a document, a step or a row of a report also where it was trained on.

    Steps, rows and tokens count from 1, both ends included; documents of a source from 0, as the report has them.
    """
    from graft.cli.law_screen import terminal
    from graft.cli.why_screen import show
    from graft.core.stats.outliers import Spikes
    from graft.core.store.artifact import Store
    from graft.lineage.why.ancestry import show_ancestry
    from graft.lineage.why.query import Why

    borders: dict[str, Any] = {"k": k, "near": near, "least": least}
    borders = {name: value for name, value in borders.items() if value is not None}
    if borders and not spikes:
        raise UsageError(f"--{next(iter(borders))} is given", allowed="with --spikes")
    question = Why(artifact, document, step, spikes, item, sort, fate, source, most, Spikes(**borders))
    opened = Store(store) if store else Store.default()
    with phase("looking it up"):
        told = question(opened)
    if told["asked"] == "ancestry":
        show_ancestry(told)
    else:
        show(told, terminal())
    write(out, told)
