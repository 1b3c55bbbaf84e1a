"""A fitted law with what it needs to be asked later: its data's range, its noise, and whose share its ratio is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from graft.core.config.errors import UsageError, nearest
from graft.core.config.plugins import Shelf, plugin_name
from graft.core.config.settings import build_plugin, to_json
from graft.scaling.fitting.trials import Trials
from graft.scaling.laws.contract import fitted_from_json, law_needs
from graft.scaling.solving.reach import Beyond, Reach
from graft.scaling.solving.saved_law import BadLaw, check_saved

FORMAT = 1


FLAGS = ("size", "tokens", "ratio")  # columns that have options of their own; the others are given by --at


@dataclass(frozen=True, eq=False)
class Predictions:
    """Losses with bounds of the law's curve (NaN without draws), and for every row where it lies beyond the data."""

    value_T: np.ndarray
    low_T: np.ndarray
    high_T: np.ndarray
    beyond: Sequence[tuple[Beyond, ...]]

    def row(self, t: int) -> dict[str, Any]:
        value, low, high = (float(one[t]) for one in (self.value_T, self.low_T, self.high_T))
        return {"value": value, "low": low, "high": high, "beyond": [one.to_json() for one in self.beyond[t]]}


@dataclass(frozen=True, eq=False)
class LawFile:
    """A law that was fitted to a table.

    Columns are given and told as in that table: with ratio_of "other" the table's ratio is the share of the text whose
    loss is not the fitted one, and the law was fitted against 1 - ratio. noise: standard deviation of the residual of
    log loss. base_loss: loss of the base by its size (0: no size was said). also: columns that the law need not read,
    and did.
    """

    law: Any
    fitted: Any
    reach: Reach
    ratio_of: Literal["own", "other"] = "own"
    noise: float = 0.0
    base_loss: Mapping[float, float] = field(default_factory=dict)
    domains: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, law: Any, fitted: Any, trials: Trials, ratio_of: Literal["own", "other"], base_loss: Mapping[float, float]
    ) -> LawFile:
        """What `law.fit(trials)` gave."""
        residual_T = np.log(fitted.predict(trials) / trials.loss_T)
        free = max(1, len(trials) - len(fitted.constants))
        noise = math.sqrt(float(np.square(residual_T).sum()) / free)
        needs = law_needs(law)
        needless = (*needs.columns, *needs.fit_only)
        also = tuple(noun for noun in trials.columns if noun not in needless)
        columns = swapped(
            {noun: trials.columns[noun] for noun in (*needs.columns, *also) if noun != "weights"}, ratio_of
        )
        reach = Reach.of(columns, trials.weights_TK, trials.domains)
        return cls(law, fitted, reach, ratio_of, noise, base_loss, trials.domains, also)

    @property
    def form(self) -> str:
        return plugin_name(self.law)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns it needs beside the shares of domains."""
        return (*(noun for noun in law_needs(self.law).columns if noun != "weights"), *self.also)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "form": self.form,
            "settings": {self.form: to_json(self.law)},
            "ratio_of": self.ratio_of,
            "ranges": self.reach.to_json(),
            "noise": self.noise,
            "also": list(self.also),
            "base_loss": {f"{size:.17g}": loss for size, loss in self.base_loss.items()},
            "fitted": self.fitted.to_json(),
        }

    @classmethod
    def from_json(cls, saved: Any, where: str) -> LawFile:
        """Errors: UsageError for what `graft law fit --json` did not write."""
        if (
            not isinstance(saved, Mapping)
            or type(saved.get("format")) is not int
            or saved["format"] != FORMAT
            or "fitted" not in saved
        ):
            raise UsageError(
                "this is no fitted law", where=where, allowed="a file that `graft law fit ... --json FILE` wrote"
            )
        try:
            check_saved(saved)
            law = build_plugin(Shelf("laws"), saved["settings"])
            fitted = fitted_from_json(law, {key: _as_floats(key, one) for key, one in saved["fitted"].items()})
            reach = Reach.from_json(saved["ranges"])
            base_loss = {float(size): float(loss) for size, loss in saved["base_loss"].items()}
            shares, also = tuple(reach.shares), tuple(saved["also"])
            kept = cls(law, fitted, reach, saved["ratio_of"], saved["noise"], base_loss, shares, also)
            kept._require_answers()
            return kept
        except UsageError as error:
            raise damaged(error.what, where) from error
        except Exception as error:  # whatever a law of anybody's raises for constants that it did not write
            said = str(error) if isinstance(error, BadLaw) else f"{type(error).__name__}: {error}"
            raise damaged(said, where) from error

    def _require_answers(self) -> None:
        """Raises: BadLaw where it says nothing of a place in the midst of its own data."""
        missing = [name for name in self.reads if name not in self.reach.ranges]
        if missing:
            raise BadLaw(f"ranges.columns lacks {', '.join(missing)}")
        named = tuple(getattr(self.fitted, "domains", ()))
        if named != self.domains:
            raise BadLaw(f"ranges.shares names {', '.join(self.domains) or 'nothing'}, and domains {', '.join(named)}")
        if "step" in self.reads:  # a whole curve, and no place
            return
        weights_TK = np.full((1, len(self.domains)), 1 / len(self.domains)) if self.domains else None
        low = {name: np.array([self.reach.ranges[name][0]]) for name in self.reads}
        trials = Trials.places(swapped(low, self.ratio_of), weights_TK, self.domains)
        if self.fitted.predict(trials).shape != (1,):
            raise BadLaw("it does not say one loss of one place")

    def complete(self, columns: Mapping[str, Any], weights_TK: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every column the law reads, in the table's units, of one length; what the data hold constant may be left out.

        Errors: UsageError for what is missing, unknown or out of bounds.
        """
        for name in columns:
            if name not in self.reads:
                raise UsageError(
                    f'{self.form} reads no "{name}"', allowed=", ".join(self.reads), do=nearest(name, self.reads)
                )
        given = {name: np.atleast_1d(np.asarray(values, np.float64)) for name, values in columns.items()}
        for name in self.reads:
            if name in given:
                continue
            only = self.reach.only(name)
            if only is None and name == "base_loss" and "size" in given:
                only = self._base_losses(given["size"])
            if only is None:
                low, high = self.reach.ranges[name]
                raise UsageError(
                    f"{self.form} reads {name}, and none is given",
                    allowed=f"any; its data hold {low:.6g} to {high:.6g}",
                    do=f"give --{name}" if name in FLAGS else f"give --at {name}=VALUE",
                )
            given[name] = np.atleast_1d(np.asarray(only, np.float64))
        for name, values in given.items():
            _check_values(name, values)
        if weights_TK is not None:
            return {name: np.broadcast_to(values, (len(weights_TK),)).copy() for name, values in given.items()}
        return dict(zip(given, (one.copy() for one in np.broadcast_arrays(*given.values())), strict=True))

    def _base_losses(self, sizes: np.ndarray) -> np.ndarray | None:
        """The base's loss at every size, as the table has it; None where it has one of them not."""
        found = [
            next((loss for one, loss in self.base_loss.items() if one and abs(one / size - 1) < 1e-6), None)
            for size in sizes.tolist()
        ]
        return None if None in found else np.array(found, np.float64)

    def places(self, columns: Mapping[str, Any], weights_TK: np.ndarray | None = None) -> Trials:
        """Rows to be asked about, in the law's own terms."""
        whole = self.complete(columns, weights_TK)
        return Trials.places(swapped(whole, self.ratio_of), weights_TK, self.domains if weights_TK is not None else ())

    def predict(self, columns: Mapping[str, Any], weights_TK: np.ndarray | None = None) -> Predictions:
        """The losses at rows given in the table's units."""
        whole = self.complete(columns, weights_TK)
        return self.of_trials(self.places(whole, weights_TK))

    def of_trials(self, trials: Trials) -> Predictions:
        """The losses of rows in the law's own terms."""
        beyond = self.reach.beyond(swapped(trials.columns, self.ratio_of), trials.weights_TK)
        low_T, high_T = self.fitted.interval(trials)
        return Predictions(self.fitted.predict(trials), low_T, high_T, beyond)

    def at_share(self, share: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
        """`columns` with the ratio that gives the fitted text the share `share`."""
        share = np.asarray(share, np.float64)
        return {**columns, "ratio": 1 - share if self.ratio_of == "other" else share}

    def draw(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The loss of every row by every bootstrap draw, S x T; S is 0 for a law without draws."""
        found = getattr(self.fitted, "draw", None)
        trials = self.places(columns)
        return np.zeros((0, len(trials))) if found is None else found(trials)

    @property
    def tails(self) -> tuple[float, float]:
        """The quantiles of its intervals."""
        confidence = float(getattr(self.fitted, "confidence", 0.95))
        return (1 - confidence) / 2, (1 + confidence) / 2


def damaged(why: str, where: str) -> UsageError:
    """The error for a file that was a fitted law, or is to be taken for one."""
    return UsageError(f"this fitted law is damaged or of another version: {why[:300]}", where=where, do="fit it again")


def _check_values(name: str, values: np.ndarray) -> None:
    """Errors: UsageError for what is not finite, and for shares and counts out of bounds."""
    is_share, is_count = name in ("ratio", "injected"), name in ("size", "tokens", "unique")
    for value in values.tolist():
        if is_share and not 0 <= value <= 1:
            percent = f"write {value / 100:g}" if 1 < value <= 100 else ""
            raise UsageError(f"{name} is {value:g}", allowed="a share from 0 to 1", do=percent)
        if not math.isfinite(value) or (is_count and value <= 0):
            raise UsageError(f"{name} is {value:g}", allowed="a number above 0" if is_count else "a finite number")


def swapped(columns: Mapping[str, np.ndarray], ratio_of: str) -> dict[str, np.ndarray]:
    """Columns between the table's units and the law's, which differ by 1 - ratio where ratio_of is "other"."""
    if ratio_of == "own" or "ratio" not in columns:
        return dict(columns)
    return {**columns, "ratio": np.round(1 - columns["ratio"], 12)}


def _as_floats(key: str, saved: Any) -> Any:
    """Numbers that were not defined, null in JSON, as NaN again, where nothing but numbers can stand."""
    if key not in ("constants", "objective", "facts"):
        return saved
    if isinstance(saved, Mapping):
        return {name: _as_floats(key, value) for name, value in saved.items()}
    return math.nan if saved is None else saved


def as_json(told: Any) -> Any:
    """Plain values in which a number that is not defined is null: JSON knows no NaN."""
    if isinstance(told, Mapping):
        return {str(key): as_json(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [as_json(value) for value in told]
    if isinstance(told, np.ndarray):
        return as_json(told.tolist())
    if isinstance(told, np.generic):
        return as_json(told.item())
    return None if isinstance(told, float) and not math.isfinite(told) else told
