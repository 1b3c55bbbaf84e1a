"""The command line: each verb one call. Torch is loaded only by the stages that need it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from graft.cli.law import law
from graft.cli.precision_options import DeviceOption, PrecisionOption, computing
from graft.cli.similarity import similarity
from graft.cli.why import why
from graft.core.config.errors import FaultError, GraftError, UsageError
from graft.core.config.plain_text import guard_streams
from graft.core.config.renamed import OLD_NAMES
from graft.core.process.interrupts import exit_code, forget_signals, note_signal, signal_asked
from graft.core.process.processes import hush, say_fault

SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(
    name="graft",
    help="Adapt a language model to a domain by continued pre-training, and see what it gained and what it forgot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(law)
app.command()(similarity)
app.command()(why)

StoreOption = Annotated[
    Optional[Path], typer.Option("--store", help="Folder of artifacts. \\[default: $GRAFT_STORE, or .graft]")  # noqa: UP045
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Change any setting, e.g. train.batch_size=8. May be repeated."),
]

GateOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--fail-if",
        metavar="CONDITION",
        help='Exit with 3 when a number of summary.json is so, e.g. "general.change > 2%". May be repeated.',
    ),
]

MinutesOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        help="How long all of it may take: a few steps are measured first, and as many tokens trained as fit in, at "
        "most --tokens, or 4 passes over the domain."
    ),
]

PlanOption = Annotated[
    bool, typer.Option("--plan", help="Only say what it would do: what is dropped, tested on, and what it costs.")
]


def show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"graft {version('graft-lm')}")
        raise typer.Exit


@app.callback()
def graft(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every command shares."""


@app.command()
def adapt(
    base: Annotated[str, typer.Argument(help='"embedded", a folder in Hugging Face form, or a hub id')],
    domain: Annotated[list[str], typer.Option(help="File or folder of the domain's text. May be repeated.")],
    general: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Text not to be forgotten; sampled:base takes text from the base itself. "
            "\\[default: the embedded prose stands in]"
        ),
    ] = None,
    tokens: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Tokens to train on: 400000, 400k, 20M. \\[default: one pass over the domain]"),
    ] = None,
    objective: Annotated[str, typer.Option(help="What training minimises; see `graft ls objectives`.")] = "causal",
    replay: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Share of the training tokens that is general text. \\[default: 10%; chosen with --forget]"),
    ] = None,
    forget: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="How much the loss of the general text may rise, e.g. 2%. Short pilots then find the share of domain "
            "text that gains most inside it, and the result is held to it; exit code 3 where nothing does. Without "
            "--tokens the run has as many as the domain, whatever the share."
        ),
    ] = None,
    minutes: MinutesOption = None,
    hours: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="With --forget: --minutes by another unit."),
    ] = None,
    plan_only: PlanOption = False,
    out: Annotated[Path, typer.Option(help="Folder for model/, report.html and summary.json.")] = Path("adapted"),
    seed: Annotated[
        int,
        typer.Option(
            help="Of training: its order and its dropout. The split has its own, curate.split.seed, so that runs with "
            "different seeds are scored on the same documents."
        ),
    ] = 0,
    text_field: Annotated[
        str, typer.Option(help="Where the text is, in rows of JSON, JSON Lines, Parquet, CSV or TSV: a field's name.")
    ] = "text",
    encoding: Annotated[
        str,
        typer.Option(
            help="Of text that is not UTF-8 and has no byte order mark, e.g. cp1252 or shift_jis. "
            "\\[default: cp1252 where it looks like that, and said; else such a file is left out]"
        ),
    ] = "",
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Adapt BASE to the text under --domain, and report what it gained and what it forgot."""
    from graft.core.config.recipe import build_changed
    from graft.jobs.adapt import Adapt
    from graft.jobs.budget import Budget

    training: dict[str, Any] = {"objective": objective, "seed": seed}
    if tokens is not None:
        training["tokens"] = read_count(tokens)
    settings = {"base": base, "domain": domain, "general": general or [], "out": str(out)}
    settings |= {"ingest": {"text_field": text_field, "encoding": encoding}, "train": training}
    if forget is None:
        if hours is not None:
            raise UsageError(f"--hours is {hours:g}", allowed="together with --forget", do="give --minutes instead")
        settings |= {} if replay is None else {"replay": as_number(replay)}
        job: Any = build_changed(Adapt, settings, changes or [])
    else:
        if replay is not None:
            raise UsageError(f"--replay is {replay}", allowed="nothing: with --forget it is chosen", do="leave it out")
        limits = {"forget": as_number(forget), "pilots": {"objectives": [objective]}}
        limits |= {} if hours is None else {"hours": hours}
        job = build_changed(Budget, limits | {"adapt": settings}, [inside(Budget, Adapt, one) for one in changes or []])
    start(within(computing(job, precision, device), minutes), store, fail_if or [], plan_only=plan_only)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help='"embedded", a folder in Hugging Face form, or a hub id')],
    after: Annotated[str, typer.Argument(help="The same: the model that is looked at beside it.")],
    text: Annotated[list[str], typer.Option(help="File or folder; each is compared by itself. May be repeated.")],
    reference: Annotated[
        str, typer.Option(help="Text known before: shown beside the others, and what domain terms are told by.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for report.html and summary.json.")] = Path("compared"),
    seen_too: Annotated[bool, typer.Option("--seen-too", help="Score text that was trained on, and mark it.")] = False,
    text_field: Annotated[str, typer.Option(help="Where the text is, in rows: the name of a field.")] = "text",
    encoding: Annotated[str, typer.Option(help="Of text that is not UTF-8; see `graft adapt --help`.")] = "",
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Compare two models on any text: what AFTER predicts better and worse than BEFORE, and which words did it."""
    from graft.core.config.recipe import build_changed
    from graft.jobs.compare import Compare

    settings = {"before": before, "after": after, "text": text, "reference": reference, "out": str(out)}
    settings |= {"ingest": {"text_field": text_field, "encoding": encoding}, "pool": {"seen_too": seen_too}}
    job = build_changed(Compare, settings, changes or [])
    run_job(computing(job, precision, device), store, fail_if or [])


@app.command()
def report(
    artifacts: Annotated[
        list[str], typer.Argument(metavar="ARTIFACT...", help="Names of artifacts, or folders that a job wrote.")
    ],
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Runs side by side",
    out: Annotated[Path, typer.Option(help="Folder for report.html and summary.json.")] = Path("reported"),
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Lay any finished runs side by side on one page: what each gained and forgot, and where it came from."""
    from graft.cli.gate import limit
    from graft.core.config.recipe import build_changed
    from graft.jobs.report import Report

    settings = {"runs": artifacts, "title": title, "out": str(out), "forget": limit(fail_if or [], "general.change")}
    run_job(build_changed(Report, settings, changes or []), store, fail_if or [])


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help='"embedded", a folder in Hugging Face form, or a hub id')],
    suite: Annotated[
        list[str], typer.Option(help="File or folder of questions, or a task of lm-eval: its name, or a .yaml file.")
    ],
    against: Annotated[str, typer.Option(help="Another model: compared item by item.")] = "",
    limit: Annotated[int, typer.Option(help="Items of a task, spread over it; 0: all.")] = 0,
    shots: Annotated[Optional[int], typer.Option(help="Solved items before each.")] = None,  # noqa: UP045
    fields: Annotated[
        str,
        typer.Option(
            help="Which fields of a row hold what: question=...,choices=...,answer=...[,context=...]; nested by dots, "
            "columns by +, query= instead of question= where the choices go on from it. \\[default: by their names]"
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for report.html, summary.json, items.parquet.")] = Path("answered"),
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Ask MODEL the questions of benchmarks, keep every answer, and compare it with another model item by item."""
    from graft.core.config.recipe import build_changed
    from graft.jobs.eval import Eval

    settings = {"model": model, "against": against, "suite": suite, "out": str(out)}
    settings |= {"answer": {"limit": limit, "shots": shots, "fields": [fields] if fields else []}}
    job = build_changed(Eval, settings, changes or [])
    run_job(computing(job, precision, device), store, fail_if or [])


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML file; recipes/quickstart.yaml is the first to read.")],
    minutes: MinutesOption = None,
    plan_only: PlanOption = False,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Run a recipe: whatever of it is not done yet."""
    from graft.core.config.recipe import read_recipe

    job = computing(read_recipe(recipe, changes or []), precision, device)
    start(within(job, minutes), store, fail_if or [], plan_only=plan_only)


@app.command()
def continual(
    recipe: Annotated[Path, typer.Argument(help="A YAML file with the key continual; recipes/continual.yaml is one.")],
    minutes: MinutesOption = None,
    plan_only: PlanOption = False,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    fail_if: GateOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Learn domains one after another by several methods, and see what each keeps, learns and costs."""
    from graft.core.config.recipe import read_recipe
    from graft.jobs.continual import Continual

    job = read_recipe(recipe, changes or [])
    if not isinstance(job, Continual):
        raise UsageError(
            "this recipe is no continual job", where=str(recipe), allowed="the key continual", do="use graft run"
        )
    start(within(computing(job, precision, device), minutes), store, fail_if or [], plan_only=plan_only)


@app.command("stream", hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def renamed() -> None:
    """The old name of `graft continual`, for one release."""
    raise UsageError("graft stream is called graft continual now", do="use graft continual, with the same arguments")


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A YAML file.")],
    minutes: MinutesOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Say what a recipe would do: tokens per source, what would be dropped, steps, memory, disk and time."""
    from graft.core.config.recipe import read_recipe

    job = computing(read_recipe(recipe, changes or []), precision, device)
    start(within(job, minutes), store, [], plan_only=True)


@app.command()
def verify_resume(
    recipe: Annotated[Path, typer.Argument(help="A YAML file.")],
    steps: Annotated[int, typer.Option(help="Steps to train, the run's first; fewer where it has fewer.")] = 20,
    kills: Annotated[int, typer.Option(help="How often the run is killed.")] = 3,
    minutes: Annotated[float, typer.Option(help="Longest it may take, once what training needs is there.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of the places where it is killed.")] = 0,
    processes: Annotated[int, typer.Option(help="In how many one more killed run goes on; 1: not tried.")] = 1,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Prove that a killed run of this recipe goes on exactly: train twice, once with kill -9, and compare all bits.

    Losses, weights, the optimiser's state and the next 100 batches must be the same. Exits with 1 where they are not.
    The number of processes is not varied unless --processes asks for it: sums are then made in another order, and the
    losses must be the same to 1e-5 (in bf16: to 1e-3).
    """
    from graft.cli.listing import Teller
    from graft.core.config.recipe import read_recipe
    from graft.launch.verify_resume import show_proof
    from graft.launch.verify_resume import verify_resume as prove

    job = computing(read_recipe(recipe, changes or []), precision, device)
    try:
        proof = prove(
            job,
            open_store(store, Teller()),
            steps=steps,
            kills=kills,
            minutes=minutes,
            seed=seed,
            processes=processes,
        )
    except KeyboardInterrupt as stop:
        raise FaultError("stopped", do="run the same command again; nothing is left of this one") from stop
    show_proof(proof)
    if not proof.exact:
        raise FaultError("a resumed run is not the same as one without a break")


@app.command()
def ls(
    shelf: Annotated[Optional[str], typer.Argument(help='A shelf, or "artifacts".')] = None,  # noqa: UP045
    store: StoreOption = None,
) -> None:
    """List the shelves, the plug-ins of one, or the artifacts of the store."""
    from graft.cli.listing import show_artifacts, show_shelf, show_shelves

    if shelf is None:
        show_shelves()
    elif shelf == "artifacts":
        show_artifacts(open_store(store))
    else:
        show_shelf(shelf)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(help="An artifact (its name, a beginning of it, or its path), a job, or a plug-in."),
    ],
    store: StoreOption = None,
) -> None:
    """Show what an artifact is (settings, ledger, facts, versions), or every setting of a job or plug-in."""
    from graft.cli.listing import show_artifact, show_settings

    if not show_settings(name):
        show_artifact(open_store(store).get(name))


@app.command()
def clean(store: StoreOption = None) -> None:
    """Remove what no process is at: unfinished work, damaged artifacts, and what else killed processes left.

    What was stopped then begins anew instead of going on.
    """
    from graft.core.store.ownership import is_store

    opened = open_store(store)
    if opened.root.exists() and not is_store(opened.root):
        raise UsageError(
            "this folder is no store", where=str(opened.root), allowed="a folder that graft made artifacts in"
        )
    from graft.cli.listing import show_cleaned

    show_cleaned(opened.drafts(), opened.clean())


def start(job: Any, store: Path | None, fail_if: Sequence[str], *, plan_only: bool) -> None:
    """Run a job, or say what running it would do."""
    from graft.core.process.notes import tell_notes

    tell_notes(
        [f"{old} is called {new} now; the old name works until the next release" for old, new in OLD_NAMES.items()]
    )
    if not plan_only:
        run_job(job, store, fail_if)
        return
    from graft.cli.gate import read_conditions
    from graft.planning.plan import forecast
    from graft.planning.screen import show_forecast

    read_conditions(fail_if, job)  # its errors before any work
    show_forecast(forecast(job, open_store(store)))


def within(job: Any, minutes: float | None) -> Any:
    """The job as it ends in so many minutes. Errors: UsageError for one that trains nothing."""
    from dataclasses import replace

    if minutes is None:
        return job
    if not hasattr(job, "train"):
        raise UsageError(f"--minutes is {minutes:g}, and this job trains nothing", do="leave it out")
    timed = replace(job.train, minutes=minutes)
    return replace(job, adapt=replace(job.adapt, train=timed)) if hasattr(job, "adapt") else replace(job, train=timed)


def run_job(job: Any, store: Path | None, fail_if: Sequence[str]) -> None:
    """Call a job with a store, saying which artifacts are made and which were there; then the gate."""
    from graft.cli.gate import check_gate, read_conditions
    from graft.cli.listing import Teller

    conditions = read_conditions(fail_if, job)
    teller = Teller()
    try:
        outcome = job(open_store(store, teller))
    except KeyboardInterrupt as stop:
        raise FaultError("stopped", do="run the same command again: it goes on from here") from stop
    teller.finish(outcome)
    if conditions:
        check_gate(conditions, outcome.summary)


def open_store(path: Path | None, teller: Any = None) -> Any:
    """The store at `path` or the default one, telling `teller` of every artifact."""
    from dataclasses import replace

    from graft.core.store.artifact import Store

    store = Store(path) if path else Store.default()
    return replace(store, on_made=teller.made) if teller else store


def as_number(text: str) -> float | str:
    """A share as a number, or as it was written ("2%"), which settings read."""
    try:
        return float(text)
    except ValueError:
        return text


def inside(outer: Any, inner: Any, change: str) -> str:
    """A "key=value" as the outer job knows it: a key that only the job inside it has is one of `adapt`."""
    known, below = ({field.name for field in fields(job)} for job in (outer, inner))
    key = change.partition("=")[0].partition(".")[0]
    return f"adapt.{change}" if key in below - known else change


def read_count(text: str) -> int:
    """'400k' -> 400000; see `whole_number`. Errors: UsageError for what is no whole number, or not positive."""
    from graft.core.config.settings import whole_number

    number = whole_number(text)
    if number is None or number <= 0:
        raise UsageError(
            f'--tokens is "{text}"', allowed="a positive whole number", do="write 400000, 400k, 20M or 1.5B"
        )
    return number


def stop_once(number: int, frame: Any) -> None:
    """The first Ctrl-C ends the work in hand in order; a second one, by the system, the process at once."""
    note_signal(number)
    for one in SIGNALS:
        signal.signal(one, signal.SIG_DFL)
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: exit codes 0 done, 1 fault, 2 usage, 3 a gate said no, 128 + a signal that asked to stop."""
    # Waiting threads sleep instead of spinning: beside another busy process, spinning cost 30 times the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    forget_signals()
    guard_streams()
    for one in SIGNALS:  # a polite kill saves like Ctrl-C
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, stop_once)
    hush()
    OLD_NAMES.clear()  # of an earlier command in this process
    try:
        app(prog_name="graft")  # also where it is python -m graft
    except GraftError as error:
        say_fault(f"graft: {error}\n")
        sys.exit(exit_code(error.exit_code))
    except SystemExit as end:
        if end.code in (0, None) or not signal_asked():
            raise
        sys.exit(exit_code(1))
    except BaseException:
        if not signal_asked():
            raise
        say_fault("graft: stopped\n")  # whatever the interrupt was turned into on its way
        sys.exit(exit_code(1))
    finally:
        for one in SIGNALS:
            if signal.getsignal(one) is stop_once:
                signal.signal(one, signal.SIG_DFL)  # nothing is left to be stopped in order
