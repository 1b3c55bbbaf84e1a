"""Descent that is stopped before the optimum, for laws that a table hardly tells: the start is a weak prior."""

from __future__ import annotations

import numpy as np

from graft.scaling.fitting.form import Form
from graft.scaling.fitting.metrics import huber_of
from graft.scaling.fitting.trials import Trials

DECAY = 0.01  # of the constants, times the rate: AdamW's default
ASTRAY = 2.0  # a step that raises the loss by more than this factor is not kept


def stop_early(
    form: Form,
    trials: Trials,
    theta_SP: np.ndarray,
    rates_P: np.ndarray,
    weights_ST: np.ndarray,
    delta: float,
    *,
    steps: int = 200,
    patience: int = 20,
) -> np.ndarray:
    """Constants (S x P) after AdamW (Loshchilov and Hutter 2019) in natural scale, one start per row of theta_SP.

    The objective is the sum of the weighted Huber losses of log residuals. A start ends once its loss has not fallen
    for `patience` steps, but not before step `patience`, or after `steps` steps. It keeps the constants that stood one
    step after the least loss it saw, as in the published fits by this procedure (Luo et al. 2025, arXiv 2503.12811),
    or, where that step more than doubled the loss, the ones before it.
    """
    theta_SP = np.array(theta_SP, np.float64)
    low_P, high_P = (np.array([getattr(one, end) for one in form.constants]) for end in ("low", "high"))
    mean_SP, square_SP = np.zeros_like(theta_SP), np.zeros_like(theta_SP)
    before_SP, kept_SP, least_S = theta_SP.copy(), theta_SP.copy(), np.full(len(theta_SP), np.inf)
    idle_S = np.zeros(len(theta_SP), np.int64)
    on_S = np.arange(len(theta_SP))  # the starts that still descend
    log_T = np.log(trials.loss_T)
    for step in range(1, steps + 1):
        value_S, slope_SP = _expand(form, trials, theta_SP[on_S], log_T, weights_ST[on_S], delta)
        astray = (idle_S[on_S] == 0) & (value_S > ASTRAY * least_S[on_S])
        kept_SP[on_S[astray]] = before_SP[on_S[astray]]
        fell = value_S < least_S[on_S]
        least_S[on_S] = np.where(fell, value_S, least_S[on_S])
        idle_S[on_S] = np.where(fell, 0, idle_S[on_S] + 1)
        going = (idle_S[on_S] < patience) | (step <= patience)
        on_S, slope_SP, fell = on_S[going], slope_SP[going], fell[going]
        if not len(on_S):
            break
        mean_SP[on_S] = 0.9 * mean_SP[on_S] + 0.1 * slope_SP
        square_SP[on_S] = 0.999 * square_SP[on_S] + 0.001 * slope_SP**2
        scale_SP = np.sqrt(square_SP[on_S] / (1 - 0.999**step)) + 1e-8
        moved_SP = theta_SP[on_S] * (1 - rates_P * DECAY) - rates_P * mean_SP[on_S] / (1 - 0.9**step) / scale_SP
        before_SP[on_S] = theta_SP[on_S]
        theta_SP[on_S] = np.clip(moved_SP, low_P, high_P)
        kept_SP[on_S[fell]] = theta_SP[on_S[fell]]
    return kept_SP


def _expand(
    form: Form, trials: Trials, theta_SP: np.ndarray, log_T: np.ndarray, weights_ST: np.ndarray, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """(objective, its slopes in the constants)."""
    loss_ST, slopes = form.evaluate(theta_SP, trials)
    residual_ST = np.log(loss_ST) - log_T
    push_ST = weights_ST * np.clip(residual_ST, -delta, delta) / loss_ST
    slope_SP = np.stack([(push_ST * slope).sum(1) for slope in slopes], 1)
    return (weights_ST * huber_of(residual_ST, delta)).sum(1), slope_SP
