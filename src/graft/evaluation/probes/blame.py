"""Which vocabulary items caused the change, to the last nat."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.core.records.evidence import Evidence

CLASSES = ("newline", "whitespace", "punctuation", "digit", "function word", "domain term", "other")

# Closed-class words of English: articles, pronouns, prepositions, conjunctions, auxiliaries, frequent adverbs.
FUNCTION_WORDS = frozenset(
    """a about above after again against all also although am among an and any are as at be because been before being
    below between both but by can could did do does doing done down during each either else ever every few for
    from had has have having he her here hers herself him himself his how however i if in into is it its itself
    just may me might more most much must my myself neither no nor not of off on once one only or other our ours
    ourselves out over own per same shall she should since so some such than that the their theirs them
    themselves then there therefore these they this those through thus to too toward under until up upon us very
    via was we were what when where whether which while who whom whose why will with within without would yet
    you your yours yourself yourselves""".split()
)


@dataclass(frozen=True)
class Blame:
    """The change of the mean loss, divided exactly among vocabulary items and their classes.

    For item v with n_v target occurrences and mean change d_v: c_v = n_v d_v / sum_u n_u, in nats per token, and
    sum_v c_v is the change of the mean loss. Source: the question is that of arXiv 2410.05581; the decomposition is
    exact algebra. Classes: newline, whitespace, punctuation, digit, function word (English list), domain term, other.
    A domain term is an item of letters that is `term_ratio` times as frequent in the domain's test text as in the
    others' (add-one smoothed), seen at least `min_count` times; without a second source there are none.
    """

    domain: str = "domain"  # the source whose terms are meant
    term_ratio: float = 4.0
    min_count: int = 5

    def __call__(self, before: Mapping[str, Evidence], after: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        """Rows with source, token (id), text, class, count, mean_change d_v, blame c_v; by blame, largest first."""
        terms = self._terms(before)
        return [row for name in before for row in self._rows(before[name], after[name], terms)]

    def _rows(self, before: Evidence, after: Evidence, terms: set[int]) -> list[dict[str, Any]]:
        change_N = after.nats_N.astype(np.float64) - before.nats_N
        items, place_N = np.unique(before.targets_N, return_inverse=True)
        count = np.bincount(place_N)
        total = np.bincount(place_N, weights=change_N)
        rows = [
            {
                "source": before.source,
                "token": int(item),
                "text": before.vocabulary.get(int(item), ""),
                "class": token_class(before.vocabulary.get(int(item), ""), int(item) in terms),
                "count": int(n),
                "mean_change": float(change / n),
                "blame": float(change / len(change_N)),
            }
            for item, n, change in zip(items, count, total, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["blame"])

    def _terms(self, sources: Mapping[str, Evidence]) -> set[int]:
        if self.domain not in sources or len(sources) < 2:
            return set()
        size = 1 + max(int(one.targets_N.max(initial=0)) for one in sources.values())
        inside = np.bincount(sources[self.domain].targets_N, minlength=size)
        others = [one for name, one in sources.items() if name != self.domain]
        outside = sum(np.bincount(one.targets_N, minlength=size) for one in others)
        ratio = ((inside + 1) / (inside.sum() + size)) / ((outside + 1) / (np.sum(outside) + size))
        return set(np.flatnonzero((ratio >= self.term_ratio) & (inside >= self.min_count)).tolist())


def by_class(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blame rows summed by (source, class), in the order of CLASSES; count and blame add, mean_change is derived."""
    sums: dict[tuple[str, str], tuple[int, float, float]] = {}
    for row in rows:
        count, blame, change = sums.get((row["source"], row["class"]), (0, 0.0, 0.0))
        key = (row["source"], row["class"])
        sums[key] = (count + row["count"], blame + row["blame"], change + row["mean_change"] * row["count"])
    return [
        {"source": source, "class": name, "count": count, "mean_change": change / count, "blame": blame}
        for source in dict.fromkeys(row["source"] for row in rows)
        for name in CLASSES
        if (source, name) in sums
        for count, blame, change in [sums[source, name]]
    ]


def token_class(text: str, is_term: bool = False) -> str:
    """The class of a vocabulary item by its text; marks of documents (empty text) are "other"."""
    if "\n" in text or "\r" in text:
        return "newline"
    core = text.strip()
    if text and not core:
        return "whitespace"
    if core and all(char.isnumeric() for char in core):
        return "digit"
    if core and not any(char.isalnum() for char in core) and unicodedata.category(core[0])[0] in "PS":
        return "punctuation"
    if core.lower() in FUNCTION_WORDS:
        return "function word"
    return "domain term" if is_term and any(char.isalpha() for char in core) else "other"
