"""Shares of right answers: intervals, tests of a change on the same items, and what of a change guessing cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.core.stats.bootstrap import levels
from graft.core.stats.random_streams import stream

Z95 = 1.959963984540054
DRAWS = 4000
SMALL = 10  # items of a task, below which draws within it vary too little to say how much it would


def wilson(hits: float, count: int) -> tuple[float, float]:
    """95 % score interval of a share. Source: Wilson 1927, as in Brown, Cai and DasGupta 2001, equation 4."""
    share, spread = hits / count, Z95**2 / count
    middle = share + spread / 2
    half = Z95 * np.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, float((middle - half) / (1 + spread))), min(1.0, float((middle + half) / (1 + spread)))


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p of as many changes in one direction, had each gone either way like a coin; 1 without any.

    Source: McNemar 1947; exact by the binomial distribution of the items that changed.
    """
    from scipy.stats import binomtest  # a second to load, which reading a recipe need not wait for

    return 1.0 if lost + gained == 0 else float(binomtest(lost, lost + gained, 0.5).pvalue)


def holm(p_T: Sequence[float]) -> list[float]:
    """p of each of several tests, made larger so that one of them below a bound by luck alone is as rare as that bound.

    Source: Holm 1979: the k-th smallest of T times (T - k + 1), never below one that was smaller.
    """
    adjusted = [0.0] * len(p_T)
    largest = 0.0
    for place, test in enumerate(sorted(range(len(p_T)), key=lambda t: p_T[t])):
        largest = max(largest, min(1.0, p_T[test] * (len(p_T) - place)))
        adjusted[test] = largest
    return adjusted


@dataclass(frozen=True, eq=False)
class Answered:
    """The same I items answered by two models, or by one (before_I and after_I are then the same).

    chance_I: of a guess to be right. apart_I: both are wrong, and not by the same choice. choices_I: how many there
    are; 1: none to choose from. task_I: which task each is of, from 0.
    """

    before_I: NDArray[np.bool_]
    after_I: NDArray[np.bool_]
    chance_I: NDArray[np.float64]
    apart_I: NDArray[np.bool_]
    choices_I: NDArray[np.int64]
    task_I: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.before_I)

    def of(self, task: int) -> Answered:
        """The items of one task."""
        chosen = self.task_I == task
        return Answered(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @property
    def adjustable_I(self) -> NDArray[np.bool_]:
        """Items whose guesses can be told from knowledge: those with three choices or more, and those with none."""
        plain_I = (self.choices_I > 2) & np.isclose(self.chance_I * self.choices_I, 1)
        return plain_I | (self.chance_I == 0)

    @property
    def columns_IQ(self) -> NDArray[np.float64]:
        """Numbers whose means are asked for, as in COLUMNS, and last whether the item counts for `forgotten`.

        lost and gained: the shares of items that went from right to wrong and from wrong to right. forgotten and
        learned are the shares of items that were known before and not after, and the reverse. The definition is ours;
        none is published. A model that does not know an item guesses, and is right with chance c = 1 / C of C choices;
        one that does is right. Two models may guess alike, however often; where their guesses differ, every pair of
        different choices is as likely as every other. Of C (C - 1) such pairs C - 1 look like an item lost, C - 1 like
        one gained, and (C - 1) (C - 2) are wrong both times by different choices, which only guesses are. So

            forgotten = (lost - apart / (C - 2)) / (1 - c),    learned = (gained - apart / (C - 2)) / (1 - c)

        by item, where `apart` is the share that is wrong both times by different choices. Their difference is that of
        what is known, k = (accuracy - c) / (1 - c). Without choices c is 0 and nothing is taken off. With two choices
        guesses leave no trace: such items do not count here. Unbiased under these assumptions, so a sample may come
        out a little below 0.
        """
        before, after, c = self.before_I.astype(float), self.after_I.astype(float), self.chance_I
        lost, gained = before * (1 - after), (1 - before) * after
        counts = self.adjustable_I
        by_guess = np.where(self.choices_I > 2, self.apart_I / np.maximum(1, self.choices_I - 2), 0.0)
        beyond = np.where(counts, 1 - c, 1.0)
        forgotten, learned = (np.where(counts, (share - by_guess) / beyond, 0.0) for share in (lost, gained))
        return np.stack([before, after, after - before, lost, gained, forgotten, learned, counts.astype(float)], 1)


COLUMNS = ("before", "after", "change", "lost", "gained", "forgotten", "learned")


@dataclass(frozen=True)
class Means:
    """By the names of COLUMNS: means, and 95 % intervals; None where there is nothing to divide by, or one item."""

    mean: dict[str, float | None]
    interval: dict[str, tuple[float, float] | None]


def over_items(answered: Answered, seed: int = 0) -> Means:
    """Means over all items alike (micro). Interval: bootstrap over items, paired, its percentiles as `levels` has them.

    Items are drawn within tasks, and the smallest task says how far out the percentiles lie. A task of few items hardly
    varies from draw to draw, and one of a single item not at all: with one below SMALL items are drawn over all tasks
    together.
    """
    size_T = _sizes(answered)
    units = min(size_T)
    if units < SMALL:
        answered, units = replace(answered, task_I=np.zeros_like(answered.task_I)), len(answered)
    sums_TQ, drawn_TRQ, _ = _drawn(answered, seed)
    return _means(_divided(sums_TQ.sum(0), len(answered)), _divided(drawn_TRQ.sum(0), len(answered)), units)


def over_tasks(answered: Answered, seed: int = 0) -> Means:
    """Means of the tasks' means (macro), whatever their sizes; intervals as those of `over_items`.

    With several tasks, one of them below SMALL, tasks are drawn, and items within each that is. A task none of whose
    items counts is left out of the means of what is forgotten and learned.
    """
    size_T = _sizes(answered)
    sums_TQ, drawn_TRQ, count_T = _drawn(answered, seed)
    means_TQ = _divided(sums_TQ, count_T[:, None])
    if len(size_T) > 1 and min(size_T) < SMALL:
        return _means(_level(means_TQ), _level(_drawn_twice(answered, seed)), len(size_T))
    drawn = _divided(drawn_TRQ, count_T[:, None, None])
    there_TQ = ~np.isnan(means_TQ)
    return _means(_level(means_TQ), _level(np.where(there_TQ[:, None], drawn, np.nan)), min(size_T))


def coin(answered: Answered, seed: int = 0) -> float:
    """Two-sided p of so large a change of the tasks' mean, had each changed item gone either way like a coin.

    `mcnemar` for means over tasks: a sign test by simulation, in which an item weighs 1 / (tasks * items of its task).
    From DRAWS tosses, that which was seen counted in (Davison and Hinkley 1997, equation 4.11).
    """
    net, tossed_R = 0.0, np.zeros(DRAWS)
    for number, task in enumerate(np.unique(answered.task_I).tolist()):
        some = answered.of(task)
        change_I = some.after_I.astype(int) - some.before_I
        changed = int(np.abs(change_I).sum())
        net += float(change_I.sum()) / len(some)
        tossed_R += (2 * stream(seed, "coin", number).binomial(changed, 0.5, size=DRAWS) - changed) / len(some)
    return float((1 + (np.abs(tossed_R) >= abs(net) - 1e-9).sum()) / (1 + DRAWS))


def _sizes(answered: Answered) -> list[int]:
    return np.unique(answered.task_I, return_counts=True)[1].tolist()


def _level(means_TXQ: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over tasks, of those that have a number; NaN where none has."""
    there = ~np.isnan(means_TXQ)
    return np.where(there.any(0), np.nansum(means_TXQ, 0) / np.maximum(there.sum(0), 1), np.nan)


def _divided(sums: NDArray[np.float64], size: Any) -> NDArray[np.float64]:
    """[..., Q + 1] sums by COLUMNS and the number that count -> [..., Q] means; NaN where none does."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([sums[..., :5] / size, sums[..., 5:7] / sums[..., 7:]], -1)


def _means(means_Q: NDArray[np.float64], drawn_RQ: NDArray[np.float64], units: int) -> Means:
    """units: how many were drawn from, by which the percentiles are chosen; of one there is no interval."""
    known = {name: float(value) for name, value in zip(COLUMNS, means_Q, strict=True) if np.isfinite(value)}
    interval: dict[str, tuple[float, float] | None] = dict.fromkeys(COLUMNS)
    if units > 1:
        drawn_RQ = np.where(np.isfinite(means_Q), drawn_RQ, 0.0)
        low_Q, high_Q = np.nanquantile(drawn_RQ, levels(units), axis=0)
        ends = {name: (float(low), float(high)) for name, low, high in zip(COLUMNS, low_Q, high_Q, strict=True)}
        interval |= {name: ends[name] for name in known}
    return Means({name: known.get(name) for name in COLUMNS}, interval)


def _drawn(answered: Answered, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums by task, DRAWS of them, and sizes. Items alike are drawn as one kind, so that a draw from a large task
    costs no more than one from a small one."""
    sums_TQ, drawn_TRQ, size_T = [], [], []
    for number, task in enumerate(np.unique(answered.task_I).tolist()):
        kinds_KQ, count_K = np.unique(answered.of(task).columns_IQ, axis=0, return_counts=True)
        size = int(count_K.sum())
        times_RK = stream(seed, "items", number).multinomial(size, count_K / size, size=DRAWS)
        sums_TQ.append(count_K @ kinds_KQ)
        drawn_TRQ.append(times_RK @ kinds_KQ)
        size_T.append(float(size))
    return np.stack(sums_TQ), np.stack(drawn_TRQ), np.array(size_T)


def _drawn_twice(answered: Answered, seed: int) -> NDArray[np.float64]:
    """means_TRQ of as many tasks as there are, drawn in each of DRAWS draws, and of items drawn within each of them."""
    tasks = np.unique(answered.task_I).tolist()
    drawn_TR = stream(seed, "tasks").integers(len(tasks), size=(len(tasks), DRAWS))
    means_TRQ = np.zeros((len(tasks), DRAWS, len(COLUMNS)))
    for number, task in enumerate(tasks):
        kinds_KQ, count_K = np.unique(answered.of(task).columns_IQ, axis=0, return_counts=True)
        size, here_TR = int(count_K.sum()), drawn_TR == number
        times_NK = stream(seed, "items", number).multinomial(size, count_K / size, size=int(here_TR.sum()))
        means_TRQ[here_TR] = _divided(times_NK @ kinds_KQ, size)
    return means_TRQ
