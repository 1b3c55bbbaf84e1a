"""What continued pre-training does to text that was known before, when a share of it is replayed."""

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
NAMES = ("A", "b", "B", "c", "q", "G", "s", "h", "w")


@dataclass(frozen=True)
class Replay:
    """General loss against tokens and the share of general text: what replay holds back, less what it teaches.

    L = L0 (1 + A n^w x^b / (1 + B r x^c)^q - G r^s x^h), in nats per token: L0 the loss of the base ("base_loss"), r
    the share of general text ("ratio"), x tokens over "horizon", the length of the runs in question (`unit` where no
    column says), n the parameters in millions ("size"; w is 0 where the table has one size or none).
    Without replay (r = 0) forgetting grows with the tokens and nothing holds it; with replay it comes to a near
    standstill, at a level that falls as r grows. The D-CPT law has neither: at r = 0 it knows no tokens, and elsewhere
    it can only fall with them. Not a published law: this project's own, found on its own grid of runs, where it leaves
    an eighth of the D-CPT law's error (docs/results.md).

    free: the constants that are fitted; the others stay as they are given here. Their values are those of that grid at
    its 400,000 tokens, a peak of 0.3 of the base's: for short pilots, which tell the level but not the course, fit A
    alone and take the course from there. It is borrowed then, and as good as the new runs are like those.
    """

    free: tuple[str, ...] = NAMES
    b: float = 0.75
    B: float = 224.0
    c: float = 1.48
    q: float = 0.302
    G: float = 0.0898
    s: float = 0.405
    h: float = 0.477
    w: float = 0.0
    unit: float = 400_000.0  # tokens that x is 1 at
    fitting: Fitting = Fitting()

    def needs(self) -> Needs:
        return Needs(("tokens", "ratio", "base_loss"), optional=("horizon", "size"), forgetting="A")

    def __post_init__(self) -> None:
        check_free(self.free, NAMES, ("A",))

    @property
    def form(self) -> Form:
        return Form(
            (
                Constant("A", 1e-6, 1e3, (0.03, 0.1, 0.3)),
                Constant("b", 0.05, 4.0, (0.3, 0.6, 1.2)),
                Constant("B", 1e-3, 1e6, (3.0, 30.0, 300.0)),
                Constant("c", 0.01, 6.0, (0.3, 1.0, 2.0)),
                Constant("q", 0.02, 4.0, (0.2, 0.5, 1.0)),
                Constant("G", 1e-6, 1.0, (0.01, 0.04)),
                Constant("s", 0.02, 4.0, (0.3, 0.9)),
                Constant("h", 0.05, 4.0, (0.4, 0.8)),
                Constant("w", -3.0, 3.0, (0.0, -0.3), log=False),
            ),
            partial(_evaluate, self.unit),
        )

    def fit(self, trials: Trials) -> Fitted:
        """Errors: UsageError for a base loss or tokens of 0 or less, and for ratios that are no shares."""
        check_columns(trials, ("tokens", "base_loss"), ("ratio",))
        held = {name: getattr(self, name) for name in NAMES if name not in self.free}
        warnings: list[str] = []
        if "size" not in trials.columns or not np.ptp(trials.column("size")):
            held["w"] = 0.0
        if not np.ptp(trials.column("ratio")) and "B" not in held:
            ratio = float(trials.column("ratio")[0])
            held |= {"B": 0.0, "c": 1.0, "q": 1.0, "s": 1.0} | ({"G": 0.0, "h": 1.0} if ratio == 0 else {})
            warnings.append(f"every ratio is {ratio:g}: what replay holds back cannot be told")
        return fit_form(self.form.hold(**held), trials, self.fitting, tuple(warnings))


def _evaluate(unit: float, theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, list[np.ndarray]]:
    A, b, B, c, q, G, s, h, w = theta_SP.T[:, :, None]
    tokens_T, ratio_T = trials.column("tokens"), trials.column("ratio")
    log_x = np.log(tokens_T / trials.columns.get("horizon", unit))
    log_r = np.log(np.where(ratio_T > 0, ratio_T, 1.0))
    replayed = ratio_T * np.exp(c * log_x)
    held = 1 + B * replayed
    log_held = np.log(held)
    log_n = np.log(trials.columns.get("size", np.full(len(trials), MILLION)) / MILLION)
    drift = np.exp(w * log_n + b * log_x - q * log_held)
    forgotten = A * drift
    course = np.exp(s * log_r + h * log_x) * (ratio_T > 0)
    learned = G * course
    start = trials.column("base_loss")
    slopes = [
        drift,
        forgotten * log_x,
        -q * forgotten * replayed / held,
        -q * forgotten * B * replayed * log_x / held,
        -forgotten * log_held,
        -course,
        -learned * log_r,
        -learned * log_x,
        forgotten * log_n,
    ]
    return start * (1 + forgotten - learned), [start * slope for slope in slopes]
