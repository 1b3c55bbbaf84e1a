"""front: which runs can be held against each other, which of them no other beats, and what that is in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = ("domain", "general")
FEW = 10  # test documents, below which the sentence says how few they are


@dataclass(frozen=True)
class Front:
    """Runs from one base, scored on the same documents. best: those that no other beats on one text without losing
    on the other, by what they gained, the largest gain first."""

    base: str
    documents: Mapping[str, int]
    runs: tuple[str, ...]
    best: tuple[str, ...]


def fronts(runs: Sequence[Mapping[str, Any]]) -> list[Front]:
    """The largest first. A run whose documents are not known stands in none."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for run in runs:
        if all(run.get(role) and role in run["texts"] for role in ROLES):
            key = (run["base_key"], *(run["texts"][role]["key"] for role in ROLES))
            groups.setdefault(key, []).append(run)
    found = [
        Front(
            members[0]["base"],
            {role: members[0]["texts"][role]["documents"] for role in ROLES},
            tuple(run["label"] for run in members),
            unbeaten({run["label"]: (run["domain"]["change"], run["general"]["change"]) for run in members}),
        )
        for members in groups.values()
    ]
    return sorted(found, key=lambda one: -len(one.runs))


def unbeaten(changes: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names of the pairs (lower is better in both) that no other is below in one without being above in the other."""
    kept = [
        name
        for name, (domain, general) in changes.items()
        if not any(
            a <= domain and b <= general and (a < domain or b < general)
            for other, (a, b) in changes.items()
            if other != name
        )
    ]
    return tuple(sorted(kept, key=lambda name: changes[name]))


def sentence(
    runs: Sequence[Mapping[str, Any]],
    found: Sequence[Front],
    pairs: Sequence[Mapping[str, Any]],
    others: int,
    itself: Mapping[str, str] | None = None,
) -> str:
    """The verdict on all runs. others: artifacts that are no runs. itself: by label the verdict of one of these, where
    nothing else was given."""
    measured = [run for run in runs if run.get("domain")]
    if not measured and itself:
        return "; ".join(f"{label}: {words}" for label, words in itself.items())
    if not measured:
        return f"{_counted(len(runs) + others, 'artifact')}, and no run among them whose outcome was measured."
    if len(measured) == 1:
        return f"{measured[0]['label']}: {measured[0]['sentence']}."
    by_label = {run["label"]: run for run in runs}
    shared = [one for one in found if len(one.runs) > 1]
    said = [_of_front(one, by_label, pairs, several=len(shared) > 1) for one in shared]
    alone = len(measured) - sum(len(one.runs) for one in shared)
    if not said:
        return f"Of {len(measured)} runs no two are known to have the same base and test documents: none can be ranked."
    rest = f"; {_counted(alone, 'other')} cannot be ranked with {'any' if len(said) > 1 else 'them'}" if alone else ""
    return f"{'; '.join(said)}{rest}."


def _of_front(
    front: Front, by_label: Mapping[str, Mapping[str, Any]], pairs: Sequence[Mapping[str, Any]], *, several: bool
) -> str:
    members = [by_label[label] for label in front.runs]
    gained, paid = (min(members, key=lambda run: run[role]["change"]) for role in ROLES)
    change, where = gained["domain"]["change"], f" from {front.base}" if several else ""
    head = f"{abs(change):.1%} {'lower' if change < 0 else 'higher'} domain loss: {gained['label']} leads "
    best = f"{len(members)} runs{where} on the same test text{_ahead(gained, members, 'domain', pairs)}"
    cost = f"keeps general text best, at {paid['general']['change']:+.1%}{_ahead(paid, members, 'general', pairs)}"
    if gained is paid:
        return f"{head}{best}; it also {cost}: no other run is better in either"
    share = f"{len(front.best)} of {len(members)} are on the frontier, where no other run is better in both"
    return f"{head}{best}; {paid['label']} {cost}; {share}"


def _ahead(
    first: Mapping[str, Any], members: Sequence[Mapping[str, Any]], role: str, pairs: Sequence[Mapping[str, Any]]
) -> str:
    """Whether the first is certainly better than the next, by their paired interval."""
    second = min((run for run in members if run is not first), key=lambda run: run[role]["change"])
    pair = next(
        (
            one
            for one in pairs
            if one["source"] == role and {one["one"], one["other"]} == {first["label"], second["label"]}
        ),
        None,
    )
    if pair is None:
        return ""
    if pair["interval"] is None:
        return f" (whether that is certainly better than {second['label']} is unknown: one test document)"
    certain = not pair["interval"][0] <= 0 <= pair["interval"][1]
    documents = first["texts"][role]["documents"]
    few = f" by {_counted(documents, 'test document')} alone" if documents < FEW else ""
    return f" ({'' if certain else 'not '}certainly better than {second['label']}{few})"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
