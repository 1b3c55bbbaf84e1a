"""What the terminal shows of `graft similarity`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from graft.readers.folder import shown
from graft.report.similarity.measure_names import measure_of


def show_similarity(told: Mapping[str, Any], console: Console) -> None:
    """Every text's measures and advice, then runs and correlations, then notes."""
    reference = told["reference"]
    console.print(
        f"against {_plain(', '.join(reference['paths']))} ({reference['documents']:,} documents), "
        f"read by {_plain(told['model'])}"
    )
    for one in told["texts"]:
        console.print(f"\n[bold]{_plain(one['text'])}[/bold]  {one['documents']:,} documents, {one['bytes']:,} bytes")
        console.print(_measures(one["measures"]))
        console.print(f"[bold]advice: {escape(one['advice'])}[/bold]")
        console.print(f"rests on: {escape(one['rests_on'])}", style="dim")
    console.print(
        "\ncorrected: less what few documents add by chance; low and high: its 95 % interval over documents",
        style="dim",
    )
    if told["runs"] or told["runs_left_out"]:
        _show_runs(told, console)
    for note in told["notes"]:
        console.print(f"note: {_plain(note)}", style="dim")


def _measures(rows: Sequence[Mapping[str, Any]]) -> Table:
    right = [Column(name, justify="right", no_wrap=True) for name in ("measured", "corrected", "low", "high")]
    table = Table(Column("measure", no_wrap=True), *right, "closer when", "", box=None)
    for row in rows:
        low, high = row["interval"] or (None, None)
        closer = "larger" if row["larger_is_closer"] else "smaller"
        name = measure_of(row["measure"]).name
        cells = (number(value) for value in (row["value"], row["corrected"], low, high))
        table.add_row(_plain(name), *cells, closer, escape(row["note"]))
    return table


def _show_runs(told: Mapping[str, Any], console: Console) -> None:
    right = [Column(name, justify="right") for name in ("peak rate", "replay", "change of loss")]
    table = Table("run", "text", *right, "verdict", box=None)
    for run in told["runs"]:
        replay = "-" if run["replay"] is None else f"{run['replay']:.0%}"
        cells = (number(run["rate"]), replay, f"{run['change']:+.2%}", escape(run["verdict"]))
        table.add_row(_plain(run["run"]), _plain(run["text"]), *cells)
    console.print()
    if told["runs"]:
        console.print(table)
    for words in told["runs_left_out"]:
        console.print(f"[yellow]left out:[/yellow] {_plain(words)}")
    if not told["correlations"] or not told["runs"]:
        return
    first = told["correlations"][0]
    console.print(f"\ncorrelation of measure and change, {first['runs']} run(s) on {first['texts']} text(s)")
    columns = [Column(name, justify="right", no_wrap=True) for name in ("Pearson", "95 %", "Spearman", "95 %")]
    table = Table(Column("measure", no_wrap=True), *columns, box=None)
    for row in told["correlations"]:
        cells = [
            cell for key in ("pearson", "spearman") for cell in (number(row[key]), _interval(row[f"{key}_interval"]))
        ]
        table.add_row(_plain(measure_of(row["measure"]).name), *cells)
    console.print(table)
    if first["texts"] < 5:
        console.print("a coefficient takes 3 texts with runs, its interval 5", style="dim")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval(pair: Sequence[float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.2f} to {pair[1]:.2f}"


def _plain(value: object) -> str:
    return escape(shown(str(value)))
