"""How a base learns a domain: as if it had read some of it before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from graft.scaling.fitting.fit import Fitting, fit_form
from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Constant, Form
from graft.scaling.fitting.terms import check_columns, check_free
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import Needs

MILLION = 1e6
STEEPEST, NO_POWER = 0.5, 0.99  # the largest beta, and the share of it from which no power was found
NAMES = ("d", "beta", "k", "s", "u", "F", "m", "v", "w", "z")


@dataclass(frozen=True)
class HeadStart:
    """Domain loss against tokens and the share of domain text, from the base's own loss on.

    L = L0 ((1 + n^w r^(s + u ln x) (x / d)^k)^(-beta n^z) + F (1 - r)^m x^v), in nats per token: L0 the loss of the
    base ("base_loss"), r the share of domain text ("ratio"), x tokens over "horizon", the length of the runs in
    question (`unit` where no column says), n the parameters in millions ("size"; w and z are 0 where the table has one
    size or none).
    d is what the base's start is worth, in the unit of x: before d tokens little moves, after them the loss falls as a
    power of the tokens. The second term is what other text undoes. At no tokens the loss is the base's, which the D-CPT
    law cannot say: its powers of the tokens have no value there, so it needs trials where the start no longer matters.
    That pre-training is worth a number of tokens of the new text is the finding of Hernandez et al. 2021 (arXiv
    2102.01293); this formula, with an exponent of the ratio that grows with the tokens, is not published: it is this
    project's, found on its own grid of runs (docs/results.md).

    free: the constants that are fitted; the others stay as they are given here. Their values are those of that grid at
    its 400,000 tokens: for short pilots fit d and beta, and take the rest from there.
    """

    free: tuple[str, ...] = NAMES
    beta: float = 0.08  # for trials that cannot tell it
    k: float = 1.13
    s: float = 0.857
    u: float = 0.118
    F: float = 0.0484
    m: float = 2.12
    v: float = 0.383
    w: float = 0.0
    z: float = 0.0
    unit: float = 400_000.0  # tokens that x is 1 at
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("tokens", "ratio", "base_loss"), optional=("horizon", "size"))

    def __post_init__(self) -> None:
        check_free(self.free, NAMES, ("d", "beta"))

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("d", 1e-6, 1e3, (0.003, 0.01, 0.03, 0.1)),
                Constant("beta", 1e-3, STEEPEST, (0.05, 0.1, 0.3)),
                Constant("k", 0.1, 5.0, (0.7, 1.3)),
                Constant("s", 0.01, 5.0, (0.5, 1.0, 2.0)),
                Constant("u", -1.0, 1.0, (0.0, 0.2), log=False),
                Constant("F", 1e-6, 1.0, (0.003, 0.05)),
                Constant("m", 0.05, 4.0, (0.7, 2.0)),
                Constant("v", 0.02, 3.0, (0.4,)),
                Constant("w", -3.0, 3.0, (0.0, 0.3), log=False),
                Constant("z", -1.0, 1.0, (0.0,), log=False),
            ),
            partial(_evaluate, self.unit),
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for a base loss or tokens of 0 or less, and for ratios that are no shares."""
        check_columns(trials, ("tokens", "base_loss"), ("ratio",))
        held = {name: getattr(self, name) for name in NAMES if name not in self.free}
        warnings: list[str] = []
        if "size" not in trials.columns or not np.ptp(trials.column("size")):
            held |= {"w": 0.0, "z": 0.0}
        if not np.ptp(trials.column("ratio")):
            held |= {name: getattr(self, name) for name in ("s", "u", "F", "m", "v")}
            warnings.append(
                f"every ratio is {trials.column('ratio')[0]:g}: s, u, F, m and v are taken as given, not fitted"
            )
        fitted = fit_form(self.form.hold(**held), trials, self.fitting, tuple(warnings))
        if fitted.constants["beta"].value < NO_POWER * STEEPEST:
            return fitted
        warnings.append(
            f"beta ran to its bound, as it does where all trials lie before the loss falls as a power: it is taken as "
            f"{self.beta:g}, as on the grid that lends the course"
        )
        return fit_form(self.form.hold(**held, beta=self.beta), trials, self.fitting, tuple(warnings))


def _evaluate(unit: float, theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    d, beta, k, s, u, F, m, v, w, z = theta_SP.T[:, :, None]
    ratio_T = trials.column("ratio")
    log_x = np.log(trials.column("tokens") / trials.columns.get("horizon", unit))
    log_n = np.log(trials.columns.get("size", np.full(len(trials), MILLION)) / MILLION)
    log_r = np.log(np.where(ratio_T > 0, ratio_T, 1.0))
    log_rest = np.log(np.where(ratio_T < 1, 1 - ratio_T, 1.0))
    log_d = np.log(d)
    grown = np.exp((s + u * log_x) * log_r + k * (log_x - log_d) + w * log_n) * (ratio_T > 0)
    start = trials.column("base_loss")
    fold = np.exp(z * log_n)
    steep = beta * fold
    kept = start * np.exp(-steep * np.log1p(grown))
    undone = start * np.exp(m * log_rest + v * log_x) * (ratio_T < 1)
    fall = -steep * kept * grown / (1 + grown)  # d kept / d ln grown
    slopes = [-fall * k / d, -kept * fold * np.log1p(grown), fall * (log_x - log_d), fall * log_r, fall * log_x * log_r]
    slopes += [undone, F * undone * log_rest, F * undone * log_x, fall * log_n, -steep * kept * np.log1p(grown) * log_n]
    return kept + F * undone, slopes
