"""What the terminal shows of documents in a training run: how often they were read, and in which steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from graft.readers.folder import shown

OTHER_CODE = (
    "made by another version of the code that lays text into rows: tokens and the sources of steps agree, more is not "
    "known"
)


def show_run(run: Mapping[str, Any], console: Console, most: int) -> None:
    """One run: whether it read the text, how much of it and when; of a single document the first `most` stretches."""
    base = escape(shown(str(run["base"])))
    console.print(f"\n[bold]{run['run']}[/bold] [dim]({run['role']}; from {base})[/dim]", soft_wrap=True)
    if run["as"]:
        console.print(f"  [dim]there[/dim]     {escape(', '.join(run['as']))} has the same text", soft_wrap=True)
    if not run["trained"]:
        console.print(f"  [bold]not trained on[/bold]: {escape(run['why'])}", soft_wrap=True)
        return
    first, last = run["span"]
    times = run["read"] / run["tokens"]
    console.print(
        f"  [bold]trained on {times:.3g} times[/bold]: {run['read']:,} tokens read of {run['tokens']:,} there are, in "
        f"{run['num_steps']:,} of {run['steps']:,} steps ({first:,} to {last:,})",
        soft_wrap=True,
    )
    laps = [f"pass {lap['pass']}: {lap['share']:.0%}" for lap in run["passes"]]
    if len(laps) > 1 or (run["passes"] and run["passes"][0]["share"] < 1):
        more = f", and {len(laps) - 8} more" if len(laps) > 8 else ""
        console.print(f"  [dim]{', '.join(laps[:8])}{more}[/dim]", soft_wrap=True)
    if run["counted"] < run["tokens"]:
        console.print(f"  [dim]{run['counted']:,} of its tokens count in the loss[/dim]", soft_wrap=True)
    if not run["same_code"]:
        console.print(f"  [dim]{OTHER_CODE}[/dim]", soft_wrap=True)
    if run["trunk"] and first <= run["trunk"][1]:
        console.print(f"  [dim]steps up to {run['trunk'][1]:,} were made by its trunk {run['trunk'][0]}[/dim]")
    if run["stretches"]:
        console.print(_stretches(run, most))
        console.print(
            f"  [dim]row: of the {run['rows']} of a step; at: place in its {run['window']} tokens; loss: of "
            f"all text of the same source in the step, nats per token[/dim]",
            soft_wrap=True,
        )
        rest = len(run["stretches"]) - most
        if rest > 0:
            console.print(f"  [dim]and {rest:,} more (--json)[/dim]")
        console.print(f"  [dim]what else a step read: graft why {run['run']}@{run['stretches'][0]['step']}[/dim]")


def show_turns(runs: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The trainings of a stream, one line each, by method, seed and turn."""
    right = [Column(name, justify="right", no_wrap=True) for name in ("seed", "turn", "times", "steps", "of")]
    table = Table(Column("method", overflow="fold"), *right, Column("run", no_wrap=True), "why not", box=None)
    for run in runs:
        first = run["turns"][0]
        alike = all((one["seed"], one["turn"]) == (first["seed"], first["turn"]) for one in run["turns"])
        methods = ", ".join(str(one["method"]) for one in run["turns"]) if alike else run["role"]
        read = f"{run['read'] / run['tokens']:.3g}" if run["trained"] else "-"
        steps = f"{run['span'][0]:,}-{run['span'][1]:,}" if run["trained"] else "-"
        cells = (f"{first['seed']}", f"{first['turn']}", read, steps, f"{run['steps']:,}", run["run"])
        table.add_row(escape(methods), *cells, f"[dim]{escape(run['why'])}[/dim]")
    trained = [run for run in runs if run["trained"]]
    console.print(f"\n[bold]trained on in {len(trained)} of {len(runs)} runs[/bold] of the stream", soft_wrap=True)
    console.print(table)
    if not all(run["same_code"] for run in runs):
        console.print(f"  [dim]{OTHER_CODE}[/dim]", soft_wrap=True)
    if trained:
        console.print(
            f"  [dim]step by step: graft why {trained[0]['run']} with the same document[/dim]", soft_wrap=True
        )


def _stretches(run: Mapping[str, Any], most: int) -> Table:
    names = ("step", "of the run", "row", "at", "tokens", "pass", "loss", "rate")
    table = Table(*(Column(name, justify="right", no_wrap=True) for name in names), "", box=None)
    for one in run["stretches"][:most]:
        loss, rate = (("-" if one[key] is None else f"{one[key]:.4g}") for key in ("loss", "rate"))
        cells = (
            f"{one['step']:,}",
            f"{one['done']:.1%}",
            f"{one['row']}",
            f"{one['at']}",
            f"{one['from']}-{one['to']}",
        )
        table.add_row(*cells, f"{one['pass']}", loss, rate, "rejected answer" if one["rejected"] else "")
    return table
