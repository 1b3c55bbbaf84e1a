"""What the terminal shows of `graft why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from graft.cli.why_training_screen import show_run, show_turns
from graft.readers.folder import shown
from graft.report.shared.wording import marked

STRETCHES = 12  # of a document, or documents of a step's row, that are shown; the JSON has all
ROWS = 16


def show(told: Mapping[str, Any], console: Console) -> None:
    """Any answer but a tree."""
    {
        "document": _document, "file": _file, "step": _step, "spikes": _spikes, "item": _items, "class": _items,
        "fate": _fate,
    }[told["asked"]](told, console)  # fmt: skip


def _document(told: Mapping[str, Any], console: Console) -> None:
    one, fate = told["document"], told["fate"]
    _line(console, f"[bold]{plain(one['document'])}[/bold] of {told['corpus']}")
    where = plain(one["path"] or one["file"] or ", ".join(one["from"]))
    _field(console, "from", f"{where}{', ' + plain(one['place']) if one['place'] else ''}")
    if one["path"] and one["from"]:
        _field(console, "known as", plain(", ".join(one["from"])))
    _field(console, "text", f"{one['bytes']:,} bytes  [dim]{excerpt(one['beginning'], 70)}[/dim]")
    by = f" by [bold]{plain(fate['by'])}[/bold]" if fate["by"] else ""
    _field(console, "fate", f"[bold]{plain(fate['fate'])}[/bold]{by}; {plain(fate['words'])}")
    if fate["kept"]:
        _field(console, "copy of", _name(fate["kept"]))
    if fate["copies"]:
        more = f" and {len(fate['copies']) - 3} more" if len(fate["copies"]) > 3 else ""
        _field(console, "copies", ", ".join(_name(copy) for copy in fate["copies"][:3]) + more + ", all left out")
    if fate["overlap"]:
        held, places = fate["overlap"]
        _field(
            console,
            "overlap",
            f"{held:,} of {places:,} word n-grams stand in training text ({held / max(1, places):.0%})",
        )
    for key, value in fate["notes"].items():
        _field(console, "note", f"{plain(key)}: {plain(value)}")
    _runs(told, console)
    _scored(told["scored"], console)


def _file(told: Mapping[str, Any], console: Console) -> None:
    _line(console, f"[bold]{plain(told['words'])}[/bold]: {_count(told['of'], 'document')} of {told['corpus']}")
    if told["path"]:
        _field(console, "from", plain(told["path"]))
    for fate, sums in told["fates"].items():
        _field(console, "fate", f"{plain(fate)}: {_count(sums['documents'], 'document')}, {sums['bytes']:,} bytes")
    _runs(told, console)
    table = Table(Column("document", no_wrap=True), _folded("from"), Column("bytes", justify="right"), "fate", box=None)
    for one in told["documents"]:
        table.add_row(plain(one["document"]), plain(", ".join(one["from"])), f"{one['bytes']:,}", plain(one["fate"]))
    console.print()
    console.print(table)
    _rest(console, told["of"] - len(told["documents"]), "document", "--most")


def _runs(told: Mapping[str, Any], console: Console) -> None:
    if not told["runs"]:
        _line(console, "\nno training run in this store has to do with this text")
    turns = [run for run in told["runs"] if run["turns"]]
    if turns:
        show_turns(turns, console)
    if told["gone"]:
        _line(console, f"[dim]no longer in the store: {', '.join(told['gone'])}[/dim]")
    for run in told["runs"]:
        if not run["turns"]:
            show_run(run, console, STRETCHES)


def _scored(sightings: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not sightings:
        return
    table = Table(
        "scored", Column("tokens", justify="right"), Column("nats/token", justify="right"), "evidence", box=None
    )
    for one in sightings:
        if "evidence" in one:
            who = one["when"] or f"by {one['model']}"
            words = (plain(who), f"{one['tokens']:,}", f"{one['nats_per_token']:.3f}", one["evidence"])
            table.add_row(*words)
    console.print()
    if table.row_count:
        console.print(table)
    for one in sightings:
        if "watched" in one:
            looks = f"{one['looks'][0]} to {one['looks'][-1]} ({_count(len(one['looks']), 'look')})"
            _line(
                console,
                f"watched by {one['watched']} after steps {looks}: {one['tokens']:,} of its tokens, as one of "
                f"{one['documents']:,} documents; [dim]only the mean of all was kept[/dim]",
            )


def _step(told: Mapping[str, Any], console: Console) -> None:
    _line(console, f"[bold]step {told['step']:,}[/bold] of {told['steps']:,} of {told['run']}")
    if told["trunk"]:
        _line(console, f"[dim]made by its trunk {told['trunk'][0]}, up to step {told['trunk'][1]:,}[/dim]")
    if told["rate"] is not None:
        _field(console, "rate", f"{told['rate']:.4g}; gradient norm {told['norm']:.4g}")
    for name, one in told["sources"].items():
        loss = "-" if one["loss"] is None else f"{one['loss']:.3f} nats per token"
        stands = f" [yellow]stands out: usual {one['usual']:.3f}[/yellow]" if one["usual"] is not None else ""
        words = f"{_count(one['rows'], 'row')}, {one['tokens']:,} tokens, {_count(one['documents'], 'document')}"
        _field(console, plain(name), f"loss {loss}{stands}; {words}")
    for name, loss in told["validation"].items():
        _field(console, "watched", f"{plain(name)} validation text {loss:.3f} nats per token after this step")
    right = [Column(name, justify="right", no_wrap=True) for name in ("row", "tokens", "of")]
    table = Table(*right, Column("document", no_wrap=True), _folded("from"), _cut("begins"), box=None)
    for row in told["in_rows"][:ROWS]:
        for i, piece in enumerate(row["pieces"][:STRETCHES]):
            odd = ", ".join(f"{key} (x{value:.0f})" for key, value in piece["unusual"].items())
            begins = excerpt(piece["excerpt"], 36) + (f" [yellow]{odd}[/yellow]" if odd else "")
            name = f"{plain(piece['document'])}{' (rejected)' if piece['rejected'] else ''}"
            cells = (f"{piece['from']}-{piece['to']}", f"{piece['of']:,}", name, plain(", ".join(piece["from_file"])))
            table.add_row("" if i else str(row["row"]), *cells, begins)
        if len(row["pieces"]) > STRETCHES:
            table.add_row("", "", "", f"[dim]and {len(row['pieces']) - STRETCHES} more[/dim]", "", "")
    console.print()
    console.print(table)
    _rest(console, len(told["in_rows"]) - ROWS, "row", "--json")
    if any(piece["unusual"] for row in told["in_rows"] for piece in row["pieces"]):
        _line(
            console,
            "[dim]rare: tokens that are unlikely by the frequencies around; repeated: the same ones again; (x8): so "
            "many median distances above the median[/dim]",
        )
    _line(console, f"[dim]{told['stored']}[/dim]")


def _spikes(told: Mapping[str, Any], console: Console) -> None:
    _line(
        console,
        f"[bold]{told['run']}[/bold]: {_count(told['found'], 'loss', 'losses')} of {told['seen']:,} steps stand out",
    )
    _line(console, f"[dim]{told['rule']}[/dim]")
    for one in told["spikes"]:
        _line(
            console,
            f"\n[bold]step {one['step']:,}[/bold]  {plain(one['source'])} [yellow]{one['loss']:.3f}[/yellow] against "
            f"{one['usual']:.3f}  [dim]rate {one['rate']:.4g}, gradient norm {one['norm']:.4g}; "
            f"graft why {told['run']}@{one['step']}[/dim]",
        )
        table = Table(Column("tokens", justify="right"), Column("document", no_wrap=True), _folded("from"), box=None)
        for read in one["documents"][:STRETCHES]:
            table.add_row(f"{read['tokens']:,}", plain(read["document"]), plain(", ".join(read["from_file"])))
        console.print(table)
        _rest(console, len(one["documents"]) - STRETCHES, "document", "--json")
    _rest(console, told["found"] - len(told["spikes"]), "step", "--most")
    if told["spikes"]:
        _line(console, f"[dim]{told['stored']}[/dim]")


def _items(told: Mapping[str, Any], console: Console) -> None:
    what = (
        f"class [bold]{plain(told['words'])}[/bold]"
        if told["asked"] == "class"
        else f"[bold]{excerpt(told['words'], 60)}[/bold]"
    )
    _line(console, f"{what}  [dim]{told['before']} -> {told['after']}[/dim]")
    for one in told["scored"]:
        _line(
            console,
            f"\n[bold]{plain(one['source'])}[/bold]  seen {one['count']:,} times in "
            f"{_count(one['documents'], 'scored document')}; "
            f"mean change {one['mean_change']:+.3f} nats, blame {one['blame']:+.5f}",
        )
        right = [Column(name, justify="right", no_wrap=True) for name in ("blame", "seen", "mean")]
        table = Table(
            Column("document", no_wrap=True), *right, _folded("from"), _cut("where it changed most"), box=None
        )
        for row in one["holders"]:
            numbers = (f"{row['blame']:+.5f}", f"{row['count']:,}", f"{row['mean_change']:+.3f}")
            place = row["places"][0] if row.get("places") else None
            words = "" if place is None else f"{place['line']}:{place['column']} {_marked_place(place)}"
            table.add_row(plain(row["document"]), *numbers, plain(", ".join(row["from_file"])), words)
        console.print(table)
        _rest(console, one["documents"] - len(one["holders"]), "document", "--most")
    for run in told["training"]:
        _line(console, f"\nin training, [bold]{run['run']}[/bold] [dim]({run['role']})[/dim]")
        if run["why"]:
            _line(console, f"  {plain(run['why'])}")
        for one in run["sources"]:
            _line(
                console,
                f"  {plain(one['source'])}: {one['occurrences']:,} times in {_count(one['documents'], 'document')}; "
                f"read {one['read']:,} times, in {one['steps']:,} of {run['steps']:,} steps",
            )
            first = [f"step {met['step']} ({plain(met['document'])})" for met in one["first"]]
            if first:
                _line(console, f"    first in {', '.join(first)}")


def _fate(told: Mapping[str, Any], console: Console) -> None:
    for group in told["groups"]:
        by = f" by [bold]{plain(group['by'])}[/bold]" if group["by"] else ""
        size = f", {group['bytes']:,} bytes" if group["bytes"] is not None else ""
        _line(
            console,
            f"[bold]{plain(group['source'])}[/bold]  {plain(group['fate'])}{by}: "
            f"{_count(group['documents'], 'document')}{size}",
        )
        table = Table(Column("document", no_wrap=True), _folded("from"), _cut("begins"), "", box=None)
        for one in group["first"]:
            why = f"copy of {_name(one['kept'])}" if one["kept"] else ""
            if one.get("overlap"):
                held, places = one["overlap"]
                why = f"{held / max(1, places):.0%} of n-grams in training text"
            table.add_row(plain(one["document"]), plain(", ".join(one["from"])), excerpt(one["beginning"], 40), why)
        console.print(table)
        _rest(console, group["documents"] - len(group["first"]), "document", "--most")


def excerpt(text: str, length: int) -> str:
    """Text on one line, its white space and what cannot be seen as marks."""
    pieces = marked(text[:length])
    return plain("".join(piece.replace("␣", " ") if mark else piece for piece, mark in pieces))


def _marked_place(place: Mapping[str, Any]) -> str:
    before, item, after = place["excerpt"]
    inner = "".join(piece for piece, _ in marked(item))
    return f"{excerpt(before[-14:], 14)}[reverse]{plain(inner)}[/reverse]{excerpt(after, 14)}"


def _folded(name: str) -> Column:
    """A column of paths: none of it may be lost."""
    return Column(name, overflow="fold")


def _cut(name: str) -> Column:
    """A column of beginnings of text."""
    return Column(name, no_wrap=True, overflow="ellipsis")


def _name(one: Mapping[str, Any]) -> str:
    return f"{plain(one['document'])} ({plain(', '.join(one['from']))})"


def _count(number: int, word: str, many: str = "") -> str:
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def _field(console: Console, name: str, words: str) -> None:
    _line(console, f"  [dim]{name:9}[/dim] {words}")


def _line(console: Console, words: str) -> None:
    console.print(words, soft_wrap=True)


def _rest(console: Console, count: int, word: str, option: str) -> None:
    if count > 0:
        _line(console, f"[dim]and {_count(count, word)} more ({option})[/dim]")


def plain(value: object) -> str:
    """Anything a user named, so that it is printed as it is: brackets are no markup, and all of it is text."""
    return escape(shown(str(value)))
