"""report: any finished work on one page: runs side by side, what each gained and forgot, and where it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Store
from graft.core.store.publish import check_out, put_out
from graft.jobs.adapt import PAGES, Outcome
from graft.report.adaptation.stage import BUDGET_NUMBERS, number_keys
from graft.report.overview.resolve_inputs import ALLOWED, find_given, labels
from graft.report.overview.stage import Gather, Request, gather


@dataclass(frozen=True)
class Report:
    """A page on finished runs; nothing is trained and nothing is scored.

    Only runs from the same base that were scored on the same documents are ranked; any two that read the same text are
    compared document by document.
    """

    runs: tuple[str, ...] = ()  # names of artifacts or beginnings of them, their paths, or folders of results
    title: str = "Runs side by side"
    forget: float | None = None  # rise of the general loss at which a line is drawn; None: what the runs' budgets say
    out: str = "reported"  # folder for report.html and summary.json
    gather: Gather = Gather()

    def __post_init__(self) -> None:
        if not self.runs:
            raise UsageError("runs names no artifact", allowed=ALLOWED, do="run `graft ls artifacts` for what there is")

        if self.forget is not None and not self.forget < float("inf"):
            raise UsageError(f"forget is {self.forget}", allowed="a share of the general loss, such as 2% or 0.02")

    def number_keys(self) -> list[str]:
        """The dotted path of every number of a run, after the run's name; without one any run is meant."""
        keys = [*number_keys(["domain", "general"]), *BUDGET_NUMBERS]
        return [*keys, *(f"{label}.{key}" for label in labels(self.runs) for key in keys)]

    def __call__(self, store: Store) -> Outcome:
        """Lay the page and its numbers into `out`.

        Errors: UsageError before any work where `out` would take what is not graft's, or the place of what is read.
        """
        folder = Path(self.out).expanduser()
        check_out(folder, PAGES)
        for name in self.runs:
            if Path(name).expanduser().resolve() == folder.resolve():
                raise UsageError("the page would replace the results that it is about", where=name, do="choose --out")
        made = self.make(store)
        put_out(folder, {name: made[-1] / name for name in PAGES})
        return Outcome(folder, json.loads((made[-1] / "summary.json").read_text(encoding="utf-8")), made)

    def make(self, store: Store) -> list[Artifact]:
        """The one artifact that is made."""
        given, notes = find_given(self.runs, store)
        request = Request(given, notes, self.title, Path(self.out).expanduser(), self.forget)
        return [gather(request, self.gather, store=store)]
