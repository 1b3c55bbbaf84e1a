"""The forecast on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graft.core.process.console import Screen
from graft.core.process.progress import clock
from graft.planning.plan import Forecast
from graft.planning.text import SourceForecast


def show_forecast(one: Forecast) -> None:
    """Sources, training, measuring, cost, and what to think about first."""
    console = Screen(highlight=False)
    console.print(_sources(one))
    for name, source in one.sources.items():
        console.print(escape(_lost(name, source)))
    if not all(source.exact for source in one.sources.values()):
        console.print(
            "[dim]Repeated documents elsewhere, and text that training and test share, are found while running.[/]"
        )
    console.print(f"\nbase      {one.base}, {one.num_parameters:,} parameters")
    if one.itinerary:
        one.itinerary.show(console)
    else:
        _show_training(one, console)
    if one.minutes is not None:
        how = "as measured on this machine" if one.measured else "by an estimate; the speed is measured when it is run"
        console.print(f"minutes   {one.minutes:g} in all, {how}")
    if not one.complete:
        _show_measuring(one, console)
    if one.pilots:
        console.print(
            f"budget    general loss may rise by {100 * one.forget:.3g} %; where the run breaks it, it is walked back"
        )
        console.print(
            f"pilots    {one.pilots} runs at {', '.join(f'{ratio:.0%}' for ratio in one.ratios)} domain text, "
            f"{round_number(one.pilot_tokens)} tokens in all "
            f"({one.pilot_tokens / one.shape.tokens:.0%} of the training)"
        )
    if one.tested_steps:
        console.print(f"          the peak rate is to come from a range test of {one.tested_steps} steps before")
    if one.complete:
        console.print(f"done      nothing is left to do: {', '.join(one.done)}")
        return
    stages = ", ".join(f"{stage} {clock(value)}" for stage, value in one.seconds.items())
    console.print(f"memory    about {one.memory_bytes / 1e9:.1f} GB")
    console.print(f"disk      about {one.disk_bytes / 1e6:,.0f} MB")
    console.print(f"time      about {clock(sum(one.seconds.values()))} ({stages})")
    console.print(f"done      {', '.join(one.done) or 'nothing yet'}")
    for words in one.warnings:
        console.print(f"[bold]careful[/bold]   {escape(words)}")


def _sources(one: Forecast) -> Table:
    table = Table("source", "documents", "text", "tokens", "train", "validation", "test", "known", box=None)
    for name, source in one.sources.items():
        origin = "exact" if source.exact else "to sample" if source.sampled else f"{source.share_seen:.0%} read"
        splits = (round_number(source.splits[split]) for split in ("train", "validation", "test"))
        table.add_row(
            name, round_number(source.documents) if source.documents else "?", f"{source.text_bytes / 1e6:,.1f} MB",
            round_number(source.tokens), *splits, origin,
        )  # fmt: skip
    return table


def _lost(name: str, source: SourceForecast) -> str:
    """What is not used of a source. What was not looked at is never said to be without loss."""
    if source.sampled:
        return f"{name}: sampled from the base, at least so many documents"
    parts = [f"{round_number(count)} {reason}" for reason, count in source.dropped.items() if count]
    said = ", ".join(parts)
    if not source.exact and not source.share_seen:
        said = "nothing of it was read, so what would be dropped is not known"
    elif not source.exact:
        share = f"the {source.share_seen:.0%} that was read"
        said = f"about {said}, judging by {share}" if said else f"in {share} every document can be used"
    files = sum(source.unread.values())
    kinds = ", ".join(f"{count} x {reason}" for reason, count in sorted(source.unread.items(), key=lambda one: -one[1]))
    unread = f"; {files} file{'s' if files > 1 else ''} not read ({kinds})" if files else ""
    part = f"; {source.needed:.2g} of what is there is needed and read (general_tokens)" if source.needed < 1 else ""
    return f"{name}: {said or 'nothing to drop'}{unread}{part}"


def _show_training(one: Forecast, console: Console) -> None:
    """Its mixture, its steps, its rate."""
    mixture = ", ".join(
        f"{round_number(share * one.shape.tokens)} of {name} ({one.passes[name]:.2f} passes)"
        for name, share in one.mixture.items()
    )
    if one.pilots:
        mixture = "the share of domain text is to be chosen"
    console.print(f"training  {one.objective}, {round_number(one.shape.tokens)} tokens: {mixture}")
    console.print(
        f"          {one.shape.steps:,} steps of {one.shape.rows} rows of {one.shape.window}, "
        f"{one.shape.micro_rows} at once, peak rate {one.shape.rate:.2g}, warming up from {one.shape.warm_from:.2g}"
    )


def _show_measuring(one: Forecast, console: Console) -> None:
    """What is scored, and what that takes beside the training."""
    if one.demand is None:
        return
    limits, readings = one.limits, one.demand.readings
    if one.tested:
        per_source = ", ".join(
            f"{name} {f'{documents:,.0f}' if documents else '?'} documents ({round_number(count)} tokens)"
            for name, (documents, count) in one.tested.items()
        )
        console.print(f"scoring   {readings['test'].times} models on {one.demand.split} text: {per_source}")
    beside = [
        f"{round_number(limits[name])} tokens per source {readings[name].times} times"
        for name in limits
        if name != "test"
    ]
    console.print(f"          validation text: {', '.join(beside)}")
    console.print(f"          all of it takes about {one.measuring_share:.0%} of the training's compute")


def round_number(value: float) -> str:
    """1234567 -> '1.23 M'; small numbers as they are."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"
