"""Adapt or not: a rule with its borders as settings, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.core.config.errors import UsageError
from graft.evaluation.similarity.runs import AdaptationRun

GAIN, COST, OPEN = "adapt", "do not adapt", "not clear"


@dataclass(frozen=True)
class Advise:
    """Runs on the text decide where there are any, else two measures that need no scale.

    With runs: "adapt" where at least one improved and none became worse; "do not adapt" where none improved; "not
    clear" where some improved and some became worse, which tells of how they were trained, not of the text.
    Without: the classifier says "unlike" where the whole interval of its error is below `told_apart` and "alike" where
    it is above; the base's loss says "unlike" where the whole interval of its bits per byte above those of the
    reference is above `excess` and "alike" where it is below. Both unlike: "adapt". Both alike: "do not adapt". All
    else: "not clear". Odyssey (arXiv 2410.05581) finds that gains go with unlikeness; a rule and its borders are not
    published: these are settings, to be judged by the correlation with your own runs.

    The classifier tells a text from the whole reference, also where the text is like one part of it. Of a text that is
    a share w of its reference the best error is about w / 2: the reference's documents of that kind are taken for the
    text, no other one is mistaken. So a reference of several kinds makes its own kinds look unlike. Give a reference of
    one kind, or ask once for each; where --to names several paths that the classifier tells apart, the answer says so
    (graft.evaluation.similarity.parts).
    """

    told_apart: float = 0.25  # error of the classifier: halfway between always right and chance
    excess: float = 0.1  # bits per byte

    def __post_init__(self) -> None:
        if not 0 < self.told_apart <= 0.5:
            raise UsageError(f"told_apart is {self.told_apart}", allowed="an error above 0, 0.5 at most")

    def __call__(self, rows: Mapping[str, Mapping[str, Any]], runs: Sequence[AdaptationRun]) -> dict[str, str]:
        """advice and rests_on, in words. rows: of the measures, by name; runs: those on this text."""
        if runs:
            return self._by_runs(runs)
        votes = {
            name: self._vote(rows.get(name), border)
            for name, border in (("two_sample", self.told_apart), ("base_loss", self.excess))
        }
        said = {vote for vote, _ in votes.values()}
        advice = {frozenset({"unlike"}): GAIN, frozenset({"alike"}): COST}.get(frozenset(said), OPEN)
        words = "; ".join(words for _, words in votes.values())
        more = "; no run on this text" + (": a short one, given with --runs, would tell" if advice == OPEN else "")
        return {"advice": advice, "rests_on": words + more}

    def _by_runs(self, runs: Sequence[AdaptationRun]) -> dict[str, str]:
        better, worse = (sum(run.verdict == verdict for run in runs) for verdict in ("improved", "worse"))
        advice = OPEN if better and worse else GAIN if better else COST
        if not better and not worse and all(run.interval is None for run in runs):
            advice = OPEN
        changes = ", ".join(f"{run.change:+.1%}" for run in runs)
        words = f"{len(runs)} run(s) on this text: {better} improved, {worse} became worse (loss {changes})"
        unknown = sum(run.interval is None for run in runs)
        if unknown:
            words += f"; how certain that is of {unknown} of them is unknown (one test document)"
        if better and worse:
            words += "; how they were trained decides"
        return {"advice": advice, "rests_on": words}

    def _vote(self, row: Mapping[str, Any] | None, border: float) -> tuple[str, str]:
        if row is None:
            return "open", "a measure that the rule needs was left out"
        if row["interval"] is None:
            return "open", f"{row['measure']}: {row['note']}"
        low, high = row["interval"]
        words = f"{row['measure']} {low:.3g} to {high:.3g}"
        below, above = ("alike", "unlike") if not row["larger_is_closer"] else ("unlike", "alike")
        if high < border:
            return below, f"{words}, below {border:g}: {below}"
        if low > border:
            return above, f"{words}, above {border:g}: {above}"
        return "open", f"{words}, on both sides of {border:g}"
