"""What the terminal shows of laws: constants, metrics, predictions, solutions, and which run to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from graft.core.process.console import Screen
from graft.scaling.solving.quantity import amount, factor_words, quantity

METRICS = {"r2": "R2", "huber": "Huber", "mre": "MRE", "spearman": "Spearman"}
MOST_FOLDS = 12  # more are told by the worst three


WIDEST = 100  # columns: lines of words longer than that are hard to read


def terminal() -> Screen:
    """Where answers are shown."""
    console = Screen(highlight=False)
    return (
        Screen(highlight=False, width=min(console.width, WIDEST))
        if console.is_terminal
        else Screen(highlight=False, width=WIDEST)
    )


def law_words(form: str, reads: Sequence[str], ratio_of: str) -> str:
    """'d_cpt of size, tokens, ratio; the ratio is ...'."""
    told = f"{form} of {', '.join(reads) or 'the shares of domains'}"
    if "ratio" not in reads:
        return told
    whose = (
        "of the text whose loss it is"
        if ratio_of == "own"
        else "of the other text, as in the table: the law is asked at 1 - ratio"
    )
    return f"{told}; the ratio is the share {whose}"


def right(*names: str) -> list[Column]:
    return [Column(name, justify="right", no_wrap=True) for name in names]


def show_fit(told: Mapping[str, Any], console: Console) -> None:
    """What `graft law fit` found: constants with intervals, metrics, warnings."""
    table = told["table"]
    console.print(f"[bold]{told['form']}[/bold] fitted to {table['points']} points of {escape(table['name'])}")
    for note in told["notes"]:
        console.print(f"[dim]{escape(note)}[/dim]")
    confidence = f"{told['confidence']:.0%} interval"
    constants = Table(Column("constant", no_wrap=True), *right("value", "low", "high"), box=None, caption=None)
    for name, one in told["constants"].items():
        constants.add_row(escape(name), *(number(one[key]) for key in ("value", "low", "high")))
    for name, value in told["held"].items():
        constants.add_row(escape(name), number(value), "held", "held")
    if constants.row_count:
        console.print()
        console.print(constants)
        console.print(f"[dim]low and high: {confidence} by bootstrap over runs[/dim]")
    console.print()
    console.print(_metrics(told))
    console.print("[dim]Huber: mean, of log loss; MRE: mean relative error[/dim]")
    holdout = told["holdout"]
    if holdout:
        console.print(f"[dim]{escape(holdout['made'])}[/dim]")
        _show_folds(holdout, console)
    for name, value in told["facts"].items():
        console.print(f"{escape(name)}: {number(value)}")
    for warning in told["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def _metrics(told: Mapping[str, Any]) -> Table:
    table = Table(Column("points", no_wrap=True), *right("n", *METRICS.values()), box=None)
    rows = [("fit", told["metrics"]["fit"])]
    holdout = told["holdout"]
    if holdout and len(holdout["folds"]) > 1:
        rows.append((f"held out, mean of {len(holdout['folds'])} folds", holdout["mean"]))
        inside = sum(fold["inside"] for fold in holdout["folds"])
        if 0 < inside < len(holdout["folds"]):
            rows.append((f"{inside} of them inside the data", holdout["mean_inside"]))
    if holdout:
        rows.append(("held out, pooled", holdout["pooled"]))
    for name, one in rows:
        table.add_row(name, f"{one['n']:,}", *metric_cells(one))
    return table


def _show_folds(holdout: Mapping[str, Any], console: Console) -> None:
    folds = holdout["folds"]
    if len(folds) < 2:
        return
    worst = sorted(folds, key=lambda fold: -fold["mre"])[:3]
    table = Table(Column("left out", no_wrap=True), *right("n", *METRICS.values()), box=None)
    for fold in folds if len(folds) <= MOST_FOLDS else worst:
        table.add_row(escape(fold["held"]), f"{fold['n']:,}", *metric_cells(fold))
    console.print()
    if len(folds) > MOST_FOLDS:
        console.print(f"the worst 3 of {len(folds)} folds")
    console.print(table)


def metric_cells(one: Mapping[str, Any]) -> list[str]:
    """Cells for r2, huber, mre and spearman; "-" where a metric is not defined."""
    written = {"r2": "{:.4f}", "huber": "{:.2e}", "mre": "{:.3%}", "spearman": "{:.4f}"}
    return ["-" if not _is_number(one[name]) else written[name].format(one[name]) for name in METRICS]


def show_predictions(rows: Sequence[Mapping[str, Any]], heading: str, console: Console) -> None:
    """rows: {place, columns, shares, value, low, high, beyond}; a row without a place is called by its number."""
    console.print(f"[dim]{escape(heading)}[/dim]")
    names = list(rows[0]["columns"])
    table = Table(Column("row", no_wrap=True), *right(*names, "loss", "low", "high"), box=None)
    called = [str(row.get("place") or f"row {place}") for place, row in enumerate(rows, 1)]
    for who, row in zip(called, rows, strict=True):
        table.add_row(escape(who), *(quantity(name, row["columns"][name]) for name in names), *_bounds(row))
    console.print(table)
    for who, row in zip(called, rows, strict=True):
        if row["shares"]:
            shares = ", ".join(f"{name} {share:g}" for name, share in row["shares"].items())
            console.print(f"[dim]{escape(f'{who}: {shares}')}[/dim]")
        show_beyond(row["beyond"], f"{who} is", console)


def show_beyond(beyond: Sequence[Mapping[str, Any]], who: str, console: Console) -> None:
    """The mark that an answer lies beyond the data, with its distance."""
    for one in beyond:
        console.print(f"[yellow]{escape(who)} {escape(beyond_words(one))}[/yellow]")


def beyond_words(one: Mapping[str, Any]) -> str:
    """'beyond the data, by a factor of 3.2 in tokens (the data hold 1B to 10B)'."""
    by = f"a factor of {factor_words(one['factor'])}" if "factor" in one else f"{one['difference']:.3g}"
    name = one["column"]
    low, high = quantity(name, one["low"]), quantity(name, one["high"])
    span = f"{low} alone" if low == high else f"{low} to {high}"
    return f"beyond the data, by {by} in {name} (the data hold {span})"


def _bounds(row: Mapping[str, Any]) -> list[str]:
    return [f"{row[key]:.4f}" if _is_number(row[key]) else "-" for key in ("value", "low", "high")]


def loss_words(row: Mapping[str, Any]) -> str:
    """'2.8431 (2.8390 to 2.8470)'."""
    value, low, high = _bounds(row)
    return value if low == "-" else f"{value} ({low} to {high})"


def number(value: Any) -> str:
    """A constant in five digits, '-' where there is none."""
    return f"{value:.5g}" if _is_number(value) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def place_words(at: Mapping[str, float]) -> str:
    """'size 1.8B, tokens 10B'."""
    return ", ".join(f"{name} {quantity(name, value)}" for name, value in at.items())


def share_words(one: Mapping[str, float]) -> str:
    """'0.9245 (0.9190 to 0.9301)'."""
    value = f"{one['value']:.4f}"
    return value if not _is_number(one["low"]) else f"{value} ({one['low']:.4f} to {one['high']:.4f})"


def show_solution(told: Mapping[str, Any], console: Console) -> None:
    """Whatever `graft law solve` found."""
    for who in ("law", "against"):
        if who in told:
            console.print(f"[dim]{'' if who == 'law' else 'against: '}{escape(law_words(**told[who]))}[/dim]")
    shows = {"forget": show_trade_off, "measured": show_crossing}
    shows.get(told["usage"], show_least)(told, console)


def show_trade_off(told: Mapping[str, Any], console: Console) -> None:
    """The answer to "what may be forgotten"."""
    domain, general = told["domain_loss"], told["general_loss"]
    words = {
        "binding": "the budget decides",
        "slack": "domain text alone keeps the budget",
        "inner": "the domain's law is least here, inside the budget",
        "infeasible": "infeasible: general text alone already breaks the budget",
    }
    console.print(f"[bold]ratio of domain text: {share_words(told['ratio'])}[/bold]  {words[told['answer']]}")
    console.print(f"at {place_words(told['at'])}; general text {told['general_ratio']:.4f}, at which its law is asked")
    limit = f"limit {told['limit']:.4f} = base {told['base_loss']:.4f} {told['budget']:+.2%}"
    console.print(f"general loss {loss_words(general)}, {told['change']:+.2%}; {limit}")
    console.print(f"domain loss {loss_words(domain)}")
    show_beyond(domain["beyond"], "the domain law's answer is", console)
    show_beyond(general["beyond"], "the general law's answer is", console)


def show_crossing(told: Mapping[str, Any], console: Console) -> None:
    """The answer from measured losses alone."""
    ratio = told["ratio"]
    words = {
        "binding": f"between the measured {ratio['low']:g} and {ratio['high']:g}",
        "slack": "the largest that was measured keeps the limit; nothing is said beyond it",
        "infeasible": "infeasible: the smallest that was measured already breaks the limit",
    }
    console.print(f"[bold]ratio of domain text: {ratio['value']:.4f}[/bold]  {words[told['answer']]}")
    console.print(f"limit of general loss {told['limit']:.4f}")
    if told["domain_loss"] is not None:
        console.print(f"domain loss {told['domain_loss']:.4f}, interpolated")


def show_least(told: Mapping[str, Any], console: Console) -> None:
    """The answer for scarce domain text, or for a compute budget."""
    if "ratio" in told:
        console.print(f"[bold]ratio: {share_words(told['ratio'])}[/bold] of the text whose loss it is")
    for name in ("size", "tokens"):
        if name in told:
            ends = (
                ""
                if not _is_number(told[name]["low"])
                else f" ({amount(told[name]['low'])} to {amount(told[name]['high'])})"
            )
            console.print(f"[bold]{name}: {amount(told[name]['value'])}[/bold]{ends}")
    at = {name.replace("_", " "): value for name, value in told["at"].items()}
    console.print("at " + ", ".join(f"{name} {amount(v) if v >= 1000 else f'{v:.6g}'}" for name, v in at.items()))
    console.print(f"loss {loss_words(told['loss'])}")
    if told.get("closed_form") is not None:
        console.print("[dim]by the closed form, and a search finds the same place[/dim]")
    if told["at_end"]:
        console.print(f"[yellow]no inner answer: the least loss is at {escape(told['at_end'])}[/yellow]")
    show_beyond(told["loss"]["beyond"], "this answer is", console)


def show_next(told: Mapping[str, Any], top: int, console: Console) -> None:
    """Candidate runs, the best first."""
    target = told["target"]
    console.print(f"[dim]{escape(law_words(told['form'], list(target['reads']), told['ratio_of']))}[/dim]")
    console.print(f"[bold]{escape(target['words'])}: {_span(target)}[/bold]  at {place_words(target['at'])}")
    names = list(told["candidates"][0]["columns"])
    paid = told["cost_in"]
    unit = 10.0 ** math.floor(math.log10(min(one["cost"] for one in told["candidates"][:top])))
    table = Table(
        *right("", *names, "costs", "narrower\nby", f"per {unit:.0e}\n{paid}", "then\nlow", "\nhigh"), box=None
    )
    for place, one in enumerate(told["candidates"][:top], 1):
        cells = [quantity(name, one["columns"][name]) for name in names]
        rate = f"{one['per_cost'] * unit:.2%}"
        table.add_row(
            str(place),
            *cells,
            f"{one['cost']:.3g}",
            f"{one['narrowing']:.1%}",
            rate,
            f"{one['low']:.4f}",
            f"{one['high']:.4f}",
        )
    console.print(table)
    console.print(f"[dim]{escape(told['made'])}[/dim]")
    for place, one in enumerate(told["candidates"][:top], 1):
        show_beyond(one["beyond"], f"run {place} is", console)


def _span(one: Mapping[str, Any]) -> str:
    return f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"
