"""Laws of mixtures, schedules and repeats: noiseless trials are recovered, and what a table cannot tell is said."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from graft.core.config.errors import UsageError
from graft.scaling.fitting.fit import Fitting
from graft.scaling.fitting.form import form_of
from graft.scaling.fitting.metrics import spearman
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.additive_joint import AdditiveJoint
from graft.scaling.laws.bimix import Bimix
from graft.scaling.laws.cmr import Cmr
from graft.scaling.laws.contract import fitted_from_json
from graft.scaling.laws.data_constrained import DataConstrained
from graft.scaling.laws.exponential_mixing import ExponentialMixing
from graft.scaling.laws.forgetting_injected import ForgettingInjected
from graft.scaling.laws.head_start import HeadStart
from graft.scaling.laws.multi_power import MultiPower
from graft.scaling.laws.regmix import Regmix
from graft.scaling.laws.replay import Replay

SIZES, TOKENS = np.array([1e8, 4e8, 1e9, 4e9]), np.geomspace(1e9, 1e11, 5)
DOMAINS = ("books", "code", "news", "web")
QUICK = Fitting(draws=0)
needs_lightgbm = pytest.mark.skipif(find_spec("lightgbm") is None, reason="needs the extra regmix (lightgbm)")


def crossed(**values: Any) -> dict[str, np.ndarray]:
    """Every combination of the values, as columns."""
    return {name: one.ravel() for name, one in zip(values, np.meshgrid(*values.values(), indexing="ij"), strict=True)}


def repeated() -> dict[str, np.ndarray]:
    columns = crossed(size=SIZES, tokens=TOKENS, times=np.array([1.0, 4.0, 30.0]))
    return {"size": columns["size"], "tokens": columns["tokens"], "unique": columns["tokens"] / columns["times"]}


def schedules(steps: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(columns, runs) of a constant rate, a cosine and a jump."""
    rates = [np.full(len(steps), 3e-4), 3e-5 + 1.35e-4 * (1 + np.cos(np.pi * steps / 8000))]
    rates.append(np.where(steps < 6000, 3e-4, 1e-4))
    return {"step": np.tile(steps, 3), "rate": np.concatenate(rates)}, np.repeat(np.arange(3), len(steps))


def measured(law: Any, constants: dict[str, float], columns: dict[str, np.ndarray], seed: int | None = None,
             run: np.ndarray | None = None) -> Trials:  # fmt: skip
    """Trials whose losses are the law's; with a seed, 80 mixtures of four domains beside the columns."""
    random = np.random.default_rng(seed)
    weights_TK = None if seed is None else random.dirichlet(np.full(4, 0.7), 80)
    columns = {name: one if seed is None else random.choice(one, 80) for name, one in columns.items()}
    num = 80 if seed is not None else len(next(iter(columns.values())))
    blank = Trials(
        np.ones(num), columns, weights_TK, () if seed is None else DOMAINS, np.arange(num) if run is None else run
    )
    form = form_of(law, blank.domains)
    theta_P = np.array([constants[name] for name in form.names])
    return replace(blank, loss_T=form.evaluate(theta_P[None], blank)[0][0])


def each(prefix: str, *values: float) -> dict[str, float]:
    return {f"{prefix}_{domain}": value for domain, value in zip(DOMAINS, values, strict=True)}


def cases() -> list[Any]:
    published = DataConstrained()
    known = {name: getattr(published, name) for name in ("E", "A", "alpha", "B", "beta")}
    steps = np.arange(500.0, 8001.0, 100.0)
    columns, run = schedules(steps)
    mixed = {"E": 1.2, "A": 300.0, "alpha": 0.35, "B": 800.0, "beta": 0.33, **each("C", 1, 2, 3, 0.5)}
    power = {"L0": 2.5, "A": 0.6, "alpha": 0.5, "B": 350.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}
    free = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 1200.0, "beta": 0.33, "R_D": 12.0, "R_N": 4.0}
    injected = {"L0": 2.1, "A": 20.0, "beta": 0.3, "B": 500.0, "alpha": 0.35}
    spots = {"size": SIZES, "tokens": np.array([1e6, 1e7, 1e8]), "injected": np.array([0.0, 0.001, 0.01, 0.05])}
    ratios = crossed(tokens=TOKENS, ratio=np.array([0.05, 0.2, 0.5, 1.0]))
    hidden = {"c": 1.5, **each("t1", 0.7, -4, 0.2, 0.9), **each("t2", -3, 0.3, 0.5, -0.5)}
    learned = {
        "d": 0.01,
        "beta": 0.08,
        "k": 1.2,
        "s": 0.9,
        "u": 0.1,
        "F": 0.05,
        "m": 2.0,
        "v": 0.4,
        "w": 0.1,
        "z": 0.05,
    }
    forgot = {"A": 0.3, "b": 0.7, "B": 200.0, "c": 1.5, "q": 0.3, "G": 0.1, "s": 0.4, "h": 0.5, "w": -0.1}
    short = crossed(
        size=np.array([1.6e6, 3.3e6, 7e6]), tokens=np.geomspace(2e4, 4e5, 6),
        ratio=np.array([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]),
    )  # fmt: skip
    short["base_loss"] = 6.0 - 0.05 * short["size"] / 1e6
    return [
        pytest.param(HeadStart(), learned, short, {}, id="head_start"),
        pytest.param(Replay(), forgot, short, {}, id="replay"),
        pytest.param(published, known | {"R_D": 12.0, "R_N": 4.0}, repeated(), {}, id="data_constrained"),
        pytest.param(DataConstrained(chinchilla=False), free, repeated(), {}, id="data_constrained all seven"),
        pytest.param(ForgettingInjected(), injected, crossed(**spots), {}, id="forgetting_injected"),
        pytest.param(Bimix(), {"alpha": 0.06, "B": 300.0, "beta": 0.35, "C": 1.8}, ratios, {}, id="bimix"),
        pytest.param(
            AdditiveJoint(), mixed | each("gamma", 0.3, 0.5, 0.8, 0.4), {"size": SIZES, "tokens": TOKENS}, {"seed": 3},
            id="additive_joint",
        ),
        pytest.param(ExponentialMixing(), {"c": 1.5, **each("t", 0.7, -1, 2, 0.9)}, {}, {"seed": 4}, id="exponential"),
        pytest.param(ExponentialMixing(implicit=2), hidden, {}, {"seed": 5}, id="exponential with hidden domains"),
        pytest.param(MultiPower(), power, columns, {"run": run}, id="multi_power"),
        pytest.param(Cmr(), {"at_1": 2.4, "rise": 0.2, "s": 1.7}, {"ratio": np.linspace(0, 1, 7)}, {}, id="cmr"),
    ]  # fmt: skip


each_law = pytest.mark.parametrize(("law", "constants", "columns", "more"), cases())


@each_law
def test_noiseless_trials_are_recovered(law, constants, columns, more):
    trials = measured(law, constants, columns, **more)
    fitted = replace(law, fitting=replace(law.fitting, draws=0)).fit(trials)
    np.testing.assert_allclose(fitted.predict(trials), trials.loss_T, rtol=1e-6)
    if not isinstance(law, Cmr) and getattr(law, "implicit", 1) == 1:  # hidden domains may change places
        found = {name: one.value for name, one in fitted.constants.items()}
        assert found == pytest.approx({name: constants[name] for name in found}, rel=1e-3)


@each_law
def test_slopes_are_those_of_finite_differences(law, constants, columns, more):
    trials = measured(law, constants, columns, **more)
    form = form_of(law, trials.domains)
    theta_P = np.array([constants[name] for name in form.names]) * np.random.default_rng(0).uniform(
        0.9, 1.1, len(form.names)
    )
    _, slopes = form.evaluate(theta_P[None], trials)
    for p, name in enumerate(form.names):
        ends = np.tile(theta_P, (2, 1))
        ends[:, p] += np.array([-1e-6, 1e-6]) * abs(theta_P[p])
        low_T, high_T = form.evaluate(ends, trials)[0]
        expected_T = (high_T - low_T) / (ends[1, p] - ends[0, p])
        got_T = np.broadcast_to(slopes[p], (1, len(trials)))[0]
        np.testing.assert_allclose(got_T, expected_T, rtol=1e-4, atol=1e-6 * np.abs(expected_T).max(), err_msg=name)


@each_law
def test_a_fitted_law_is_rebuilt_from_its_json(law, constants, columns, more):
    trials = measured(law, constants, columns, **more)
    fitted = replace(law, fitting=replace(law.fitting, draws=3, starts=8)).fit(trials)
    again = fitted_from_json(law, json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again.predict(trials), fitted.predict(trials))
    np.testing.assert_array_equal(again.interval(trials), fitted.interval(trials))
    assert again.warnings == fitted.warnings
    assert getattr(again, "facts", None) == getattr(fitted, "facts", None)
    assert again.constants == fitted.constants


def test_each_formula_is_the_one_in_its_papers():
    """One row each, written out by hand."""

    def at(law: Any, constants: dict[str, float], shares: list[float] | None = None, **columns: float) -> float:
        weights_TK = None if shares is None else np.array([shares])
        domains = () if shares is None else DOMAINS
        place = Trials(np.ones(1), {name: np.array([one]) for name, one in columns.items()}, weights_TK, domains)
        form = form_of(law, domains)
        return float(form.evaluate(np.array([[constants[name] for name in form.names]]), place)[0][0, 0])

    forgetting = {"L0": 2.0, "A": 30.0, "beta": 0.25, "B": 200.0, "alpha": 0.4}
    expected = 2.0 + 30 * 1e7**0.25 / ((1 + 200 * 0.02) * 4e8) ** 0.4
    assert at(ForgettingInjected(), forgetting, size=4e8, tokens=1e7, injected=0.02) == pytest.approx(expected)
    bimix = {"alpha": 0.1, "B": 50.0, "beta": 0.3, "C": 1.5}
    assert at(Bimix(), bimix, tokens=1e9, ratio=0.2) == pytest.approx((50 / 1e9**0.3 + 1.5) / 0.2**0.1)
    shares = [0.5, 0.0, 0.2, 0.3]
    joint = {"E": 1.0, "A": 200.0, "alpha": 0.3, "B": 900.0, "beta": 0.35}
    joint |= each("C", 1, 2, 3, 0.5) | each("gamma", 0.3, 0.5, 0.8, 0.4)
    mixed = 1 / (1 * 0.5**0.3 + 3 * 0.2**0.8 + 0.5 * 0.3**0.4)
    expected = 1.0 + mixed + 200 / 4e8**0.3 + 900 / 1e9**0.35
    assert at(AdditiveJoint(), joint, shares, size=4e8, tokens=1e9) == pytest.approx(expected)
    hidden = {"c": 1.5, **each("t1", 0.7, -4, 0.2, 0.9), **each("t2", -3, 0.3, 0.5, -0.5)}
    expected = 1.5 + np.exp(0.35 + 0.04 + 0.27) + np.exp(-1.5 + 0.1 - 0.15)
    assert at(ExponentialMixing(implicit=2), hidden, shares) == pytest.approx(expected)
    curve = {"at_1": 2.4, "rise": 0.2, "s": 1.7}
    assert at(Cmr(), curve, ratio=0.3) == pytest.approx(0.2 / 1.7 * 0.3**1.7 + 2.4 - 0.2 / 1.7)


# Data-constrained


def test_no_repeats_is_chinchillas_law_and_endless_ones_are_worth_a_known_number_of_tokens():
    law = DataConstrained()
    form = law.form
    theta_P = np.array([{**law._held, "R_D": 15.0, "R_N": 5.0}[name] for name in form.names])
    columns = {"size": np.array([1e8, 1e8]), "tokens": np.array([1e10, 1e16]), "unique": np.array([1e10, 1e10])}
    once, endless = form.evaluate(theta_P[None], Trials.places(columns))[0][0]
    by_size = law.E + law.A / 1e8**law.alpha  # 100M parameters are fewer than 1e10 tokens can use
    assert once == pytest.approx(by_size + law.B / 1e10**law.beta)
    assert endless == pytest.approx(by_size + law.B / (1e10 * (1 + 15)) ** law.beta)


def test_the_published_example_of_repeats():
    """The two allocations of 9e20 FLOPs for 25B unique tokens that the paper's repository works out."""
    law = DataConstrained()
    theta_P = np.array([{**law._held, "R_D": 15.387756, "R_N": 5.309743}[name] for name in law.form.names])
    places = {"size": np.array([6.34e9, 8.67e9]), "tokens": np.array([242e9, 178e9]), "unique": np.full(2, 25e9)}
    found = law.form.evaluate(theta_P[None], Trials.places(places))[0][0]
    np.testing.assert_allclose(found, [2.2256440889984477, 2.2269634075087867], rtol=1e-6)


def test_chinchilla_false_finds_what_true_holds():
    constants = {"E": 1.0, "A": 400.0, "alpha": 0.34, "B": 1200.0, "beta": 0.33, "R_D": 12.0, "R_N": 4.0}
    trials = measured(DataConstrained(), constants, repeated())
    held = DataConstrained(fitting=QUICK).fit(trials)
    free = DataConstrained(chinchilla=False, fitting=QUICK).fit(trials)
    assert held.metrics(trials)["r2"] < 0.9 < 0.999 < free.metrics(trials)["r2"]
    own = {name: constants[name] for name in ("E", "A", "alpha", "B", "beta")}
    assert DataConstrained(**own, fitting=QUICK).fit(trials).metrics(trials)["r2"] > 0.999
    assert not free.facts and set(held.facts) == {"r2_published", "r2_without_decay"}


def test_runs_without_repeats_tell_nothing_of_decay():
    columns = repeated()
    columns["unique"] = columns["tokens"]
    law = DataConstrained(fitting=replace(QUICK, draws=20))
    trials = measured(law, {**law._held, "R_D": 12.0, "R_N": 4.0}, columns)
    assert any("no run repeats its tokens" in word for word in law.fit(trials).warnings)


# Forgetting


def test_a_base_loss_for_every_row_takes_the_place_of_the_constant():
    constants = {"L0": 0.0, "A": 20.0, "beta": 0.3, "B": 500.0, "alpha": 0.35}
    columns = crossed(size=SIZES, tokens=np.array([1e6, 1e7, 1e8]), injected=np.array([0.0, 0.01, 0.05]))
    columns["base_loss"] = 3.0 - 0.1 * np.log(columns["size"] / 1e8)
    trials = measured(ForgettingInjected(), constants, columns)
    fitted = ForgettingInjected(fitting=QUICK).fit(trials)
    assert "L0" not in fitted.constants and fitted.constants["B"].value == pytest.approx(500, rel=1e-3)
    without = replace(trials, columns={name: one for name, one in columns.items() if name != "base_loss"})
    worse = ForgettingInjected(fitting=QUICK).fit(without)
    assert worse.objective > 100 * fitted.objective
    assert any("give base_loss" in word for word in worse.warnings)


def test_what_one_share_and_one_size_cannot_tell_is_left_out_of_forgetting():
    columns = crossed(size=np.array([1e8]), tokens=np.geomspace(1e6, 1e9, 8), injected=np.array([0.01]))
    constants = {"L0": 2.1, "A": 20.0, "beta": 0.3, "B": 500.0, "alpha": 0.35}
    trials = measured(ForgettingInjected(), constants, columns)
    fitted = ForgettingInjected(fitting=QUICK).fit(trials)
    assert set(fitted.constants) == {"L0", "A", "beta"}
    assert any("B cannot be told" in word for word in fitted.warnings)
    assert any("alpha cannot be told" in word for word in fitted.warnings)
    np.testing.assert_allclose(fitted.predict(trials), trials.loss_T, rtol=1e-6)


# BiMix, additive, exponential


def test_bimix_has_no_loss_for_a_domain_that_is_not_trained_on():
    trials = Trials(np.array([2.0, 3.0]), {"tokens": np.array([1e9, 1e9]), "ratio": np.array([0.5, 0.0])})
    with pytest.raises(UsageError, match=r"ratio is 0 in row 2[\s\S]*above 0[\s\S]*d_cpt"):
        Bimix().fit(trials)


def test_one_token_count_leaves_its_term_out_of_bimix():
    columns = crossed(tokens=TOKENS[:1], ratio=np.array([0.05, 0.2, 0.5, 0.7, 1.0]))
    trials = measured(Bimix(), {"alpha": 0.06, "B": 300.0, "beta": 0.35, "C": 1.8}, columns)
    fitted = Bimix(fitting=QUICK).fit(trials)
    assert set(fitted.constants) == {"alpha", "C"} and any("tokens" in word for word in fitted.warnings)
    np.testing.assert_allclose(fitted.predict(trials), trials.loss_T, rtol=1e-6)


def test_a_domain_that_no_row_has_is_left_out():
    constants = {"c": 1.5, **each("t", 0.7, -0.5, 0.2, 0.9)}
    trials = measured(ExponentialMixing(), constants, {}, seed=1)
    weights_TK = trials.weights().copy()
    weights_TK[:, 0] += weights_TK[:, 1]
    weights_TK[:, 1] = 0
    fitted = ExponentialMixing(fitting=QUICK).fit(replace(trials, weights_TK=weights_TK))
    assert "t_code" not in fitted.constants and any('"code"' in word for word in fitted.warnings)


def test_one_size_leaves_its_term_out_of_the_joint_law():
    constants = {"E": 1.2, "A": 300.0, "alpha": 0.35, "B": 800.0, "beta": 0.33}
    constants |= each("C", 1, 2, 3, 0.5) | each("gamma", 0.3, 0.5, 0.8, 0.4)
    trials = measured(AdditiveJoint(), constants, {"size": SIZES[:1], "tokens": TOKENS}, seed=3)
    fitted = AdditiveJoint(fitting=QUICK).fit(trials)
    assert "alpha" not in fitted.constants and any("size" in word for word in fitted.warnings)
    np.testing.assert_allclose(fitted.predict(trials), trials.loss_T, rtol=1e-5)


def test_shares_that_do_not_add_up_to_one_are_refused():
    trials = Trials(np.full(6, 2.0), {}, np.full((6, 2), 0.3), ("a", "b"))
    with pytest.raises(UsageError, match=r"row 1 add up to 0\.6"):
        ExponentialMixing().fit(trials)
    with pytest.raises(UsageError, match="implicit is 0"):
        ExponentialMixing(implicit=0)


def test_two_hidden_domains_fit_what_one_cannot():
    constants = {"c": 1.5, **each("t1", 0.7, -4, 0.2, 0.9), **each("t2", -3, 0.3, 0.5, -0.5)}
    trials = measured(ExponentialMixing(implicit=2), constants, {}, seed=5)
    one, two = (ExponentialMixing(implicit=number, fitting=QUICK).fit(trials) for number in (1, 2))
    assert two.objective < 1e-3 * one.objective


# Multi-power


def by_every_step(constants: dict[str, float], rates: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The published sum over all steps, one after the other."""
    sums, falls = np.cumsum(rates), -np.diff(rates, prepend=rates[0])
    changed = np.flatnonzero(falls)
    losses = []
    for step in steps:
        earlier = changed[changed <= step]
        since = sums[step] - sums[earlier] + rates[earlier]
        grown = 1 - (1 + constants["C"] * rates[earlier] ** -constants["gamma"] * since) ** -constants["beta"]
        power = constants["L0"] + constants["A"] * sums[step] ** -constants["alpha"]
        losses.append(power - constants["B"] * float(falls[earlier] @ grown))
    return np.array(losses)


@pytest.mark.parametrize("shape", ["cosine", "jump", "linear"])
def test_the_sum_over_steps_is_the_published_one(shape):
    constants = {"L0": 2.65, "A": 0.6, "alpha": 0.45, "B": 438.0, "C": 2.13, "beta": 0.6, "gamma": 0.655}
    every = np.arange(8001)
    falling = {
        "cosine": 3e-5 + 1.35e-4 * (1 + np.cos(np.pi * np.clip(every - 1000, 0, None) / 7000)),
        "jump": np.where(every < 4096, 3e-4, 9e-5),
        "linear": np.interp(every, [0, 6016, 8000], [3e-4, 3e-4, 5e-5]),
    }
    rates = np.where(every < 1000, 3e-4 * every / 999, falling[shape])
    steps = np.arange(1024, 8001, 64)
    expected_T = by_every_step(constants, rates, steps)
    law = MultiPower(warmup=1000)
    theta_P = np.array([constants[name] for name in law.form.names])
    places = Trials.places({"step": steps.astype(float), "rate": rates[steps]})
    found_T = law.form.evaluate(theta_P[None], replace(places, run_T=np.zeros(len(steps))))[0][0]
    assert np.abs(found_T - expected_T)[5:].max() < 1e-3  # where little of the warm-up is left
    assert np.abs(found_T - expected_T).max() < 1e-2
    if shape == "jump":  # the same rows as a steep ramp are off where the rate has just fallen
        ramp_T = replace(law, jump=1.0).form.evaluate(theta_P[None], places)[0][0]
        assert np.abs(ramp_T - expected_T).max() > 2 * np.abs(found_T - expected_T)[5:].max()


def test_the_order_of_rows_does_not_matter_and_runs_do():
    columns, run = schedules(np.arange(500.0, 8001.0, 250.0))
    constants = {"L0": 2.5, "A": 0.6, "alpha": 0.5, "B": 350.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}
    trials = measured(MultiPower(), constants, columns, run=run)
    form = MultiPower().form
    theta_SP = np.array([[constants[name] for name in form.names]])
    mixed = np.random.default_rng(0).permutation(len(trials))
    np.testing.assert_allclose(form.evaluate(theta_SP, trials.rows(mixed))[0][0], trials.loss_T[mixed], rtol=1e-12)
    with pytest.raises(UsageError, match=r"both step 500 of one run[\s\S]*column \"run\""):
        MultiPower().fit(replace(trials, run_T=np.arange(len(trials))))


def test_procedure_and_warmup_change_the_fit_of_a_noisy_curve():
    columns, run = schedules(np.arange(500.0, 8001.0, 250.0))
    constants = {"L0": 2.5, "A": 0.6, "alpha": 0.5, "B": 350.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}
    trials = measured(MultiPower(), constants, columns, run=run)
    noise_T = np.random.default_rng(0).normal(0, 2e-3, len(trials))
    trials = replace(trials, loss_T=trials.loss_T * np.exp(noise_T))
    law = MultiPower(fitting=Fitting(starts=16, polish=2, draws=4))
    stopped, best = law.fit(trials), replace(law, procedure="optimum").fit(trials)
    assert best.objective < stopped.objective and stopped.facts["objective_optimum"] == pytest.approx(best.objective)
    assert any("stopped early" in word for word in stopped.warnings)
    assert not any("stopped early" in word for word in best.warnings)
    assert np.ptp(stopped.draws_SP, axis=0).min() > 0
    late = replace(law, warmup=100, procedure="optimum").fit(trials)
    assert not np.allclose(late.predict(trials), best.predict(trials), rtol=1e-9)
    with pytest.raises(UsageError, match="no losses"):
        law.fit(Trials.places(columns))
    with pytest.raises(UsageError, match="warmup is -1"):
        MultiPower(warmup=-1)
    with pytest.raises(UsageError, match="jump is 0"):
        MultiPower(jump=0)


# CMR


def budgets(critical: dict[float, float], base: float = 2.5) -> Trials:
    """General losses that meet the base's at the given ratio, for each number of tokens."""
    columns = crossed(tokens=np.array(list(critical)), ratio=np.array([0.0, 0.1, 0.25, 0.4, 0.6, 1.0]))
    at = np.array([critical[tokens] for tokens in columns["tokens"]])
    columns["base_loss"] = np.full(len(at), base)
    return Trials(base + 0.05 * (columns["ratio"] ** 1.3 - at**1.3), columns)


def told(fitted: Any) -> dict[str, float]:
    """The critical ratios by their names."""
    return {name: one.value for name, one in fitted.constants.items() if name.startswith("critical_ratio")}


def test_the_critical_ratio_is_where_the_loss_is_the_bases():
    fitted = Cmr(fitting=QUICK).fit(budgets({2e9: 0.3}))
    assert told(fitted) == {"critical_ratio at 2e+09": pytest.approx(0.3, abs=1e-6)}
    loose = told(Cmr(eps=0.01, fitting=QUICK).fit(budgets({2e9: 0.3})))["critical_ratio at 2e+09"]
    assert 0.05 * (loose**1.3 - 0.3**1.3) == pytest.approx(0.01, abs=1e-6)
    other = told(Cmr(base_loss=2.49, fitting=QUICK).fit(budgets({2e9: 0.3})))["critical_ratio at 2e+09"]
    assert 0.05 * (other**1.3 - 0.3**1.3) == pytest.approx(-0.01, abs=1e-6)


def test_nothing_or_everything_may_be_feasible():
    never = Cmr(base_loss=2.0, fitting=QUICK).fit(budgets({2e9: 0.3}))
    always = Cmr(base_loss=3.0, fitting=QUICK).fit(budgets({2e9: 0.3}))
    assert told(never) == {"critical_ratio at 2e+09": 0.0} and any("infeasible" in word for word in never.warnings)
    assert told(always) == {"critical_ratio at 2e+09": 1.0}


def test_the_critical_ratio_is_followed_to_more_tokens():
    critical = {2e8 * units: 0.75 * units**0.137 - 1.06 for units in (30, 40, 50, 60, 75)}
    fitted = Cmr(horizon=2e10, fitting=QUICK).fit(budgets(critical))
    assert told(fitted)["critical_ratio at 2e+10"] == pytest.approx(0.75 * 100**0.137 - 1.06, abs=1e-4)
    assert any("beyond the data" in word for word in fitted.warnings)
    same = Cmr(horizon=2e10, unit=1e9, fitting=QUICK).fit(budgets(critical))
    assert told(same)["critical_ratio at 2e+10"] == pytest.approx(told(fitted)["critical_ratio at 2e+10"], abs=1e-4)
    assert same.constants["alpha"].value != pytest.approx(fitted.constants["alpha"].value, rel=0.1)
    few = Cmr(horizon=2e10, fitting=QUICK).fit(budgets(dict(list(critical.items())[:2])))
    assert any("at least 3 are needed" in word for word in few.warnings)


def test_critical_ratios_have_intervals_that_grow_with_the_distance():
    critical = {2e8 * units: 0.75 * units**0.137 - 1.06 for units in (30, 50, 75)}
    trials = budgets(critical)
    noise_T = np.random.default_rng(1).normal(0, 1e-4, len(trials))
    noisy = replace(trials, loss_T=trials.loss_T * np.exp(noise_T))
    fitted = Cmr(horizon=2e10, fitting=Fitting(draws=60)).fit(noisy)
    widths = {tokens: one.high - one.low for tokens, one in fitted.critical.items()}
    for tokens, ratio in critical.items():
        one = fitted.critical[tokens]
        assert one.low < one.value < one.high and one.value == pytest.approx(ratio, abs=0.02)
    assert widths[2e10] > max(widths[tokens] for tokens in critical) > 0
    again = fitted_from_json(Cmr(), json.loads(json.dumps(fitted.to_json())))
    assert again.constants == fitted.constants and again.critical == fitted.critical


def test_too_few_ratios_and_unmeasured_tokens_are_refused():
    trials = budgets({2e9: 0.3, 4e9: 0.35})
    with pytest.raises(UsageError, match=r"2 ratios at 2e\+09[\s\S]*at least 3"):
        Cmr().fit(trials.rows(trials.column("ratio") < 0.2))
    fitted = Cmr(fitting=QUICK).fit(trials)
    with pytest.raises(UsageError, match=r"no ratios were measured at 3e\+09 tokens"):
        fitted.predict(Trials.places({"ratio": np.array([0.3]), "tokens": np.array([3e9])}))
    np.testing.assert_allclose(fitted.predict(trials), trials.loss_T, rtol=1e-6)


# RegMix


def mixtures(num: int, seed: int, noise: float = 0.002) -> Trials:
    random = np.random.default_rng(seed)
    weights_TK = random.dirichlet(np.full(4, 0.5), num)
    loss_T = 3 + np.exp(0.5 - 6 * weights_TK[:, 0]) - 0.4 * np.log(weights_TK[:, 1] + 0.02)
    return Trials(loss_T * np.exp(random.normal(0, noise, num)), {}, weights_TK, DOMAINS)


@pytest.mark.parametrize("bend", [0.0, 0.01])
def test_the_ridge_is_scikit_learns_on_the_same_features(bend):
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    trials, other = mixtures(60, 0), mixtures(40, 1)
    fitted = Regmix("ridge", bend=bend, draws=20).fit(trials)
    features = [np.concatenate([w, np.log(w + bend)], 1) if bend else w for w in (trials.weights(), other.weights())]
    line = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-6, 3, 28)))
    line.fit(features[0], np.log(trials.loss_T) if bend else trials.loss_T)
    expected_T = np.exp(line.predict(features[1])) if bend else line.predict(features[1])
    np.testing.assert_allclose(fitted.predict(other), expected_T, rtol=1e-9)
    assert all(one.low <= one.high for one in fitted.constants.values())


def test_a_bend_ranks_mixtures_better_and_the_interval_holds_new_runs():
    trials, other = mixtures(80, 0), mixtures(200, 1)
    straight, bent = (Regmix("ridge", bend=bend).fit(trials) for bend in (0.0, 0.01))
    ranks = [spearman(one.predict(other), other.loss_T) for one in (straight, bent)]
    assert ranks[1] > ranks[0] + 0.02
    low_T, high_T = bent.interval(other)
    assert 0.88 < ((low_T < other.loss_T) & (other.loss_T < high_T)).mean() <= 1
    narrow_T = Regmix("ridge", confidence=0.5).fit(trials).interval(other)[1]
    assert (narrow_T < high_T).all()
    assert (Regmix("ridge", folds=20).fit(trials).interval(other)[1] != high_T).all()
    assert all(np.isnan([one.low, one.high]).all() for one in Regmix("ridge", draws=0).fit(trials).constants.values())


@needs_lightgbm
def test_the_trees_are_lightgbms_with_the_published_settings():
    import lightgbm

    trials, other = mixtures(120, 0), mixtures(60, 1)
    fitted = Regmix("lightgbm", folds=2).fit(trials)
    reference = lightgbm.LGBMRegressor(n_estimators=1000, learning_rate=0.01, seed=42, verbosity=-1, n_jobs=1)
    reference.fit(trials.weights(), trials.loss_T)
    np.testing.assert_allclose(fitted.predict(other), reference.predict(other.weights()), rtol=1e-9)
    again = fitted_from_json(Regmix(), json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again.predict(other), fitted.predict(other))
    assert again.constants == {} and again.facts["trees"] == 1000


@needs_lightgbm
def test_trees_stop_on_marked_rows_or_on_a_share_and_marked_rows_are_not_learned_from():
    whole = mixtures(160, 0, noise=0.05)
    stop = np.arange(160) >= 120
    marked = replace(whole, columns={"stop": stop.astype(float)})
    fitted = Regmix("lightgbm", folds=2).fit(marked)
    assert fitted.facts["trees"] < 1000 and any("40 rows decide when to stop" in word for word in fitted.warnings)
    spoiled_T = np.where(stop, whole.loss_T[::-1], whole.loss_T)
    other = Regmix("lightgbm", folds=2, trees=int(fitted.facts["trees"])).fit(whole.rows(~stop))
    np.testing.assert_allclose(fitted.predict(whole), other.predict(whole), rtol=1e-9)
    assert Regmix("lightgbm", folds=2).fit(replace(marked, loss_T=spoiled_T)).facts["trees"] != fitted.facts["trees"]
    assert Regmix("lightgbm", folds=2, patience=50).fit(marked).facts["trees"] >= fitted.facts["trees"]
    shared = Regmix("lightgbm", folds=2, stop_share=0.25).fit(whole)
    assert shared.facts["trees"] < 1000 and shared.warnings == ()
    seeded = Regmix("lightgbm", folds=2, stop_share=0.25, seed=7).fit(whole)
    assert (seeded.predict(whole) != shared.predict(whole)).any()
    fast = Regmix("lightgbm", folds=2, trees=20, rate=0.3).fit(whole)
    assert fast.facts["trees"] == 20 and fast.metrics(whole)["r2"] > 0.5


def test_auto_takes_a_ridge_where_trees_cannot_be_had_and_says_so(monkeypatch):
    few = mixtures(20, 0)
    fitted = Regmix(draws=2).fit(few)
    assert fitted.constants and any("ridge" in word for word in fitted.warnings)
    with pytest.raises(UsageError, match=r"20 rows to learn from[\s\S]*at least 40[\s\S]*set regressor to ridge"):
        Regmix("lightgbm").fit(few)
    monkeypatch.setattr("graft.scaling.laws.regmix.find_spec", lambda name: None)
    assert any("not installed" in word for word in Regmix(draws=2).fit(mixtures(60, 0)).warnings)


def test_other_domains_than_were_learned_are_refused():
    fitted = Regmix("ridge", draws=2).fit(mixtures(20, 0))
    renamed = replace(mixtures(5, 1), domains=("a", "b", "c", "d"))
    with pytest.raises(UsageError, match=r"a, b, c, d[\s\S]*books, code, news, web"):
        fitted.predict(renamed)
    with pytest.raises(UsageError, match="no weights"):
        Regmix().fit(Trials(np.ones(5)))


def at(law: Any, constants: dict[str, float], **columns: float) -> float:
    """The loss by the law's form at one place."""
    place = Trials.places({name: np.array([value]) for name, value in columns.items()})
    form = form_of(law)
    return float(form.evaluate(np.array([[constants[name] for name in form.names]]), place)[0][0, 0])


def test_the_two_laws_of_a_start_are_the_formulas_they_say():
    learned = {
        "d": 0.01,
        "beta": 0.08,
        "k": 1.2,
        "s": 0.9,
        "u": 0.1,
        "F": 0.05,
        "m": 2.0,
        "v": 0.4,
        "w": 0.1,
        "z": 0.05,
    }
    x, r, n, start = 0.25, 0.6, 3.3, 5.8
    grown = n**0.1 * r ** (0.9 + 0.1 * math.log(x)) * (x / 0.01) ** 1.2
    by_hand = start * ((1 + grown) ** (-0.08 * n**0.05) + 0.05 * (1 - r) ** 2 * x**0.4)
    spot = {"tokens": 1e5, "ratio": r, "size": 3.3e6, "base_loss": start}
    assert at(HeadStart(), learned, **spot) == pytest.approx(by_hand, rel=1e-12)
    forgot = {"A": 0.3, "b": 0.7, "B": 200.0, "c": 1.5, "q": 0.3, "G": 0.1, "s": 0.4, "h": 0.5, "w": -0.1}
    by_hand = start * (1 + 0.3 * n**-0.1 * x**0.7 / (1 + 200 * r * x**1.5) ** 0.3 - 0.1 * r**0.4 * x**0.5)
    assert at(Replay(), forgot, **spot) == pytest.approx(by_hand, rel=1e-12)


def test_without_its_own_text_a_law_of_a_start_has_what_is_left_of_it():
    learned = {"d": 0.01, "beta": 0.08, "k": 1.2, "s": 0.9, "u": 0.1, "F": 0.05, "m": 2.0, "v": 0.4, "w": 0, "z": 0}
    none = at(HeadStart(), learned, tokens=1e5, ratio=0.0, base_loss=5.0)
    assert none == pytest.approx(5.0 * (1 + 0.05 * 0.25**0.4), rel=1e-12)
    assert at(HeadStart(), learned, tokens=1e-3, ratio=0.5, base_loss=5.0) == pytest.approx(5.0, rel=1e-3)
    forgot = {"A": 0.3, "b": 0.7, "B": 200.0, "c": 1.5, "q": 0.3, "G": 0.1, "s": 0.4, "h": 0.5, "w": 0}
    assert at(Replay(), forgot, tokens=1e5, ratio=0.0, base_loss=4.0) == pytest.approx(4 * (1 + 0.3 * 0.25**0.7))


@pytest.mark.parametrize("law", [HeadStart(fitting=QUICK), Replay(fitting=QUICK)], ids=["head_start", "replay"])
def test_a_law_of_a_start_reads_each_of_its_settings(law):
    own = {HeadStart: ("d", "beta"), Replay: ("A",)}[type(law)]
    columns = crossed(tokens=np.geomspace(1e4, 2e4, 4), ratio=np.array([0.5, 0.75, 1.0]))
    columns |= {"base_loss": np.full(12, 5.0), "size": np.full(12, 3e6)}
    constants = {name: getattr(law, name, 0.05) for name in form_of(law).names}
    trials = measured(law, constants | {"w": 0.0}, columns)
    lent = replace(law, free=own)
    fitted = lent.fit(trials)
    assert tuple(fitted.constants) == own
    far = Trials.places({"tokens": [4e5], "ratio": [0.6], "base_loss": [5.0], "size": [3e6]})
    expected = at(law, constants | {"w": 0.0}, tokens=4e5, ratio=0.6, base_loss=5.0, size=3e6)
    assert fitted.predict(far)[0] == pytest.approx(expected, rel=1e-3)
    held = [name for name in form_of(law).names if name not in (*own, "w", "z")]
    for name in held:  # each changes what is foretold
        other = replace(lent, **{name: 1.3 * getattr(law, name)}).fit(trials).predict(far)[0]
        assert abs(other / expected - 1) > 1e-6, name
    assert replace(lent, unit=1e5).fit(trials).predict(far)[0] != pytest.approx(expected, rel=1e-6)
    horizon = Trials(trials.loss_T, {**trials.columns, "horizon": np.full(12, 1e5)})
    asked = Trials.places({**far.columns, "horizon": [1e5]})
    assert lent.fit(horizon).predict(asked)[0] != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("law", "free", "words"),
    [(HeadStart, ("d",), "d and beta among them"), (HeadStart, ("d", "beta", "K"), 'free names "K"'),
     (Replay, ("b",), "A among them"), (Replay, ("A", "a"), 'free names "a"')],
)  # fmt: skip
def test_what_a_law_of_a_start_may_leave_to_others_is_bounded(law, free, words):
    with pytest.raises(UsageError, match=words):
        law(free=free)


@pytest.mark.parametrize("law", [HeadStart(fitting=QUICK), Replay(fitting=QUICK)], ids=["head_start", "replay"])
def test_one_ratio_and_one_size_hold_what_they_cannot_tell(law):
    columns = {"tokens": np.geomspace(1e4, 4e5, 9), "ratio": np.full(9, 0.5), "base_loss": np.full(9, 5.0)}
    constants = {name: getattr(law, name, 0.05) for name in form_of(law).names} | {"w": 0.0}
    fitted = law.fit(measured(law, constants, columns))
    assert fitted.form.held["w"] == 0 and "s" in fitted.form.held
    assert any("every ratio is 0.5" in words for words in fitted.warnings)
    with pytest.raises(UsageError, match="base_loss"):
        law.fit(measured(law, constants, columns | {"base_loss": np.array([0.0] + [5.0] * 8)}))


def test_trials_before_any_power_take_the_steepness_that_is_lent():
    """A loss that falls as an exponential of the tokens, as in the first steps of a run, has no beta."""
    columns = crossed(tokens=np.geomspace(500.0, 4500.0, 6), ratio=np.array([0.5, 0.75, 1.0]))
    loss_T = 6.0 * np.exp(-0.08 * columns["ratio"] * (columns["tokens"] / 4500) ** 1.13)
    trials = Trials(loss_T, columns | {"base_loss": np.full(18, 6.0), "horizon": np.full(18, 1e5)})
    law = HeadStart(free=("d", "beta"), fitting=QUICK)
    fitted = law.fit(trials)
    assert fitted.form.held["beta"] == law.beta and any(
        "before the loss falls as a power" in w for w in fitted.warnings
    )
    far = Trials.places({"tokens": [1e5], "ratio": [0.6], "base_loss": [6.0], "horizon": [1e5]})
    assert 3.5 < fitted.predict(far)[0] < 5.5
    steep = replace(law, beta=0.3).fit(trials)
    assert steep.form.held["beta"] == 0.3 and steep.predict(far)[0] < fitted.predict(far)[0]
