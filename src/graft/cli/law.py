"""`graft law`: fit a law to a table of runs, ask it, solve with it, and plan the next run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from graft.core.config.errors import GateClosed, UsageError
from graft.core.config.plain_text import plain
from graft.core.process.progress import phase

law = typer.Typer(
    name="law",
    help="Fit laws to a table of runs (CSV, Parquet, JSON), and ask them what a run would give before it is paid for.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

# ruff: noqa: UP045 - typer wants Optional
Words = Optional[list[str]]
LawArgument = Annotated[Path, typer.Argument(help="What `graft law fit --json` wrote.")]
ColumnOption = Annotated[
    Words,
    typer.Option(
        "--column",
        metavar="NAME=COL",
        help="The column of unique, step, rate, injected, domain, base_loss ... Repeatable.",
    ),
]
WhereOption = Annotated[
    Words, typer.Option("--where", metavar="COL=VALUE", help="Take these rows only; also !=, <, >, <=, >=. Repeatable.")
]
JsonOption = Annotated[
    Optional[Path],
    typer.Option("--json", help="Write the answer here as JSON.", callback=lambda path: require_place(path)),
]
SizesOption = Annotated[Words, typer.Option("--size", help="Parameters: 1.8B. Repeatable.")]
TokensOption = Annotated[Words, typer.Option("--tokens", help="Tokens trained on: 10B. Repeatable.")]
RatiosOption = Annotated[Words, typer.Option("--ratio", help="Share from 0 to 1, as in the fitted table. Repeatable.")]
BaseLossOption = Annotated[
    Optional[float],
    typer.Option(help="The base's loss on general text. \\[default: as the general law's table has it]"),
]


@law.command()
def fit(
    table: Annotated[list[Path], typer.Argument(help="CSV, Parquet, JSON or JSON Lines; several are read as one.")],
    form: Annotated[str, typer.Option(help="The law; `graft ls laws` lists them.")] = "d_cpt",
    loss: Annotated[str, typer.Option(help="The column of losses.")] = "",
    size: Annotated[str, typer.Option(help="The column of parameters.")] = "",
    tokens: Annotated[str, typer.Option(help="The column of tokens trained on.")] = "",
    ratio: Annotated[str, typer.Option(help="The column of the text's share.")] = "",
    weights: Annotated[str, typer.Option(help="The columns of domains' shares: a,b,c or 'train_*'.")] = "",
    run: Annotated[
        str, typer.Option(help="The column that tells runs apart; row: each row its own, file: each file one.")
    ] = "",
    column: ColumnOption = None,
    ratio_of: Annotated[
        str,
        typer.Option(
            help="Whose share the ratio is: own, that of the text whose loss is fitted (so general loss goes with "
            "general text's share); other: 1 - ratio is fitted."
        ),
    ] = "own",
    where: WhereOption = None,
    join: Annotated[Optional[Path], typer.Option(help="A table with more columns of the same rows.")] = None,
    repeats: Annotated[str, typer.Option(help="Rows that measure one point twice: refuse, keep or mean.")] = "refuse",
    schedule: Annotated[
        str, typer.Option(help="Token counts from a run whose learning rate falls: refuse or accept.")
    ] = "refuse",
    holdout: Annotated[str, typer.Option(help="Fit again without some: ratio, size, tokens or domains.")] = "",
    leave: Annotated[
        str,
        typer.Option(help="How many values at once; tokens: share of the range. \\[default: 2; size 1; tokens 1/3]"),
    ] = "",
    test: Annotated[Optional[list[Path]], typer.Option(help="A table scored as the hold-out. Repeatable.")] = None,
    test_join: Annotated[Optional[Path], typer.Option(help="As --join, for --test.")] = None,
    base_loss: Annotated[
        Optional[float], typer.Option(help="The base's loss on this text, kept for `graft law solve`.")
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Put the prediction of every point into the JSON.")
    ] = False,
    changes: Annotated[
        Words,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the law, e.g. fitting.starts=100. Repeatable."),
    ] = None,
    out: JsonOption = None,
) -> None:
    """Fit a law to the losses of TABLE: constants with intervals, how well it fits, what it says of held-out rows."""
    from graft.cli.law_screen import show_fit, terminal
    from graft.scaling.queries.fit import FitRequest

    request = FitRequest(
        tables=tuple(table), form=form, weights=weights, run=run, column=tuple(column or ()), ratio_of=ratio_of,
        named={"loss": loss, "size": size, "tokens": tokens, "ratio": ratio}, where=tuple(where or ()), join=join,
        repeats=repeats, schedule=schedule, holdout=holdout, leave=leave, test=tuple(test or ()), test_join=test_join,
        base_loss=base_loss, predictions=predictions, changes=tuple(changes or ()),
    )  # fmt: skip
    with phase("fitting"):
        told = request()
    show_fit(told, terminal())
    write(out, told)


@law.command()
def predict(
    saved: LawArgument,
    size: SizesOption = None,
    tokens: TokensOption = None,
    ratio: RatiosOption = None,
    at: Annotated[
        Words,
        typer.Option("--at", metavar="NAME=VALUE,...", help="A place by its columns or domains' shares. Repeatable."),
    ] = None,
    table: Annotated[
        Optional[Path], typer.Option(help="A table of places, with the columns of the fitted one.")
    ] = None,
    column: ColumnOption = None,
    where: WhereOption = None,
    out: JsonOption = None,
) -> None:
    """Say the loss, with its interval, at places that were not measured; what lies beyond the data is marked."""
    from graft.cli.law_screen import law_words, show_predictions, terminal
    from graft.scaling.queries.answers import rows_asked, rows_of_table
    from graft.scaling.queries.words import axes, open_law

    kept, content = open_law(saved)
    if table is not None:
        if size or tokens or ratio or at:
            raise UsageError("--table and single places are both given", allowed="one of them")
        rows = rows_of_table(kept, content, table, column or [], where or [])
    elif column or where:
        raise UsageError("--column and --where are given without --table", allowed="them with --table")
    else:
        rows = rows_asked(kept, axes(size=size, tokens=tokens, ratio=ratio), at or [])
    show_predictions(rows, law_words(kept.form, kept.reads, kept.ratio_of), terminal())
    write(out, {"form": kept.form, "ratio_of": kept.ratio_of, "predictions": rows})


@law.command()
def solve(
    saved: Annotated[
        Optional[Path], typer.Argument(help="The law of the domain's loss, from `graft law fit --json`.")
    ] = None,
    forget: Annotated[str, typer.Option(help="What general loss may rise by: 3%. Needs --against.")] = "",
    against: Annotated[
        Optional[Path], typer.Option(help="The law of general loss, fitted against general text's share.")
    ] = None,
    base_loss: BaseLossOption = None,
    domain_tokens: Annotated[str, typer.Option(help="The domain's tokens there are: 5B. Finds ratio and length.")] = "",
    flops: Annotated[str, typer.Option(help="What training may cost: 1e20. Finds size and tokens.")] = "",
    measured: Annotated[
        Optional[Path], typer.Option(help="A table of ratios and general losses to look between, instead of laws.")
    ] = None,
    at: Annotated[
        str,
        typer.Option("--at", metavar="NAME=VALUE,...", help="The place: size=1.8B,tokens=10B, for --flops ratio=0.3."),
    ] = "",
    size: Annotated[str, typer.Option(help="As --at size=...")] = "",
    tokens: Annotated[str, typer.Option(help="As --at tokens=...")] = "",
    ratio: Annotated[str, typer.Option(help="As --at ratio=...")] = "",
    column: Annotated[
        Words,
        typer.Option(
            "--column", metavar="NAME=COL", help="For --measured: ratio, general_loss, loss, base_loss. Repeatable."
        ),
    ] = None,
    ratio_of: Annotated[
        str, typer.Option(help="For --measured: own, the ratio is the domain's share; other, general text's.")
    ] = "own",
    where: WhereOption = None,
    out: JsonOption = None,
) -> None:
    """Solve for the best mixture: within a forgetting budget, for scarce domain text, or for a compute budget.

    --forget 3% --against GENERAL.json: the domain's largest share that keeps general loss within 3 % of the base's.

    --domain-tokens 5B: the share with the least domain loss when each of these tokens is read once.

    --flops 1e20: the size and the tokens of the least loss, 6 * size * tokens being what it costs.

    Exit code 3 where no mixture keeps the budget.
    """
    from graft.cli.law_screen import show_solution, terminal
    from graft.scaling.queries.answers import solve_laws, solve_measured
    from graft.scaling.queries.words import one_of, place

    target = one_of(forget=forget, domain_tokens=domain_tokens, flops=flops)
    if measured is None and (column or where or ratio_of != "own"):
        raise UsageError("--column, --where or --ratio-of is given without --measured", allowed="them with --measured")
    if target != "forget" and (against or measured or base_loss is not None):
        raise UsageError("--against, --measured or --base-loss is given without --forget", allowed="them with --forget")
    if measured is not None:
        if saved or against or size or tokens or ratio or at:
            raise UsageError("--measured stands alone", allowed="no law and no place with it: a table has both")
        told = solve_measured(measured, forget, base_loss, column or [], ratio_of, where or [])
    else:
        spot = place(at, size=size, tokens=tokens, ratio=ratio)
        told = solve_laws(saved, target, forget or domain_tokens or flops, against, spot, base_loss)
    show_solution(told, terminal())
    write(out, told)
    if told["answer"] == "infeasible":
        raise GateClosed("no mixture keeps the budget", do="allow more, or train on fewer tokens")


@law.command("next")
def next_run(
    saved: Annotated[
        Path, typer.Argument(help="The law whose answer is to be sharper; with --forget, that of general loss.")
    ],
    at: Annotated[
        str,
        typer.Option("--at", metavar="NAME=VALUE,...", help="The answer: the loss at size=1.8B,tokens=10B,ratio=0.3."),
    ] = "",
    forget: Annotated[
        str,
        typer.Option(help="The answer: the domain's share that keeps general loss within 3% of the base's, at --at."),
    ] = "",
    base_loss: BaseLossOption = None,
    size: SizesOption = None,
    tokens: TokensOption = None,
    ratio: RatiosOption = None,
    flops: Annotated[str, typer.Option(help="No run dearer than this.")] = "",
    top: Annotated[int, typer.Option(min=1, help="How many are shown; the JSON holds all.")] = 10,
    out: JsonOption = None,
) -> None:
    """Rank candidate runs by how far each would narrow an answer's interval per FLOP.

    --size, --tokens and --ratio name the candidates, every combination of them; what is not named is taken from the
    range of the data.
    """
    from graft.cli.law_screen import show_next, terminal
    from graft.scaling.queries.answers import next_runs
    from graft.scaling.queries.words import axes

    told = next_runs(saved, at, forget, base_loss, axes(size=size, tokens=tokens, ratio=ratio), flops)
    show_next(told, top, terminal())
    write(out, told)


def require_place(path: Path | None) -> Path | None:
    """Errors: UsageError where no file can be written: before the work, not after it."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        reason = "this is a folder" if path.is_dir() else "there is no such folder"
        raise UsageError(f"cannot write: {reason}", where=f"--json {path}", do="choose another file")
    return path


def write(path: Path | None, told: dict[str, Any]) -> None:
    """The answer as JSON, whole or not at all. Errors: UsageError where it cannot be written."""
    if path is None:
        return
    from graft.core.store.atomic_files import remove_parts, write_whole
    from graft.scaling.queries.words import json_text

    try:
        remove_parts(path)  # of processes that were killed while they wrote it
        write_whole(path, json_text(told))
    except OSError as error:
        raise UsageError(f"cannot write: {error.strerror}", where=f"--json {path}", do="choose another file") from error
    typer.echo(plain(f"written: {path}"))
