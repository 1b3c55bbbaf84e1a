"""Whether the D-CPT laws say that more of a text lowers its loss, and what a table cannot tell of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graft.scaling.fitting.fitted import Fitted
from graft.scaling.fitting.form import Excess
from graft.scaling.fitting.trials import Trials

# What L = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma holds, and at what, where a column has one value.
UNSEEN = {
    "size": {"A": 0.0, "alpha": 1.0},
    "tokens": {"beta": 0.0},
    "ratio": {"eta": 0.0, "C": 0.0, "gamma": 1.0, "eps": 1.0},
}


def steepest(names: tuple[str, ...]) -> Excess:
    """The condition dL/dr <= 0 at r = 1 and the least number of tokens, in logarithms.

    log(B eta) + (gamma + 1) log(1 + eps) - log(C gamma) - beta log D_min <= 0. names: the constants in order.
    """
    place = {name: p for p, name in enumerate(names)}

    def excess(theta_SP: np.ndarray, trials: Trials) -> tuple[np.ndarray, np.ndarray]:
        B, beta, eta, C, gamma, eps = (theta_SP[:, place[name]] for name in ("B", "beta", "eta", "C", "gamma", "eps"))
        slopes_SP = np.zeros_like(theta_SP)
        if (C == 0).any() or (B == 0).any():  # a term that is left out has no slope to be wrong
            return np.full(len(theta_SP), -np.inf), slopes_SP
        log_D = float(np.log(trials.column("tokens").min()))
        excess_S = np.log(B * eta) + (gamma + 1) * np.log1p(eps) - np.log(C * gamma) - beta * log_D
        slopes = {
            "B": 1 / B, "eta": 1 / eta, "gamma": np.log1p(eps) - 1 / gamma, "eps": (gamma + 1) / (1 + eps),
            "C": -1 / C, "beta": np.full_like(B, -log_D),
        }  # fmt: skip
        for name, slope_S in slopes.items():
            slopes_SP[:, place[name]] = slope_S
        return excess_S, slopes_SP

    return excess


def sign_warnings(fitted: Fitted, trials: Trials) -> Fitted:
    """Adds where the law's sign in r is wrong at the least number of tokens, in words and as facts."""
    found = {**fitted.form.held, **{name: one.value for name, one in fitted.constants.items()}}
    if found["B"] == 0 or found["C"] == 0:
        return fitted
    tokens = float(trials.column("tokens").min())

    def excess(ratio: float) -> float:
        """log of the rising part of dL/dr over the falling part."""
        rising = np.log(found["B"] * found["eta"]) + (found["eta"] - 1) * np.log(ratio) - found["beta"] * np.log(tokens)
        return float(rising + (found["gamma"] + 1) * np.log(ratio + found["eps"]) - np.log(found["C"] * found["gamma"]))

    at = f"at {tokens:.4g} tokens"
    words, facts = list(fitted.warnings), dict(fitted.facts)
    if excess(1.0) > 0:
        words.append(f"the law says that more of the text raises its loss at a ratio of 1 {at}")
        facts["wrong_sign_at_1"] = excess(1.0)
    if found["eta"] < 1:
        low, high = np.log(1e-300), float(np.log((1 - found["eta"]) * found["eps"] / (found["gamma"] + found["eta"])))
        if excess(float(np.exp(high))) < 0:
            for _ in range(100):
                middle = (low + high) / 2
                low, high = (middle, high) if excess(float(np.exp(middle))) > 0 else (low, middle)
        facts["wrong_sign_below"] = float(np.exp(high))
        words.append(
            f"eta is {found['eta']:.3g}, below 1: for ratios below {np.exp(high):.2g} the law says that more of the"
            f" text raises its loss ({at})"
        )
    return replace(fitted, warnings=tuple(words), facts=facts)
