"""choose: laws of both losses from the pilots, and the run that reads the domain best inside the budget."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from graft.budget.pilot_runs import Pilot, trials_of
from graft.core.config.errors import UsageError
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.settings import to_json
from graft.core.store.artifact import Artifact, Draft, Store
from graft.models.runtime.settle_precision import check_same_precision
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import law_needs
from graft.scaling.laws.head_start import HeadStart
from graft.scaling.laws.replay import Replay
from graft.scaling.solving.law_file import as_json

BEND = 1.7
"""Of what is learned, 1 - (1 - share)^BEND is there at a share of the line between base and result, and the square of
the share of what is forgotten: measured on two bases, statutes and nine ratios, to 0.1 % of the loss."""


LOOKED_AT = (
    "objective",
    "ratio",
    "size",
    "tokens",
    "horizon",
    "domain_loss",
    "general_loss",
    "domain_base",
    "general_base",
)


@dataclass(frozen=True)
class Choose:
    """How ratio, objective and tokens of the final run follow from the pilots.

    For every objective one law of the domain loss is fitted against the share of domain text, one of the general loss
    against the share of general text. Every ratio (in steps of `step`) is a candidate. Where its general loss would
    break the budget, the model will be walked back along the line between base and result until it does not; the
    candidate is judged by the domain loss there, averaged over the general law's bootstrap draws: a ratio that is a
    little too bold costs little, one that is far too bold much. The least expected domain loss is chosen.
    A ratio gets at most `passes` passes over the domain's text, so with little of it a run is shorter.
    Source: usages 1 and 2 of the D-CPT law (Que et al. 2024, arXiv 2406.01375) for the question and the domain's law;
    the general law and the line are this project's.
    """

    domain_law: Annotated[Any, Shelf("laws")] = HeadStart(free=("d", "beta"))
    general_law: Annotated[Any, Shelf("laws")] = Replay(free=("A",))
    step: float = 0.01  # between ratios that are considered
    passes: float = 4.0  # over the domain's text, at most (Muennighoff et al. 2023: up to 4 cost next to nothing)
    worth: float = 0.005  # relative domain gain below which a run is not worth it

    def __post_init__(self) -> None:
        if not 0 < self.step <= 0.25:
            raise UsageError(f"step is {self.step}", allowed="a share, above 0 and at most 0.25")
        if self.passes <= 0 or not 0 <= self.worth < 1:
            raise UsageError(
                f"passes is {self.passes} and worth {self.worth}", allowed="passes above 0, worth a share below 1"
            )


@dataclass(frozen=True)
class CandidateMixture:
    """A final run that could be made. domain, general: expected nats per token, [value, low, high].

    share: how far along the line from the base to it the budget is expected to last; reached: the domain loss there.
    """

    objective: str
    ratio: float
    tokens: int
    domain: tuple[float, float, float]
    general: tuple[float, float, float]
    share: float
    reached: float


def choose(
    pilots: Sequence[Pilot],
    budget: float,
    tokens: int,
    available: int,
    settings: Choose = Choose(),
    *,
    store: Store,
) -> Artifact:
    """Kind "choice": pilots.csv, laws.json, and facts with the choice, every candidate and whether it is worth it.

    budget: largest relative rise of the general loss; tokens: of the final run, at most; available: of the domain's
    training text.
    """
    check_same_precision({one.run.name: one.run for one in pilots})
    inputs: dict[str, Artifact | str] = {f"pilot {k}": one.run for k, one in enumerate(pilots)}
    inputs |= {"budget": f"{budget:.9g}", "tokens": str(tokens), "available": str(available)}
    return store.make(
        "choice", settings, inputs, __name__, lambda draft: _build(draft, pilots, budget, tokens, available, settings)
    )


def _build(draft: Draft, pilots: Sequence[Pilot], budget: float, tokens: int, available: int, settings: Choose) -> None:
    base = pilots[0].looks[0]
    candidates: list[CandidateMixture] = []
    fits: dict[str, Any] = {}
    notes: list[str] = []
    for name in dict.fromkeys(one.name for one in pilots):
        own = [one for one in pilots if one.name == name]
        measured = {source: trials_of(own, source, tokens) for source in ("domain", "general")}
        laws = {"domain": settings.domain_law, "general": settings.general_law}
        fitted = {source: laws[source].fit(trials) for source, trials in measured.items()}
        fits[name] = {
            source: {plugin_name(laws[source]): law.to_json(), "fit": law.metrics(measured[source])}
            for source, law in fitted.items()
        }
        notes += [f"{name}, {source} law: {words}" for source, law in fitted.items() for words in law.warnings]
        drift = law_needs(settings.general_law).forgetting
        candidates += _candidates(name, fitted, drift, base, tokens, budget, available, settings)
    best = min(candidates, key=lambda one: one.reached)
    notes += [*_bold(best, base, budget), *_beyond(best, pilots)]
    _write_looks(draft, pilots, tokens)
    (draft / "laws.json").write_text(json.dumps(as_json(fits), indent=1, allow_nan=False), encoding="utf-8")
    objective = next(one.objective for one in pilots if one.name == best.objective)
    gain = 1 - best.reached / base["domain"]
    draft.facts |= {
        "budget": budget,
        "base": {source: base[source] for source in ("domain", "general")},
        "choice": vars(best) | {"settings": {plugin_name(objective): to_json(objective)}},
        "expected_gain": gain,
        "worth_it": gain >= settings.worth,
        "candidates": [vars(one) for one in candidates],
        "pilot_tokens": sum(one.tokens for one in pilots),
        "notes": notes,
    }


def _bold(best: CandidateMixture, base: Mapping[str, float], budget: float) -> list[str]:
    """In words, that the whole run is expected to break the budget, and why it was chosen all the same."""
    rise = best.general[0] / base["general"] - 1
    if rise <= budget:
        return []
    return [
        f"The share of domain text was chosen for the gain that is left after walking back: the whole run is expected "
        f"to raise the general loss by {rise:.1%}, beyond the {budget:.3g} allowed."
    ]


def _beyond(best: CandidateMixture, pilots: Sequence[Pilot]) -> list[str]:
    """In words, how far the choice lies from what the pilots have seen."""
    tokens, ratios = max(look["tokens"] for one in pilots for look in one.looks), [one.ratio for one in pilots]
    words: list[str] = []
    if best.tokens > tokens:
        words.append(
            f"Beyond the data, by a factor of {best.tokens / tokens:.3g} in tokens: the laws of the choice were fitted "
            f"to pilots of at most {tokens:,.0f} tokens and asked about {best.tokens:,}."
        )
    if not min(ratios) <= best.ratio <= max(ratios):
        words.append(
            f"Beyond the data, by {min(abs(best.ratio - one) for one in ratios):.2g} in the share of domain text: the "
            f"pilots had {min(ratios):g} to {max(ratios):g}."
        )
    return words


def _write_looks(draft: Draft, pilots: Sequence[Pilot], horizon: int) -> None:
    """pilots.csv: one row per look, a table that `graft law fit` reads."""
    with (draft / "pilots.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(LOOKED_AT)
        for one in pilots:
            starts = [one.looks[0][source] for source in ("domain", "general")]
            for look in one.looks:
                losses = [look["domain"], look["general"], *starts]
                size = one.run.facts["num_parameters"]
                writer.writerow(
                    [one.name, one.ratio, size, look["tokens"], horizon, *(f"{loss:.9g}" for loss in losses)]
                )


def _candidates(
    name: str,
    fitted: Mapping[str, Fitted],
    drift: str,
    base: Mapping[str, float],
    tokens: int,
    budget: float,
    available: int,
    settings: Choose,
) -> list[CandidateMixture]:
    """One per ratio. drift: the constant that scales what is forgotten; empty: all of a rise is forgetting."""
    ratio_T = np.linspace(0, 1, round(1 / settings.step) + 1)[1:]
    tokens_T = np.minimum(tokens, settings.passes * available / ratio_T).round()
    places = {source: _places(source, ratio_T, tokens_T, tokens, base) for source in fitted}
    law, rows = fitted["general"], places["general"]
    rise_ST = _drawn(law, rows) / base["general"] - 1
    learned_T = -np.minimum(_without(law, drift).predict(rows) / base["general"] - 1, 0) if drift else 0 * ratio_T
    share_ST = lasting_share(rise_ST + learned_T, np.broadcast_to(learned_T, rise_ST.shape), budget)
    gain_T = base["domain"] - fitted["domain"].predict(places["domain"])
    reached_T = base["domain"] - gain_T * learned_at(share_ST).mean(0)
    seen = {source: _with_interval(fitted[source], places[source]) for source in fitted}
    return [
        CandidateMixture(
            objective=name,
            ratio=round(float(ratio_T[t]), 6),
            tokens=int(tokens_T[t]),
            domain=seen["domain"][t],
            general=seen["general"][t],
            share=float(share_ST.mean(0)[t]),
            reached=float(reached_T[t]),
        )
        for t in range(len(ratio_T))
    ]


def _places(
    source: str,
    ratio_T: np.ndarray,
    tokens_T: np.ndarray,
    horizon: int,
    base: Mapping[str, float],
) -> Trials:
    """Where the laws are asked: final runs of the base, with the ratio of the source's own text."""
    columns = {"ratio": ratio_T if source == "domain" else 1 - ratio_T, "tokens": tokens_T}
    columns |= {
        name: np.full(len(ratio_T), value) for name, value in (("horizon", horizon), ("base_loss", base[source]))
    }
    return Trials.places(columns | {"size": np.full(len(ratio_T), base["size"])})


def _without(law: Fitted, constant: str) -> Fitted:
    """The law with a constant at the least it may be."""
    least = {one.name: one.low for one in law.form.constants}
    values = [
        least[name] if name == constant else value for name, value in zip(law.form.names, law.values_P, strict=True)
    ]
    return replace(law, values_P=np.array(values))


def _drawn(law: Fitted, places: Trials) -> np.ndarray:
    """Losses by every bootstrap draw (S x T); of a law without draws its one curve."""
    drawn_ST = law.draw(places)
    return drawn_ST if len(drawn_ST) else law.predict(places)[None]


def _with_interval(law: Fitted, places: Trials) -> list[tuple[float, float, float]]:
    value_T = law.predict(places)
    low_T, high_T = (np.where(np.isfinite(end_T), end_T, value_T) for end_T in law.interval(places))
    return [tuple(map(float, row)) for row in zip(value_T, low_T, high_T, strict=True)]  # type: ignore[misc]


def learned_at(share: np.ndarray) -> np.ndarray:
    """Of what the whole way teaches, how much is known at a share of it."""
    return 1 - (1 - share) ** BEND


def lasting_share(forgotten: np.ndarray, learned: np.ndarray, budget: float) -> np.ndarray:
    """How far along the line a budget lasts whose end has forgotten and learned so much (shares of the base's loss).

    The rise at a share is forgotten * share^2 - learned * learned_at(share); found by halving, elementwise.
    """
    low, high = np.zeros(forgotten.shape), np.ones(forgotten.shape)
    inside = forgotten - learned <= budget
    for _ in range(40):
        middle = (low + high) / 2
        fits = forgotten * middle**2 - learned * learned_at(middle) <= budget
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(inside, 1.0, low)
