"""walk back: from a result towards its base along the line between their weights, until the budget holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.process.precision import Precision, computed
from graft.core.process.progress import Progress
from graft.core.stats.bootstrap import change_bound
from graft.core.stats.evaluation_size import LINE as LINE_TOKENS
from graft.core.stats.even_sample import golden_order
from graft.core.stats.tally import Tally
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.atomic_files import write_whole
from graft.core.tokens.token_shards import TokenSource
from graft.data.tokenize import sources
from graft.data.user_notes import by_place
from graft.models.runtime.settle_precision import settle_here

if TYPE_CHECKING:
    from graft.models.forward.model import Model
    from graft.models.scoring.scoring import Choice

LINE = "line.json"
CAREFUL = 0.97  # a place is looked for where this share of the budget is used, so that most looks are inside it
FEWEST, STEP = 192, 32  # tokens of a validation document: at least so many are scored, in such steps
CLOSE, FINE = 0.06, 0.01  # the search ends where all but this share of the budget is used, or places lie so near


@dataclass(frozen=True)
class WalkBack:
    """Which model between base and result is taken: of those inside the budget the one that reads the domain best.

    A model on the line is inside the budget when the general loss of its validation text has risen by at most the
    budget with `confidence`, one-sided, by a bootstrap over documents paired with the base. The result itself is
    looked at first. Where it breaks the budget, places on the line follow, each where the last ones let expect the
    budget to be just kept: the rise is taken to grow with the square of the share at first (the base lies near the
    bottom of its own loss), then as the parabola through the base and the places on either side. Of every validation
    document only so much is scored that as many as possible are: documents are what the bootstrap draws.
    Source: interpolation of weights, Wortsman et al. 2022 (arXiv 2109.01903). The search and the rule are this
    project's.
    """

    looks: int = 5  # places on the line that are scored, its end included
    max_tokens: int | None = None  # of validation text, per source; 0: all; None: what the job settles, or 65,536
    confidence: float = 0.9
    window: int | None = None  # tokens of context; None: the model's own, at most 2048
    precision: Precision = "auto"  # bf16 where the hardware multiplies it, else fp32
    seed: int = 0  # of the resampling

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise UsageError(f"looks is {self.looks}", allowed="1 or more")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}", allowed="0.5 or more and below 1")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise UsageError(f"max_tokens is {self.max_tokens}", allowed="0 (all) or more")
        if self.window is not None and self.window < 1:
            raise UsageError(f"window is {self.window}", allowed="1 or more, or nothing for the model's own")


@dataclass(frozen=True)
class Place:
    """A model on the line, as validation text sees it: nats per token, and changes relative to the base.

    general_bound: what the general change is below with the confidence asked for; domain_bound likewise.
    """

    share: float
    domain: float
    general: float
    domain_change: float
    general_change: float
    domain_bound: float
    general_bound: float


def walk_back(
    base: Base, trained: Artifact, tokens: Artifact, budget: float, settings: WalkBack = WalkBack(), *, store: Store
) -> Artifact:
    """Kind "walked": line.json (every place looked at), facts with `share` and the `bound` of the general change
    there, and model/ where the share is neither 0 nor 1.

    budget: largest relative rise of the general loss. A share of 0 means: no place inside the budget reads the domain
    better than the base does; of 1: the result itself. The first source of `tokens` is the domain, the last general.
    """
    settings = settle_here(settings)
    if settings.max_tokens is None:
        settings = replace(settings, max_tokens=LINE_TOKENS[1])
    inputs = {"base": base.fingerprint(store.prints), "trained": trained, "tokens": tokens, "budget": f"{budget:.9g}"}
    return store.make(
        "walked",
        settings,
        inputs,
        __name__,
        lambda draft: _build(draft, base, trained, tokens, budget, settings),
        origins={"base": base.origin},
    )


def _build(draft: Draft, base: Base, trained: Artifact, tokens: Artifact, budget: float, settings: WalkBack) -> None:
    from graft.models.edit.interpolation import Line
    from graft.models.files.stored_types import StoredTypes
    from graft.models.files.weights import save_model
    from graft.models.runtime.numeric_faults import enough_memory
    from graft.models.scoring.scoring import nats_by_document, pack_documents

    named = sources(tokens)
    names = list(named)
    limit = settings.max_tokens
    assert limit is not None, "settled by `walk_back`"
    choices = {name: many_documents(one, limit) for name, one in named.items()}
    for name, choice in choices.items():
        if not len(choice):
            raise UsageError(f"{name} has no validation text to judge models by", do="give more text of it")
    window = settings.window or min(base.window, 2048)
    if window > base.window:
        raise UsageError(
            f"walk_back.window is {window}, and the model reads at most {base.window} tokens",
            allowed=f"1 to {base.window}",
        )
    with enough_memory("the line between base and result", do="take a machine with more memory"):
        line = Line(base.folder, trained / "model", computed(settings.precision))
    each = sum(choice.num_pairs for choice in choices.values())
    progress = Progress("walk back", each * (settings.looks + 1))
    stored = StoredTypes.of(base.folder, line.model.hf)

    def model_at(share: float) -> Model:
        """As it would be read back from disk: what lies between is rounded to the types of both ends."""
        model = line.at(share)
        stored.round(model.hf)
        return model

    def look(share: float) -> dict[str, Tally[np.ndarray]]:
        model = model_at(share)
        progress.note = f"at {share:.0%} of the way"
        with by_place(tokens):
            from graft.models.scoring.scoring import ROW_TOKENS

            rows = max(1, ROW_TOKENS // window)
            return {
                name: nats_by_document(
                    model, named[name], choices[name], window=window, rows=rows, heard=progress.advance
                )
                for name in names
            }

    before = look(0.0)
    places = search(lambda share: _place(share, before, look(share), settings), budget, settings.looks)
    progress.close()
    chosen = best_inside(places, budget)
    if 0 < chosen < 1:
        texts_BT = pack_documents(named[names[0]], choices[names[0]].documents_D[:3], window).tokens_BT[:3, :64]
        save_model(model_at(chosen), base.folder, draft / "model", texts_BT)
        notes = trained / "model" / "training.json"
        write_whole(draft / "model" / "training.json", notes.read_text(encoding="utf-8"))
    (draft / LINE).write_text(
        json.dumps([vars(place) for place in places], indent=1, allow_nan=False), encoding="utf-8"
    )
    draft.facts |= {
        "share": chosen,
        "bound": next((place.general_bound for place in places if place.share == chosen), 0.0),
        "budget": budget,
        "looks": len(places),
        "base": {name: float(tally.total.sum() / tally.count.sum()) for name, tally in before.items()},
        "documents": {name: len(choice) for name, choice in choices.items()},
        "notes": [
            f"{name}: one validation document judged the walk back, so nothing is said of its confidence"
            for name, choice in choices.items()
            if len(choice) == 1
        ],
    }


def many_documents(source: TokenSource, max_tokens: int) -> Choice:
    """As many validation documents as `max_tokens` (0: any number) has room for, if need be only their beginnings.

    All of them are cut to one length, at least FEWEST tokens; where even so there are too many, some are left out,
    evenly over the source.
    """
    from graft.models.scoring.scoring import Choice, choose_documents

    whole = choose_documents(source, "validation", 0)
    if not max_tokens or whole.num_pairs <= max_tokens:
        return whole
    length = FEWEST
    while np.minimum(whole.pairs_D, length + STEP).sum() <= max_tokens:
        length += STEP
    pairs_D = np.minimum(whole.pairs_D, length)
    order = golden_order(len(pairs_D))
    fitting = max(2, int(np.searchsorted(np.cumsum(pairs_D[order]), max_tokens, side="right")))
    kept = np.sort(order[:fitting])
    return Choice(whole.documents_D[kept], pairs_D[kept], (pairs_D < whole.pairs_D)[kept])


def _place(
    share: float, before: dict[str, Tally[np.ndarray]], after: dict[str, Tally[np.ndarray]], settings: WalkBack
) -> Place:
    known: dict[str, Any] = {}
    for role, name in zip(("domain", "general"), (next(iter(before)), next(reversed(before))), strict=True):
        old, new = before[name], after[name]
        known[role] = float(new.total.sum() / new.count.sum())
        known[f"{role}_change"] = float(new.total.sum() / old.total.sum()) - 1
        known[f"{role}_bound"] = change_bound(old, new, settings.confidence, seed=settings.seed)
    return Place(share=share, **known)


def search(look: Callable[[float], Place], budget: float, looks: int) -> list[Place]:
    """Places in the order in which they were looked at: the end, then ever closer to where the budget is used up."""
    places = [look(1.0)]
    while len(places) < looks:
        inside = max((one.share for one in places if one.general_bound <= budget), default=0.0)
        outside = min((one.share for one in places if one.general_bound > budget), default=None)
        used_up = any(0 <= budget - one.general_bound < CLOSE * budget for one in places)
        if outside is None or outside - inside < FINE or used_up:
            break
        guess = expected_share(places, CAREFUL * budget)
        margin = 0.05 * (outside - inside)
        places.append(look(min(max(guess, inside + margin), outside - margin)))
    return places


def expected_share(places: Sequence[Place], budget: float) -> float:
    """Where the general bound is expected to reach the budget.

    Where only places beyond the budget are known, the rise is taken as the square of the share; else as the parabola
    through the base and the places on either side (a straight line where that would be bent the other way).
    """
    above = min((one for one in places if one.general_bound > budget), key=lambda one: one.share)
    inside = [one for one in places if one.general_bound <= budget and one.share < above.share]
    if not inside:
        return above.share * math.sqrt(budget / above.general_bound)
    below = max(inside, key=lambda one: one.share)
    # rise = straight * share + bent * share^2 through both
    steep, flat = (one.general_bound / one.share for one in (above, below))
    bent = (steep - flat) / (above.share - below.share)
    straight = steep - bent * above.share
    if bent <= 0:
        return below.share + (above.share - below.share) * (budget - below.general_bound) / (
            above.general_bound - below.general_bound
        )
    return (math.sqrt(straight**2 + 4 * bent * budget) - straight) / (2 * bent)


def best_inside(places: Sequence[Place], budget: float) -> float:
    """The share of the place inside the budget with the least domain loss; 0 where none is better than the base."""
    inside = [one for one in places if one.general_bound <= budget and one.domain_bound < 0]
    return min(inside, key=lambda one: one.domain).share if inside else 0.0
