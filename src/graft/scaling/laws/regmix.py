"""RegMix: a regression from the shares of the training domains to the loss, learned on many tiny runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graft.core.config.errors import UsageError
from graft.core.config.extras import pip_install
from graft.core.config.settings import check_choices
from graft.core.stats.random_streams import stream
from graft.scaling.fitting.fitted import Estimate, draws_of
from graft.scaling.fitting.metrics import all_metrics
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

if TYPE_CHECKING:
    import lightgbm

_PENALTIES = np.logspace(-6, 3, 28)
_LEAF = 20  # rows that a leaf of LightGBM's trees has at least


@dataclass(frozen=True)
class Regmix:
    """Loss on one validation text as a regression on the shares of the domains, for tables of many small runs.

    Source: Liu et al. 2024 (arXiv 2407.01492). regressor "lightgbm" (a package of its own) has their settings:
    boosted trees, squared error, learning rate 0.01, at most 1000 trees, 31 leaves, seed 42. "ridge" is linear
    regression with a penalty chosen by leave-one-out error. Theirs is linear in the shares; with `bend` above 0 it is
    linear in them and in log(share + bend), and predicts log loss, which ranks runs far better. "auto" takes lightgbm
    where it is installed and the rows suffice for it, and says so where it does not.

    Trees can be stopped early: where the table has a column "stop", its rows with 1 are not learned from, and no more
    trees are grown once their absolute or squared error has not fallen for `patience` trees. The published scores stop
    on the very rows that they are scored on; doing so flatters, and a warning says it. `stop_share` takes runs at
    random instead. One fit is for one loss column.

    interval: where a new run's loss lies, by the errors of `folds`-fold cross-validation (whole runs left out), not
    only how sure the curve is. Constants of the ridge have bootstrap intervals; the trees have none, their shares of
    the gain are `facts`.
    """

    regressor: Literal["auto", "lightgbm", "ridge"] = "auto"
    bend: float = 0.01  # ridge; 0: the published straight line
    stop_share: float = 0.0  # lightgbm: share of the rows that decides when to stop and is not learned from
    patience: int = 3  # lightgbm: trees without progress before it stops
    trees: int = 1000
    rate: float = 0.01
    folds: int = 5
    draws: int = 200  # ridge: bootstrap of its constants
    confidence: float = 0.95
    seed: int = 42

    def needs(self) -> Needs:
        return Needs(("weights",), optional=("stop",), fit_only=("stop",))

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.stop_share < 1 or self.bend < 0:
            raise UsageError(
                f"stop_share is {self.stop_share}, bend {self.bend}", allowed="0 or more and below 1; 0 or more"
            )
        if self.patience < 1 or self.trees < 1 or self.folds < 2 or self.draws < 0 or self.rate <= 0:
            raise UsageError(
                f"patience is {self.patience}, trees {self.trees}, folds {self.folds}, draws {self.draws},"
                f" rate {self.rate}",
                allowed="at least 1, 1, 2 and 0, and above 0",
            )
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}", allowed="a share between 0 and 1, such as 0.95")

    @property
    def fitted(self) -> type[_Regression]:
        return _Regression

    def fit(self, trials: Trials) -> _Regression:
        trials.weights()
        regressor, words = self._chosen(trials)
        stopping = self._stopping(trials, regressor)
        if stopping.any() and regressor == "ridge":
            words = (*words, "a ridge does not stop early: rows marked in the column stop are left out")
        elif stopping.any() and not self.stop_share:
            words = (*words, f"{stopping.sum()} rows decide when to stop: scores on them flatter")
        learned, stop = trials.rows(~stopping), trials.rows(stopping) if stopping.any() else None
        _check(learned, regressor)
        if regressor == "ridge":
            values_P, penalty = _ridge(learned, self.bend)
            draws_SP, model, facts = self._ridge_draws(learned, penalty), "", {"penalty": penalty}
        else:
            booster = self._trees(learned, stop)
            values_P, draws_SP, model = np.zeros(0), np.zeros((0, 0)), booster.model_to_string()
            gain_K = booster.feature_importance("gain")
            share_K = gain_K / max(float(gain_K.sum()), 1e-300)
            facts = {f"gain_{domain}": float(gain) for domain, gain in zip(trials.domains, share_K, strict=True)}
            facts["trees"] = float(booster.num_trees())
        tails = self._tails(learned, stop, regressor)
        return _Regression(
            trials.domains, values_P, draws_SP, self.bend, model, tails, words, self.confidence, facts=facts
        )

    def _chosen(self, trials: Trials) -> tuple[str, tuple[str, ...]]:
        """(the regressor, what to say of the choice)."""
        if self.regressor != "auto":
            return self.regressor, ()
        if find_spec("lightgbm") is None:
            return "ridge", (f"lightgbm is not installed ({pip_install('regmix', 'lightgbm')}): this is a ridge",)
        if (trials.columns.get("stop", np.zeros(len(trials))) == 0).sum() * (1 - self.stop_share) < 2 * _LEAF:
            return "ridge", (f"fewer than {2 * _LEAF} rows to learn from, too few for trees: this is a ridge",)
        return "lightgbm", ()

    def _stopping(self, trials: Trials, regressor: str) -> np.ndarray:
        """The rows that only decide when to stop."""
        marked = trials.columns.get("stop", np.zeros(len(trials))) != 0
        if marked.any() or regressor == "ridge":
            return marked
        runs = np.unique(trials.run_T)
        drawn = stream(self.seed, "stop").permutation(runs)[: round(self.stop_share * len(runs))]
        return np.isin(trials.run_T, drawn)

    def _trees(self, learned: Trials, stop: Trials | None) -> lightgbm.Booster:
        try:
            import lightgbm
        except ImportError:
            raise UsageError(
                "lightgbm is not installed", do=f"{pip_install('regmix', 'lightgbm')}, or set regressor to ridge"
            ) from None
        settings = {
            "objective": "regression", "boosting_type": "gbdt", "metric": ["l1", "l2"], "learning_rate": self.rate,
            "seed": self.seed, "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
        }  # fmt: skip
        known = lightgbm.Dataset(learned.weights(), learned.loss_T)
        if stop is None:
            return lightgbm.train(settings, known, self.trees)
        other = lightgbm.Dataset(stop.weights(), stop.loss_T, reference=known)
        halt = lightgbm.early_stopping(self.patience, verbose=False)
        booster = lightgbm.train(settings, known, self.trees, valid_sets=[other], callbacks=[halt])
        return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))

    def _tails(self, learned: Trials, stop: Trials | None, regressor: str) -> tuple[float, float]:
        """Quantiles of log(measured / predicted) over runs that were left out."""
        runs = stream(self.seed, "folds").permutation(np.unique(learned.run_T))
        error_T = np.empty(len(learned))
        for some in np.array_split(runs, min(self.folds, len(runs))):
            out = np.isin(learned.run_T, some)
            rest = learned.rows(~out) if not out.all() else learned
            if regressor == "ridge":
                guess = _line(_ridge(rest, self.bend)[0], self.bend, learned.rows(out))
            else:
                guess = np.asarray(self._trees(rest, stop).predict(learned.rows(out).weights()))
            error_T[out] = np.log(learned.loss_T[out] / np.maximum(guess, 1e-12))
        low, high = np.quantile(error_T, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return float(low), float(high)

    def _ridge_draws(self, learned: Trials, penalty: float) -> np.ndarray:
        """Constants under random weightings of the runs (S x P)."""
        runs, of_T = np.unique(learned.run_T, return_inverse=True)
        weights_ST = stream(self.seed, "bootstrap").exponential(size=(self.draws, len(runs)))[:, of_T]
        drawn = [_ridge(learned, self.bend, penalty, weight_T / weight_T.mean())[0] for weight_T in weights_ST]
        return np.array(drawn) if drawn else np.zeros((0, 0))


def _check(learned: Trials, regressor: str) -> None:
    least = 3 if regressor == "ridge" else 2 * _LEAF
    if not learned.measured or len(learned) < least:
        raise UsageError(
            f"{len(learned) if learned.measured else 'no'} rows to learn from",
            allowed=f"at least {least} with a measured loss for {regressor}",
            do="add runs" if regressor == "ridge" else "add runs, or set regressor to ridge",
        )
    if (learned.loss_T <= 0).any():
        row = int(np.flatnonzero(learned.loss_T <= 0)[0])
        raise UsageError(f"the loss in row {row + 1} is {learned.loss_T[row]:g}", allowed="losses above 0")


def _ridge(
    learned: Trials, bend: float, penalty: float | None = None, weight_T: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """(intercept and slopes, the penalty, chosen when none is given), of shares in units of their deviations."""
    from sklearn.linear_model import Ridge, RidgeCV

    shares_TF = _features(learned, bend)
    unit_F = np.maximum(shares_TF.std(0), 1e-12)
    scaled_TF = (shares_TF - shares_TF.mean(0)) / unit_F
    target_T = np.log(learned.loss_T) if bend else learned.loss_T
    if penalty is None:
        penalty = float(np.asarray(RidgeCV(_PENALTIES).fit(scaled_TF, target_T).alpha_))
    line = Ridge(penalty).fit(scaled_TF, target_T, sample_weight=weight_T)
    slope_F = line.coef_ / unit_F
    return np.append(line.intercept_ - slope_F @ shares_TF.mean(0), slope_F), penalty


def _features(trials: Trials, bend: float) -> np.ndarray:
    """What the ridge is linear in: T x K, or, bent, T x 2K."""
    weights_TK = trials.weights()
    return np.concatenate([weights_TK, np.log(np.maximum(weights_TK, 0.0) + bend)], 1) if bend else weights_TK


def _line(values_P: np.ndarray, bend: float, trials: Trials) -> np.ndarray:
    target_T = values_P[0] + _features(trials, bend) @ values_P[1:]
    return np.exp(target_T) if bend else target_T


@dataclass(frozen=True, eq=False)
class _Regression:
    """A fitted regression: what a `Fitted` offers, without a form."""

    domains: tuple[str, ...]
    values_P: np.ndarray  # of the ridge: intercept, slopes
    draws_SP: np.ndarray
    bend: float
    model: str  # of LightGBM, in its own format
    tails: tuple[float, float]
    warnings: tuple[str, ...] = ()
    confidence: float = 0.95
    facts: Mapping[str, float] = field(default_factory=dict)

    def predict(self, trials: Trials) -> np.ndarray:
        """The loss of every row (T). Errors: UsageError for other domains than were learned from."""
        if trials.weights_TK is not None and trials.domains != self.domains:
            raise UsageError(f"the domains are {', '.join(trials.domains)}", allowed=", ".join(self.domains))
        if not self.model:
            return _line(self.values_P, self.bend, trials)
        import lightgbm

        return np.asarray(lightgbm.Booster(model_str=self.model).predict(trials.weights(), num_threads=1))

    def interval(self, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        """Where the loss of a new run lies, at `confidence`."""
        loss_T = self.predict(trials)
        return loss_T * np.exp(self.tails[0]), loss_T * np.exp(self.tails[1])

    @property
    def constants(self) -> dict[str, Estimate]:
        """Intercept and slopes of the ridge; trees have none."""
        kinds = ("slope", "log_slope") if self.bend else ("slope",)
        slopes = (f"{kind}_{domain}" for kind in kinds for domain in self.domains)
        names = ("intercept", *slopes) if len(self.values_P) else ()
        ends = [(1 - self.confidence) / 2, (1 + self.confidence) / 2]
        none = np.full((2, len(names)), np.nan)
        low_P, high_P = np.quantile(self.draws_SP, ends, axis=0) if len(self.draws_SP) else none
        return {
            name: Estimate(float(value), float(low), float(high))
            for name, value, low, high in zip(names, self.values_P, low_P, high_P, strict=True)
        }

    def metrics(self, trials: Trials) -> dict[str, float]:
        """n, r2, huber (mean, on logarithms), mre and spearman of the predictions of these rows."""
        return all_metrics(self.predict(trials), trials.loss_T)

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` makes the same object."""
        return {
            "constants": {name: one._asdict() for name, one in self.constants.items()},
            "draws": self.draws_SP.tolist(),
            "bend": self.bend,
            "model": self.model,
            "tails": list(self.tails),
            "warnings": list(self.warnings),
            "confidence": self.confidence,
            "domains": list(self.domains),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, law: Any, saved: Mapping[str, Any]) -> _Regression:
        """The same object, from what `to_json` gave."""
        values_P = np.array([one["value"] for one in saved["constants"].values()], np.float64)
        return cls(
            tuple(saved["domains"]),
            values_P,
            draws_of(saved["draws"], len(values_P)) if len(values_P) else np.zeros((0, 0)),
            saved["bend"],
            saved["model"],
            (saved["tails"][0], saved["tails"][1]),
            tuple(saved["warnings"]),
            saved["confidence"],
            saved["facts"],
        )
