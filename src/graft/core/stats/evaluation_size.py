"""How much text a job scores: enough for honest intervals, and not more compute than the training takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

AT_LEAST, WANTED = 8, 32  # documents a limit has room for, however long they are: always, and where each has
ENOUGH = 256  # tokens then
SCORE_TO_TRAIN = 1 / 3  # compute of a forward pass, against a forward and a backward one
LOOKS = (8, 4, 2, 1)  # at validation text, after the one before the first step; the most that are affordable
LOOKS_SHARE = 0.25  # of the compute for measuring that the looks may take at their least size
STANDALONE = 131_072  # tokens of each source, where one model is scored and no training is known


@dataclass(frozen=True)
class ScoringPlan:
    """One kind of scoring in a job: `times` models or moments, each on at least `least` and at most `most` tokens.

    A limit that the user gave is both. 0 tokens stand for all of a text.
    """

    times: int
    least: int
    most: int

    @classmethod
    def of(cls, times: int, given: int | None, bounds: tuple[int, int]) -> ScoringPlan:
        """given: the user's own limit; None: chosen within `bounds`."""
        return cls(times, *(bounds if given is None else (given, given)))

    def limit(self, part: float) -> int:
        """Tokens at this part of the most: a power of two below it, or one of the bounds."""
        wanted = int(part * self.most)
        if wanted <= self.least:
            return self.least
        return self.most if wanted >= self.most else max(self.least, 1 << (wanted.bit_length() - 1))


# Bounds of a limit in tokens of one source. A limit has room for 32 documents, so the least of TEST is 256 tokens of
# each, and more than the most of it narrows no interval by much (docs/results.md, "Cost that fits the work").
TEST = (8_192, 262_144)  # what the verdict rests on
LOOK = (2_048, 32_768)  # one look at validation text while training
PILOT_LOOK = (4_096, 32_768)  # of a pilot: laws are fitted to these
LINE = (8_192, 65_536)  # one place on the line between base and result


def num_looks(trained: float, sources: int, least: int = LOOK[0]) -> int:
    """How often a run of so many tokens looks at validation text of so many sources."""
    allowed = LOOKS_SHARE * trained / SCORE_TO_TRAIN
    return next((looks for looks in LOOKS if (looks + 1) * sources * least <= allowed), LOOKS[-1])


def settle(trained: float, sources: int, readings: Mapping[str, ScoringPlan]) -> dict[str, int]:
    """The limit of each reading in tokens of a source: one part of the most of all of them, by their bounds.

    The part is the largest at which all readings together take at most as much compute as training on `trained`
    tokens does. Limits are powers of two, so that runs of about one length score the same documents and share what
    was scored. At the least of all readings measuring may take more than training: an interval from fewer documents
    would say nothing.
    """

    def affordable(part: float) -> bool:
        used = sum(one.times * sources * one.limit(part) for one in readings.values())
        return used * SCORE_TO_TRAIN <= trained

    low, high = 0.0, 1.0
    if not affordable(high):
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if affordable(middle) else (low, middle)
    part = high if affordable(high) else low
    return {name: one.limit(part) for name, one in readings.items()}


def scored_tokens(limit: int, available: Iterable[float]) -> float:
    """Tokens that are scored of sources which have so many each, under a limit (0: none)."""
    return sum(min(one, limit) if limit else one for one in available)


def most_of_one(max_tokens: int) -> int:
    """Targets of one document at most, under a limit: a 32nd of it, or an eighth where a 32nd is below 256 tokens.

    Documents are what an interval is drawn over, so many beginnings tell more than few whole documents.
    """
    return max(1, max_tokens // WANTED, min(ENOUGH, max_tokens // AT_LEAST))


def documents_in(documents: float, tokens: float, limit: int) -> tuple[float, float]:
    """(documents, tokens) that a limit takes of so many documents and tokens, if all documents are of one length."""
    if not documents:  # nobody knows yet
        return 0.0, min(tokens, limit) if limit else tokens
    if not limit or tokens <= limit:
        return documents, tokens
    each = min(tokens / documents, most_of_one(limit))
    taken = min(documents, limit / each)
    return taken, taken * each


def in_words(share: float, counts: Mapping[str, tuple[int, int]]) -> str:
    """One line for the screen. counts: (limit, times) by what is scored; share: measuring over training, in compute."""
    parts = [
        f"{f'{limit:,} tokens' if limit else 'all'} of {name} per source, {times} time{'s' if times > 1 else ''}"
        for name, (limit, times) in counts.items()
    ]
    return f"measuring: up to {'; '.join(parts)}. That is about {share:.0%} of the training's compute."


def larger(name: str, interval: tuple[float, float] | None, documents: int, there: int) -> str | None:
    """What all test documents would give, in a sentence; None where all were scored or there is no interval."""
    half = half_width(interval)
    if half is None or documents >= there:
        return None
    return (
        f"{name}: the interval is ±{100 * half:.2g} % from {documents:,} of {there:,} documents. All of them would "
        f"give about ±{100 * half_of_all(half, documents, there):.2g} % (estimated by 1/√n of the documents, each "
        "scored as far; evaluate.max_tokens sets how many)."
    )


def narrower(counts: Mapping[str, tuple[int, int]]) -> str | None:
    """The same of several texts at once. counts: documents that were scored and documents there are, by text."""
    fewer = {name: (documents, there) for name, (documents, there) in counts.items() if 1 < documents < there}
    if not fewer:
        return None
    listed = ", ".join(f"{name} {documents:,} of {there:,}" for name, (documents, there) in fewer.items())
    factors = [(documents / there) ** 0.5 for documents, there in fewer.values()]
    to = f"{min(factors):.2g}" if max(factors) - min(factors) < 0.05 else f"{min(factors):.2g} to {max(factors):.2g}"
    return (
        f"Of the test documents {listed} were scored. All of them would make intervals about {to} times as wide "
        "(estimated by 1/√n of the documents; evaluate.max_tokens sets how many)."
    )


def half_width(interval: tuple[float, float] | None) -> float | None:
    """Half the width of an interval; None without one."""
    return None if interval is None else (interval[1] - interval[0]) / 2


def half_of_all(half: float, documents: int, there: int) -> float:
    """The half width expected from `there` documents, where `documents` gave `half`: by 1/sqrt of the documents."""
    return half * (documents / there) ** 0.5
