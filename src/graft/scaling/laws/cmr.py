"""The CMR law: the largest share of domain text that leaves the general loss where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from graft.core.config.errors import UsageError
from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Estimate, Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.metrics import all_metrics
from graft.scaling.fitting.terms import check_columns
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

_FOLLOWED = 50  # draws of the curves that R(T) is fitted to
_RATIO_POWERS = (0.2, 1.0, 2.5, -0.5)
_BUDGET_POWERS = (-0.4, -0.15, 0.15, 0.4)


@dataclass(frozen=True)
class Cmr:
    """Loss against the share R of domain text, and the critical mixture ratio at which the general loss is the base's.

    At each number of tokens T: L(R) = a R^s + b, in nats per token. The critical ratio at T is the largest R whose L(R)
    is at most the base's loss + eps; where three or more T have one, R(T) = alpha T^s + beta goes through them, T in
    units of `unit` tokens. Source: Gu et al. 2024 (arXiv 2407.17467), tables 2 and 5; how they fitted the constants
    was not found, nor a value of eps.

    The base's loss is the column "base_loss", or the setting of that name; without either there is no critical ratio.
    Among the constants stand "critical_ratio at T", with an interval, for each T and, by R(T), for `horizon` tokens. 0
    says that even no domain text is too much, 1 that nothing is.
    """

    eps: float = 0.0  # nats above the base's loss that may be forgotten
    base_loss: float = 0.0  # 0: as the table says
    horizon: float = 0.0  # tokens for which R(T) is told; 0: none
    unit: float = 2e8  # tokens; as published
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("ratio",), optional=("tokens", "base_loss"))

    def __post_init__(self) -> None:
        if min(self.eps, self.base_loss, self.horizon) < 0 or self.unit <= 0:
            raise UsageError(
                f"eps is {self.eps}, base_loss {self.base_loss}, horizon {self.horizon}, unit {self.unit}",
                allowed="0 or more, and a unit above 0",
            )

    @property
    def form(self) -> Form:
        return _power_form("ratio", -5.0, _RATIO_POWERS)

    @property
    def fitted(self) -> type[_Curves]:
        return _Curves

    def fit(self, trials: Trials) -> _Curves:
        check_columns(trials, (), ("ratio",))
        tokens_T = trials.columns.get("tokens", np.zeros(len(trials)))
        lowest = 0.01 if (trials.column("ratio") == 0).any() else -5.0  # R^s has no value at 0 for s below 0
        form = _power_form("ratio", lowest, _RATIO_POWERS)
        curves: dict[float, Fitted] = {}
        for tokens in np.unique(tokens_T):
            rows = trials.rows(tokens_T == tokens)
            if len(np.unique(rows.column("ratio"))) < 3:
                raise UsageError(
                    f"{len(np.unique(rows.column('ratio')))} ratios{_at(tokens)}",
                    allowed="at least 3: a R^s + b has three constants",
                    do="add runs, or leave out the column tokens if the rows are to be one curve",
                )
            curves[float(tokens)] = fit_form(form, rows, self.fitting)
        whole = _Curves(curves, None, self.unit, self.fitting.confidence)
        words = [f"{word}{_at(tokens)}" for tokens, one in curves.items() for word in one.warnings]
        return self._with_critical(whole, trials, tokens_T, words)

    def _with_critical(self, whole: _Curves, trials: Trials, tokens_T: np.ndarray, words: list[str]) -> _Curves:
        """Adds the critical ratio of every curve, and the law that goes through them."""
        base_T = trials.columns.get("base_loss", np.full(len(trials), self.base_loss))
        if self.base_loss:
            base_T = np.full(len(trials), self.base_loss)
        if not base_T.all():
            said = "no base_loss is given, so there is no critical ratio"
            return replace(whole, warnings=(*words, said))
        found: dict[float, Estimate] = {}
        drawn: dict[float, np.ndarray] = {}
        for tokens, one in whole.curves.items():
            limit = float(base_T[tokens_T == tokens].mean()) + self.eps
            value = float(_critical(one.values_P[None], limit)[0])
            drawn[tokens] = np.clip(value + one.spread * (_critical(one.draws_SP, limit) - value), 0.0, 1.0)
            found[tokens] = _between(value, drawn[tokens], whole.tails)
            if found[tokens].value == 0.0:
                words.append(f"infeasible{_at(tokens)}: the general loss is above the limit {limit:.4f} at any ratio")
        inside = [tokens for tokens, one in found.items() if 0 < one.value < 1]
        whole = replace(whole, critical=found)
        if len(inside) >= 3:
            values = np.array([found[tokens].value for tokens in inside])
            draws_ST = np.stack([drawn[tokens] for tokens in inside], 1) if self.fitting.draws else np.zeros((0, 3))
            whole = replace(whole, growth=self._growth(np.array(inside), values, draws_ST))
        if self.horizon and whole.growth is None:
            words.append(f"{len(inside)} critical ratios between 0 and 1 tell no R(T): at least 3 are needed")
        elif self.horizon and whole.growth is not None:
            there = Trials.places({"tokens": np.array([self.horizon / self.unit])})
            value, draws = (
                np.clip(whole.growth.form.evaluate(theta_SP, there)[0][:, 0], 0.0, 1.0)
                for theta_SP in (whole.growth.values_P[None], whole.growth.draws_SP)
            )
            whole = replace(whole, critical={**found, self.horizon: _between(float(value[0]), draws, whole.tails)})
            if not min(inside) <= self.horizon <= max(inside):
                words.append(f"{self.horizon:g} tokens are beyond the data, which end at {max(inside):g}")
        return replace(whole, warnings=tuple(words))

    def _growth(self, tokens_T: np.ndarray, critical_T: np.ndarray, draws_ST: np.ndarray) -> Fitted:
        """R(T) through the critical ratios, and through those of each draw of the curves."""
        form = _power_form("tokens", -5.0, _BUDGET_POWERS)
        plain = replace(self.fitting, log=False, draws=0, starts=32, polish=3)

        def through(ratio_T: np.ndarray) -> Fitted:
            return fit_form(form, Trials(ratio_T, {"tokens": tokens_T / self.unit}), plain)

        draws_SP = np.array([through(one_T).values_P for one_T in draws_ST[:_FOLLOWED]]).reshape(-1, 3)
        return replace(through(critical_T), draws_SP=draws_SP, confidence=self.fitting.confidence)


def _between(value: float, draws_S: np.ndarray, tails: tuple[float, float]) -> Estimate:
    low, high = np.quantile(draws_S, tails) if len(draws_S) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))


def _at(tokens: float) -> str:
    """Names a number of tokens; nothing where the table has none."""
    return f" at {tokens:g}" if tokens else ""


def _power_form(column: str, lowest: float, powers: tuple[float, ...]) -> Form:
    """at_1 + rise (x^s - 1) / s, which is a x^s + b with a = rise / s and b = at_1 - a, and has a limit at s = 0."""
    return Form(
        (
            Constant("at_1", -50.0, 50.0, (0.1, 0.5, 1.5, 3.0), log=False),
            Constant("rise", -50.0, 50.0, (-0.3, -0.03, 0.03, 0.3), log=False),
            Constant("s", lowest, 20.0, tuple(max(power, lowest) for power in powers), log=False),
        ),
        partial(_evaluate, column),
    )


def _evaluate(column: str, theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    at_1, rise, s = theta_SP.T[:, :, None]
    log_T = np.log(np.maximum(trials.column(column), 1e-300))
    turn_ST = s * log_T
    flat_ST = np.abs(turn_ST) < 1e-5
    safe_ST = np.where(flat_ST, 1.0, turn_ST)
    # (x^s - 1) / s = log x * expm1(t) / t at t = s log x, and its slope in s; near t = 0 by their series.
    grown_ST = log_T * np.where(flat_ST, 1 + turn_ST / 2, np.expm1(safe_ST) / safe_ST)
    slope_ST = np.where(
        flat_ST, 0.5 + turn_ST / 3, (safe_ST * np.exp(safe_ST) - np.expm1(safe_ST)) / np.square(safe_ST)
    )
    return at_1 + rise * grown_ST, [np.ones_like(at_1), grown_ST, rise * np.square(log_T) * slope_ST]


def _critical(theta_SP: np.ndarray, limit: float) -> np.ndarray:
    """The largest ratio in 0..1 whose loss is at most `limit` (S); 0 where none is."""
    at_1, rise, s = theta_SP.T
    reach_S = (limit - at_1) / np.where(rise == 0, 1e-300, rise)
    inner_S = 1 + s * reach_S
    with np.errstate(all="ignore"):
        ratio_S = np.where(np.abs(s) < 1e-9, np.exp(reach_S), np.exp(np.log(np.maximum(inner_S, 0.0)) / s))
    ratio_S = np.where(inner_S <= 0, np.where(s > 0, 0.0, np.inf), ratio_S)
    # A loss that rises with the ratio is fine up to there; one that falls is fine from there on, or nowhere.
    rising = np.where(at_1 <= limit, 1.0, np.clip(ratio_S, 0.0, 1.0))
    return np.where(rise > 0, rising, np.where(at_1 <= limit, 1.0, 0.0))


def _natural(theta_SP: np.ndarray) -> np.ndarray:
    """(a, s, b) of (at_1, rise, s)."""
    at_1, rise, s = theta_SP.T
    factor = rise / np.where(np.abs(s) < 1e-9, 1e-9, s)
    return np.stack([factor, s, at_1 - factor], 1)


@dataclass(frozen=True, eq=False)
class _Curves:
    """One curve over the ratio per number of tokens (0: the table says none), and R(T): what a `Fitted` offers."""

    curves: Mapping[float, Fitted]
    growth: Fitted | None
    unit: float
    confidence: float
    critical: Mapping[float, Estimate] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def tails(self) -> tuple[float, float]:
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2

    def predict(self, trials: Trials) -> np.ndarray:
        """The loss of every row (T). Errors: UsageError for tokens at which no ratios were measured."""
        return self._each(trials, lambda one, rows: one.predict(rows)[None])[0]

    def draw(self, trials: Trials) -> np.ndarray:
        """The loss of every row by every bootstrap draw (S x T)."""
        return self._each(trials, lambda one, rows: one.draw(rows))

    def interval(self, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the curve at every row, at `confidence`; NaN without draws."""
        low_T, high_T = self._each(trials, lambda one, rows: np.stack(one.interval(rows)))
        return low_T, high_T

    def _each(self, trials: Trials, ask: Any) -> np.ndarray:
        tokens_T = trials.columns.get("tokens", np.full(len(trials), next(iter(self.curves))))
        known = np.array(list(self.curves))
        nearest_T = known[np.abs(tokens_T[:, None] - known).argmin(1)]
        away = np.abs(tokens_T - nearest_T) > 1e-6 * np.abs(nearest_T)
        if away.any() and known.any():
            raise UsageError(
                f"no ratios were measured at {tokens_T[away][0]:g} tokens",
                allowed=", ".join(f"{tokens:g}" for tokens in known),
                do="the curve over ratios holds at one number of tokens; only the critical ratio is followed over them",
            )
        answers = {float(tokens): ask(self.curves[float(tokens)], trials) for tokens in np.unique(nearest_T)}
        shortest = min(len(answer) for answer in answers.values())
        return np.stack([answers[float(tokens)][:shortest, t] for t, tokens in enumerate(nearest_T)], 1)

    @property
    def constants(self) -> dict[str, Estimate]:
        """a, s, b of every curve; alpha, s and beta of R(T) as "alpha", "s_of_T" and "beta"."""
        found: dict[str, Estimate] = {}
        for tokens, one in self.curves.items():
            found |= self._estimates(one, [f"{name}{_at(tokens)}" for name in ("a", "s", "b")])
        found |= self._estimates(self.growth, ["alpha", "s_of_T", "beta"]) if self.growth else {}
        return found | {f"critical_ratio{_at(tokens)}": one for tokens, one in self.critical.items()}

    def _estimates(self, one: Fitted, names: list[str]) -> dict[str, Estimate]:
        low_P = high_P = np.full(3, np.nan)
        values_P = _natural(one.values_P[None])[0]
        if len(one.draws_SP):
            draws_SP = values_P + one.spread * (_natural(one.draws_SP) - values_P)
            low_P, high_P = np.quantile(draws_SP, self.tails, axis=0)
        return {name: Estimate(*map(float, ends)) for name, *ends in zip(names, values_P, low_P, high_P, strict=True)}

    def metrics(self, trials: Trials) -> dict[str, float]:
        """n, r2, huber (mean, on logarithms), mre and spearman of the predictions of these rows."""
        return all_metrics(self.predict(trials), trials.loss_T)

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same object."""
        return {
            "constants": {name: one._asdict() for name, one in self.constants.items()},
            "curves": [{"tokens": tokens, **one.to_json()} for tokens, one in self.curves.items()],
            "growth": self.growth.to_json() if self.growth else None,
            "unit": self.unit,
            "confidence": self.confidence,
            "critical": [[tokens, *one] for tokens, one in self.critical.items()],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, law: Any, saved: Mapping[str, Any]) -> _Curves:
        """The same object, from what `to_json` gave and the law (with its settings) that was fitted."""
        growth = Fitted.from_json(law, saved["growth"]) if saved["growth"] else None
        if growth is not None:
            growth = replace(growth, form=_power_form("tokens", -5.0, _BUDGET_POWERS))
        curves = {float(one["tokens"]): Fitted.from_json(law, one) for one in saved["curves"]}
        # NaN is null in strict JSON.
        ends = {float(tokens): [np.nan if end is None else end for end in one] for tokens, *one in saved["critical"]}
        critical = {tokens: Estimate(*map(float, one)) for tokens, one in ends.items()}
        return cls(curves, growth, saved["unit"], saved["confidence"], critical, tuple(saved["warnings"]))
