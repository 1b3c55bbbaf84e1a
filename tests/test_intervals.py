"""Intervals of laws: what share of the draws they hold, and that rows of one run are not counted as many runs."""

from __future__ import annotations

import numpy as np
import pytest

from graft.scaling.fitting.fit import Fitting
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.chinchilla import Chinchilla

SIZES, TOKENS = (1e8, 2e8, 4e8, 8e8, 1.6e9), (1e9, 2e9, 4e9, 8e9)
PLACES = {"size": np.array([3e8, 3e9]), "tokens": np.array([3e9, 3e10])}


def table(copies: int = 1) -> Trials:
    """Losses of a law with one error per run; copies: how often each row stands in its run."""
    size_T, tokens_T = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS, indexing="ij"))
    error_T = 5e-3 * np.random.default_rng(0).standard_normal(len(size_T))
    loss_T = (1.7 + 400 / size_T**0.34 + 410 / tokens_T**0.28) * np.exp(error_T)
    columns = {"size": np.repeat(size_T, copies), "tokens": np.repeat(tokens_T, copies)}
    return Trials(np.repeat(loss_T, copies), columns, run_T=np.repeat(np.arange(len(size_T)), copies))


def law(draws: int, confidence: float = 0.95) -> Chinchilla:
    return Chinchilla(fitting=Fitting(draws=draws, confidence=confidence, starts=100))


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_an_interval_holds_its_share_of_the_draws(confidence: float) -> None:
    """As many are below it as above."""
    places = Trials.places(PLACES)
    fitted = law(400, confidence).fit(table())
    (low_T, high_T), drawn_ST = fitted.interval(places), fitted.draw(places)
    outside = (1 - confidence) / 2
    assert (drawn_ST < low_T).mean(0) == pytest.approx([outside, outside], abs=0.01)
    assert (drawn_ST > high_T).mean(0) == pytest.approx([outside, outside], abs=0.01)
    for name, one in fitted.constants.items():
        inside = law(400, 0.99).fit(table()).constants[name]
        assert inside.low <= one.low <= one.value <= one.high <= inside.high


def test_copies_of_rows_in_a_run_make_no_interval_narrower() -> None:
    """They say nothing new: were rows drawn instead of runs, twenty copies would make it a third as wide."""
    places = Trials.places(PLACES)
    one, many = (
        np.subtract(*fitted.interval(places)[::-1]) / fitted.spread
        for fitted in (law(300).fit(table(copies)) for copies in (1, 20))
    )
    assert many == pytest.approx(one, rel=0.3)
