"""`graft similarity`: how alike texts are to what a model was pre-trained on, and whether to adapt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from graft.cli.law import JsonOption, write
from graft.cli.precision_options import DeviceOption, PrecisionOption, computing
from graft.core.config.plain_text import plain

# ruff: noqa: UP045 - typer wants Optional
Words = Optional[list[str]]


def similarity(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Files or folders, each a text of its own.")],
    to: Annotated[
        list[str],
        typer.Option(metavar="REFERENCE", help="Text like what the model was pre-trained on. Repeatable: one text."),
    ],
    model: Annotated[str, typer.Option(help='"embedded", a folder in Hugging Face form, or a hub id')] = "embedded",
    runs: Annotated[
        Words,
        typer.Option(
            metavar="FOLDER", help="What graft adapt left, or a report artifact: correlated where its domain is a TEXT."
        ),
    ] = None,
    documents: Annotated[
        Optional[int], typer.Option(help="Read at most so many of each text. \\[default: 200]")
    ] = None,
    tokens: Annotated[Optional[int], typer.Option(help="Read so many of each document. \\[default: 512]")] = None,
    text_field: Annotated[str, typer.Option(help="Where the text is, in rows of JSON, Parquet or CSV.")] = "text",
    encoding: Annotated[str, typer.Option(help="Of text that is not UTF-8; see `graft adapt --help`.")] = "",
    changes: Annotated[
        Words,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. liken.draws=2000, advise.excess=0.2."),
    ] = None,
    out: JsonOption = None,
    page: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE.html", help="Write a page for people here; it opens offline and needs nothing else."
        ),
    ] = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    store: Annotated[
        Optional[Path], typer.Option("--store", help="Folder of artifacts. \\[default: $GRAFT_STORE, or .graft]")
    ] = None,
) -> None:
    """Measure how alike each TEXT is to the REFERENCE, and advise whether to adapt to it.

    Six measures with intervals over documents; with --runs, how each goes with what training really changed.
    """
    from dataclasses import replace

    from graft.cli.law_screen import terminal
    from graft.cli.listing import Teller
    from graft.cli.similarity_screen import show_similarity
    from graft.core.config.recipe import build_changed
    from graft.core.store.artifact import Store
    from graft.evaluation.similarity.query import Similarity
    from graft.models.runtime.settle_precision import settle_precision
    from graft.report.similarity.stage import check_page, write_page

    reading = {name: value for name, value in (("documents", documents), ("tokens", tokens)) if value is not None}
    settings = {"texts": texts, "to": to, "model": model, "runs": runs or []}
    settings |= {"ingest": {"text_field": text_field, "encoding": encoding}, "embed": reading}
    request = computing(build_changed(Similarity, settings, changes or []), precision, device)
    if page is not None:
        check_page(page, request)
    kept = replace(Store(store) if store else Store.default(), on_made=Teller().made)
    request = settle_precision(request, kept)
    told = request(kept)
    show_similarity(told, terminal())
    write(out, told)
    if page is not None:
        write_page(page, request, told, kept)
        typer.echo(plain(f"written: {page}"))
