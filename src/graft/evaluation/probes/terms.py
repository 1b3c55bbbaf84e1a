"""Which terms were learned best, and which were lost most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.core.config.errors import UsageError
from graft.core.records.evidence import Evidence
from graft.evaluation.probes.blame import Blame


@dataclass(frozen=True)
class Terms:
    """Items of letters by their mean change d_v in nats, the best learned first, of those seen often enough.

    Blame says who causes the change of the mean, a rare term hardly ever; this says who changed most (arXiv 2410.05581
    ranks by both; its minimum count is not published). What an item is, the evidence says: a vocabulary item, or a
    whole word where its targets are words.
    """

    min_count: int = 5  # occurrences
    domain: str = "domain"  # as in blame: the source whose terms are meant by the class "domain term"
    term_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise UsageError(f"min_count is {self.min_count}", allowed="1 occurrence or more")

    def __call__(self, before: Mapping[str, Evidence], after: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        """Rows of blame (source, token, text, class, count, mean_change, blame), sorted by source and mean_change."""
        rows = Blame(self.domain, self.term_ratio)(before, after)
        found = [row for row in rows if row["count"] >= self.min_count and any(map(str.isalpha, row["text"]))]
        order = list(before)
        return sorted(found, key=lambda row: (order.index(row["source"]), row["mean_change"], row["text"]))
